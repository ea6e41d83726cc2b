//! The clock that the daemon tells the time by was stepped.

use std::cmp::Reverse;

use super::Detector;
use crate::model::{ClockStep, OnClock, Timestamp, step_keys};

/// What was seen before is carried to the clock as it is now, so that an hour that nobody lived through neither ends a
/// storm nor hides one.
impl OnClock for Detector {
    fn step(&mut self, step: ClockStep) {
        // What waits for late facts is judged now: they would come with times of another clock.
        while let Some(Reverse(due)) = self.due.pop() {
            self.judge_due(due);
        }
        let Self {
            settings: _,
            quotas,
            subjects,
            subject_index: _,
            name_index: _,
            free_subjects: _,
            attempts,
            attempt_generations: _,
            attempt_index: _,
            free_attempts: _,
            settled: _,
            open: _,
            containers,
            container_index: _,
            free_containers: _,
            left,
            node_index: _,
            nodes: _,
            due: _,
            now,
            pace,
            storming: _,
            next_subside,
            blind_until,
            waiting: _,
            found: _,
            next_waiting,
            ended,
            notices,
            restated: _,
            minutes,
            minutes_of_gone,
            account,
            meter,
            incidents,
            began,
            counted_from,
            listing,
            task_listing: _,
            lists_tasks: _,
            generation: _,
            counters: _,
        } = self;
        subjects.step(step);
        subjects.iter_mut().flatten().for_each(|subject| subject.count_again(quotas));
        attempts.step(step);
        containers.step(step);
        left.iter_mut().flatten().for_each(|(at, ..)| at.step(step));
        [now, blind_until, next_waiting, counted_from, listing].into_iter().for_each(|at| at.step(step));
        pace.step(step);
        // It is found out anew.
        *next_subside = Timestamp::from_nanos(i64::MIN);
        ended.step(step);
        notices.step(step);
        let carry_minute = |(_, minute): &mut (u32, Timestamp)| *minute = step.carry_minute(*minute);
        step_keys(minutes, carry_minute, |known, more| *known = (known.0 + more.0, known.1 + more.1));
        minutes_of_gone.step(step);
        account.step(step);
        meter.step(step);
        incidents.step(step);
        began.step(step);
    }
}
