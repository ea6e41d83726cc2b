//! The detector: what it holds, and its face. Taking, judging and storing are in the files beside it.

mod judge;
mod registry;
mod spend;
mod step;
mod store;
mod take;

pub(super) use registry::hanging_incident;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::account::Account;
use super::attempt::Attempt;
use super::container::PlainContainer;
use super::incident::Incidents;
use super::key::{Due, DueWhat, Key};
use super::quota::Quotas;
use super::settings::Settings;
use super::subject::SubjectState;
use crate::budget::{Engine, Meter, Registries};
use crate::model::{AttemptCount, Fact, FindingKind, Notice, Observation, Pace, Storm, SubjectKind, Timestamp};

/// How often what waits is looked at, in event time.
const WAITING_EVERY: Duration = Duration::from_secs(15);

/// How many attempts and containers wait to be judged; of more the earliest are judged at once.
const DUE_MAX: usize = 100_000;

type Index<K> = HashMap<K, u32, foldhash::fast::RandomState>;

/// Finds storms. See the module.
#[derive(Debug)]
pub struct Detector {
    pub(super) settings: Settings,
    pub(super) quotas: Quotas,
    pub(super) subjects: Vec<Option<SubjectState>>,
    subject_index: Index<(SubjectKind, Key)>,
    /// Swarm services by the hash of their names.
    name_index: Index<u64>,
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
    /// Containers that were removed, and when, in the order in which that was judged; and of those the ones that are to
    /// be remembered longer.
    left: [VecDeque<Left>; 2],
    node_index: Index<Key>,
    pub(super) nodes: Vec<NodeName>,
    due: BinaryHeap<Reverse<Due>>,
    pub(super) now: Timestamp,
    pace: Pace,
    pub(super) storming: BTreeSet<u32>,
    /// No storm subsides before this.
    next_subside: Timestamp,
    /// Nothing is known of the time up to this.
    pub(super) blind_until: Timestamp,
    /// Tasks are listed: then a slot that an attempt's log line did not tell will be known.
    pub(super) lists_tasks: bool,
    /// Attempts that are pending or preparing.
    pub(super) waiting: BTreeSet<u32>,
    /// What was said, by its subject's id.
    pub(super) found: BTreeSet<(FindingKind, String)>,
    pub(super) next_waiting: Timestamp,
    pub(super) ended: VecDeque<Storm>,
    notices: VecDeque<Notice>,
    /// Storms that are to be said again, before the notices: each takes room only as it is drained.
    restated: VecDeque<u32>,
    /// Attempts and failures by minute and subject, where they are counted.
    minutes: BTreeMap<(u32, Timestamp), (u64, u64)>,
    /// Those of subjects that are gone.
    minutes_of_gone: Vec<AttemptCount>,
    pub(super) account: Account,
    pub(super) meter: Meter,
    pub(super) incidents: Incidents,
    /// The first event or line of a log.
    pub(super) began: Option<Timestamp>,
    /// What is older is neither counted by minute nor metered.
    pub(super) counted_from: Timestamp,
    listing: Timestamp,
    /// The number of the full listing of tasks under way.
    task_listing: u64,
    generation: u32,
    counters: Counters,
}

/// A subject whose last container was removed: when, and its number and key.
type Left = (Timestamp, u32, Key);

/// A node as reports name it.
#[derive(Debug, Default)]
pub(super) struct NodeName {
    pub(super) id: Box<str>,
    pub(super) hostname: Box<str>,
    pub(super) engine: Box<str>,
    /// It is ready, and takes tasks.
    pub(super) is_active: bool,
    /// How it pulls, where the daemon told.
    pub(super) store: Option<Engine>,
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
        let quotas = Quotas::new((settings.failures, settings.per), (settings.slow_failures, settings.slow_per));
        let meter = Meter::new(settings.registries.clone());
        Self {
            settings,
            quotas,
            subjects: Vec::new(),
            subject_index: Index::default(),
            name_index: Index::default(),
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
            left: Default::default(),
            node_index: Index::default(),
            // Node 0 is no node.
            nodes: vec![NodeName::default()],
            due: BinaryHeap::new(),
            now: Timestamp::from_nanos(i64::MIN),
            pace: Pace::default(),
            storming: BTreeSet::new(),
            next_subside: Timestamp::from_nanos(i64::MAX),
            blind_until: Timestamp::from_nanos(i64::MIN),
            lists_tasks: false,
            waiting: BTreeSet::new(),
            found: BTreeSet::new(),
            next_waiting: Timestamp::from_nanos(i64::MIN),
            ended: VecDeque::new(),
            notices: VecDeque::new(),
            restated: VecDeque::new(),
            minutes: BTreeMap::new(),
            minutes_of_gone: Vec::new(),
            account: Account::default(),
            meter,
            incidents: Incidents::default(),
            began: None,
            counted_from: Timestamp::from_nanos(i64::MIN),
            listing: Timestamp::from_nanos(i64::MIN),
            task_listing: 0,
            generation: 0,
            counters: Counters::default(),
        }
    }

    /// Prices attempts by these terms from now on.
    pub fn set_registries(&mut self, registries: Registries) {
        self.meter.set_registries(registries.clone());
        self.settings.registries = registries;
    }

    /// Counts attempts, and what they ask of registries, by minute ([`Settings::by_minute`]): those since `from`, as
    /// what was before it the daemon before has counted, or nobody has.
    pub fn count_by_minute(&mut self, from: Timestamp) {
        self.settings.by_minute = true;
        self.counted_from = from;
        self.meter.watch_since(from);
    }

    /// Takes an observation of a recording: its time is the time.
    pub fn observe(&mut self, observation: &Observation<'_>) {
        self.take(observation);
        let now = self.pace.see(observation.at);
        if now > self.now {
            self.advance(now);
        }
    }

    /// The time up to which a recording has been observed.
    pub fn now(&self) -> Timestamp {
        self.now
    }

    /// Takes an observation without letting time pass: a listing tells of the past, and a live daemon's clock is not
    /// this one. [`advance`](Self::advance) lets it pass.
    pub fn take(&mut self, observation: &Observation<'_>) {
        while self.due.len() > DUE_MAX {
            if let Some(Reverse(due)) = self.due.pop() {
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
            Fact::ImageGone { id } => self.account.lose_image(origin, id),
            Fact::Engine(_) => {}
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
            self.say_findings();
            self.pass_unwanted(Some(self.now));
            self.forget_left(self.now);
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
        self.pass_unwanted(None);
    }

    /// Nobody could look up to `until`: that nothing was seen to fail is no reason for a storm to subside.
    pub fn blind(&mut self, until: Timestamp) {
        self.blind_until = self.blind_until.max(until);
    }

    /// A listing of all services begins at `at`: what it does not have is gone.
    pub fn begin_listing(&mut self, at: Timestamp) {
        self.listing = at;
    }

    /// A service is in the listing under way, whatever that tells of it.
    pub fn keep_listed(&mut self, id: &str) {
        let listing = self.listing;
        let index = self.index_of(SubjectKind::SwarmService, id);
        if let Some(subject) = index.and_then(|index| self.subject_mut(index)) {
            subject.listed = listing;
        }
    }

    /// The listing is complete. Services that it did not have and that nothing was heard of since it began are
    /// removed. One that was listed before and has failed of late is remembered for the hold-down: it may come back under
    /// its name. One that no listing ever had was gone before squall started.
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
            let Some(state) = self.subject(index) else { continue };
            let removed = state.removed.unwrap_or(state.last_seen);
            let was_listed = state.listed > Timestamp::from_nanos(i64::MIN);
            let may_come_back = was_listed && removed.plus(self.settings.hold_down_min) > self.listing;
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
        self.task_listing += 1;
        self.lists_tasks = true;
    }

    /// The listing of all tasks, begun at `began`, is complete: a task under way that it did not have was deleted
    /// before it ended, as Swarm does with a pending one that is scaled away.
    pub fn end_tasks(&mut self, began: Timestamp) {
        let mut gone: Vec<u32> = self
            .attempt_index
            .values()
            .copied()
            .filter(|index| {
                let attempt = &self.attempts[*index as usize];
                let is_open = attempt.outcome.is_none() && attempt.ended.is_none() && attempt.version > 0;
                is_open && attempt.listing < self.task_listing && attempt.created < began
            })
            .collect();
        // The order of a hash is another in every run.
        gone.sort_unstable();
        for index in gone {
            self.drop_open_attempt(index);
        }
    }

    /// When [`advance`](Self::advance) has something to do if nothing is observed till then.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let due = self.due.peek().map(|due| due.0.at);
        let subsides = (!self.storming.is_empty()).then_some(self.next_subside);
        let waits = (!self.waiting.is_empty()).then_some(self.next_waiting);
        [due, subsides, waits].into_iter().flatten().min()
    }

    /// Takes out what there is to say, oldest first. What the iterator is not asked for stays.
    pub fn drain(&mut self) -> impl Iterator<Item = Notice> + '_ {
        std::iter::from_fn(|| {
            while let Some(index) = self.restated.pop_front() {
                if let Some(storm) = self.storm_of(index) {
                    return Some(Notice::Onset(Arc::new(storm)));
                }
            }
            self.notices.pop_front()
        })
    }

    /// Takes out what was counted by minute ([`Settings::by_minute`]), `max` counts at most. A minute may come again: its
    /// counts are to be added.
    pub fn drain_minutes(&mut self, max: usize) -> Vec<AttemptCount> {
        let mut counts = Vec::new();
        while counts.len() < max {
            if let Some(count) = self.minutes_of_gone.pop() {
                counts.push(count);
            } else if let Some(((index, minute), (attempts, failed))) = self.minutes.pop_first() {
                let subject = self.subject(index).map(|state| state.subject.clone());
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

    pub(super) fn index_of(&self, kind: SubjectKind, id: &str) -> Option<u32> {
        self.subject_index.get(&(kind, Key::new(id))).copied()
    }

    /// How often a subject has failed since `since`, as far as its last failures are remembered: up to 16.
    pub fn failures_since(&self, kind: SubjectKind, id: &str, since: Timestamp) -> u64 {
        self.index_of(kind, id).and_then(|index| self.subject(index)).map_or(0, |state| state.failures_since(since))
    }

    /// Forgets what there was to say but the storms that go on, as they are now, and the ends of others: for a daemon
    /// that begins with what was before it.
    pub fn restate(&mut self) {
        let goes_on = |storm: &Storm| {
            let index = self.index_of(storm.subject.kind, &storm.subject.id);
            index.is_some_and(|index| self.storming.contains(&index))
        };
        let is_end = |notice: &Notice| matches!(notice, Notice::Subsided(storm) if !goes_on(storm));
        let ends: VecDeque<Notice> = self.notices.iter().filter(|notice| is_end(notice)).cloned().collect();
        self.notices = ends;
        self.restated = self.storming.iter().copied().collect();
    }

    /// How it stands with registries.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The same, for what a journal remembers and a registry says.
    pub fn meter_mut(&mut self) -> &mut Meter {
        &mut self.meter
    }

    /// What it holds and what it dropped.
    pub fn counters(&self) -> Counters {
        let minutes_dropped = self.counters.minutes_dropped + self.account.counts_dropped;
        Counters { subjects: self.subject_index.len() as u64, minutes_dropped, ..self.counters }
    }

    /// The Swarm services that have failed since `since`.
    pub fn suspects(&self, since: Timestamp) -> impl Iterator<Item = Suspect<'_>> {
        let services =
            self.subjects.iter().flatten().filter(|subject| subject.subject.kind == SubjectKind::SwarmService);
        services.filter_map(move |subject| {
            let (last_failure, period) = subject.suspicion()?;
            let storms = subject.storm().is_some();
            let service_id = &*subject.subject.id;
            (last_failure >= since || storms).then_some(Suspect { service_id, last_failure, period, storms })
        })
    }
}
