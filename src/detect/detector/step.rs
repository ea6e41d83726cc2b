//! The clock that the daemon tells the time by was stepped.

use std::cmp::Reverse;

use super::Detector;
use crate::model::{ClockStep, OnClock, Timestamp};

/// What was seen before is carried to the clock as it is now, so that an hour that nobody lived through neither ends a
/// storm nor hides one.
impl OnClock for Detector {
    fn step(&mut self, step: ClockStep) {
        // What waits for late facts is judged now: they would come with times of another clock.
        while let Some(Reverse(due)) = self.clock.due.pop() {
            self.judge_due(due);
        }
        let Self {
            settings: _,
            quotas,
            subjects,
            attempts,
            containers,
            nodes: _,
            names: _,
            storming: _,
            waiting: _,
            oldest,
            listing,
            clock,
            books,
            said,
            counters: _,
        } = self;
        subjects.step(step);
        let failing = subjects.iter_mut().filter_map(|(_, subject)| subject.failing.as_mut());
        failing.for_each(|failing| failing.count_again(quotas));
        attempts.step(step);
        containers.step(step);
        oldest.step(step);
        listing.step(step);
        clock.step(step);
        clock.next_subside = Timestamp::from_nanos(i64::MIN);
        books.step(step);
        said.step(step);
    }
}
