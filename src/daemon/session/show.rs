//! What a session shows of itself: for the status page, metrics, the API and those who are told.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::listing::Past;
use super::{Role, Session, State};
use crate::daemon::clock::wall_clock;
use crate::detect::SubjectId;
use crate::model::{
    Action, BudgetStanding, Case, Check, Health, Outcome, Phase, QuarantineStatus, Refusal, RegistryStatus,
    STATUS_SCHEMA, STATUS_STORMS_MAX, Status, Storm, StormState, Timestamp, Totals,
};
use crate::notify::Heard;

/// How many storms have their figures passed on at a time, so that all of them take no room.
const REFRESHED_MAX: usize = 250;
/// How many gaps are shown.
const GAPS_MAX: usize = 100;
/// How many services are named that ask a registry.
const SPENDERS_MAX: usize = 10;
/// How many registries are shown: those that are asked most.
const REGISTRIES_MAX: usize = 50;
/// A sweep is late when it is so many times as old as it should be.
const SWEEP_LATE: u32 = 3;
/// At least this: a sweep itself takes time, and is put off where the daemon is busy.
const SWEEP_LATE_MIN: Duration = Duration::from_secs(60);

impl Session {
    /// The figures of the storms that go on, as they are now: a part of them, and what the next part comes after.
    pub fn refresh(&self, after: Option<SubjectId>) -> (Vec<Heard>, Option<SubjectId>) {
        let mut state = self.state();
        let State { detector, situation, listing, .. } = &mut *state;
        let (storms, next) = detector.ongoing_after(after, REFRESHED_MAX);
        let heard = storms.into_iter().filter_map(|storm| {
            let labels = listing.services.labels.get(&storm.subject.id);
            situation.refresh(storm, labels).map(|case| Heard { case, steps: BTreeSet::new() })
        });
        (heard.collect(), next)
    }

    /// All cases, for a desk that has heard of none.
    pub fn cases(&self) -> Vec<Heard> {
        let state = self.state();
        let heard = state.seen_cases().map(|case| Heard { case: Arc::clone(case), steps: BTreeSet::new() });
        heard.collect()
    }

    /// Whether everything was listed once: what is not known by now is not there.
    pub fn has_listed(&self) -> bool {
        let state = self.state();
        state.listing.past == Past::Known && !state.sight.is_blind()
    }

    /// Whether this node is the one that tells; `None` while that is not known.
    pub fn leads(&self) -> Option<bool> {
        let state = self.state();
        match state.role {
            Role::Worker | Role::Plain => Some(true),
            Role::Manager => state.response.as_ref().and_then(super::Response::leads),
        }
    }

    /// Why the daemon cannot be reached, where it cannot.
    pub fn lost(&self) -> Option<String> {
        self.state().sight.lost.clone()
    }

    /// Why dockerd's log is not read, where it ought to be.
    pub fn no_log(&self) -> Option<String> {
        self.state().sight.no_log.clone()
    }

    /// All that is shown, receivers apart.
    pub fn status(&self) -> Status {
        let leads = self.leads().unwrap_or(false);
        let state = self.state();
        let now = state.clock.now();
        let mut storms =
            Most::new(STATUS_STORMS_MAX, |a: &Storm, b: &Storm| b.failed.cmp(&a.failed).then_with(|| a.id.cmp(&b.id)));
        let mut registries = Registries::default();
        for case in state.seen_cases() {
            let subject = case.subject();
            let live = state.detector.storm(subject.kind, &subject.id);
            let known = || (case.phase == Phase::Storming).then(|| (*case.storm).clone());
            let Some(mut storm) = live.or_else(known) else { continue };
            storm = case.told(storm);
            storm.state = if case.phase.is_held() { StormState::Quarantined } else { StormState::Ongoing };
            registries.add(&storm);
            storms.add(storm);
        }
        let standings = state.detector.meter().standings(now);
        let mut lacking = state.detector.without_image(SPENDERS_MAX);
        for standing in standings {
            let without_image = Some(lacking.remove(&*standing.registry).unwrap_or_default());
            registries.stand(BudgetStanding { without_image, ..standing });
        }
        let (storms, left_out) = storms.into_vec();
        let counters = state.detector.counters();
        Status {
            schema: STATUS_SCHEMA.to_owned(),
            at: wall_clock(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: state.tally.started,
            node: self.info.name.clone(),
            engine: self.info.server_version.clone(),
            role: state.role.as_str().to_owned(),
            leads,
            acts: state.response.as_ref().is_some_and(|response| response.responder.acts()),
            storms,
            storms_left_out: left_out,
            quarantines: state.quarantines(),
            findings: state.detector.findings(now),
            gaps: state.sight.gaps(now).take(GAPS_MAX).collect(),
            calm: state.detector.calm(),
            registries: registries.into_vec(),
            receivers: Vec::new(),
            history: state.tally.history(now),
            health: self.health(&state, now),
            totals: state.totals(counters.subjects_forgotten),
        }
    }

    fn health(&self, state: &State, now: Timestamp) -> Health {
        let late = self.sweep_every.saturating_mul(SWEEP_LATE).max(SWEEP_LATE_MIN);
        let sweep_age = state.listing.swept.map(|at| at.elapsed());
        let events = match &state.sight.lost {
            Some(why) => (false, why.clone()),
            None => (true, "connected".to_owned()),
        };
        let sweep = match sweep_age {
            None => (false, "nothing was listed yet".to_owned()),
            Some(age) if age > late => (false, "the last list of all tasks is too old".to_owned()),
            Some(_) => match (state.sight.trouble.values().next(), state.sight.gaps(now).next()) {
                (Some(why), _) => (false, why.clone()),
                (None, Some(gap)) if gap.open => (false, format!("a gap since {} is not over: {}", gap.from, gap.why)),
                (None, _) => (true, "all tasks were listed".to_owned()),
            },
        };
        let journal = match state.response.as_ref().and_then(|response| response.journal.trouble()) {
            Some(why) => (false, why),
            None => (true, "written".to_owned()),
        };
        let log = match &state.sight.no_log {
            Some(why) => why.clone(),
            None if self.log == crate::config::LogSource::Nowhere => "not read".to_owned(),
            None => format!("read from {}", self.log),
        };
        let event_age = state.sight.event_at.map(|at| now.since(at).as_secs_f64());
        let check = |name: &str, (is_ok, detail): (bool, String), age_secs| Check {
            name: name.to_owned(),
            is_ok,
            detail,
            age_secs,
        };
        let mut checks = vec![
            check("events", events, event_age),
            check("sweep", sweep, sweep_age.map(|age| age.as_secs_f64())),
            // A log that is not read makes a cause less sure, and no storm unseen.
            check("log", (true, log), None),
        ];
        if state.response.is_some() {
            checks.push(check("journal", journal, None));
        }
        // It sees its own containers, as it should: who looks for services is told so all the same.
        if state.role == Role::Worker {
            let detail = "a worker sees its own containers only: look at a manager".to_owned();
            checks.push(check("role", (true, detail), None));
        }
        // The journal is history: storms are seen and told without it.
        let is_ready = checks.iter().all(|check| check.is_ok || check.name == "journal");
        Health { is_alive: true, is_ready, checks }
    }
}

impl State {
    /// The cases of what this node sees.
    fn seen_cases(&self) -> impl Iterator<Item = &Arc<Case>> {
        self.situation.cases().filter(|case| self.role.sees(case.subject()))
    }

    fn quarantines(&self) -> Vec<QuarantineStatus> {
        let held = self.seen_cases().filter_map(|case| {
            let hold = case.hold.as_ref()?;
            Some(QuarantineStatus {
                service: case.subject().name.clone(),
                phase: case.phase.to_string(),
                response: hold.response.to_string(),
                storm: case.id.clone(),
                cause: case.storm.cause,
                since: hold.since,
                until: hold.until,
                tries: hold.tries,
                next: case.next(),
            })
        });
        held.collect()
    }

    fn totals(&self, forgotten: u64) -> Totals {
        let tally = &self.tally;
        let counters = self.response.as_ref().map(|response| response.responder.counters().clone());
        let counters = counters.unwrap_or_else(|| crate::respond::Counters {
            permitted: Action::ALL.iter().map(|action| (*action, 0)).collect(),
            refused: Refusal::ALL.iter().map(|refusal| (*refusal, 0)).collect(),
            settled: Outcome::ALL.iter().map(|outcome| (*outcome, 0)).collect(),
            let_go: 0,
        });
        Totals {
            storms: tally.storms.clone(),
            attempts: tally.attempts,
            failed: tally.failed,
            permitted: counters.permitted,
            refused: counters.refused,
            settled: counters.settled,
            let_go: counters.let_go,
            gaps: tally.gaps,
            observations: tally.observations,
            skipped: tally.skipped.lines,
            forgotten,
            sweeps: tally.sweeps,
            sweep_secs_sum: tally.sweep_secs_sum,
            sweep_secs: tally.sweep_secs(),
            news_dropped: 0,
            event_lag_secs: tally.event_lag.map(|lag| lag.as_secs_f64()),
        }
    }
}

/// The first of many by an order, without room for all.
struct Most<T, F> {
    max: usize,
    order: F,
    kept: Vec<T>,
    left_out: u64,
}

impl<T, F: Fn(&T, &T) -> Ordering> Most<T, F> {
    const fn new(max: usize, order: F) -> Self {
        Self { max, order, kept: Vec::new(), left_out: 0 }
    }

    fn add(&mut self, one: T) {
        self.kept.push(one);
        if self.kept.len() >= 2 * self.max {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.kept.sort_by(&self.order);
        self.left_out += u64::try_from(self.kept.len().saturating_sub(self.max)).unwrap_or(u64::MAX);
        self.kept.truncate(self.max);
    }

    /// They, and how many more there are.
    fn into_vec(mut self) -> (Vec<T>, u64) {
        self.cut();
        (self.kept, self.left_out)
    }
}

/// Per registry what storms ask it.
#[derive(Default)]
struct Registries(BTreeMap<String, RegistryStatus>);

impl Registries {
    fn add(&mut self, storm: &Storm) {
        if !storm.pulls || storm.state != StormState::Ongoing || storm.registry.is_empty() {
            return;
        }
        let registry = self.entry(&storm.registry);
        registry.storms += 1;
        registry.attempts_per_min += storm.attempts_per_min;
        let at = registry.spenders.partition_point(|(_, pace)| *pace >= storm.attempts_per_min);
        if at < SPENDERS_MAX {
            registry.spenders.insert(at, (storm.subject.name.clone(), storm.attempts_per_min));
            registry.spenders.truncate(SPENDERS_MAX);
        }
    }

    fn stand(&mut self, standing: BudgetStanding) {
        let registry = self.entry(&standing.registry);
        registry.budget = Some(standing);
    }

    fn entry(&mut self, registry: &str) -> &mut RegistryStatus {
        self.0.entry(registry.to_owned()).or_insert_with(|| RegistryStatus {
            registry: registry.to_owned(),
            storms: 0,
            attempts_per_min: 0.0,
            spenders: Vec::new(),
            budget: None,
        })
    }

    /// Those that are asked most, first.
    fn into_vec(self) -> Vec<RegistryStatus> {
        let mut registries: Vec<RegistryStatus> = self.0.into_values().collect();
        registries.sort_by(|a, b| b.attempts_per_min.total_cmp(&a.attempts_per_min));
        registries.truncate(REGISTRIES_MAX);
        registries
    }
}
