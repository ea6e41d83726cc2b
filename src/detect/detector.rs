//! The detector: what it holds, and its face. Taking, judging and storing are in the files beside it.

mod judge;
mod parts;
mod registry;
mod spend;
mod step;
mod store;
mod take;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parts::{Books, Clock, Listing, Oldest, Said};
pub(super) use registry::hanging_incident;

use super::account::Account;
use super::arena::{Arena, AttemptId, ContainerId, NodeId, SubjectId};
use super::attempt::{Attempt, Attempts};
use super::container::PlainContainer;
use super::incident::Incidents;
use super::key::{DueWhat, Key};
use super::node::Node;
use super::quota::Quotas;
use super::settings::Settings;
use super::subject::SubjectState;
use crate::budget::{Meter, Registries};
use crate::model::{AttemptCount, Fact, Notice, Observation, Pace, Storm, SubjectKind, Timestamp};

/// How often what waits is looked at, in event time.
const WAITING_EVERY: Duration = Duration::from_secs(15);

/// How many attempts and containers wait to be judged; of more the earliest are judged at once.
const DUE_MAX: usize = 100_000;

/// Finds storms. See the module.
#[derive(Debug)]
pub struct Detector {
    pub(super) settings: Settings,
    pub(super) quotas: Quotas,
    pub(super) subjects: Arena<SubjectId, SubjectState>,
    pub(super) attempts: Attempts,
    containers: Arena<ContainerId, PlainContainer>,
    pub(super) nodes: Arena<NodeId, Node>,
    /// Swarm services by the hash of their names.
    names: HashMap<u64, SubjectId, foldhash::fast::RandomState>,
    pub(super) storming: BTreeSet<SubjectId>,
    /// Attempts that are pending or preparing.
    pub(super) waiting: BTreeSet<AttemptId>,
    oldest: Oldest,
    pub(super) listing: Listing,
    pub(super) clock: Clock,
    pub(super) books: Books,
    pub(super) said: Said,
    counters: Counters,
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
    /// What was judged before its time, because too much waited.
    pub judged_early: u64,
    /// Notices that nobody drained in time.
    pub notices_dropped: u64,
    /// Attempts and requests that were not counted by minute, because nobody drained the counts.
    pub minutes_dropped: u64,
}

/// A subject that has failed lately, for whoever polls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect<'a> {
    /// The service's id.
    pub service_id: &'a str,
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
        let never = Timestamp::from_nanos(i64::MIN);
        let mut nodes = Arena::default();
        // It is NodeId::NONE.
        nodes.insert(Node::default());
        Self {
            quotas: Quotas::new((settings.failures, settings.per), (settings.slow_failures, settings.slow_per)),
            subjects: Arena::default(),
            attempts: Arena::default(),
            containers: Arena::default(),
            nodes,
            names: HashMap::default(),
            storming: BTreeSet::new(),
            waiting: BTreeSet::new(),
            oldest: Oldest::default(),
            listing: Listing { services: never, tasks: 0, has_tasks: false },
            clock: Clock {
                now: never,
                pace: Pace::default(),
                due: BinaryHeap::new(),
                next_subside: Timestamp::from_nanos(i64::MAX),
                next_waiting: never,
                blind_until: never,
            },
            books: Books {
                minutes: BTreeMap::new(),
                minutes_of_gone: Vec::new(),
                account: Account::default(),
                meter: Meter::new(settings.registries.clone()),
                incidents: Incidents::default(),
                began: None,
                counted_from: never,
            },
            said: Said::default(),
            counters: Counters::default(),
            settings,
        }
    }

    /// Prices attempts by these terms from now on.
    pub fn set_registries(&mut self, registries: Registries) {
        self.books.meter.set_registries(registries.clone());
        self.settings.registries = registries;
    }

    /// Counts attempts, and what they ask of registries, by minute ([`Settings::by_minute`]): those since `from`, as
    /// what was before it the daemon before has counted, or nobody has.
    pub fn count_by_minute(&mut self, from: Timestamp) {
        self.settings.by_minute = true;
        self.books.counted_from = from;
        self.books.meter.watch_since(from);
    }

    /// Takes an observation of a recording: its time is the time.
    pub fn observe(&mut self, observation: &Observation<'_>) {
        self.take(observation);
        let now = self.clock.pace.see(observation.at);
        if now > self.clock.now {
            self.advance(now);
        }
    }

    /// The time up to which a recording has been observed.
    pub fn now(&self) -> Timestamp {
        self.clock.now
    }

    /// Takes an observation without letting time pass: a listing tells of the past, and a live daemon's clock is not
    /// this one. [`advance`](Self::advance) lets it pass.
    pub fn take(&mut self, observation: &Observation<'_>) {
        while self.clock.due.len() > DUE_MAX {
            if let Some(Reverse(due)) = self.clock.due.pop() {
                self.judge_due(due);
                self.counters.judged_early += 1;
            }
        }
        let (at, origin) = (observation.at, observation.origin);
        self.learn_place(observation);
        match &observation.fact {
            Fact::Container(fact) if fact.task_id.is_empty() => self.take_container(at, fact),
            Fact::Container(fact) => self.take_task_event(at, fact),
            Fact::Task(fact) => self.take_task(at, fact),
            Fact::Log(fact) => self.take_log(at, fact),
            Fact::Service(fact) => self.take_service(fact),
            Fact::Node(fact) => self.take_node(fact),
            Fact::Order { service_id, service_name, order } => self.take_order(at, service_id, service_name, *order),
            Fact::Listing(fact) => self.take_listing(at, fact),
            Fact::Pull { reference } => self.take_pull(at, origin, reference),
            Fact::Image { id, references } => self.take_image(origin, id, references),
            Fact::ImageGone { id } => self.books.account.lose_image(origin, id),
            Fact::Engine(_) => {}
        }
    }

    /// Lets time pass up to `now`: judges what has ended, and lets storms subside.
    pub fn advance(&mut self, now: Timestamp) {
        self.clock.now = self.clock.now.max(now);
        while let Some(Reverse(due)) = self.clock.due.peek().copied().filter(|due| due.0.at <= self.clock.now) {
            self.subside_until(due.at);
            self.clock.due.pop();
            self.judge_due(due);
        }
        self.subside_until(self.clock.now);
        if self.clock.now >= self.clock.next_waiting {
            self.clock.next_waiting = self.clock.now.plus(WAITING_EVERY);
            self.say_findings();
            self.pass_unwanted(Some(self.clock.now));
            self.forget_left(self.clock.now);
        }
    }

    /// The input is at its end, at `now`: what has ended is judged without waiting for more facts, and the history of
    /// slots tells loops that began before it. An attempt that the last listing shows under way stays so, whatever
    /// its node has said since: the task list is the primary source.
    pub fn finish(&mut self, now: Timestamp) {
        while let Some(Reverse(due)) = self.clock.due.pop() {
            let at = due.at.minus(self.settings.slack).min(now);
            self.subside_until(at);
            let attempt = if let DueWhat::Attempt(handle) = due.what { self.attempts.at(handle) } else { None };
            let is_listed_under_way = attempt.is_some_and(|a| a.version > 0 && !a.state.is_terminal());
            if !(is_listed_under_way && due.at > now) {
                self.judge_due(due);
            }
        }
        self.advance(now);
        self.judge_history(now);
        self.pass_unwanted(None);
    }

    /// Nobody could look up to `until`: that nothing was seen to fail is no reason for a storm to subside.
    pub fn blind(&mut self, until: Timestamp) {
        self.clock.blind_until = self.clock.blind_until.max(until);
    }

    /// A listing of all services begins at `at`: what it does not have is gone.
    pub fn begin_listing(&mut self, at: Timestamp) {
        self.listing.services = at;
    }

    /// A service is in the listing under way, whatever that tells of it.
    pub fn keep_listed(&mut self, id: &str) {
        let listing = self.listing.services;
        let index = self.index_of(SubjectKind::SwarmService, id);
        if let Some(subject) = index.and_then(|index| self.subjects.get_mut(index)) {
            subject.listed = listing;
        }
    }

    /// The listing is complete. Services that it did not have and that nothing was heard of since it began are
    /// removed. One that was listed before and has failed of late is remembered for the hold-down: it may come back under
    /// its name. One that no listing ever had was gone before squall started.
    pub fn end_listing(&mut self) {
        let is_gone = |subject: &SubjectState| {
            let is_service = subject.subject.kind == SubjectKind::SwarmService;
            is_service && subject.listed < self.listing.services && subject.last_seen < self.listing.services
        };
        let gone: Vec<SubjectId> =
            self.subjects.iter().filter(|(_, subject)| is_gone(subject)).map(|(index, _)| index).collect();
        for index in gone {
            let Some(state) = self.subjects.get(index) else { continue };
            let removed = state.removed.unwrap_or(state.last_seen);
            let was_listed = state.listed > Timestamp::from_nanos(i64::MIN);
            let may_come_back = was_listed && removed.plus(self.settings.hold_down_min) > self.listing.services;
            if may_come_back && state.suspicion().is_some() {
                self.remove(index, removed);
            } else {
                self.end_storm(index);
                self.drop_subject(index);
            }
        }
    }

    /// A listing of all tasks begins.
    pub fn begin_tasks(&mut self) {
        self.listing.tasks += 1;
        self.listing.has_tasks = true;
    }

    /// The listing of all tasks, begun at `began`, is complete: a task under way that it did not have was deleted
    /// before it ended, as Swarm does with a pending one that is scaled away.
    pub fn end_tasks(&mut self, began: Timestamp) {
        let is_gone = |attempt: &Attempt| {
            let is_open = attempt.outcome.is_none() && attempt.ended.is_none() && attempt.version > 0;
            is_open && attempt.listing < self.listing.tasks && attempt.created < began
        };
        let gone: Vec<AttemptId> =
            self.attempts.iter().filter(|(_, attempt)| is_gone(attempt)).map(|(index, _)| index).collect();
        for index in gone {
            self.drop_open_attempt(index);
        }
    }

    /// When [`advance`](Self::advance) has something to do if nothing is observed till then.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let due = self.clock.due.peek().map(|due| due.0.at);
        let subsides = (!self.storming.is_empty()).then_some(self.clock.next_subside);
        let waits = (!self.waiting.is_empty()).then_some(self.clock.next_waiting);
        [due, subsides, waits].into_iter().flatten().min()
    }

    /// Takes out what there is to say, oldest first. What the iterator is not asked for stays.
    pub fn drain(&mut self) -> impl Iterator<Item = Notice> + '_ {
        std::iter::from_fn(|| {
            while let Some(index) = self.said.restated.pop_front() {
                if let Some(storm) = self.storm_of(index) {
                    return Some(Notice::Onset(Arc::new(storm)));
                }
            }
            self.said.notices.pop_front()
        })
    }

    /// Takes out what was counted by minute ([`Settings::by_minute`]), `max` counts at most. A minute may come again: its
    /// counts are to be added.
    pub fn drain_minutes(&mut self, max: usize) -> Vec<AttemptCount> {
        let mut counts = Vec::new();
        while counts.len() < max {
            if let Some(count) = self.books.minutes_of_gone.pop() {
                counts.push(count);
            } else if let Some(((index, minute), (attempts, failed))) = self.books.minutes.pop_first() {
                let subject = self.subjects.get(index).map(|state| state.subject.clone());
                counts.extend(subject.map(|subject| AttemptCount { minute, subject, attempts, failed }));
            } else {
                break;
            }
        }
        counts
    }

    /// The storm of a subject, as it is now.
    pub fn storm(&self, kind: SubjectKind, id: &str) -> Option<Storm> {
        self.storm_of(self.index_of(kind, id)?)
    }

    /// Its storm is over: it was held and has been given back, or is gone. Failures that follow are another storm's.
    pub fn end(&mut self, kind: SubjectKind, id: &str) {
        if let Some(index) = self.index_of(kind, id) {
            self.end_storm(index);
        }
    }

    pub(super) fn index_of(&self, kind: SubjectKind, id: &str) -> Option<SubjectId> {
        self.subjects.find((kind, Key::new(id)))
    }

    /// How often a subject has failed since `since`, as far as its last failures are remembered: up to 16.
    pub fn failures_since(&self, kind: SubjectKind, id: &str, since: Timestamp) -> u64 {
        self.index_of(kind, id)
            .and_then(|index| self.subjects.get(index))
            .map_or(0, |state| state.failures_since(since))
    }

    /// Forgets what there was to say but the storms that go on, as they are now, and the ends of others: for a daemon
    /// that begins with what was before it.
    pub fn restate(&mut self) {
        let goes_on = |storm: &Storm| {
            let index = self.index_of(storm.subject.kind, &storm.subject.id);
            index.is_some_and(|index| self.storming.contains(&index))
        };
        let is_end = |notice: &Notice| matches!(notice, Notice::Subsided(storm) if !goes_on(storm));
        let ends: VecDeque<Notice> = self.said.notices.iter().filter(|notice| is_end(notice)).cloned().collect();
        self.said.notices = ends;
        self.said.restated = self.storming.iter().copied().collect();
    }

    /// How it stands with registries.
    pub fn meter(&self) -> &Meter {
        &self.books.meter
    }

    /// The same, for what a journal remembers and a registry says.
    pub fn meter_mut(&mut self) -> &mut Meter {
        &mut self.books.meter
    }

    /// What it holds and what it dropped.
    pub fn counters(&self) -> Counters {
        let minutes_dropped = self.counters.minutes_dropped + self.books.account.counts_dropped;
        Counters { subjects: self.subjects.len() as u64, minutes_dropped, ..self.counters }
    }

    /// The Swarm services that have failed since `since`.
    pub fn suspects(&self, since: Timestamp) -> impl Iterator<Item = Suspect<'_>> {
        let services = self.subjects.values().filter(|subject| subject.subject.kind == SubjectKind::SwarmService);
        services.filter_map(move |subject| {
            let (last_failure, period) = subject.suspicion()?;
            let storms = subject.storm().is_some();
            let service_id = &*subject.subject.id;
            (last_failure >= since || storms).then_some(Suspect { service_id, last_failure, period, storms })
        })
    }
}
