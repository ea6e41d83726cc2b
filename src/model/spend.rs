use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::closed_set::closed_set;
use super::{ClockStep, OnClock, Subject, Timestamp};

/// Requests that a registry answers, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// `GET /v2/`, the version check.
    pub checks: u64,
    /// GETs of a token, at the token server.
    pub tokens: u64,
    /// HEADs of a manifest: count against limits on all requests, and not as pulls.
    pub manifest_heads: u64,
    /// GETs of a manifest: those that are answered are what Docker Hub counts as pulls.
    pub manifest_gets: u64,
    /// GETs of a configuration or a layer.
    pub blobs: u64,
}

impl Requests {
    /// All of them.
    pub const fn all(self) -> u64 {
        self.checks + self.tokens + self.manifests() + self.blobs
    }

    /// Those for manifests.
    pub const fn manifests(self) -> u64 {
        self.manifest_heads + self.manifest_gets
    }
}

impl Add for Requests {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            checks: self.checks.saturating_add(other.checks),
            tokens: self.tokens.saturating_add(other.tokens),
            manifest_heads: self.manifest_heads.saturating_add(other.manifest_heads),
            manifest_gets: self.manifest_gets.saturating_add(other.manifest_gets),
            blobs: self.blobs.saturating_add(other.blobs),
        }
    }
}

impl Mul<u64> for Requests {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self {
            checks: self.checks.saturating_mul(times),
            tokens: self.tokens.saturating_mul(times),
            manifest_heads: self.manifest_heads.saturating_mul(times),
            manifest_gets: self.manifest_gets.saturating_mul(times),
            blobs: self.blobs.saturating_mul(times),
        }
    }
}

impl Sum for Requests {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

closed_set! {
    /// What a figure of a [`Spend`] rests on.
    Basis {
        /// An `image pull` event, or a line of dockerd's log: the daemon said that it asked.
        Measured => "measured",
        /// A task whose node is not heard: such an attempt asks.
        Derived => "derived",
        /// What was asked is not known to the daemon either: whether a client resolved a tag before a deployment.
        Assumed => "assumed",
    }
}

/// What attempts cost at a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spend {
    /// Pulls as Docker Hub counts them: GETs of a manifest that were answered with one.
    pub pulls: u64,
    /// All requests: the sum of the five kinds below.
    pub requests: u64,
    /// Those by kind.
    #[serde(flatten)]
    pub kinds: Requests,
    /// How many of the requests the daemon itself told of.
    pub measured: u64,
    /// How many follow from tasks whose node is not heard.
    pub derived: u64,
    /// How many are assumed.
    pub assumed: u64,
    /// Requests a minute. A storm's: at the pace of its last attempts; any other's: over its span.
    pub requests_per_min: f64,
}

impl Spend {
    /// What one request or more of a kind cost, on some basis.
    pub const fn of(kinds: Requests, pulls: u64, basis: Basis) -> Self {
        let requests = kinds.all();
        let (measured, derived, assumed) = match basis {
            Basis::Measured => (requests, 0, 0),
            Basis::Derived => (0, requests, 0),
            Basis::Assumed => (0, 0, requests),
        };
        Self { pulls, requests, kinds, measured, derived, assumed, requests_per_min: 0.0 }
    }

    /// The same with the pace that it makes over a span.
    #[must_use]
    pub fn over(self, span: Duration) -> Self {
        let minutes = span.as_secs_f64() / 60.0;
        #[expect(clippy::cast_precision_loss, reason = "a pace needs no more than 52 bits")]
        let pace = if minutes > 0.0 { self.requests as f64 / minutes } else { 0.0 };
        Self { requests_per_min: (pace * 10.0).round() / 10.0, ..self }
    }

    /// The same with the pace that attempts make of it.
    #[must_use]
    pub fn at_pace(self, attempts: u64, attempts_per_min: f64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a pace needs no more than 52 bits")]
        let each = self.requests as f64 / attempts.max(1) as f64;
        Self { requests_per_min: (each * attempts_per_min * 10.0).round() / 10.0, ..self }
    }

    /// Whether nothing was asked.
    pub const fn is_nothing(&self) -> bool {
        self.requests == 0
    }
}

impl AddAssign for Spend {
    /// Adds all but the pace, which is no sum.
    fn add_assign(&mut self, other: Self) {
        self.pulls = self.pulls.saturating_add(other.pulls);
        self.requests = self.requests.saturating_add(other.requests);
        self.kinds = self.kinds + other.kinds;
        self.measured = self.measured.saturating_add(other.measured);
        self.derived = self.derived.saturating_add(other.derived);
        self.assumed = self.assumed.saturating_add(other.assumed);
    }
}

/// What one subject asked of a registry from one node within a minute.
#[derive(Clone, Debug, PartialEq)]
pub struct SpendCount {
    /// The minute's first moment.
    pub minute: Timestamp,
    /// Who asked; [`Subject::nobody`] where no service wants what was pulled.
    pub subject: Subject,
    /// The registry, as image references name it.
    pub registry: String,
    /// The node that asked, by name where it is known; empty where it is not known.
    pub node: String,
    /// When the specification that asked was deployed; the epoch where that is not known.
    pub deployed: Timestamp,
    /// What it cost.
    pub spend: Spend,
}

impl OnClock for SpendCount {
    fn step(&mut self, step: ClockStep) {
        let Self { minute, deployed, subject: _, registry: _, node: _, spend: _ } = self;
        *minute = step.carry_minute(*minute);
        deployed.step(step);
    }
}

/// What one subject has cost in all, for a report.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spender {
    /// Who asked.
    pub subject: Subject,
    /// The registry of its image; empty where that cannot be read.
    pub registry: String,
    /// The image reference.
    pub image: String,
    /// What it cost.
    #[serde(flatten)]
    pub spend: Spend,
}
