//! The way of a quarantine: held, probation, returning, and back.

use std::time::Duration;

use super::decide::{Matter, decision_of, salt};
use super::{Holding, NEVER, Responder, Verdict, Wait};
use crate::model::{Action, Author, Decision, HoldEnd, Mode, Outcome, Refusal, Response, TaskFact, Timestamp};
use crate::respond::guard::{Scene, refusal_of_step};
use crate::respond::health::{Progress, newest, progress, steady, wanted};
use crate::respond::mark::{Before, Mark, Phase, Set, UNMET};
use crate::respond::permit::Permit;
use crate::respond::spec::View;

/// How often a watched attempt is looked at in its first moments: Swarm prepares the next attempt at once when one
/// fails, and starts it after a delay of mostly a second or more.
const LOOK_CLOSELY: Duration = Duration::from_millis(400);
/// How long.
const CLOSELY: Duration = Duration::from_secs(15);
/// How often afterwards, and what was brought back before a try that failed.
const LOOK: Duration = Duration::from_secs(2);
/// How long a watched attempt has to run at most, however slow the loop was.
const STABLE_AT_LAST: Duration = Duration::from_secs(1800);
/// How long each further step has to run: what fails at its start has failed by then.
const STEP: Duration = Duration::from_secs(5);
/// The most nodes of a global service that are kept out by a constraint each.
const NODES_MAX: usize = 256;
/// How long a watched attempt of a global service waits for a task on its node.
const STUCK_AFTER: Duration = Duration::from_secs(30);
/// How often in a row a change may be raced by others until it waits.
const RACES_MAX: u32 = 5;
/// The longest pause after changes that failed.
const PAUSE_MAX: Duration = Duration::from_secs(60);

impl Responder {
    /// What becomes of a held service.
    pub(super) fn go_on(&mut self, now: Timestamp, view: &View, tasks: &[TaskFact<'_>], scene: &Scene) -> Verdict {
        let Some(held) = self.held.get_mut(&view.id) else { return Verdict::Nothing };
        held.next = NEVER;
        let mark = held.mark.clone();
        let is_new = mark.template != view.template;
        match mark.phase {
            Phase::Held => {
                let Some(until) = held.until() else { return self.soften(now, view, &mark, scene) };
                if !mark.set.holds_all() && fails_within(&mark, tasks) {
                    return self.hold_again(now, view, &mark, tasks, scene);
                }
                if now < until && !is_new {
                    held.next = if mark.set.holds_all() { until } else { until.min(now.plus(LOOK)) };
                    return Verdict::Nothing;
                }
                let tries = if is_new { 0 } else { mark.tries };
                if mark.is_by_placement() && scene.nodes.is_empty() {
                    // No node is known that could take it.
                    held.next = now.plus(STUCK_AFTER);
                    return Verdict::Nothing;
                }
                let set = first_step(&mark, tasks, scene);
                let new = Mark {
                    phase: Phase::Probation,
                    until: None,
                    tries,
                    template: view.template.clone(),
                    version: newest(tasks).max(view.version),
                    at: now,
                    set,
                    ..mark.clone()
                };
                self.step(now, view, scene, Action::Probe, &mark, Some(new))
            }
            Phase::Probation | Phase::Returning if is_new => {
                // The new specification has begun by itself: what it does is another attempt.
                let template = view.template.clone();
                let version = newest(tasks).max(view.version);
                let new = Mark { phase: Phase::Probation, tries: 0, template, version, at: now, ..mark.clone() };
                self.step(now, view, scene, Action::Probe, &mark, Some(new))
            }
            Phase::Probation | Phase::Returning => match progress(tasks, mark.version, wanted(tasks, view.mode)) {
                Progress::Failed => self.hold_again(now, view, &mark, tasks, scene),
                Progress::Waiting if is_stuck(&mark, tasks, now) => {
                    // The node is gone, drained, or not for this service: another is tried.
                    match another_node(&mark, scene) {
                        Some(set) => {
                            let version = newest(tasks).max(view.version);
                            let new = Mark { at: now, version, set, ..mark.clone() };
                            self.step(now, view, scene, Action::Probe, &mark, Some(new))
                        }
                        None => {
                            held.next = now.plus(STUCK_AFTER);
                            Verdict::Nothing
                        }
                    }
                }
                Progress::Waiting => {
                    held.running_since = None;
                    // Who does not lead looks when the service or the leader changes.
                    held.next = if scene.leads { now.plus(pause(&mark, now)) } else { NEVER };
                    Verdict::Nothing
                }
                Progress::Running => {
                    let since = *held.running_since.get_or_insert(now);
                    let stable_for = match mark.phase {
                        Phase::Probation => self.settings.stable_for.max((mark.period * 3).min(STABLE_AT_LAST)),
                        _ => STEP.min(self.settings.stable_for),
                    };
                    if now.since(since) < stable_for {
                        let next = now.plus(pause(&mark, now)).min(since.plus(stable_for));
                        held.next = if scene.leads { next } else { NEVER };
                        return Verdict::Nothing;
                    }
                    match next_step(&mark, scene) {
                        Some(set) => {
                            let version = newest(tasks).max(view.version);
                            let new = Mark { phase: Phase::Returning, version, at: now, set, ..mark.clone() };
                            self.step(now, view, scene, Action::Raise, &mark, Some(new))
                        }
                        None => self.step(now, view, scene, Action::Release, &mark, None),
                    }
                }
            },
        }
    }

    /// What was held for a person to undo before it was known that the registry fails many comes back by itself too.
    fn soften(&mut self, now: Timestamp, view: &View, mark: &Mark, scene: &Scene) -> Verdict {
        let wait = self.storms.get(&view.id);
        let is_incident = wait.is_some_and(|wait| self.is_registry_incident(wait.storm.cause, &wait.storm.registry));
        if mark.by != Author::Breaker || !is_incident {
            return Verdict::Nothing;
        }
        let until = Some(now.plus(self.settings.delay(0, salt(&view.id, 0))));
        // A paused service is tried one replica after another too.
        let (before, set) = match (mark.before, view.before(Response::Backoff)) {
            (Before::Placement(_), Some(before @ Before::Replicas(_))) => (before, Set::Replicas(0)),
            (before, _) => (before, mark.set.clone()),
        };
        let new = Mark { response: Response::Backoff, until, at: now, before, set, ..mark.clone() };
        self.step(now, view, scene, Action::Quarantine, mark, Some(new))
    }

    /// A watched attempt failed: what runs well stays, the rest is held for longer.
    fn hold_again(
        &mut self,
        now: Timestamp,
        view: &View,
        mark: &Mark,
        tasks: &[TaskFact<'_>],
        scene: &Scene,
    ) -> Verdict {
        let steady = steady(tasks, mark.version);
        let set = match mark.before {
            Before::Replicas(_) => Set::Replicas(steady.len() as u64),
            Before::Placement(_) => {
                let nodes: Vec<&str> = steady.iter().map(|(_, node)| *node).collect();
                keep_out(scene.nodes.iter().filter(|node| !nodes.contains(&&***node)), nodes.is_empty())
            }
        };
        let tries = mark.tries.saturating_add(1);
        let delay = self.settings.delay(tries, salt(&view.id, tries));
        let version = newest(tasks).max(view.version);
        let new =
            Mark { phase: Phase::Held, until: Some(now.plus(delay)), tries, version, at: now, set, ..mark.clone() };
        self.step(now, view, scene, Action::Quarantine, mark, Some(new))
    }

    fn step(
        &mut self,
        now: Timestamp,
        view: &View,
        scene: &Scene,
        action: Action,
        old: &Mark,
        new: Option<Mark>,
    ) -> Verdict {
        let decision = decision_of(view, Matter::of_mark(old), action, Author::Breaker, now);
        let mut refusal = refusal_of_step(&self.settings, view, scene, action, old);
        if refusal.is_none() && !self.pay(&view.id, now, action) {
            refusal = Some(Refusal::ActionBudget);
        }
        match refusal {
            None => self.permit(decision, view.version, Some(old.clone()), new),
            Some(reason) => {
                if let Some(held) = self.held.get_mut(&view.id) {
                    held.next = Self::again(reason, now);
                }
                self.refuse(Decision { refusal, ..decision })
            }
        }
    }

    /// When a refused proposal is worth another look; what only a change of the service or of the leader alters waits
    /// for that.
    pub(super) fn again(refusal: Refusal, now: Timestamp) -> Timestamp {
        let pause = match refusal {
            Refusal::TooFewFailures | Refusal::TooYoung => Duration::from_millis(500),
            Refusal::EvidenceGap | Refusal::HealthyReplica | Refusal::Rollout => Duration::from_secs(2),
            Refusal::ActionBudget | Refusal::CoolDown => Duration::from_secs(5),
            Refusal::Gone | Refusal::NoJournal => Duration::from_secs(60),
            Refusal::Ignored
            | Refusal::BadLabel
            | Refusal::Observe
            | Refusal::NotOptedIn
            | Refusal::Unsupported
            | Refusal::Held
            | Refusal::NotLeader
            | Refusal::NotEnforced => return NEVER,
        };
        now.plus(pause)
    }

    /// Pays for an action: by what the one before it has paid, or from the hour's budget.
    pub(super) fn pay(&mut self, id: &str, now: Timestamp, action: Action) -> bool {
        if self.credits.remove(id) {
            return true;
        }
        let is_paid = self.held.get(id).is_some_and(|held| held.is_paid);
        match action {
            Action::Probe => is_paid || self.budget.take_try(now),
            Action::Raise => self.budget.take_step(now),
            Action::Quarantine | Action::Release => is_paid || self.budget.take(now),
        }
    }

    /// The node has become the Swarm's leader, or is it no longer: what waits for that is looked at.
    pub fn lead(&mut self, now: Timestamp, leads: bool) {
        if self.leads == leads {
            return;
        }
        self.leads = leads;
        self.storms.values_mut().for_each(|wait| wait.next = wait.next.min(now));
        self.held.values_mut().filter(|held| !held.is_let_go).for_each(|held| held.next = held.next.min(now));
    }

    /// How a permitted change ended.
    pub fn settle(&mut self, now: Timestamp, permit: &Permit, outcome: Outcome) {
        let decision = permit.decision();
        if permit.stop_mark().is_some() {
            self.settle_containers(now, permit, outcome);
            return;
        }
        let id = &decision.subject.id;
        *self.counters.settled.entry(outcome).or_default() += 1;
        if outcome == Outcome::Done {
            self.take_over(now, permit);
            return;
        }
        // It is paid for, and was not done.
        self.credits.insert(id.clone());
        let put_off = |failures: &mut u32, next: &mut Timestamp| {
            *failures = failures.saturating_add(1);
            let is_race = outcome == Outcome::Raced && *failures <= RACES_MAX;
            let pause = Duration::from_secs(1).saturating_mul(2_u32.saturating_pow(*failures)).min(PAUSE_MAX);
            *next = if is_race { now } else { now.plus(pause) };
        };
        match (self.held.get_mut(id), self.storms.get_mut(id)) {
            (Some(Holding { failures, next, is_let_go: false, .. }), _) => put_off(failures, next),
            (_, Some(Wait { failures, next, .. })) => put_off(failures, next),
            _ => {}
        }
    }

    fn take_over(&mut self, now: Timestamp, permit: &Permit) {
        let decision = permit.decision();
        let id = &decision.subject.id;
        let Some(mark) = permit.mark() else {
            self.held.remove(id);
            self.say_ended(decision.subject.clone(), HoldEnd::Returned);
            if let Some(wait) = self.storms.get_mut(id) {
                wait.answered = Some(now);
            }
            return;
        };
        if decision.action == Action::Quarantine && mark.tries == 0 {
            self.leave_alone(id, Some(mark.template.clone()), now);
        }
        let next = match (mark.phase, mark.until) {
            (Phase::Held, Some(until)) => until,
            (Phase::Held, None) => NEVER,
            _ => now.plus(LOOK_CLOSELY),
        };
        let holding = Holding {
            mark: mark.clone(),
            subject: decision.subject.clone(),
            version: 0,
            next,
            running_since: None,
            is_paid: mark.phase != Phase::Held,
            is_let_go: false,
            failures: 0,
            stepped_nanos: 0,
            is_said: false,
        };
        self.held.insert(id.clone(), holding);
        self.say_held(id, "");
        if let Some(wait) = self.storms.get_mut(id) {
            (wait.next, wait.failures) = (NEVER, 0);
        }
    }
}

/// How long until the next look at a watched attempt.
fn pause(mark: &Mark, now: Timestamp) -> Duration {
    if now.since(mark.at) < CLOSELY { LOOK_CLOSELY } else { LOOK }
}

/// Whether something fails of what was let run on before the last try failed: not what was scaled away, or is kept out.
fn fails_within(mark: &Mark, tasks: &[TaskFact<'_>]) -> bool {
    match &mark.set {
        Set::Replicas(kept) => {
            progress(tasks, mark.version, 0) == Progress::Failed && (steady(tasks, mark.version).len() as u64) < *kept
        }
        Set::Constraints(constraints) => {
            let is_in = |task: &&TaskFact<'_>| !constraints.iter().any(|known| keeps_out(known, &task.node_id));
            let within: Vec<TaskFact<'_>> = tasks.iter().filter(is_in).cloned().collect();
            progress(&within, mark.version, 0) == Progress::Failed
        }
    }
}

/// Whether no task is made for a watched attempt of a global service.
fn is_stuck(mark: &Mark, tasks: &[TaskFact<'_>], now: Timestamp) -> bool {
    let is_probation = mark.phase == Phase::Probation && mark.is_by_placement();
    is_probation && wanted(tasks, Mode::Global) == 0 && now.since(mark.at) >= STUCK_AFTER
}

/// The node after the one that a watched attempt was let onto.
fn another_node(mark: &Mark, scene: &Scene) -> Option<Set> {
    let Set::Constraints(constraints) = &mark.set else { return None };
    let is_in = |node: &String| !constraints.iter().any(|constraint| keeps_out(constraint, node));
    let at = scene.nodes.iter().position(is_in).map_or(0, |at| at + 1);
    let next = scene.nodes.get(at).or(scene.nodes.first())?;
    Some(Set::Constraints(vec![format!("node.id=={next}")]))
}

/// One attempt more than what runs: one replica, or one node of a global service, each time another.
fn first_step(mark: &Mark, tasks: &[TaskFact<'_>], scene: &Scene) -> Set {
    match &mark.set {
        Set::Replicas(running) => Set::Replicas(running.saturating_add(1)),
        Set::Constraints(_) => {
            let mut running = steady(tasks, mark.version);
            running.sort_unstable();
            let is_running = |node: &&String| running.iter().any(|(_, known)| known == node);
            let free: Vec<&String> = scene.nodes.iter().filter(|node| !is_running(node)).collect();
            // One after another of those that it has run on; any where it has run on none of them.
            let known = free.iter().copied().filter(|node| tasks.iter().any(|task| task.node_id == node.as_str()));
            let known: Vec<&String> = known.collect();
            let turn = if known.is_empty() { &free } else { &known };
            let next = turn.get(mark.tries as usize % turn.len().max(1)).copied();
            match next {
                Some(next) if running.is_empty() => Set::Constraints(vec![format!("node.id=={next}")]),
                next => keep_out(free.iter().copied().filter(|node| Some(*node) != next), false),
            }
        }
    }
}

/// Whether a constraint of squall's keeps a global service off a node.
fn keeps_out(constraint: &str, node: &str) -> bool {
    constraint.strip_prefix("node.id!=") == Some(node)
        || constraint.strip_prefix("node.id==").is_some_and(|only| only != node)
}

/// Twice as many as run; `None` when there are no more.
fn next_step(mark: &Mark, scene: &Scene) -> Option<Set> {
    match (&mark.set, mark.before) {
        (Set::Replicas(running), Before::Replicas(before)) => {
            let all = before.unwrap_or(1);
            (*running < all).then(|| Set::Replicas(running.saturating_mul(2).clamp(1, all)))
        }
        (Set::Constraints(constraints), _) => {
            // Counted by what is let in, not by what runs: there may be nodes that it does not run on anyway.
            let is_out = |node: &&String| constraints.iter().any(|constraint| keeps_out(constraint, node));
            let out: Vec<&String> = scene.nodes.iter().filter(is_out).collect();
            let let_in = scene.nodes.len() - out.len();
            (!constraints.is_empty()).then(|| keep_out(out.into_iter().skip(let_in.max(1)), false))
        }
        (Set::Replicas(_), Before::Placement(_)) => None,
    }
}

/// Constraints that keep a global service off these nodes; off every node where `all` says so.
fn keep_out<'a>(nodes: impl Iterator<Item = &'a String>, all: bool) -> Set {
    if all {
        return Set::Constraints(vec![UNMET.to_owned()]);
    }
    Set::Constraints(nodes.take(NODES_MAX).map(|node| format!("node.id!={node}")).collect())
}
