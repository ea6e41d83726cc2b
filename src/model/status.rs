use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Action, BudgetStanding, Cause, DeliveryOutcome, Exhaustion, Finding, Gap, Outcome, Refusal, Storm, Timestamp,
};

/// The `schema` of a [`Status`]: it changes when a field changes its meaning or goes.
pub const STATUS_SCHEMA: &str = "squall.api/2";
/// How many storms a [`Status`] has; the others are counted.
pub const STATUS_STORMS_MAX: usize = 500;

/// All that a running daemon shows: what the status page, `squall top`, the metrics and the JSON API are made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// [`STATUS_SCHEMA`].
    pub schema: String,
    /// When it was made, on this machine's clock.
    pub at: Timestamp,
    /// squall's version.
    pub version: String,
    /// When the daemon began to watch.
    pub started: Timestamp,
    /// The name of the node.
    pub node: String,
    /// The engine's version.
    pub engine: String,
    /// `manager`, `worker` or `plain`.
    pub role: String,
    /// Whether this node leads the Swarm: the one that acts and alerts.
    pub leads: bool,
    /// Whether squall acts, or only says what it would have done.
    pub acts: bool,
    /// The storms that go on, those that fail most first; at most [`STATUS_STORMS_MAX`].
    pub storms: Vec<Storm>,
    /// How many more there are.
    pub storms_left_out: u64,
    /// What is held.
    pub quarantines: Vec<QuarantineStatus>,
    /// What waits and ought not to.
    pub findings: Vec<Finding>,
    /// The newest gaps, newest first, one that is not over before all; at most 100.
    pub gaps: Vec<Gap>,
    /// Subjects that were judged and found calm.
    pub calm: u64,
    /// Per registry what asks it now.
    pub registries: Vec<RegistryStatus>,
    /// Where alerts go.
    pub receivers: Vec<ReceiverStatus>,
    /// The last 24 h, oldest first.
    pub history: Vec<HistoryBucket>,
    /// Whether squall sees what it should.
    pub health: Health,
    /// What was counted since the start.
    pub totals: Totals,
}

/// A held service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuarantineStatus {
    /// The service's name.
    pub service: String,
    /// `held`, `probation`, `returning`; `let-go` where somebody changed it since.
    pub phase: String,
    /// The response.
    pub response: String,
    /// The [`Storm::id`]; may be empty.
    pub storm: String,
    /// Why it stormed.
    pub cause: Cause,
    /// Since when it is held.
    pub since: Timestamp,
    /// When it is tried again, where it is.
    pub until: Option<Timestamp>,
    /// Watched attempts that failed.
    pub tries: u32,
    /// What happens next, in words.
    pub next: String,
}

/// What one registry is asked by storms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RegistryStatus {
    /// The registry's host, and port.
    pub registry: String,
    /// How many storms ask it.
    pub storms: u64,
    /// How often, by tries a minute.
    pub attempts_per_min: f64,
    /// The services that ask most, with their tries a minute; at most ten.
    pub spenders: Vec<(String, f64)>,
    /// How it stands with its budget, where it was asked for pulls or what is left of them.
    pub budget: Option<BudgetStanding>,
}

impl RegistryStatus {
    /// The pull quota of its window, where it is known.
    pub fn limit(&self) -> Option<u64> {
        self.budget.as_ref()?.limit
    }

    /// What is left of it, where it is known.
    pub fn remaining(&self) -> Option<i64> {
        self.budget.as_ref()?.remaining
    }

    /// When it runs out at the earliest, where that is known.
    pub fn exhausted(&self) -> Option<Timestamp> {
        let budget = self.budget.as_ref()?;
        match budget.exhaustion? {
            Exhaustion::Now => budget.asked,
            Exhaustion::Never => None,
            Exhaustion::Between { from, .. } => Some(from),
        }
    }
}

/// How deliveries to one receiver go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiverStatus {
    /// Its name in the configuration.
    pub name: String,
    /// What it is: `slack`, `webhook` ...
    pub kind: String,
    /// Alerts that wait for it.
    pub waiting: u64,
    /// Since when the oldest of them waits.
    pub oldest: Option<Timestamp>,
    /// When it took the last one.
    pub delivered_at: Option<Timestamp>,
    /// Why the last try failed; empty where it did not.
    pub trouble: String,
    /// How many deliveries ended how, since the start.
    pub outcomes: BTreeMap<DeliveryOutcome, u64>,
}

/// What failed within a quarter of an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryBucket {
    /// Its first moment.
    pub at: Timestamp,
    /// Attempts that ended.
    pub attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Spans within it that nobody watched.
    pub has_gap: bool,
}

/// Whether squall sees what it should.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// The process does its work: it turns over, and can be left running.
    pub is_alive: bool,
    /// It sees the Swarm, and alerts get out.
    pub is_ready: bool,
    /// What that is made of.
    pub checks: Vec<Check>,
}

/// One thing that health depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// `events`, `sweep`, `log`, `journal`, `outbox`.
    pub name: String,
    /// Whether it is well.
    pub is_ok: bool,
    /// In words.
    pub detail: String,
    /// How long ago it was seen last, in seconds.
    pub age_secs: Option<f64>,
}

/// What was counted since the start. Every member of a closed set is there, also at zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Totals {
    /// Storms that were detected, by the cause that they had then.
    pub storms: BTreeMap<Cause, u64>,
    /// Attempts that ended.
    pub attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Permits given, by action.
    pub permitted: BTreeMap<Action, u64>,
    /// Refusals, by reason.
    pub refused: BTreeMap<Refusal, u64>,
    /// Permits that were used, by how that ended.
    pub settled: BTreeMap<Outcome, u64>,
    /// How often somebody else changed what was held.
    pub let_go: u64,
    /// Gaps in what was watched.
    pub gaps: u64,
    /// Observations that were taken in.
    pub observations: u64,
    /// Lines and objects that could not be read.
    pub skipped: u64,
    /// Subjects that were forgotten for want of room.
    pub forgotten: u64,
    /// Sweeps that were made.
    pub sweeps: u64,
    /// How long they took, in seconds, all together.
    pub sweep_secs_sum: f64,
    /// How many of them took at most so many seconds: each bound, and the count of those up to it.
    pub sweep_secs: Vec<(f64, u64)>,
    /// News of gaps and of squall's own trouble that was dropped because too much waited. Storms and quarantines are never dropped.
    pub news_dropped: u64,
    /// How long after its time the last event came, in seconds, where one came.
    pub event_lag_secs: Option<f64>,
}
