//! Notes what keeps a session from seeing, and says the gap that comes of it.

use super::{Said, Session, State};
use crate::daemon::plan::Plan;
use crate::daemon::sensor::Sensors;
use crate::journal::Entry;
use crate::model::{ClockStep, Gap, OnClock as _, Timestamp};

impl Session {
    /// The daemon cannot be reached, which is said once.
    pub(super) fn note_lost(&self, why: String, say: &mut (dyn FnMut(Said) + Send)) {
        let mut state = self.state();
        let now = state.clock.now();
        let is_news = state.sight.lose_daemon(now, &why);
        drop(state);
        if is_news {
            say(Said::Lost(why));
        }
    }

    /// The daemon can be reached again: everything is to be listed, and it may turn out that events were missed.
    pub(super) fn note_back(&self, is_in_doubt: bool, plan: &mut Plan, say: &mut (dyn FnMut(Said) + Send)) {
        if self.state().sight.find_daemon(is_in_doubt) {
            plan.resync(tokio::time::Instant::now());
            say(Said::Back);
        }
    }

    /// It is known now whether events were missed while the daemon was lost: those since `missed`, or none.
    pub(super) fn note_doubt_over(&self, missed: Option<(Timestamp, &str)>) {
        let mut state = self.state();
        let now = state.clock.now();
        state.sight.is_in_doubt = false;
        if let Some((from, why)) = missed {
            state.sight.miss(now, from, why);
        }
    }

    /// A listing failed, of a daemon that answers.
    pub(super) fn note_unlisted(&self, plan: &mut Plan) {
        let mut state = self.state();
        let now = state.clock.now();
        if state.sight.lose(now, "not-listed") {
            plan.resync_sweep(tokio::time::Instant::now());
        }
    }

    pub(super) fn note_dropped(&self, sensors: &Sensors, plan: &mut Plan) {
        if sensors.take_dropped() > 0 {
            let mut state = self.state();
            let now = state.clock.now();
            state.sight.lose(now, "events-dropped");
            state.sight.miss(now, now, "events-dropped");
            plan.resync_sweep(tokio::time::Instant::now());
        }
    }

    /// Says a gap that is over.
    pub(super) fn note_gap_over(&self, say: &mut (dyn FnMut(Said) + Send)) {
        let mut state = self.state();
        let now = state.clock.now();
        if let Some(gap) = state.sight.close(now) {
            state.keep_gap(gap.clone());
            drop(state);
            say(Said::Gap(gap));
        }
    }
}

impl State {
    /// The daemon's clock was stepped: what is remembered is told on the new one, and the step is said, as what came
    /// about it may be in another order.
    pub(super) fn step_clock(&mut self, step: ClockStep) {
        self.step(step);
        let (from, to) = (step.expected.min(step.said), step.said);
        let gap = Gap { from, to, why: "clock-stepped".to_owned(), open: false };
        self.keep_gap(gap.clone());
        if let Some(response) = &mut self.response {
            response.to_say.push(Said::Gap(gap));
        }
    }

    fn keep_gap(&mut self, gap: Gap) {
        self.tally.gap(&gap);
        if let Some(response) = &self.response {
            response.journal.note(Entry::Gap { origin: self.info.name.clone(), gap: gap.clone() });
        }
        self.sight.keep(gap);
    }
}
