use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::time::Duration;

use super::attempt::{Attempt, Outcome};
use super::cause::{classify, is_intent};
use super::container::{PlainContainer, Verdict};
use super::key::{Due, DueWhat, Key, Slot};
use super::quota::Quotas;
use super::settings::Settings;
use super::subject::{Change, Failure, Policy, SubjectState};
use crate::model::{
    Cause, ContainerAction, ContainerFact, ContainerListing, Fact, FindingKind, LogFact, LogKind, Mode, NodeFact,
    Notice, Observation, Order, Owner, ServiceFact, Storm, Subject, SubjectKind, TaskFact, TaskState, Timestamp,
};

/// How many judged attempts are remembered, so that a task listed again is not counted again. The oldest go first;
/// a task that was forgotten is known by its raft index to be old.
const SETTLED_MAX: usize = 65_536;
/// How many attempts of all subjects may be under way; the oldest goes first.
const OPEN_MAX: usize = 400_000;
/// How many containers that engines restart are kept; when there are more, those not seen for longest go first.
const CONTAINERS_MAX: usize = 100_000;
/// How many nodes are told apart; of more the names are not kept.
const NODES_MAX: usize = 20_000;
/// How many subsided storms are kept for the report; the oldest go first.
const ENDED_MAX: usize = 10_000;
/// How many notices wait to be drained; more are dropped and counted.
const NOTICES_MAX: usize = 100_000;
/// Which part of the subjects is looked at for forgetting at once: so that the search costs little for each.
const FORGET_PART: usize = 16;
/// Open attempts of one subject up to which a container's successor in its slot is looked for.
const SUCCESSOR_SCAN_MAX: usize = 64;
/// How often what waits is looked at, in event time.
const WAITING_EVERY: Duration = Duration::from_secs(15);

type Index<K> = HashMap<K, u32, foldhash::fast::RandomState>;

/// Finds storms. See the module.
#[derive(Debug)]
pub struct Detector {
    pub(super) settings: Settings,
    pub(super) quotas: Quotas,
    pub(super) subjects: Vec<Option<SubjectState>>,
    subject_index: Index<(SubjectKind, Key)>,
    free_subjects: Vec<u32>,
    pub(super) attempts: Vec<Attempt>,
    attempt_generations: Vec<u32>,
    attempt_index: Index<Key>,
    free_attempts: Vec<u32>,
    settled: VecDeque<(u32, u32)>,
    open: VecDeque<(u32, u32)>,
    containers: Vec<Option<PlainContainer>>,
    container_index: Index<Key>,
    free_containers: Vec<u32>,
    node_index: Index<Key>,
    pub(super) nodes: Vec<NodeName>,
    due: BinaryHeap<Reverse<Due>>,
    pub(super) now: Timestamp,
    pub(super) storming: BTreeSet<u32>,
    /// Attempts that are pending or preparing.
    pub(super) waiting: BTreeSet<u32>,
    pub(super) found: BTreeSet<(FindingKind, u32)>,
    pub(super) next_waiting: Timestamp,
    pub(super) ended: VecDeque<Storm>,
    notices: VecDeque<Notice>,
    listing: Timestamp,
    generation: u32,
    counters: Counters,
}

/// A node as reports name it.
#[derive(Debug, Default)]
pub(super) struct NodeName {
    pub(super) id: Box<str>,
    pub(super) hostname: Box<str>,
    pub(super) engine: Box<str>,
}

/// What the detector dropped for want of room, and how much it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Subjects held.
    pub subjects: u64,
    /// Calm subjects forgotten.
    pub subjects_forgotten: u64,
    /// Attempts forgotten while they were under way.
    pub attempts_forgotten: u64,
    /// Containers forgotten.
    pub containers_forgotten: u64,
    /// Notices that nobody drained in time.
    pub notices_dropped: u64,
}

/// A subject that has failed lately, for whoever polls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The service's id.
    pub service_id: String,
    /// When it failed last.
    pub last_failure: Timestamp,
    /// Its loop period; zero while it is not known.
    pub period: Duration,
    /// Whether it storms.
    pub storms: bool,
}

impl Detector {
    /// A detector that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        let quotas = Quotas::new((settings.failures, settings.per), (settings.slow_failures, settings.slow_per));
        Self {
            settings,
            quotas,
            subjects: Vec::new(),
            subject_index: Index::default(),
            free_subjects: Vec::new(),
            attempts: Vec::new(),
            attempt_generations: Vec::new(),
            attempt_index: Index::default(),
            free_attempts: Vec::new(),
            settled: VecDeque::new(),
            open: VecDeque::new(),
            containers: Vec::new(),
            container_index: Index::default(),
            free_containers: Vec::new(),
            node_index: Index::default(),
            // Node 0 is no node.
            nodes: vec![NodeName::default()],
            due: BinaryHeap::new(),
            now: Timestamp::from_nanos(i64::MIN),
            storming: BTreeSet::new(),
            waiting: BTreeSet::new(),
            found: BTreeSet::new(),
            next_waiting: Timestamp::from_nanos(i64::MIN),
            ended: VecDeque::new(),
            notices: VecDeque::new(),
            listing: Timestamp::from_nanos(i64::MIN),
            generation: 0,
            counters: Counters::default(),
        }
    }

    /// Takes an observation of a recording: its time is the time.
    pub fn observe(&mut self, observation: &Observation<'_>) {
        self.take(observation);
        if observation.at > self.now {
            self.advance(observation.at);
        }
    }

    /// Takes an observation without letting time pass: a listing tells of the past, and a live daemon's clock is not
    /// this one. [`advance`](Self::advance) lets it pass.
    pub fn take(&mut self, observation: &Observation<'_>) {
        let at = observation.at;
        match &observation.fact {
            Fact::Container(fact) if fact.task_id.is_empty() => self.take_container(at, fact),
            Fact::Container(fact) => self.take_task_event(at, fact),
            Fact::Task(fact) => self.take_task(at, fact),
            Fact::Log(fact) => self.take_log(at, fact),
            Fact::Service(fact) => self.take_service(fact),
            Fact::Node(fact) => self.take_node(fact),
            Fact::Order { service_id, service_name, order } => self.take_order(at, service_id, service_name, *order),
            Fact::Listing(fact) => self.take_listing(at, fact),
            Fact::Pull { .. } | Fact::Engine(_) => {}
        }
    }

    /// Lets time pass up to `now`: judges what has ended, and lets storms subside.
    pub fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while let Some(Reverse(due)) = self.due.peek().copied().filter(|due| due.0.at <= self.now) {
            self.subside_until(due.at);
            self.due.pop();
            self.judge_due(due);
        }
        self.subside_until(self.now);
        if self.now >= self.next_waiting {
            self.next_waiting = self.now.plus(WAITING_EVERY);
            self.find_waiting();
        }
    }

    /// The input is at its end, at `now`: what has ended is judged without waiting for more facts, and the history of
    /// slots tells loops that began before it. An attempt that the last listing shows under way stays so, whatever
    /// its node has said since: the task list is the primary source.
    pub fn finish(&mut self, now: Timestamp) {
        while let Some(Reverse(due)) = self.due.pop() {
            let at = due.at.minus(self.settings.slack).min(now);
            self.subside_until(at);
            let attempt = (due.what == DueWhat::Attempt).then(|| &self.attempts[due.index as usize]);
            let is_listed_under_way = attempt.is_some_and(|a| a.version > 0 && !a.state.is_terminal());
            if !(is_listed_under_way && due.at > now) {
                self.judge_due(due);
            }
        }
        self.advance(now);
        self.judge_history(now);
    }

    /// A listing of all services begins at `at`: what it does not have is gone.
    pub fn begin_listing(&mut self, at: Timestamp) {
        self.listing = at;
    }

    /// The listing is complete. Services that it did not have and that nothing was heard of since it began are
    /// removed: their storms are over.
    pub fn end_listing(&mut self) {
        let is_gone = |subject: &SubjectState| {
            let is_service = subject.subject.kind == SubjectKind::SwarmService;
            is_service && subject.listed < self.listing && subject.last_seen < self.listing
        };
        let gone: Vec<u32> = (0..self.subjects.len())
            .filter(|index| self.subjects[*index].as_ref().is_some_and(is_gone))
            .filter_map(|index| u32::try_from(index).ok())
            .collect();
        for index in gone {
            self.end_storm(index);
            self.drop_subject(index);
        }
    }

    /// When [`advance`](Self::advance) has something to do if nothing is observed till then.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let due = self.due.peek().map(|due| due.0.at);
        let subsides = self.storming.iter().filter_map(|index| self.hold_down_ends(*index)).min();
        let waits = (!self.waiting.is_empty()).then_some(self.next_waiting);
        [due, subsides, waits].into_iter().flatten().min()
    }

    /// Takes out what there is to say, oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = Notice> + '_ {
        self.notices.drain(..)
    }

    /// Forgets what there was to say but the storms that go on, as they are now: for a daemon that begins with what
    /// was before it.
    pub fn restate(&mut self) {
        self.notices.clear();
        let ongoing: Vec<u32> = self.storming.iter().copied().collect();
        for index in ongoing {
            self.announce_onset(index);
        }
    }

    /// What it holds and what it dropped.
    pub fn counters(&self) -> Counters {
        Counters { subjects: self.subject_index.len() as u64, ..self.counters }
    }

    /// The Swarm services that have failed since `since`.
    pub fn suspects(&self, since: Timestamp) -> Vec<Suspect> {
        let mut suspects: Vec<_> = self
            .subjects
            .iter()
            .flatten()
            .filter(|subject| subject.subject.kind == SubjectKind::SwarmService)
            .filter_map(|subject| {
                let (last_failure, period) = subject.suspicion()?;
                let storms = subject.storm().is_some();
                (last_failure >= since || storms).then(|| Suspect {
                    service_id: subject.subject.id.clone(),
                    last_failure,
                    period,
                    storms,
                })
            })
            .collect();
        suspects.sort_by(|a, b| a.service_id.cmp(&b.service_id));
        suspects
    }

    fn take_task_event(&mut self, at: Timestamp, fact: &ContainerFact<'_>) {
        let key = Key::new(&fact.task_id);
        let index = match self.attempt_index.get(&key) {
            Some(index) => *index,
            None => {
                if fact.action == ContainerAction::Destroy {
                    // The end of an attempt that was never seen; it tells nothing.
                    return;
                }
                let (owner, image) = fact.origin.read();
                let task = owner.swarm.unwrap_or_default();
                let subject = self.service(&task.service_id, at);
                self.name_service(subject, &task.service_name, owner.stack.as_deref());
                self.set_image(subject, &image);
                let slot = Slot::of_task_name(&task.task_name);
                let node = self.node(&task.node_id);
                self.new_attempt(key, subject, slot, node, at)
            }
        };
        let attempt = &mut self.attempts[index as usize];
        let facts = &mut attempt.facts;
        match fact.action {
            ContainerAction::Create => {
                facts.created = true;
                attempt.created = attempt.created.min(at);
                let (subject, slot) = (attempt.subject, attempt.slot);
                self.supersede(subject, slot, index, at);
            }
            ContainerAction::Start => facts.started = true,
            ContainerAction::Die { exit_code } => {
                facts.died = true;
                facts.started = true;
                attempt.exit_code = attempt.exit_code.filter(|code| *code != 0).or(exit_code);
            }
            ContainerAction::Kill | ContainerAction::Stop => facts.killed |= !facts.died,
            ContainerAction::Oom => {
                facts.out_of_memory = true;
                let subject = attempt.subject;
                if let Some(subject) = self.subject_mut(subject) {
                    subject.ran_out_of_memory = true;
                }
            }
            ContainerAction::Unhealthy => facts.unhealthy = true,
            ContainerAction::Destroy => facts.superseded = true,
        }
        self.look_for_end(index, at);
    }

    /// A container made in a slot tells that the one before it, if it never started, has failed to.
    fn supersede(&mut self, subject: u32, slot: Slot, by: u32, at: Timestamp) {
        let Some(state) = self.subject(subject) else { return };
        if state.open.len() > SUCCESSOR_SCAN_MAX {
            return;
        }
        let before: Vec<u32> = state
            .open
            .iter()
            .copied()
            .filter(|index| {
                let attempt = &self.attempts[*index as usize];
                *index != by && attempt.slot == slot && attempt.facts.created && !attempt.facts.started
            })
            .filter(|index| self.attempts[*index as usize].created < at)
            .collect();
        for index in before {
            self.attempts[index as usize].facts.superseded = true;
            self.look_for_end(index, at);
        }
    }

    fn take_task(&mut self, at: Timestamp, fact: &TaskFact<'_>) {
        let key = Key::new(&fact.id);
        let subject = self.service(&fact.service_id, at);
        let index = match self.attempt_index.get(&key) {
            Some(index) => *index,
            None => {
                let is_old = self
                    .subject(subject)
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
        let is_newest = self.attempts[index as usize].version < fact.version || fact.version == 0;
        if is_newest && !fact.desired.is_terminal() && fact.desired != TaskState::Remove {
            // What the task under way was made from is the specification.
            if let Some(subject) = self.subject_mut(subject) {
                subject.set_policy(policy, &fact.image);
            }
        } else if let Some(subject) = self.subject_mut(subject)
            && subject.policy.is_none()
        {
            subject.set_policy(policy, &fact.image);
        }
        let cause = self.cause_of(subject, &fact.error);
        let node = self.node(&fact.node_id);
        let attempt = &mut self.attempts[index as usize];
        if !is_newest && attempt.state != TaskState::Other {
            return;
        }
        let was_under_way = !attempt.state.is_terminal() && !attempt.facts.died && !attempt.facts.logged_fatal;
        let is_ordered_down = matches!(fact.desired, TaskState::Shutdown | TaskState::Remove);
        attempt.facts.ordered_down |= is_ordered_down && !fact.state.is_terminal() && was_under_way;
        attempt.version = fact.version;
        attempt.created = fact.created;
        attempt.state = fact.state;
        attempt.desired = fact.desired;
        attempt.state_since = fact.status_at;
        attempt.node = if node == 0 { attempt.node } else { node };
        attempt.exit_code = fact.exit_code.filter(|code| *code > 0).or(attempt.exit_code).or(fact.exit_code);
        attempt.facts.is_job = fact.is_job;
        if let Some(cause) = cause {
            attempt.task_cause = Some(cause);
            attempt.facts.ordered_error = is_intent(&fact.error);
        }
        let waits = matches!(fact.state, TaskState::Pending | TaskState::New | TaskState::Preparing)
            && matches!(fact.desired, TaskState::Running | TaskState::Ready | TaskState::Complete);
        if waits {
            self.waiting.insert(index);
        } else {
            self.waiting.remove(&index);
        }
        self.look_for_end(index, fact.status_at);
    }

    fn take_log(&mut self, at: Timestamp, fact: &LogFact<'_>) {
        let key = Key::new(&fact.task_id);
        let index = match self.attempt_index.get(&key) {
            Some(index) => *index,
            None => {
                let subject = self.service(&fact.service_id, at);
                let node = self.node(&fact.node_id);
                // The log does not tell the slot.
                self.new_attempt(key, subject, Slot::default(), node, at)
            }
        };
        let cause = self.cause_of(self.attempts[index as usize].subject, &fact.error);
        let attempt = &mut self.attempts[index as usize];
        match fact.kind {
            LogKind::PullFailed => attempt.pull_cause = cause,
            LogKind::TaskFailed => {
                attempt.facts.logged_fatal = true;
                attempt.facts.ordered_error = is_intent(&fact.error);
                attempt.task_cause = cause.or(attempt.task_cause);
                if fact.error.contains("non-zero exit (137)") {
                    attempt.exit_code = Some(137);
                }
            }
        }
        self.look_for_end(index, at);
    }

    fn take_service(&mut self, fact: &ServiceFact<'_>) {
        let index = self.service(&fact.id, fact.updated);
        self.name_service(index, &fact.name, fact.stack.as_deref());
        let policy = Policy {
            restart: fact.restart,
            is_job: fact.mode == Mode::Job,
            force_update: fact.force_update,
            has_memory_limit: fact.has_memory_limit,
        };
        let listing = self.listing;
        if let Some(subject) = self.subject_mut(index) {
            subject.set_policy(policy, &fact.image);
            subject.listed = listing;
        }
    }

    fn take_node(&mut self, fact: &NodeFact<'_>) {
        let index = self.node(&fact.id) as usize;
        if index > 0 {
            self.nodes[index].hostname = (*fact.hostname).into();
            self.nodes[index].engine = (*fact.engine).into();
        }
    }

    fn take_order(&mut self, at: Timestamp, id: &str, name: &str, order: Order) {
        let index = self.service(id, at);
        self.name_service(index, name, None);
        match order {
            Order::Create | Order::Progress => {}
            Order::Update => {
                if let Some(subject) = self.subject_mut(index) {
                    subject.spec_changed();
                }
            }
            Order::Remove => self.end_storm(index),
        }
    }

    fn take_container(&mut self, at: Timestamp, fact: &ContainerFact<'_>) {
        let key = Key::new(&fact.id);
        let index = match self.container_index.get(&key) {
            Some(index) => *index,
            None if fact.action == ContainerAction::Destroy => return,
            None => {
                let (owner, image) = fact.origin.read();
                self.new_container(key, &owner, &image, at)
            }
        };
        let due_at = at.plus(self.settings.slack);
        if let Some(container) = &mut self.containers[index as usize]
            && container.take(at, fact.action)
        {
            let due = Due { at: due_at, key, what: DueWhat::Container, index, generation: container.generation };
            self.due.push(Reverse(due));
        }
    }

    /// A listing tells what the events of a plain host do not: how often the engine has started it again.
    fn take_listing(&mut self, at: Timestamp, fact: &ContainerListing<'_>) {
        if fact.owner.swarm.is_some() {
            return;
        }
        let key = Key::new(&fact.id);
        let container = match self.container_index.get(&key) {
            Some(index) => *index,
            None => self.new_container(key, &fact.owner, &fact.image, at),
        };
        let Some(index) = self.containers[container as usize].as_ref().map(|container| container.subject) else {
            return;
        };
        let loops = fact.is_restarting && fact.restart_count > u64::from(self.settings.failures.get());
        if !loops {
            return;
        }
        let cause = match self.cause_of(index, &fact.error) {
            Some(cause) => cause,
            None if fact.is_oom_killed => Cause::Oom,
            None => Cause::AppExit,
        };
        let failure =
            Failure { at, created: at, slot: Slot::default(), node: 0, cause, exit_zero: fact.exit_code == 0 };
        self.set_image(index, &fact.image);
        self.say_exit(index, cause, Some(fact.exit_code));
        let Some(subject) = self.subjects.get_mut(index as usize).and_then(Option::as_mut) else { return };
        if subject.begin_by_count(fact.restart_count, failure, &self.quotas) {
            self.announce_onset(index);
        }
    }

    fn new_container(&mut self, key: Key, owner: &Owner<'_>, image: &str, at: Timestamp) -> u32 {
        if self.container_index.len() >= CONTAINERS_MAX {
            self.forget_containers();
        }
        let (kind, name, stack) = match owner {
            Owner { ecs: Some((family, container)), .. } => {
                (SubjectKind::EcsFamily, format!("{family}/{container}"), Some(&**family))
            }
            Owner { compose: Some((project, service)), .. } => {
                (SubjectKind::ComposeService, format!("{project}/{service}"), Some(&**project))
            }
            Owner { name, .. } if name.is_empty() => (SubjectKind::Container, "unnamed".to_owned(), None),
            Owner { name, .. } => (SubjectKind::Container, name.clone().into_owned(), None),
        };
        let subject = self.subject_index_of(kind, &name, at);
        self.set_image(subject, image);
        if let Some(subject) = self.subject_mut(subject)
            && subject.subject.stack.is_none()
        {
            subject.subject.stack = stack.map(str::to_owned);
        }
        self.generation += 1;
        let container = PlainContainer::new(key, subject, self.generation, kind == SubjectKind::EcsFamily, at);
        let index = match self.free_containers.pop() {
            Some(index) => index,
            None => {
                self.containers.push(None);
                last_index(&self.containers)
            }
        };
        self.containers[index as usize] = Some(container);
        self.container_index.insert(key, index);
        index
    }

    /// Keeps an error's words, and tells its cause; `None` where there are none.
    fn cause_of(&mut self, subject: u32, error: &str) -> Option<Cause> {
        if error.is_empty() {
            return None;
        }
        let Some(state) = self.subjects.get_mut(subject as usize).and_then(Option::as_mut) else {
            return Some(classify(error));
        };
        if let Some(cause) = state.heard(error) {
            return Some(cause);
        }
        let cause = classify(error);
        state.say(&self.quotas, cause, error);
        Some(cause)
    }

    fn new_attempt(&mut self, key: Key, subject: u32, slot: Slot, node: u32, created: Timestamp) -> u32 {
        while self.attempt_index.len() >= OPEN_MAX {
            self.forget_open_attempt();
        }
        let attempt = Attempt { key, subject, slot, node, created, ..Attempt::default() };
        let index = match self.free_attempts.pop() {
            Some(index) => {
                self.attempts[index as usize] = attempt;
                index
            }
            None => {
                self.attempts.push(attempt);
                self.attempt_generations.push(0);
                last_index(&self.attempts)
            }
        };
        self.attempt_index.insert(key, index);
        if let Some(subject) = self.subject_mut(subject) {
            subject.open.push(index);
            if let Some(storm) = subject.storm_mut() {
                storm.count_attempt(created);
            }
        }
        self.open.push_back((index, self.attempt_generations[index as usize]));
        if self.open.len() > 2 * OPEN_MAX {
            self.forget_closed();
        }
        index
    }

    /// Sets the time at which an attempt that has ended is judged, or judges again one that was.
    fn look_for_end(&mut self, index: u32, at: Timestamp) {
        let attempt = &mut self.attempts[index as usize];
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
            what: DueWhat::Attempt,
            index,
            generation: self.attempt_generations[index as usize],
        };
        self.due.push(Reverse(due));
    }

    fn judge_due(&mut self, due: Due) {
        match due.what {
            DueWhat::Attempt => {
                if self.attempt_generations[due.index as usize] == due.generation {
                    self.judge_attempt(due.index);
                }
            }
            DueWhat::Container => self.judge_container(due),
        }
    }

    fn judge_attempt(&mut self, index: u32) {
        let (outcome, subject) = self.outcome(index);
        self.attempts[index as usize].outcome = Some(outcome);
        let Some(state) = self.subject_mut(subject) else { return };
        if let Some(place) = state.open.iter().position(|open| *open == index) {
            state.open.swap_remove(place);
        }
        state.settled.push_back(index);
        self.waiting.remove(&index);
        self.settled.push_back((index, self.attempt_generations[index as usize]));
        match outcome {
            Outcome::Failed { cause, exit_zero } => self.fail_attempt(index, cause, exit_zero),
            Outcome::Completed | Outcome::Intended => {
                let created = self.attempts[index as usize].created;
                if let Some(state) = self.subject_mut(subject) {
                    state.went_otherwise(created);
                }
            }
        }
        while self.settled.len() > SETTLED_MAX {
            self.forget_settled_attempt();
        }
    }

    /// A fact came after the judgement: the log's words may better the cause, and a listing may tell that an exit 0
    /// was no end.
    fn judge_again(&mut self, index: u32) {
        let before = self.attempts[index as usize].outcome;
        let (after, subject) = self.outcome(index);
        if before == Some(after) {
            return;
        }
        match (before, after) {
            (Some(Outcome::Failed { cause: from, exit_zero }), Outcome::Failed { cause: to, .. }) => {
                let attempt = &mut self.attempts[index as usize];
                attempt.outcome = Some(Outcome::Failed { cause: to, exit_zero });
                let (at, slot) = (attempt.ended.unwrap_or(self.now), attempt.slot);
                if let Some(state) = self.subject_mut(subject) {
                    let change = state.correct(at, slot, from, to);
                    self.announce(subject, change);
                }
            }
            (Some(Outcome::Completed), Outcome::Failed { cause, exit_zero }) => {
                self.attempts[index as usize].outcome = Some(after);
                self.fail_attempt(index, cause, exit_zero);
            }
            _ => {}
        }
    }

    fn outcome(&self, index: u32) -> (Outcome, u32) {
        let attempt = &self.attempts[index as usize];
        let subject = self.subject(attempt.subject);
        let policy = subject.and_then(|subject| subject.policy);
        let ran_out_of_memory = subject.is_some_and(|subject| subject.ran_out_of_memory);
        (attempt.judge(policy, ran_out_of_memory), attempt.subject)
    }

    fn fail_attempt(&mut self, index: u32, cause: Cause, exit_zero: bool) {
        let attempt = &self.attempts[index as usize];
        let failure = Failure {
            at: attempt.ended.unwrap_or(self.now),
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
    fn say_exit(&mut self, subject: u32, cause: Cause, exit_code: Option<i32>) {
        let Some(state) = self.subjects.get_mut(subject as usize).and_then(Option::as_mut) else { return };
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

    fn fail(&mut self, subject: u32, failure: Failure) {
        let Some(state) = self.subjects.get_mut(subject as usize).and_then(Option::as_mut) else { return };
        let (attempts, containers) = (&self.attempts, &self.containers);
        let is_swarm = state.subject.kind == SubjectKind::SwarmService;
        let change = state.fail(failure, &self.settings, &self.quotas, |state, since| {
            if is_swarm {
                let open = state.open.iter().filter(|index| attempts[**index as usize].created >= since);
                return open.count() as u64;
            }
            let running = containers.iter().flatten().filter(|container| container.subject == subject);
            running.filter(|container| container.is_running()).count().max(1) as u64
        });
        self.announce(subject, change);
    }

    fn judge_container(&mut self, due: Due) {
        let Some(container) = &mut self.containers[due.index as usize] else { return };
        if container.generation != due.generation {
            return;
        }
        let subject = container.subject;
        let mut verdicts = Vec::new();
        container.settle(due.at.minus(self.settings.slack), &mut |verdict| verdicts.push(verdict));
        for verdict in verdicts {
            match verdict {
                Verdict::Attempt { at } => {
                    if let Some(storm) = self.subject_mut(subject).and_then(SubjectState::storm_mut) {
                        storm.count_attempt(at);
                    }
                }
                Verdict::Failed { at, started, cause, exit_code } => {
                    self.say_exit(subject, cause, Some(exit_code));
                    let slot = Slot::default();
                    self.fail(
                        subject,
                        Failure { at, created: started, slot, node: 0, cause, exit_zero: exit_code == 0 },
                    );
                }
                Verdict::Removed => self.drop_container(due.index),
            }
        }
    }

    pub(super) fn announce(&mut self, index: u32, change: Change) {
        match change {
            Change::None => {}
            Change::Onset => self.announce_onset(index),
            Change::Cause { from, to } => {
                if let Some(storm) = self.storm_of(index) {
                    self.notify(Notice::CauseChanged { storm: Box::new(storm), from, to });
                }
            }
        }
    }

    pub(super) fn announce_onset(&mut self, index: u32) {
        self.storming.insert(index);
        if let Some(storm) = self.storm_of(index) {
            self.notify(Notice::Onset(Box::new(storm)));
        }
    }

    pub(super) fn notify(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX {
            self.notices.push_back(notice);
        } else {
            self.counters.notices_dropped += 1;
        }
    }

    fn hold_down_ends(&self, index: u32) -> Option<Timestamp> {
        self.subject(index)?.hold_down_ends(&self.settings)
    }

    fn subside_until(&mut self, now: Timestamp) {
        let over: Vec<u32> = self
            .storming
            .iter()
            .copied()
            .filter(|index| self.hold_down_ends(*index).is_none_or(|ends| ends <= now))
            .collect();
        for index in over {
            self.end_storm(index);
        }
    }

    fn end_storm(&mut self, index: u32) {
        if !self.storming.remove(&index) {
            return;
        }
        let storm = self.storm_of(index).map(|storm| Storm {
            state: crate::model::StormState::Subsided,
            ended: self.subject(index).and_then(|subject| Some(subject.failing.as_ref()?.last)),
            ..storm
        });
        if let Some(subject) = self.subject_mut(index) {
            subject.subside();
        }
        if let Some(storm) = storm {
            self.ended.push_back(storm.clone());
            if self.ended.len() > ENDED_MAX {
                self.ended.pop_front();
            }
            self.notify(Notice::Subsided(Box::new(storm)));
        }
    }

    pub(super) fn subject(&self, index: u32) -> Option<&SubjectState> {
        self.subjects.get(index as usize)?.as_ref()
    }

    pub(super) fn subject_mut(&mut self, index: u32) -> Option<&mut SubjectState> {
        self.subjects.get_mut(index as usize)?.as_mut()
    }

    fn service(&mut self, id: &str, at: Timestamp) -> u32 {
        self.subject_index_of(SubjectKind::SwarmService, id, at)
    }

    fn subject_index_of(&mut self, kind: SubjectKind, id: &str, at: Timestamp) -> u32 {
        let key = Key::new(id);
        if let Some(index) = self.subject_index.get(&(kind, key)) {
            let index = *index;
            if let Some(subject) = self.subject_mut(index) {
                subject.last_seen = subject.last_seen.max(at);
            }
            return index;
        }
        if self.subject_index.len() >= self.settings.subjects_max {
            self.forget_subjects();
        }
        self.generation += 1;
        let subject = Subject { kind, name: id.to_owned(), id: id.to_owned(), stack: None };
        let state = SubjectState::new(subject, key, self.generation, at);
        let index = match self.free_subjects.pop() {
            Some(index) => index,
            None => {
                self.subjects.push(None);
                last_index(&self.subjects)
            }
        };
        self.subjects[index as usize] = Some(state);
        self.subject_index.insert((kind, key), index);
        index
    }

    fn name_service(&mut self, index: u32, name: &str, stack: Option<&str>) {
        let Some(state) = self.subject_mut(index) else { return };
        if !name.is_empty() && state.subject.name != name {
            state.subject.name = name.to_owned();
        }
        if let Some(stack) = stack
            && state.subject.stack.as_deref() != Some(stack)
        {
            state.subject.stack = Some(stack.to_owned());
        }
    }

    fn set_image(&mut self, index: u32, image: &str) {
        if let Some(state) = self.subject_mut(index)
            && !image.is_empty()
            && *state.image != *image
        {
            state.image = image.into();
        }
    }

    fn node(&mut self, id: &str) -> u32 {
        if id.is_empty() {
            return 0;
        }
        let key = Key::new(id);
        if let Some(index) = self.node_index.get(&key) {
            return *index;
        }
        if self.nodes.len() > NODES_MAX {
            return 0;
        }
        self.nodes.push(NodeName { id: id.into(), ..NodeName::default() });
        let index = last_index(&self.nodes);
        self.node_index.insert(key, index);
        index
    }

    /// Forgets the calm subjects that have not been seen for longest, a part of them at once.
    fn forget_subjects(&mut self) {
        let mut calm: Vec<(Timestamp, Key, u32)> = self
            .subjects
            .iter()
            .enumerate()
            .filter_map(|(index, subject)| {
                let subject = subject.as_ref().filter(|subject| subject.storm().is_none())?;
                Some((subject.last_seen, subject.key, u32::try_from(index).ok()?))
            })
            .collect();
        let part = (self.settings.subjects_max / FORGET_PART).clamp(1, calm.len().max(1));
        if part < calm.len() {
            calm.select_nth_unstable(part);
        }
        for (_, _, index) in calm.into_iter().take(part) {
            self.drop_subject(index);
            self.counters.subjects_forgotten += 1;
        }
        for index in 0..self.containers.len() {
            let subject = self.containers[index].as_ref().map(|container| container.subject);
            if subject.is_some_and(|subject| self.subject(subject).is_none()) {
                self.drop_container(u32::try_from(index).unwrap_or(u32::MAX));
            }
        }
    }

    fn drop_subject(&mut self, index: u32) {
        let Some(state) = self.subjects[index as usize].take() else { return };
        self.subject_index.remove(&(state.subject.kind, state.key));
        for attempt in state.open.iter().chain(&state.settled) {
            self.free_attempt(*attempt);
        }
        self.found.retain(|entry| entry.1 != index);
        self.free_subjects.push(index);
    }

    fn free_attempt(&mut self, index: u32) {
        let key = self.attempts[index as usize].key;
        self.attempt_index.remove(&key);
        self.attempt_generations[index as usize] = self.attempt_generations[index as usize].wrapping_add(1);
        self.waiting.remove(&index);
        self.free_attempts.push(index);
    }

    fn forget_settled_attempt(&mut self) {
        let Some((index, generation)) = self.settled.pop_front() else { return };
        if self.attempt_generations[index as usize] != generation {
            return;
        }
        let (subject, version) = (self.attempts[index as usize].subject, self.attempts[index as usize].version);
        if let Some(state) = self.subject_mut(subject) {
            state.forgotten_version = state.forgotten_version.max(version);
            if state.settled.front() == Some(&index) {
                state.settled.pop_front();
            } else {
                state.settled.retain(|settled| *settled != index);
            }
        }
        self.free_attempt(index);
    }

    fn forget_open_attempt(&mut self) {
        let Some((index, generation)) = self.open.pop_front() else { return };
        if self.attempt_generations[index as usize] != generation || self.attempts[index as usize].outcome.is_some() {
            return;
        }
        let subject = self.attempts[index as usize].subject;
        if let Some(state) = self.subject_mut(subject) {
            state.open.retain(|open| *open != index);
        }
        self.free_attempt(index);
        self.counters.attempts_forgotten += 1;
    }

    /// Takes those out of the order of open attempts that are open no more.
    fn forget_closed(&mut self) {
        let (generations, attempts) = (&self.attempt_generations, &self.attempts);
        self.open.retain(|(index, generation)| {
            generations[*index as usize] == *generation && attempts[*index as usize].outcome.is_none()
        });
    }

    fn forget_containers(&mut self) {
        let mut seen: Vec<(Timestamp, Key, u32)> = self
            .containers
            .iter()
            .enumerate()
            .filter_map(|(index, c)| Some((c.as_ref()?.last_seen, c.as_ref()?.key, u32::try_from(index).ok()?)))
            .collect();
        let part = CONTAINERS_MAX / FORGET_PART;
        if part < seen.len() {
            seen.select_nth_unstable(part);
        }
        for (_, _, index) in seen.into_iter().take(part) {
            self.drop_container(index);
            self.counters.containers_forgotten += 1;
        }
    }

    fn drop_container(&mut self, index: u32) {
        if let Some(container) = self.containers[index as usize].take() {
            self.container_index.remove(&container.key);
            self.free_containers.push(index);
        }
    }
}

/// The index of a list's last entry. Every list here has a cap far below the range.
fn last_index<T>(list: &[T]) -> u32 {
    u32::try_from(list.len().saturating_sub(1)).unwrap_or(u32::MAX)
}
