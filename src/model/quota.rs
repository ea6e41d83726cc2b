//! governor's quotas on event time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::Timestamp;

/// A clock that says the time of what is being judged. It may go back between subjects that have limiters of their
/// own.
#[derive(Clone, Debug, Default)]
pub struct EventClock(Arc<AtomicU64>);

impl EventClock {
    /// It is `at` now; the start of 1970 for a time before.
    pub fn set(&self, at: Timestamp) {
        self.0.store(u64::try_from(at.as_nanos()).unwrap_or(0), Ordering::Relaxed);
    }

    /// A limiter that has counted nothing.
    pub fn limiter(&self, quota: Quota) -> Limiter {
        // A limiter counts from its birth: that is before everything.
        self.set(Timestamp::from_nanos(0));
        RateLimiter::direct_with_clock(quota, self.clone())
    }
}

impl Clock for EventClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

/// One quota's state.
pub type Limiter = RateLimiter<NotKeyed, InMemoryState, EventClock, NoOpMiddleware<Nanos>>;
