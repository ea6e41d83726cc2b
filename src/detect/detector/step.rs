//! The clock that the daemon tells the time by was stepped.

use std::cmp::Reverse;

use super::Detector;
use crate::model::{ClockStep, Timestamp};

impl Detector {
    /// The daemon's clock was stepped: what was seen before is carried to the clock as it is now, so that an hour that
    /// nobody lived through neither ends a storm nor hides one.
    pub fn step_clock(&mut self, step: ClockStep) {
        // What waits for late facts is judged now: they would come with times of another clock.
        while let Some(Reverse(due)) = self.due.pop() {
            self.judge_due(due);
        }
        for attempt in &mut self.attempts {
            for at in [&mut attempt.created, &mut attempt.state_since].into_iter().chain(&mut attempt.ended) {
                *at = step.carry(*at);
            }
        }
        for subject in self.subjects.iter_mut().flatten() {
            subject.step_clock(step, &self.quotas);
        }
        for (at, ..) in self.left.iter_mut().flatten() {
            *at = step.carry(*at);
        }
        self.account.step_clock(step);
        for at in [&mut self.now, &mut self.blind_until, &mut self.listing, &mut self.next_waiting] {
            *at = step.carry(*at);
        }
        // It is found out anew.
        self.next_subside = Timestamp::from_nanos(i64::MIN);
    }
}
