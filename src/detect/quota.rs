//! governor's quotas on event time.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::Quota;

use crate::model::{EventClock, Timestamp};

pub(super) use crate::model::Limiter;

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
        self.clock.limiter(self.fast)
    }

    pub(super) fn slow_limiter(&self) -> Limiter {
        self.clock.limiter(self.slow)
    }

    /// Counts one failure at `at`; whether that is more than the quota allows.
    pub(super) fn trips(&self, limiter: &Limiter, at: Timestamp) -> bool {
        self.clock.set(at);
        limiter.check().is_err()
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
