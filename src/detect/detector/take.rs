//! Takes observations: joins what they say to the attempt or container that they are about.

use std::cmp::Reverse;
use std::time::Duration;

use super::Detector;
use super::store::FORMER_MAX;
use crate::detect::account::ImageKey;
use crate::detect::arena::{AttemptId, NodeId, SubjectId};
use crate::detect::attempt::{Life, Sign};
use crate::detect::cause::{classify, classify_pull, is_intent};
use crate::detect::key::{Due, DueWhat, Key, Slot};
use crate::detect::run::Failure;
use crate::detect::subject::Policy;
use crate::model::{
    Cause, ContainerAction, ContainerFact, ContainerListing, Fact, HELD_LABEL, ImageRef, LogFact, LogKind, Mode,
    NodeFact, Observation, Order, ServiceFact, TaskFact, TaskState, Timestamp,
};

/// Open attempts of one subject up to which a container's successor in its slot is looked for.
const SUCCESSOR_SCAN_MAX: usize = 64;

impl Detector {
    /// The first event or line that names a node tells whose its origin's are.
    pub(super) fn learn_place(&mut self, observation: &Observation<'_>) {
        let origin = observation.origin;
        let node_id = match &observation.fact {
            Fact::Container(_) | Fact::Log(_) if self.books.account.node_of(origin).is_known() => None,
            Fact::Container(fact) if !fact.task_id.is_empty() => fact.origin.read().0.swarm.map(|task| task.node_id),
            Fact::Log(fact) => Some(fact.node_id.clone()),
            _ => None,
        };
        if let Some(node_id) = node_id.filter(|id| !id.is_empty()) {
            self.place(origin, &node_id);
        }
        let tells_of_now =
            matches!(observation.fact, Fact::Container(_) | Fact::Log(_) | Fact::Pull { .. } | Fact::Order { .. });
        if !matches!(observation.fact, Fact::Log(_)) && tells_of_now {
            self.books.account.heard(origin, observation.at);
        }
        if tells_of_now {
            self.books.began = Some(self.books.began.map_or(observation.at, |began| began.min(observation.at)));
        }
    }

    pub(super) fn take_task_event(&mut self, at: Timestamp, fact: &ContainerFact<'_>) {
        let key = Key::new(&fact.task_id);
        let index = match self.attempts.find(key) {
            Some(index) => index,
            None => {
                if fact.action == ContainerAction::Destroy {
                    // The end of an attempt that was never seen; it tells nothing.
                    return;
                }
                let (owner, image) = fact.origin.read();
                let task = owner.swarm.unwrap_or_default();
                let subject = self.service(&task.service_id, at);
                let subject = self.name_service(subject, &task.service_name, owner.stack.as_deref());
                self.set_image(subject, &image);
                let slot = Slot::of_task_name(&task.task_name);
                let node = self.node(&task.node_id);
                self.new_attempt(key, subject, slot, node, at)
            }
        };
        let attempt = &mut self.attempts[index];
        match fact.action {
            ContainerAction::Create => {
                attempt.life = attempt.life.max(Life::Created);
                attempt.created = attempt.created.min(at);
                let (subject, slot) = (attempt.subject, attempt.slot);
                self.supersede(subject, slot, index, at);
            }
            ContainerAction::Start => attempt.life = attempt.life.max(Life::Started),
            ContainerAction::Die { exit_code } => {
                attempt.life = Life::Died;
                attempt.exit_code = attempt.exit_code.filter(|code| *code != 0).or(exit_code);
            }
            ContainerAction::Kill | ContainerAction::Stop if attempt.life == Life::Died => {}
            ContainerAction::Kill | ContainerAction::Stop => attempt.signs.set(Sign::Killed, true),
            ContainerAction::Oom => {
                attempt.signs.set(Sign::OutOfMemory, true);
                let subject = attempt.subject;
                if let Some(subject) = self.subjects.get_mut(subject) {
                    subject.ran_out_of_memory = true;
                }
            }
            ContainerAction::Unhealthy => attempt.signs.set(Sign::Unhealthy, true),
            ContainerAction::Destroy => attempt.supersede(self.clock.blind_until),
        }
        self.look_for_end(index, at);
    }

    /// A container made in a slot tells that the one before it, if it never started, has failed to.
    pub(super) fn supersede(&mut self, subject: SubjectId, slot: Slot, by: AttemptId, at: Timestamp) {
        let Some(state) = self.subjects.get(subject) else { return };
        if state.open.len() > SUCCESSOR_SCAN_MAX {
            return;
        }
        let before: Vec<AttemptId> = state
            .open
            .iter()
            .copied()
            .filter(|index| {
                let attempt = &self.attempts[*index];
                *index != by && attempt.slot == slot && attempt.life == Life::Created
            })
            .filter(|index| self.attempts[*index].created < at)
            .collect();
        for index in before {
            self.attempts[index].supersede(self.clock.blind_until);
            self.look_for_end(index, at);
        }
    }

    pub(super) fn take_task(&mut self, at: Timestamp, fact: &TaskFact<'_>) {
        let key = Key::new(&fact.id);
        self.listing.has_tasks = true;
        let subject = self.service(&fact.service_id, at);
        let index = match self.attempts.find(key) {
            Some(index) => index,
            None => {
                let is_old = self
                    .subjects
                    .get(subject)
                    .is_some_and(|subject| fact.version > 0 && fact.version <= subject.forgotten_version);
                if is_old {
                    return;
                }
                let node = self.node(&fact.node_id);
                self.new_attempt(key, subject, Slot::of_task(fact.slot, &fact.node_id), node, fact.created)
            }
        };
        let policy = Policy {
            restart: fact.restart,
            is_job: fact.is_job,
            force_update: fact.force_update,
            has_memory_limit: fact.has_memory_limit,
        };
        let is_newest = self.attempts[index].version < fact.version || fact.version == 0;
        if is_newest && !fact.desired.is_terminal() && fact.desired != TaskState::Remove {
            // What the task under way was made from is the specification.
            if let Some(subject) = self.subjects.get_mut(subject) {
                subject.set_policy(policy, &fact.image);
            }
        } else if let Some(subject) = self.subjects.get_mut(subject)
            && subject.policy.is_none()
        {
            subject.set_policy(policy, &fact.image);
        }
        self.follow_image(subject);
        let cause = self.cause_of(subject, &fact.error);
        let node = self.node(&fact.node_id);
        let listing = self.listing.tasks;
        let attempt = &mut self.attempts[index];
        if !is_newest && attempt.state != TaskState::Other {
            attempt.listing = listing;
            return;
        }
        let was_under_way =
            !attempt.state.is_terminal() && attempt.life != Life::Died && !attempt.signs.has(Sign::FatalInLog);
        let is_ordered_down = matches!(fact.desired, TaskState::Shutdown | TaskState::Remove);
        if is_ordered_down && !fact.state.is_terminal() && was_under_way {
            attempt.signs.set(Sign::OrderedDown, true);
        }
        let is_first = attempt.state == TaskState::Other;
        attempt.version = fact.version;
        // Its log line came first, and does not tell the slot; nor does a task of a global service that has no node yet.
        let slot = Slot::of_task(fact.slot, &fact.node_id);
        let learns_slot = attempt.slot == Slot::default() && slot != Slot::default();
        if learns_slot {
            attempt.slot = slot;
        }
        attempt.created = fact.created;
        attempt.state = fact.state;
        attempt.desired = fact.desired;
        attempt.state_since = fact.status_at;
        attempt.node = if node.is_known() { node } else { attempt.node };
        attempt.exit_code = fact.exit_code.filter(|code| *code > 0).or(attempt.exit_code).or(fact.exit_code);
        attempt.is_job = fact.is_job;
        if let Some(cause) = cause {
            attempt.task_cause = Some(cause);
            attempt.signs.set(Sign::OrderedError, is_intent(&fact.error));
        } else if !fact.state.is_terminal() {
            // What kept it waiting is over.
            attempt.task_cause = None;
        }
        attempt.listing = listing;
        let waits = matches!(fact.state, TaskState::Pending | TaskState::New | TaskState::Preparing)
            && matches!(fact.desired, TaskState::Running | TaskState::Ready | TaskState::Complete);
        if waits {
            self.waiting.insert(index);
        } else {
            self.waiting.remove(&index);
        }
        if matches!(fact.state, TaskState::Starting | TaskState::Running) {
            self.count_attempt(index);
        }
        if is_first && let Some(state) = self.subjects.get_mut(subject) {
            state.see_spec(fact.spec, fact.created, &self.quotas);
        }
        if learns_slot {
            self.learn_slot(index);
        }
        // The status has the node's clock, all else the leader's: one that is ahead does not delay the judgement, one
        // that is behind does not put the end before the beginning.
        self.look_for_end(index, fact.status_at.max(fact.created).min(at.max(fact.created)));
    }

    pub(super) fn take_log(&mut self, at: Timestamp, fact: &LogFact<'_>) {
        let key = Key::new(&fact.task_id);
        let index = match self.attempts.find(key) {
            Some(index) => index,
            None => {
                let subject = self.service(&fact.service_id, at);
                let node = self.node(&fact.node_id);
                // The log tells no slot but the node, which is that of a global service.
                let is_global = self.subjects.get(subject).is_some_and(|subject| subject.is_global);
                let slot = if is_global { Slot::of_task(0, &fact.node_id) } else { Slot::default() };
                self.new_attempt(key, subject, slot, node, at)
            }
        };
        let subject = self.attempts[index].subject;
        let cause = match fact.kind {
            LogKind::PullFailed => self.cause_by(subject, &fact.error, classify_pull),
            LogKind::TaskFailed => self.cause_of(subject, &fact.error),
        };
        let attempt = &mut self.attempts[index];
        match fact.kind {
            LogKind::PullFailed => {
                attempt.pull_cause = cause;
                self.count_failed_pull(index, at, fact);
            }
            LogKind::TaskFailed => {
                attempt.signs.set(Sign::FatalInLog, true);
                attempt.signs.set(Sign::OrderedError, is_intent(&fact.error));
                attempt.task_cause = cause.or(attempt.task_cause);
                if fact.error.contains("non-zero exit (137)") {
                    attempt.exit_code = Some(137);
                }
            }
        }
        self.look_for_end(index, at);
    }

    pub(super) fn take_service(&mut self, fact: &ServiceFact<'_>) {
        let index = self.service(&fact.id, fact.updated);
        let index = self.name_service(index, &fact.name, fact.stack.as_deref());
        let policy = Policy {
            restart: fact.restart,
            is_job: fact.mode == Mode::Job,
            force_update: fact.force_update,
            has_memory_limit: fact.has_memory_limit,
        };
        let (listing, began, now) = (self.listing.services, self.books.began, self.clock.now);
        let Some(subject) = self.subjects.get_mut(index) else { return };
        let image = ImageRef::parse(&fact.image).map(|image| ImageKey::of(&image)).unwrap_or_default();
        let former = subject.is_listed_as(&fact.id, FORMER_MAX);
        let is_first = subject.deployed == Timestamp::default();
        let is_other = !is_first && subject.spec_image != image;
        subject.spec_image = image;
        subject.set_policy(policy, &fact.image);
        subject.see_listed_spec(fact.spec, fact.updated, now, &self.quotas);
        subject.updated = Some(fact.updated);
        subject.replicas = match fact.mode {
            Mode::Replicated(replicas) => Some(u32::try_from(replicas).unwrap_or(u32::MAX)),
            Mode::Global | Mode::Job | Mode::Other => None,
        };
        subject.is_global = fact.mode == Mode::Global;
        subject.listed = listing;
        subject.is_held = fact.labels.iter().any(|(name, _)| name == HELD_LABEL);
        let is_new = is_first && began.is_some_and(|began| fact.created >= began);
        subject.deployed = fact.rolled_out.unwrap_or(fact.created).max(fact.created);
        self.follow_image(index);
        if let Some(former) = former {
            self.announce_move(index, former);
        }
        if is_new || is_other {
            self.count_resolution(index, fact.updated);
        }
    }

    pub(super) fn take_node(&mut self, fact: &NodeFact<'_>) {
        let index = self.node(&fact.id);
        if index.is_known() {
            self.nodes[index].hostname = (*fact.hostname).into();
            self.nodes[index].engine = (*fact.engine).into();
            self.nodes[index].is_active = fact.is_active;
            if let Some(origin) = self.books.account.unplaced(&fact.hostname) {
                self.place(origin, &fact.id);
            }
        }
    }

    pub(super) fn take_order(&mut self, at: Timestamp, id: &str, name: &str, order: Order) {
        let index = self.service(id, at);
        let index = self.name_service(index, name, None);
        match order {
            Order::Create | Order::Progress => {}
            Order::Update => {
                if let Some(subject) = self.subjects.get_mut(index) {
                    subject.spec_changed();
                    subject.order(at);
                }
            }
            Order::Remove => {
                let at = at.plus(self.settings.slack + Duration::from_nanos(1));
                let due = Due { at, key: Key::new(id), what: DueWhat::Removal(index) };
                self.clock.due.push(Reverse(due));
            }
        }
    }

    pub(super) fn take_container(&mut self, at: Timestamp, fact: &ContainerFact<'_>) {
        let key = Key::new(&fact.id);
        let index = match self.containers.find(key) {
            Some(index) => index,
            None if fact.action == ContainerAction::Destroy => return,
            None => {
                let (owner, image) = fact.origin.read();
                self.new_container(key, &owner, &image, at)
            }
        };
        let due_at = at.plus(self.settings.slack);
        let handle = self.containers.handle(index);
        let container = &mut self.containers[index];
        if container.take(at, fact.action) {
            let due = Due { at: due_at, key, what: DueWhat::Container(handle) };
            if container.is_full() {
                self.judge_due(Due { at: Timestamp::from_nanos(i64::MIN), ..due });
            } else {
                self.clock.due.push(Reverse(due));
            }
        }
    }

    /// A listing tells what the events of a plain host do not: how often the engine has started it again.
    pub(super) fn take_listing(&mut self, at: Timestamp, fact: &ContainerListing<'_>) {
        if fact.owner.swarm.is_some() {
            return;
        }
        let key = Key::new(&fact.id);
        let container = match self.containers.find(key) {
            Some(index) => index,
            None => self.new_container(key, &fact.owner, &fact.image, at),
        };
        let index = self.containers[container].subject;
        let loops = fact.is_restarting && fact.restart_count > u64::from(self.settings.failures.get());
        if !loops {
            return;
        }
        let cause = match self.cause_of(index, &fact.error) {
            Some(cause) => cause,
            None if fact.is_oom_killed => Cause::Oom,
            None => Cause::AppExit,
        };
        let failure = Failure {
            at,
            created: at,
            slot: Slot::default(),
            node: NodeId::NONE,
            cause,
            exit_zero: fact.exit_code == 0,
        };
        self.set_image(index, &fact.image);
        self.say_exit(index, cause, Some(fact.exit_code));
        let Some(subject) = self.subjects.get_mut(index) else { return };
        if subject.begin_by_count(fact.restart_count, failure, &self.quotas) {
            self.announce_onset(index);
        }
    }

    /// Keeps an error's words, and tells its cause; `None` where there are none.
    pub(super) fn cause_of(&mut self, subject: SubjectId, error: &str) -> Option<Cause> {
        self.cause_by(subject, error, classify)
    }

    fn cause_by(&mut self, subject: SubjectId, error: &str, classify: fn(&str) -> Cause) -> Option<Cause> {
        if error.is_empty() {
            return None;
        }
        let Some(state) = self.subjects.get_mut(subject) else {
            return Some(classify(error));
        };
        if let Some(cause) = state.heard(error) {
            return Some(cause);
        }
        let cause = classify(error);
        state.say(&self.quotas, cause, error);
        Some(cause)
    }
}
