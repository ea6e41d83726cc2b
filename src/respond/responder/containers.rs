//! Stops plain containers and compose services, and lets go of what somebody started again.

use super::decide::{Matter, decision_about};
use super::{NEVER, Responder, Verdict};
use crate::model::{
    Action, Author, Decision, HoldChange, HoldEnd, LetGo, Outcome, Refusal, Subject, SubjectKind, Timestamp,
};
use crate::respond::container::{ContainerView, StopMark, judge};
use crate::respond::guard::Scene;
use crate::respond::permit::Permit;

/// A container subject as the maps of the responder name it, apart from services' ids.
pub(super) fn key(subject: &Subject) -> String {
    key_of(subject.kind, &subject.id)
}

pub(super) fn key_of(kind: SubjectKind, id: &str) -> String {
    format!("{}/{id}", kind.as_str())
}

impl Responder {
    /// Takes what the journal says was stopped.
    pub fn remember_stopped(&mut self, stopped: Vec<(Subject, String)>) {
        for (subject, text) in stopped {
            if let Some(mark) = StopMark::read(&text) {
                self.changes.push(HoldChange::Held(Box::new(mark.quarantine(subject.clone()))));
                self.stopped.insert(key(&subject), (subject, mark));
            }
        }
    }

    /// What is stopped.
    pub fn stopped(&self) -> Vec<Subject> {
        self.stopped.values().map(|(subject, _)| subject.clone()).collect()
    }

    /// The container subjects whose storm wants an answer now.
    pub fn due_containers(&self, now: Timestamp) -> Vec<Subject> {
        let due = self.container_storms.values().filter(|wait| wait.next <= now);
        due.map(|wait| wait.storm.subject.clone()).collect()
    }

    /// How a stop whose settlement nobody knows ended, by what the containers look like now. One that was not done
    /// is not remembered.
    pub fn outcome_of_stop(&mut self, subject: &Subject, containers: &[ContainerView]) -> Outcome {
        let key = key(subject);
        let Some((_, mark)) = self.stopped.get(&key) else { return Outcome::NotDone };
        if !mark.is_undone(containers) {
            return Outcome::Done;
        }
        if mark.is_untouched(containers) {
            if let Some((subject, _)) = self.stopped.remove(&key) {
                self.say_ended(subject, HoldEnd::LetGo("it was not stopped".to_owned()));
            }
        } else {
            // Its policy was taken away: how to undo that has to stay known.
            self.unfinished.insert(key);
        }
        Outcome::NotDone
    }

    /// Whether a subject is stopped, or in part.
    pub fn is_stopped(&self, subject: &Subject) -> bool {
        self.stopped.contains_key(&key(subject))
    }

    /// What a look at a subject's containers leads to.
    pub fn decide_containers(
        &mut self,
        now: Timestamp,
        subject: &Subject,
        containers: &[ContainerView],
        scene: &Scene,
    ) -> Verdict {
        let key = key(subject);
        if let Some((_, mark)) = self.stopped.get(&key) {
            if mark.is_gone(containers) {
                self.stopped.remove(&key);
                self.unfinished.remove(&key);
                self.say_ended(subject.clone(), HoldEnd::Gone);
                return Verdict::Gone(subject.clone());
            }
            if self.unfinished.contains(&key) {
                let mark = mark.clone();
                return self.stop_again(now, subject, &key, mark, scene);
            }
            if !mark.is_undone(containers) {
                return Verdict::Nothing;
            }
            let storm = mark.storm.clone();
            let was: Vec<&str> = mark.containers.iter().map(|stopped| &*stopped.policy.name).collect();
            let why = format!("somebody started it, or gave it a restart policy; it had been {}", was.join(", "));
            self.stopped.remove(&key);
            self.say_ended(subject.clone(), HoldEnd::LetGo(why.clone()));
            self.leave_alone(&key, None, now);
            if let Some(wait) = self.container_storms.get_mut(&key) {
                (wait.answered, wait.next) = (Some(now), now);
            }
            self.counters.let_go += 1;
            return Verdict::LetGo(LetGo { at: now, subject: subject.clone(), storm, template: String::new(), why });
        }
        let (Some(storm), Some(wait)) = (&scene.storm, self.container_storms.get_mut(&key)) else {
            self.container_storms.remove(&key);
            return Verdict::Nothing;
        };
        wait.next = NEVER;
        let is_cooling = self.hands_off.get(&key).is_some_and(|off| off.until > now);
        let (response, mut refusal) = judge(&self.settings, now, subject, containers, scene, is_cooling);
        if refusal.is_none() && !self.pay(&key, now, Action::Quarantine) {
            refusal = Some(Refusal::ActionBudget);
        }
        let matter = Matter::of_storm(storm, response);
        let decision =
            Decision { refusal, ..decision_about(subject.clone(), matter, Action::Quarantine, Author::Breaker, now) };
        let Some(reason) = refusal else {
            let mark = StopMark::new(&storm.id, storm.cause, response, now, containers);
            *self.counters.permitted.entry(Action::Quarantine).or_default() += 1;
            return Verdict::Permitted(Box::new(Permit::stop(decision, mark)));
        };
        let next = match reason {
            Refusal::CoolDown => self.hands_off.get(&key).map_or(now, |off| off.until),
            reason => Self::again(reason, now),
        };
        if let Some(wait) = self.container_storms.get_mut(&key) {
            wait.next = next;
        }
        self.refuse(decision)
    }

    /// A step of a stop failed, or the process ended in between: each may be repeated, and is.
    fn stop_again(&mut self, now: Timestamp, subject: &Subject, key: &str, mark: StopMark, scene: &Scene) -> Verdict {
        let matter = Matter::of_stop(&mark);
        let decision = decision_about(subject.clone(), matter, Action::Quarantine, Author::Breaker, now);
        let refusal = match () {
            () if scene.is_blind => Some(Refusal::EvidenceGap),
            () if !self.settings.act => Some(Refusal::NotEnforced),
            () if !self.pay(key, now, Action::Quarantine) => Some(Refusal::ActionBudget),
            () => None,
        };
        if refusal.is_some() {
            return self.refuse(Decision { refusal, ..decision });
        }
        *self.counters.permitted.entry(Action::Quarantine).or_default() += 1;
        Verdict::Permitted(Box::new(Permit::stop(decision, mark)))
    }

    pub(super) fn settle_containers(&mut self, now: Timestamp, permit: &Permit, outcome: Outcome) {
        let subject = &permit.decision().subject;
        let key = key(subject);
        *self.counters.settled.entry(outcome).or_default() += 1;
        if outcome == Outcome::NotDone {
            // Nothing was changed: it is paid for, and decided again.
            self.credits.insert(key);
            self.put_off_containers(now, subject);
            return;
        }
        self.leave_alone(&key, None, now);
        if outcome == Outcome::Done {
            self.unfinished.remove(&key);
        } else {
            self.unfinished.insert(key.clone());
        }
        if let Some(mark) = permit.stop_mark() {
            if outcome == Outcome::Done {
                self.changes.push(HoldChange::Held(Box::new(mark.quarantine(subject.clone()))));
            }
            // Also where it was done in part: how to undo that has to stay known.
            self.stopped.insert(key, (subject.clone(), mark.clone()));
        }
    }

    /// A person's own release of what was stopped, by its name.
    pub fn start_by_hand(now: Timestamp, subject: &Subject, mark: &StopMark) -> Permit {
        let matter = Matter::of_stop(mark);
        Permit::start(decision_about(subject.clone(), matter, Action::Release, Author::Hand, now), mark.clone())
    }
}
