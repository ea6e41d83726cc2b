//! governor's quotas on event time.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::model::Timestamp;

/// A clock that says the time of the failure that is being judged. It may go back between subjects: each has
/// limiters of its own, and failures of one subject are judged in order.
#[derive(Clone, Debug, Default)]
pub(super) struct EventClock(Arc<AtomicU64>);

impl Clock for EventClock {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

/// One quota's state for one subject or slot.
pub(super) type Limiter = RateLimiter<NotKeyed, InMemoryState, EventClock, NoOpMiddleware<Nanos>>;

/// Makes limiters and asks them.
#[derive(Debug)]
pub(super) struct Quotas {
    clock: EventClock,
    fast: Quota,
    slow: Quota,
}

impl Quotas {
    /// `fast` and `slow`: how many failures are allowed at once, and the period in which one more is.
    pub(super) fn new(fast: (NonZeroU32, Duration), slow: (NonZeroU32, Duration)) -> Self {
        let quota = |(failures, per): (NonZeroU32, Duration)| {
            // A period of zero would be no limit at all.
            Quota::with_period(per.max(Duration::from_nanos(1))).expect("the period is not zero").allow_burst(failures)
        };
        Self { clock: EventClock::default(), fast: quota(fast), slow: quota(slow) }
    }

    pub(super) fn fast_limiter(&self) -> Limiter {
        self.limiter(self.fast)
    }

    pub(super) fn slow_limiter(&self) -> Limiter {
        self.limiter(self.slow)
    }

    /// Counts one failure at `at`; whether that is more than the quota allows.
    pub(super) fn trips(&self, limiter: &Limiter, at: Timestamp) -> bool {
        self.set(at);
        limiter.check().is_err()
    }

    fn limiter(&self, quota: Quota) -> Limiter {
        // A limiter counts from its birth: that is before every failure.
        self.set(Timestamp::from_nanos(0));
        RateLimiter::direct_with_clock(quota, self.clock.clone())
    }

    fn set(&self, at: Timestamp) {
        self.clock.0.store(u64::try_from(at.as_nanos()).unwrap_or(0), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many failures, one every `period_secs`, it takes to trip a quota of 5 and one per `per_secs`.
    fn failures_to_trip(period_secs: i64, per_secs: u64) -> usize {
        let five = NonZeroU32::new(5).expect("not zero");
        let quotas = Quotas::new((five, Duration::from_secs(per_secs)), (five, Duration::from_secs(3600)));
        let limiter = quotas.fast_limiter();
        (1..1000)
            .find(|n| quotas.trips(&limiter, Timestamp::from_secs(1_800_000_000 + *n * period_secs)))
            .map_or(1000, |n| usize::try_from(n).expect("small"))
    }

    #[test]
    fn a_quota_trips_at_the_failure_after_its_burst() {
        assert_eq!(failures_to_trip(1, 30), 6);
        assert_eq!(failures_to_trip(5, 30), 6);
        assert_eq!(failures_to_trip(600, 3600), 6, "a failure each 10 minutes, found after 50");
        assert_eq!(failures_to_trip(31, 30), 1000, "slower than the quota never trips it");
    }
}
