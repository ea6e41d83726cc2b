//! How many actions an hour are left.

use std::num::NonZeroU32;

use governor::Quota;

use crate::model::{ClockStep, EventClock, Limiter, OnClock, Timestamp};

/// The actions of an hour, all of them as burst. A quarter of them is kept for quarantines: trying again may wait, a
/// storm may not. Who begins a watched attempt pays for its end too, so that an attempt that fails can always be stopped.
#[derive(Debug)]
pub(super) struct Budget {
    clock: EventClock,
    /// By how much the clock was stepped: the limiters' own goes on as if it had not been.
    stepped_nanos: i64,
    all: Limiter,
    tries: Limiter,
}

impl Budget {
    pub(super) fn new(actions_per_hour: NonZeroU32) -> Self {
        let clock = EventClock::default();
        let for_tries = actions_per_hour.get() - actions_per_hour.get() / 4;
        let for_tries = NonZeroU32::new(for_tries).unwrap_or(NonZeroU32::MIN);
        let limiter = |per_hour: NonZeroU32| clock.limiter(Quota::per_hour(per_hour));
        Self { all: limiter(actions_per_hour), tries: limiter(for_tries), clock, stepped_nanos: 0 }
    }

    fn set(&self, now: Timestamp) {
        self.clock.set(Timestamp::from_nanos(now.as_nanos().saturating_sub(self.stepped_nanos)));
    }

    /// Takes one action; whether there was one.
    pub(super) fn take(&self, now: Timestamp) -> bool {
        self.set(now);
        self.all.check().is_ok()
    }

    /// Takes a watched attempt, with its end; whether there was one.
    pub(super) fn take_try(&self, now: Timestamp) -> bool {
        const TWO: NonZeroU32 = NonZeroU32::new(2).expect("two is not zero");
        self.take_both(now, TWO)
    }

    /// Takes a further step of what comes back; whether there was one.
    pub(super) fn take_step(&self, now: Timestamp) -> bool {
        self.take_both(now, NonZeroU32::MIN)
    }

    fn take_both(&self, now: Timestamp, actions: NonZeroU32) -> bool {
        self.set(now);
        // The larger one first: it is empty more often, and what it refuses costs the other nothing.
        let is_left = |limiter: &Limiter| limiter.check_n(actions).is_ok_and(|it| it.is_ok());
        is_left(&self.all) && is_left(&self.tries)
    }
}

/// Neither is the hour over because the clock was stepped, nor does it begin again.
impl OnClock for Budget {
    fn step(&mut self, step: ClockStep) {
        let Self { clock: _, stepped_nanos, all: _, tries: _ } = self;
        *stepped_nanos = stepped_nanos.saturating_add(step.by_nanos());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(actions: u32) -> Budget {
        Budget::new(NonZeroU32::new(actions).expect("not zero"))
    }

    #[test]
    fn the_hour_is_there_as_a_burst_and_comes_back_evenly() {
        let budget = budget(60);
        let at = Timestamp::from_secs;
        assert_eq!((0..100).filter(|_| budget.take(at(1_000_000))).count(), 60);
        assert_eq!((0..100).filter(|_| budget.take(at(1_000_300))).count(), 5);
    }

    #[test]
    fn a_step_of_the_clock_gives_and_takes_no_action() {
        for by in [3600, -3600] {
            let mut budget = budget(60);
            let now = Timestamp::from_secs(1_000_000);
            assert_eq!((0..30).filter(|_| budget.take(now)).count(), 30);
            let said = Timestamp::from_secs(1_000_000 + by);
            budget.step(ClockStep { expected: now, said });
            assert_eq!((0..100).filter(|_| budget.take(said)).count(), 30, "stepped by {by} s");
        }
    }

    #[test]
    fn trying_again_leaves_a_quarter_for_quarantines() {
        let budget = budget(60);
        let now = Timestamp::from_secs(1_000_000);
        assert_eq!((0..22).filter(|_| budget.take_try(now)).count(), 22);
        assert_eq!((0..100).filter(|_| budget.take(now)).count(), 16);
    }

    #[test]
    fn the_smallest_budget_quarantines_and_tries_nothing() {
        let budget = budget(1);
        let now = Timestamp::from_secs(1_000_000);
        assert!(!budget.take_try(now));
        assert!(budget.take(now) && !budget.take(now));
    }
}
