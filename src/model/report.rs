use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Cause, Finding, Spender, Storm, Subject, Timestamp, on_clock};

/// The `schema` of a [`Report`]: it changes when a field changes its meaning or goes.
pub const REPORT_SCHEMA: &str = "squall.report/1";

/// What `replay` and `audit` print with `--format json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// [`REPORT_SCHEMA`].
    pub schema: &'static str,
    /// From the first observation to the last; null when there was none.
    pub span: Option<Span>,
    /// Who spoke.
    pub origins: Vec<OriginReport>,
    /// The storms, ongoing first, then by onset.
    pub storms: Vec<Storm>,
    /// What waits and ought not to; no storms, and no reason for exit status 1.
    pub findings: Vec<Finding>,
    /// The services that could storm, where they were asked for; else null.
    pub risks: Option<Vec<Risk>>,
    /// What each registry was asked, those that were asked most first.
    pub registries: Vec<RegistryReport>,
    /// What each subject asked of its registry, those that asked most first.
    pub spend: Vec<Spender>,
    /// How many subjects were judged and found calm.
    pub calm: u64,
    /// How many calm subjects were forgotten for want of room.
    pub forgotten: u64,
    /// What could not be read.
    pub skipped: Skipped,
}

/// What one registry was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RegistryReport {
    /// The registry, as image references name it.
    pub registry: String,
    /// How many storms ask it now.
    pub storms: u64,
    /// Pulls as it counts them.
    pub pulls: u64,
    /// Requests of any kind.
    pub requests: u64,
    /// Requests in the minute in which there were most.
    pub requests_per_min_peak: u64,
    /// That minute's first moment.
    pub peak_at: Timestamp,
    /// When the first storm that asks it was detected.
    pub detected: Option<Timestamp>,
    /// When it first answered that it was asked too often. Where [`is_own`](Self::is_own), what was stopped before this
    /// would have kept it answering.
    pub refused: Option<Timestamp>,
    /// In what way it answered so.
    pub refused_as: Option<Cause>,
    /// Requests of the minute before it did.
    pub asked_before_refusal: Option<u64>,
    /// Whether these are what it has had enough of, as far as its limit is known.
    pub is_own: bool,
}

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its first moment.
    pub from: Timestamp,
    /// Its last moment.
    pub to: Timestamp,
}

/// What one origin said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OriginReport {
    /// Its name: the node's, or the first part of its files' names.
    pub id: String,
    /// Its engine's version, where a node object told it.
    pub engine: Option<String>,
    /// How many observations it made.
    pub observations: u64,
    /// The spans that it cannot vouch for.
    pub gaps: Vec<Gap>,
}

/// A span that an origin cannot vouch for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// The last moment before it that was seen.
    pub from: Timestamp,
    /// The first moment after it; of one that is not over the moment at which that was said.
    pub to: Timestamp,
    /// Why.
    pub why: String,
    /// It is not over: nothing is decided meanwhile.
    #[serde(default)]
    pub open: bool,
}

on_clock!(Gap { from, to } rest { why, open });

/// What could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// How many lines or objects.
    pub lines: u64,
    /// How many by each reason.
    pub reasons: BTreeMap<&'static str, u64>,
}

impl Skipped {
    /// One line or object more that could not be read.
    pub fn add(&mut self, reason: &'static str) {
        self.lines += 1;
        *self.reasons.entry(reason).or_default() += 1;
    }
}

/// A service that would make a costly storm if it failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Risk {
    /// The service.
    pub subject: Subject,
    /// Its image reference.
    pub image: String,
    /// Whether that has a digest: if not, every attempt asks the registry.
    pub pinned: bool,
    /// `MaxAttempts` limits the attempts: there is one, and its window is not shorter than the delay.
    pub limited: bool,
    /// `Window` is set and shorter than `Delay`, so that `MaxAttempts` is never reached (swarmkit#2936).
    pub window_shorter_than_delay: bool,
    /// Requests to the registry a minute, at worst: each slot tries once a `Delay` (at least 100 ms), and a pull that
    /// fails takes four, `GET /v2/`, token, HEAD and GET of the manifest.
    pub worst_requests_per_min: f64,
}
