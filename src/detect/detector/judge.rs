//! Judges attempts that have ended, and lets storms begin, change and end.

use std::cmp::Reverse;
use std::sync::Arc;

use super::Detector;
use crate::detect::arena::{AttemptId, ContainerId, NodeId, SubjectId};
use crate::detect::attempt::{Attempts, Outcome};
use crate::detect::container::Verdict;
use crate::detect::key::{Due, DueWhat, Slot};
use crate::detect::run::{Change, Failure};
use crate::detect::subject::SubjectState;
use crate::model::{AttemptCount, Cause, Notice, Storm, StormState, Subject, SubjectKind, Timestamp};

/// How many judged attempts are remembered, so that a task listed again is not counted again. The oldest go first;
/// a task that was forgotten is known by its raft index to be old.
const SETTLED_MAX: usize = 65_536;
/// How many subsided storms are kept for the report; the oldest go first.
const ENDED_MAX: usize = 10_000;
/// How many notices wait to be drained; more are dropped and counted.
const NOTICES_MAX: usize = 100_000;
/// How many counts of a subject's minute wait to be drained; more are dropped and counted.
const MINUTES_MAX: usize = 100_000;

impl Detector {
    /// Sets the time at which an attempt that has ended is judged, or judges again one that was.
    pub(super) fn look_for_end(&mut self, index: AttemptId, at: Timestamp) {
        let attempt = &mut self.attempts[index];
        if attempt.outcome.is_some() {
            self.judge_again(index);
            return;
        }
        if attempt.ended.is_some() || !attempt.has_ended() {
            return;
        }
        attempt.ended = Some(at);
        let due = Due {
            at: at.plus(self.settings.slack),
            key: attempt.key,
            what: DueWhat::Attempt(self.attempts.handle(index)),
        };
        self.clock.due.push(Reverse(due));
    }

    pub(super) fn judge_due(&mut self, due: Due) {
        match due.what {
            DueWhat::Removal(index) if self.subjects.get(index).is_some_and(|subject| subject.key == due.key) => {
                self.remove(index, due.at);
            }
            DueWhat::Attempt(it) if self.attempts.at(it).is_some() => self.judge_attempt(it.id),
            DueWhat::Container(it) if self.containers.at(it).is_some() => self.judge_container(it.id, due.at),
            // It is gone; a service that has another id by now has come back.
            _ => {}
        }
    }

    pub(super) fn judge_attempt(&mut self, index: AttemptId) {
        let (outcome, subject) = self.outcome(index);
        self.attempts[index].outcome = Some(outcome);
        self.count_attempt(index);
        let Some(state) = self.subjects.get_mut(subject) else { return };
        if let Some(place) = state.open.iter().position(|open| *open == index) {
            state.open.swap_remove(place);
        }
        state.settled.push_back(index);
        self.waiting.remove(&index);
        self.oldest.settled.push_back(self.attempts.handle(index));
        if outcome != Outcome::Intended {
            let at = self.attempts[index].ended.unwrap_or(self.clock.now);
            self.count_minute(subject, at, matches!(outcome, Outcome::Failed { .. }));
        }
        match outcome {
            Outcome::Failed { cause, exit_zero } => self.fail_attempt(index, cause, exit_zero),
            Outcome::Completed | Outcome::Intended => {
                let created = self.attempts[index].created;
                if let Some(state) = self.subjects.get_mut(subject) {
                    state.went_otherwise(created);
                }
            }
        }
        while self.oldest.settled.len() > SETTLED_MAX {
            self.forget_settled_attempt();
        }
    }

    /// Counts an attempt in its minute.
    fn count_minute(&mut self, subject: SubjectId, at: Timestamp, has_failed: bool) {
        if !self.counts_by_minute(at) {
            return;
        }
        let key = (subject, at.minute());
        if self.books.minutes.len() >= MINUTES_MAX && !self.books.minutes.contains_key(&key) {
            self.counters.minutes_dropped += 1;
            return;
        }
        let count = self.books.minutes.entry(key).or_default();
        count.0 += 1;
        count.1 += u64::from(has_failed);
    }

    /// A subject goes: its counts keep its name.
    pub(super) fn resolve_minutes(&mut self, index: SubjectId, subject: &Subject) {
        let least = Timestamp::from_nanos(i64::MIN);
        let of: Vec<(SubjectId, Timestamp)> =
            self.books.minutes.range((index, least)..).map(|(key, _)| *key).take_while(|key| key.0 == index).collect();
        for key in of {
            if let Some((attempts, failed)) = self.books.minutes.remove(&key)
                && self.books.minutes_of_gone.len() < MINUTES_MAX
            {
                let subject = subject.clone();
                self.books.minutes_of_gone.push(AttemptCount { minute: key.1, subject, attempts, failed });
            }
        }
    }

    /// A fact came after the judgement: the log's words may better the cause, and a listing may tell that an exit 0
    /// was no end.
    pub(super) fn judge_again(&mut self, index: AttemptId) {
        let before = self.attempts[index].outcome;
        let (after, subject) = self.outcome(index);
        if before == Some(after) {
            return;
        }
        match (before, after) {
            (Some(Outcome::Failed { cause: from, exit_zero }), Outcome::Failed { cause: to, .. }) => {
                let attempt = &mut self.attempts[index];
                attempt.outcome = Some(Outcome::Failed { cause: to, exit_zero });
                let (at, slot) = (attempt.ended.unwrap_or(self.clock.now), attempt.slot);
                if let Some(state) = self.subjects.get_mut(subject) {
                    let change = state.correct(at, slot, from, to);
                    self.announce(subject, change);
                }
            }
            (Some(Outcome::Completed), Outcome::Failed { cause, exit_zero }) => {
                self.attempts[index].outcome = Some(after);
                self.fail_attempt(index, cause, exit_zero);
            }
            _ => {}
        }
    }

    pub(super) fn outcome(&self, index: AttemptId) -> (Outcome, SubjectId) {
        let attempt = &self.attempts[index];
        let subject = self.subjects.get(attempt.subject);
        let policy = subject.and_then(|subject| subject.policy);
        let ended = attempt.ended.unwrap_or(self.clock.now);
        let was_ordered = subject.is_some_and(|subject| subject.was_ordered(attempt.created, ended));
        let ran_out_of_memory = subject.is_some_and(|subject| subject.ran_out_of_memory);
        (attempt.judge(policy, ran_out_of_memory, was_ordered), attempt.subject)
    }

    pub(super) fn fail_attempt(&mut self, index: AttemptId, cause: Cause, exit_zero: bool) {
        let attempt = &self.attempts[index];
        let failure = Failure {
            at: attempt.ended.unwrap_or(self.clock.now),
            created: attempt.created,
            slot: attempt.slot,
            node: attempt.node,
            cause,
            exit_zero,
        };
        let (subject, exit_code) = (attempt.subject, attempt.exit_code);
        self.say_exit(subject, cause, exit_code);
        self.fail(subject, failure);
    }

    /// Where the engine had no words, the exit code is what there is to say.
    pub(super) fn say_exit(&mut self, subject: SubjectId, cause: Cause, exit_code: Option<i32>) {
        let Some(state) = self.subjects.get_mut(subject) else { return };
        if state.failing.as_ref().is_some_and(|failing| !failing.detail(cause).is_empty()) {
            return;
        }
        match exit_code {
            Some(code) if cause == Cause::Oom => {
                state.say(&self.quotas, cause, &format!("killed for memory, exit code {code}"));
            }
            Some(code) => state.say(&self.quotas, cause, &format!("exit code {code}")),
            None => state.say(&self.quotas, cause, "the container never started"),
        }
    }

    pub(super) fn fail(&mut self, subject: SubjectId, failure: Failure) {
        let Some(state) = self.subjects.get_mut(subject) else { return };
        let (attempts, containers) = (&self.attempts, &self.containers);
        let is_swarm = state.subject.kind == SubjectKind::SwarmService;
        let tells_slots = is_swarm && self.listing.has_tasks;
        let change = state.fail(failure, &self.settings, &self.quotas, tells_slots, |state, since| {
            if is_swarm {
                return open_since(attempts, state, since);
            }
            let running = containers.values().filter(|container| container.subject == subject);
            running.filter(|container| container.is_running()).count() as u64
        });
        self.move_hold_down(subject);
        self.announce(subject, change);
    }

    /// An attempt whose slot is known by now may have been judged without it.
    pub(super) fn learn_slot(&mut self, index: AttemptId) {
        let attempt = &self.attempts[index];
        let (Some(Outcome::Failed { .. }), Some(at)) = (attempt.outcome, attempt.ended) else { return };
        let (subject, slot, attempts) = (attempt.subject, attempt.slot, &self.attempts);
        let Some(state) = self.subjects.get_mut(subject) else { return };
        let open = |state: &SubjectState, since| open_since(attempts, state, since);
        let change = state.learn_slot(at, slot, &self.settings, &self.quotas, open);
        self.move_hold_down(subject);
        self.announce(subject, change);
    }

    pub(super) fn judge_container(&mut self, index: ContainerId, at: Timestamp) {
        let container = &mut self.containers[index];
        let subject = container.subject;
        let mut verdicts = Vec::new();
        container.settle(at.minus(self.settings.slack), &mut |verdict| verdicts.push(verdict));
        for verdict in verdicts {
            match verdict {
                Verdict::Attempt { at } => {
                    if let Some(storm) = self.subjects.get_mut(subject).and_then(SubjectState::storm_mut) {
                        storm.count_attempt(at);
                    }
                }
                Verdict::Failed { at, started, cause, exit_code } => {
                    self.count_minute(subject, at, true);
                    self.say_exit(subject, cause, Some(exit_code));
                    let slot = Slot::default();
                    self.fail(
                        subject,
                        Failure { at, created: started, slot, node: NodeId::NONE, cause, exit_zero: exit_code == 0 },
                    );
                }
                Verdict::Removed => self.drop_container(index),
            }
        }
    }

    pub(super) fn announce(&mut self, index: SubjectId, change: Change) {
        match change {
            Change::None => {}
            Change::Onset => self.announce_onset(index),
            Change::Cause { from, to } => {
                if let Some(storm) = self.storm_of(index) {
                    self.notify(Notice::CauseChanged { storm: Arc::new(storm), from, to });
                }
            }
        }
    }

    pub(in crate::detect) fn announce_onset(&mut self, index: SubjectId) {
        self.storming.insert(index);
        let first = self.first_of(index);
        if let Some(((id, is_whole), episode)) =
            first.zip(self.subjects.get_mut(index).and_then(SubjectState::storm_mut))
        {
            (episode.id, episode.is_whole) = (id, is_whole);
        }
        self.move_hold_down(index);
        if let Some(storm) = self.storm_of(index) {
            self.notify(Notice::Onset(Arc::new(storm)));
        }
    }

    /// Says that a storm goes on under another id, if the subject storms.
    pub(in crate::detect) fn announce_move(&mut self, index: SubjectId, from: String) {
        if let Some(storm) = self.storm_of(index) {
            self.notify(Notice::Moved { storm: Arc::new(storm), from });
        }
    }

    pub(in crate::detect) fn notify(&mut self, notice: Notice) {
        if self.said.notices.len() < NOTICES_MAX {
            self.said.notices.push_back(notice);
        } else {
            self.counters.notices_dropped += 1;
        }
    }

    pub(super) fn hold_down_ends(&self, index: SubjectId) -> Option<Timestamp> {
        self.subjects.get(index)?.hold_down_ends(&self.settings, self.clock.blind_until)
    }

    pub(super) fn subside_until(&mut self, now: Timestamp) {
        if now < self.clock.next_subside {
            return;
        }
        let mut next = Timestamp::from_nanos(i64::MAX);
        let mut over = Vec::new();
        for index in self.storming.iter().copied() {
            match self.hold_down_ends(index).filter(|ends| *ends > now) {
                Some(ends) => next = next.min(ends),
                None => over.push(index),
            }
        }
        self.clock.next_subside = next;
        for index in over {
            self.end_storm(index);
        }
    }

    /// A storming subject has failed: its hold-down is another.
    fn move_hold_down(&mut self, index: SubjectId) {
        if let Some(ends) = self.hold_down_ends(index) {
            self.clock.next_subside = self.clock.next_subside.min(ends);
        }
    }

    /// A service was removed: its storm is over, unless it comes back under its name within the hold-down.
    pub(super) fn remove(&mut self, index: SubjectId, at: Timestamp) {
        if let Some(state) = self.subjects.get_mut(index) {
            state.removed = state.removed.or(Some(at));
        }
        self.move_hold_down(index);
    }

    pub(super) fn end_storm(&mut self, index: SubjectId) {
        if !self.storming.remove(&index) {
            return;
        }
        let storm = self.storm_of(index).map(|storm| Storm {
            state: StormState::Subsided,
            ended: self.subjects.get(index).and_then(|subject| Some(subject.failing.as_ref()?.last)),
            ..storm
        });
        if let Some(subject) = self.subjects.get_mut(index) {
            subject.subside(&self.quotas);
        }
        if let Some(storm) = storm {
            self.said.ended.push_back(storm.clone());
            if self.said.ended.len() > ENDED_MAX {
                self.said.ended.pop_front();
            }
            self.notify(Notice::Subsided(Arc::new(storm)));
        }
    }
}

/// How many attempts of a service that were made at or after a moment are open.
fn open_since(attempts: &Attempts, state: &SubjectState, since: Timestamp) -> u64 {
    state.open.iter().filter(|index| attempts[**index].created >= since).count() as u64
}
