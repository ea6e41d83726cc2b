//! Takes what the detector and the responder have found into the situation, and what the situation makes of it to the
//! journal and to those who hear of it.

use std::sync::Arc;

use tokio::time::Instant;

use super::respond::{COUNTS_MAX, PARTS_EVERY, STORMS_MAX, keep_counts};
use super::response::{MINUTES_EVERY, Response};
use super::{Said, Session, State};
use crate::daemon::purse::Purse;
use crate::journal::Entry;
use crate::model::{HoldChange, HoldEnd, Labels, Notice, Step, Timestamp, Transition};
use crate::situation::Input;

const NO_LABELS: &Labels = &Labels::new();

impl Session {
    /// Takes what the detector has found: for the policy, the situation and the journal; returns what there is to say.
    /// Of `many` at once the storms that begin follow to the journal in parts.
    pub(super) fn note(&self, now: Timestamp, notices: Vec<Notice>, many: bool) -> Vec<Said> {
        let mut state = self.state();
        let state = &mut *state;
        let mut said = Vec::new();
        for notice in notices {
            if let Some(response) = &mut state.response {
                response.responder.take(now, &notice);
            }
            match notice {
                Notice::Onset(storm) | Notice::CauseChanged { storm, .. } | Notice::Moved { storm, .. } => {
                    state.see(now, Input::Storm(storm))
                }
                Notice::Subsided(storm) => state.see(now, Input::Calm(storm)),
                Notice::Found(finding) => said.push(Said::Found(finding)),
            }
        }
        state.see_holds(now);
        state.situation.advance(now);
        let State { detector, situation, response, purse, tally, role, .. } = state;
        for transition in situation.drain() {
            if !role.sees(transition.case.subject()) {
                continue;
            }
            if let Some(response) = response {
                response.keep(&transition, many);
            }
            if transition.step == Step::Began && transition.case.storm.failed > 0 {
                tally.storm(transition.case.storm.cause);
            }
            said.push(Said::Case(transition));
        }
        let Some(response) = response else { return said };
        while let Some(reading) = purse.as_mut().and_then(Purse::answer) {
            let reading = detector.meter_mut().with_own(reading);
            detector.meter_mut().read(reading.clone());
            response.journal.note(Entry::Reading(reading));
        }
        if response.minutes_at <= Instant::now() {
            let is_more = keep_counts(detector, response, tally);
            let part = if response.is_behind { COUNTS_MAX } else { STORMS_MAX };
            let (storms, next) = detector.ongoing_after(response.storms_after, part);
            for storm in storms {
                response.journal.note(Entry::Storm(Arc::new(situation.told(storm))));
            }
            response.storms_after = next;
            response.is_behind &= next.is_some();
            let is_more = is_more || response.is_behind;
            // A part at a time, so that what waits for the disk takes little room.
            response.minutes_at = Instant::now() + if is_more { PARTS_EVERY } else { MINUTES_EVERY };
        }
        said
    }
}

impl State {
    /// Takes one thing that was found into the situation.
    pub(super) fn see(&mut self, now: Timestamp, input: Input) {
        let labels = self.listing.services.labels.get(&input.subject().id).unwrap_or(NO_LABELS);
        self.situation.take(now, input, labels);
    }

    /// Takes what of the holds has changed into the situation. What was let go may fail as it did before.
    fn see_holds(&mut self, now: Timestamp) {
        let changes = self.response.as_mut().map(|response| response.responder.drain_changes()).unwrap_or_default();
        for change in changes {
            let ended = match &change {
                HoldChange::Ended(subject, end) => Some((subject.kind, subject.id.clone(), end.clone())),
                HoldChange::Held(_) => None,
            };
            self.see(now, Input::Hold(change));
            match ended {
                Some((kind, id, HoldEnd::LetGo(_))) => {
                    if let Some(storm) = self.detector.storm(kind, &id) {
                        self.see(now, Input::Storm(Arc::new(storm)));
                    }
                }
                Some((kind, id, HoldEnd::Returned | HoldEnd::Gone)) => match self.detector.storm(kind, &id) {
                    // A service that was made again under its name storms on.
                    Some(storm) if storm.subject.id != id => self.see(now, Input::Storm(Arc::new(storm))),
                    _ => self.detector.end(kind, &id),
                },
                None => {}
            }
        }
    }
}

impl Response {
    /// Takes a case's step to the journal.
    fn keep(&mut self, transition: &Transition, many: bool) {
        let storm = &transition.case.storm;
        let is_of_note = match transition.step {
            // A quarantine without a storm has its decision in the journal.
            Step::Began if many && storm.failed > 0 => {
                if !self.is_behind {
                    // As they are by then.
                    self.is_behind = true;
                    self.storms_after = None;
                    self.minutes_at = Instant::now();
                }
                false
            }
            Step::Began | Step::CauseChanged | Step::Resumed | Step::Over => storm.failed > 0,
            _ => false,
        };
        if is_of_note {
            // Most have the id of their case, and need no copy.
            let is_told = storm.id == transition.case.id;
            let told = if is_told { Arc::clone(storm) } else { Arc::new(transition.case.told((**storm).clone())) };
            self.journal.note(Entry::Storm(told));
        }
    }
}
