//! Spans that cannot be vouched for: events that were missed, listings that failed, a clock that was stepped.

use std::time::Duration;

use super::{Said, Session, State};
use crate::daemon::sensor::Sensors;
use crate::model::{ClockStep, Gap};

/// What the Swarm did while its tasks could not be listed is not known: it keeps the last five of a slot. An election
/// takes less than this.
const UNLISTED_MIN: Duration = Duration::from_secs(30);
/// How many gaps are kept for the report; the oldest go first.
const GAPS_MAX: usize = 1000;

impl Session {
    pub(super) fn note_gap(&self, gap: Gap, say: &mut (dyn FnMut(Said) + Send)) {
        self.state().keep_gap(gap.clone());
        say(Said::Gap(gap));
    }

    /// Everything was listed; what was not for long is a gap.
    pub(super) fn note_listed(&self, say: &mut (dyn FnMut(Said) + Send)) {
        let (from, to) = {
            let mut state = self.state();
            (state.unlisted.take(), state.clock.now())
        };
        if let Some(from) = from.filter(|from| to.since(*from) > UNLISTED_MIN) {
            self.note_gap(Gap { from, to, why: "not-listed".to_owned() }, say);
        }
    }

    pub(super) fn note_dropped(&self, sensors: &Sensors, say: &mut (dyn FnMut(Said) + Send)) {
        let dropped = sensors.take_dropped();
        if dropped > 0 {
            let now = self.state().clock.now();
            let why = format!("squall fell behind: {dropped} events were dropped");
            self.note_gap(Gap { from: now, to: now, why }, say);
        }
    }
}

impl State {
    /// The daemon's clock was stepped: what is remembered is told on the new one, and the step is said, as what came
    /// about it may be in another order.
    pub(super) fn step_clock(&mut self, step: ClockStep) {
        self.detector.step_clock(step);
        self.situation.step_clock(step);
        // A span of the old clock would be in the future of one that was set back.
        self.gap_end = self.gap_end.map(|end| step.carry(end));
        self.unlisted = self.unlisted.map(|since| step.carry(since));
        let gap = Gap { from: step.expected.min(step.said), to: step.said, why: "clock-stepped".to_owned() };
        self.keep_gap(gap.clone());
        if let Some(response) = &mut self.response {
            response.step_clock(step, gap);
        }
    }

    fn keep_gap(&mut self, gap: Gap) {
        if self.gaps.len() >= GAPS_MAX {
            self.gaps.remove(0);
        }
        self.tally.gap(&gap);
        self.gap_end = self.gap_end.max(Some(gap.to));
        self.gaps.push(gap);
    }
}
