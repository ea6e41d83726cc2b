//! Decides on what was read of a service.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{HANDS_OFF_MAX, Holding, Look, NEVER, Responder, Verdict};
use crate::model::{
    Action, Author, Cause, Decision, HoldEnd, LetGo, Outcome, Refusal, Response, Storm, Subject, SubjectKind,
    Timestamp, fnv_64,
};
use crate::respond::container::StopMark;
use crate::respond::guard::{Case, Scene, response_to};
use crate::respond::health::period;
use crate::respond::mark::{Before, Mark, Phase, Set, UNMET};
use crate::respond::permit::Permit;
use crate::respond::settings::Settings;
use crate::respond::spec::View;

/// From so many storms at one registry on, of more than one stack, the registry is at fault.
const INCIDENT_STORMS: usize = 3;

impl Responder {
    /// What a look at a service leads to.
    pub fn decide(&mut self, now: Timestamp, look: Look<'_>, scene: &Scene) -> Verdict {
        let Some(view) = View::read(look.service) else {
            if let Some(id) = look.service.get("ID").and_then(serde_json::Value::as_str) {
                self.put_off(now, id);
            }
            return Verdict::Nothing;
        };
        let id = &view.id;
        if let Some(wait) = self.storms.get_mut(id) {
            wait.version = view.version;
            // A service that was known by its id has a name and a stack by now.
            let known = &wait.storm;
            let is_other = |storm: &&Storm| {
                storm.subject != known.subject || storm.cause != known.cause || storm.registry != known.registry
            };
            if let Some(storm) = scene.storm.as_ref().filter(is_other) {
                wait.storm = Arc::new(storm.clone());
            }
        }
        let was_held = self.is_holding(id);
        match &view.mark {
            Ok(Some(mark)) if view.is_as(&mark.set) && !self.has_let_go(id, mark) => {
                self.adopt(now, &view, mark);
                self.go_on(now, &view, look.tasks, scene)
            }
            _ if was_held => self.let_go(now, &view),
            Ok(None) => {
                self.held.remove(id);
                self.answer(now, &view, look, scene)
            }
            _ => {
                // What was let go stays so until its labels change.
                if let Some(held) = self.held.get_mut(id) {
                    (held.version, held.next) = (view.version, NEVER);
                }
                self.answer(now, &view, look, scene)
            }
        }
    }

    /// The service is gone.
    pub fn forget(&mut self, id: &str) {
        if let Some(held) = self.held.remove(id) {
            self.say_ended(held.subject, HoldEnd::Gone);
        }
        self.storms.remove(id);
        self.said.remove(id);
        self.credits.remove(id);
    }

    /// A person's own quarantine: the guards that keep healthy replicas and Swarm's own rollouts apply, those that
    /// doubt whether to act do not.
    ///
    /// # Errors
    /// The refusal.
    pub fn quarantine_by_hand(
        settings: &Settings,
        now: Timestamp,
        look: Look<'_>,
        scene: &Scene,
        response: Response,
    ) -> Result<Permit, Refusal> {
        let view = View::read(look.service).ok_or(Refusal::Gone)?;
        let by = Author::Hand;
        let (is_opted_in, is_cooling) = (true, false);
        let case = Case { settings, now, by, view: &view, tasks: look.tasks, scene, response, is_opted_in, is_cooling };
        case.refusal().map_or(Ok(()), Err)?;
        let mark = first_mark(settings, &case).ok_or(Refusal::Unsupported)?;
        let decision = decision_of(&view, Matter::of_mark(&mark), Action::Quarantine, by, now);
        let old = view.mark.unwrap_or_default();
        Ok(Permit::new(decision, view.version, old, Some(mark)))
    }

    /// A person's own release: only what is held can be.
    ///
    /// # Errors
    /// [`Refusal::Gone`] where it has no quarantine's labels, [`Refusal::BadLabel`] where somebody changed them.
    pub fn release_by_hand(now: Timestamp, look: Look<'_>) -> Result<Permit, Refusal> {
        let view = View::read(look.service).ok_or(Refusal::Gone)?;
        let mark = view.mark.clone().map_err(|_| Refusal::BadLabel)?.ok_or(Refusal::Gone)?;
        let decision = decision_of(&view, Matter::of_mark(&mark), Action::Release, Author::Hand, now);
        Ok(Permit::new(decision, view.version, Some(mark), None))
    }

    /// How a decision whose settlement nobody knows ended, by what the service looks like now.
    pub fn outcome_of(decision: &Decision, service: Option<&View>) -> Outcome {
        let mark = service.and_then(|view| view.mark.as_ref().ok()).and_then(Option::as_ref);
        match (decision.action, mark) {
            // Made by this decision, or gone on from it.
            (Action::Quarantine, Some(mark)) if mark.since == decision.at => Outcome::Done,
            (Action::Quarantine | Action::Probe | Action::Raise, Some(mark)) if mark.at == decision.at => Outcome::Done,
            // Another decision came first, or came after.
            (Action::Quarantine | Action::Probe | Action::Raise, Some(mark)) if mark.at > decision.at => Outcome::Raced,
            (Action::Release, Some(mark)) if mark.since > decision.at => Outcome::Done,
            (Action::Release, None) if service.is_some() => Outcome::Done,
            _ => Outcome::NotDone,
        }
    }

    /// Whether squall has let go of this mark, which somebody has left on the service.
    fn has_let_go(&self, id: &str, mark: &Mark) -> bool {
        self.let_go.get(id).is_some_and(|at| *at >= mark.at)
    }

    /// The outcome of a change whose answer was lost: it was found in the service's labels.
    pub fn found(&mut self, now: Timestamp, decision: &Decision, outcome: Outcome) {
        *self.counters.settled.entry(outcome).or_default() += 1;
        if outcome == Outcome::Done {
            let id = &decision.subject.id;
            self.credits.remove(id);
            if decision.action == Action::Quarantine {
                self.leave_alone(id, None, decision.at.min(now));
            }
        }
    }

    /// Remembers when squall let go of a service. At the cap it forgets the one that it let go of longest ago.
    pub(super) fn remember_let_go(&mut self, id: &str, at: Timestamp) {
        self.let_go.insert(id.to_owned(), at);
        if self.let_go.len() > HANDS_OFF_MAX
            && let Some(oldest) = self.let_go.iter().min_by_key(|(_, at)| **at).map(|(id, _)| id.clone())
        {
            self.let_go.remove(&oldest);
        }
    }

    fn adopt(&mut self, now: Timestamp, view: &View, mark: &Mark) {
        match self.held.get_mut(&view.id) {
            None => {
                // What was paid and seemed not to be done: it was.
                self.credits.remove(&view.id);
                self.hold(now, subject_of(view), mark.clone(), view.version);
            }
            Some(held) if held.mark == *mark && !held.is_let_go => {
                held.version = view.version;
                if held.is_said {
                    return;
                }
            }
            Some(held) => {
                let is_paid = held.is_paid && mark.phase != Phase::Held;
                *held = Holding {
                    mark: mark.clone(),
                    subject: subject_of(view),
                    version: view.version,
                    next: now,
                    running_since: None,
                    is_paid,
                    is_let_go: false,
                    failures: 0,
                    stepped_nanos: 0,
                    is_said: false,
                };
            }
        }
        self.say_held(&view.id, &view.image);
    }

    /// Somebody changed the replicas, the constraint or the labels of what was held.
    fn let_go(&mut self, now: Timestamp, view: &View) -> Verdict {
        let Some(held) = self.held.get_mut(&view.id) else { return Verdict::Nothing };
        let mark = held.mark.clone();
        // Released by the leader's squall, or by this one, whose answer was lost.
        let is_back = mark.phase != Phase::Held && view.mark == Ok(None) && is_restored(view, &mark.before);
        let why = match (&view.mark, &mark.set) {
            (Ok(None), _) => "its labels of squall's are gone: released by hand, or deployed anew".to_owned(),
            (Err(bad), _) => format!("its labels of squall's were changed: {bad}"),
            (Ok(Some(_)), Set::Replicas(set)) => match view.mode {
                crate::model::Mode::Replicated(replicas) => format!("its replicas were changed: {set} to {replicas}"),
                _ => "its mode was changed".to_owned(),
            },
            (Ok(Some(_)), Set::Constraints(_)) => "its placement constraints were changed".to_owned(),
        };
        if view.mark == Ok(None) {
            self.held.remove(&view.id);
        } else {
            (held.is_let_go, held.version, held.next) = (true, view.version, NEVER);
        }
        let end = if is_back { HoldEnd::Returned } else { HoldEnd::LetGo(why.clone()) };
        self.say_ended(subject_of(view), end);
        self.said.remove(&view.id);
        self.credits.remove(&view.id);
        // A restarted squall sees an old change too.
        let since = view.updated.unwrap_or(now).min(now);
        self.remember_let_go(&view.id, since);
        self.leave_alone(&view.id, Some(view.template.clone()), since);
        if let Some(wait) = self.storms.get_mut(&view.id) {
            (wait.answered, wait.next) = (Some(since), now);
        }
        // What was changed long ago has been said, by the process before this one.
        let is_old = now.since(since) > self.settings.cool_down;
        if is_back || is_old {
            // Another manager's squall has brought it back.
            return Verdict::Nothing;
        }
        self.counters.let_go += 1;
        let template = view.template.clone();
        Verdict::LetGo(LetGo { at: now, subject: subject_of(view), storm: mark.storm, template, why })
    }

    /// Answers the storm of a service that is not held.
    fn answer(&mut self, now: Timestamp, view: &View, look: Look<'_>, scene: &Scene) -> Verdict {
        let (Some(storm), Some(wait)) = (&scene.storm, self.storms.get_mut(&view.id)) else {
            self.storms.remove(&view.id);
            return Verdict::Nothing;
        };
        wait.next = NEVER;
        let label = view.response.clone().unwrap_or_default();
        let (asked, is_opted_in) = response_to(&self.settings, &view.name, label);
        let response = self.within_the_blast_radius(asked, storm);
        let cooling_until = self.cooling_until(now, view);
        let case = Case {
            settings: &self.settings,
            now,
            by: Author::Breaker,
            view,
            tasks: look.tasks,
            scene,
            response,
            is_opted_in,
            is_cooling: cooling_until.is_some(),
        };
        let mark = first_mark(&self.settings, &case);
        let mut refusal = case.refusal();
        if refusal.is_none() && !self.pay(&view.id, now, Action::Quarantine) {
            refusal = Some(Refusal::ActionBudget);
        }
        let decision = Decision {
            instead_of: (asked != response).then_some(asked),
            refusal,
            ..decision_of(view, Matter::of_storm(storm, response), Action::Quarantine, Author::Breaker, now)
        };
        match (refusal, mark) {
            (None, Some(mark)) => {
                let old = view.mark.clone().unwrap_or_default();
                self.permit(decision, view.version, old, Some(mark))
            }
            (refusal, _) => {
                let reason = refusal.unwrap_or(Refusal::Unsupported);
                let next = match reason {
                    Refusal::TooYoung => storm.onset.plus(self.settings.min_age),
                    Refusal::CoolDown => cooling_until.unwrap_or(now),
                    reason => Self::again(reason, now),
                };
                if let Some(wait) = self.storms.get_mut(&view.id) {
                    wait.next = next;
                }
                self.refuse(Decision { refusal: Some(reason), ..decision })
            }
        }
    }

    /// What a person has to undo holds no more than its share of the services; beyond it, and where a registry fails
    /// many, the response is one that undoes itself.
    fn within_the_blast_radius(&self, asked: Response, storm: &Storm) -> Response {
        if !matches!(asked, Response::Pause | Response::ScaleToZero) {
            return asked;
        }
        let needs_hand = |response| matches!(response, Response::Pause | Response::ScaleToZero);
        let held = self.held.values().filter(|held| needs_hand(held.mark.response) && !held.is_let_go).count() as u64;
        let share = self.services.saturating_mul(self.settings.held_share_pct) / 100;
        let is_full = held >= share.max(self.settings.held_min);
        if is_full || self.is_registry_incident(storm.cause, &storm.registry) { Response::Backoff } else { asked }
    }

    /// Whether unrelated services fail at one registry at once, as one does with this cause.
    pub(super) fn is_registry_incident(&self, cause: Cause, registry: &str) -> bool {
        if !cause.is_of_registry() || registry.is_empty() {
            return false;
        }
        let alike: Vec<_> = self
            .storms
            .values()
            .filter(|wait| wait.storm.cause.is_of_registry() && wait.storm.registry == registry)
            .collect();
        // A service of no stack is related to no other.
        let unrelated: BTreeSet<&str> =
            alike.iter().map(|wait| wait.storm.subject.stack.as_deref().unwrap_or(&wait.storm.subject.id)).collect();
        alike.len() >= INCIDENT_STORMS && unrelated.len() > 1
    }

    fn cooling_until(&mut self, now: Timestamp, view: &View) -> Option<Timestamp> {
        let off = self.hands_off.get(&view.id)?;
        if off.until <= now {
            self.hands_off.remove(&view.id);
            return None;
        }
        off.template.as_ref().is_none_or(|template| *template == view.template).then_some(off.until)
    }

    pub(super) fn permit(&mut self, decision: Decision, version: u64, old: Option<Mark>, new: Option<Mark>) -> Verdict {
        *self.counters.permitted.entry(decision.action).or_default() += 1;
        self.said.remove(&decision.subject.id);
        Verdict::Permitted(Box::new(Permit::new(decision, version, old, new)))
    }

    pub(super) fn refuse(&mut self, decision: Decision) -> Verdict {
        let Some(refusal) = decision.refusal else { return Verdict::Nothing };
        let said = (decision.action, decision.response, decision.refusal, decision.storm.clone());
        let is_news = self.said.insert(decision.subject.id.clone(), said.clone()) != Some(said);
        if is_news {
            *self.counters.refused.entry(refusal).or_default() += 1;
        }
        Verdict::Refused { decision, is_news }
    }
}

/// The mark of a first quarantine; `None` where the service cannot be held.
fn first_mark(settings: &Settings, case: &Case<'_>) -> Option<Mark> {
    let before = case.view.before(case.response)?;
    let storm = case.scene.storm.as_ref();
    let delay = settings.delay(0, salt(&case.view.id, 0));
    Some(Mark {
        phase: Phase::Held,
        by: case.by,
        storm: storm.map(|storm| storm.id.clone()).unwrap_or_default(),
        cause: storm.map_or(Cause::Unknown, |storm| storm.cause),
        response: case.response,
        since: case.now,
        at: case.now,
        until: (case.response == Response::Backoff).then(|| case.now.plus(delay)),
        tries: 0,
        period: period(case.tasks, storm.map_or(Timestamp::from_secs(0), |storm| storm.onset)),
        template: case.view.template.clone(),
        version: case.view.version,
        before,
        set: match before {
            Before::Replicas(_) => Set::Replicas(0),
            Before::Placement(_) => Set::Constraints(vec![UNMET.to_owned()]),
        },
    })
}

/// Makes the delays of services differ, the same on every manager.
pub(super) fn salt(id: &str, tries: u32) -> u64 {
    fnv_64([id.as_bytes(), &tries.to_be_bytes()])
}

/// What a decision is for.
#[derive(Clone, Debug)]
pub(super) struct Matter {
    storm: String,
    cause: Cause,
    response: Response,
    failed: u64,
}

impl Matter {
    pub(super) fn of_mark(mark: &Mark) -> Self {
        Self { storm: mark.storm.clone(), cause: mark.cause, response: mark.response, failed: 0 }
    }

    pub(super) fn of_stop(mark: &StopMark) -> Self {
        Self {
            storm: mark.storm.clone(),
            cause: Cause::from_word(&mark.cause).unwrap_or(Cause::Unknown),
            response: Response::from_word(&mark.response).unwrap_or(Response::Pause),
            failed: 0,
        }
    }

    pub(super) fn of_storm(storm: &Storm, response: Response) -> Self {
        Self { storm: storm.id.clone(), cause: storm.cause, response, failed: storm.failed }
    }
}

pub(super) fn decision_of(view: &View, matter: Matter, action: Action, by: Author, at: Timestamp) -> Decision {
    decision_about(subject_of(view), matter, action, by, at)
}

pub(super) fn decision_about(subject: Subject, matter: Matter, action: Action, by: Author, at: Timestamp) -> Decision {
    let Matter { storm, cause, response, failed } = matter;
    let nanos = at.as_nanos().to_be_bytes();
    let parts = [subject.id.as_bytes(), storm.as_bytes(), action.as_str().as_bytes(), by.as_str().as_bytes(), &nanos];
    let id = format!("{:016x}", fnv_64(parts));
    let (instead_of, refusal) = (None, None);
    Decision { id, at, subject, storm, cause, failed, by, action, response, instead_of, refusal }
}

pub(super) fn subject_of(view: &View) -> Subject {
    Subject { kind: SubjectKind::SwarmService, name: view.name.clone(), id: view.id.clone(), stack: view.stack.clone() }
}

/// Whether a service is as it was before its quarantine.
fn is_restored(view: &View, before: &Before) -> bool {
    match before {
        Before::Replicas(Some(replicas)) => view.mode == crate::model::Mode::Replicated(*replicas),
        Before::Replicas(None) | Before::Placement(_) => true,
    }
}
