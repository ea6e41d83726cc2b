use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Cause, CauseCounts, ClockStep, Finding, OnClock, Spend, Subject, Timestamp, on_clock};

/// An episode of failed attempts of one subject, as reports show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Storm {
    /// Sixteen hex digits made of the subject and the number of this episode: the same on every manager and in a
    /// replay, as long as each saw the same episodes.
    pub id: String,
    /// What storms.
    pub subject: Subject,
    /// Whether it goes on.
    pub state: StormState,
    /// The cause of most failures.
    pub cause: Cause,
    /// How many failures each cause has.
    pub causes: CauseCounts,
    /// The engine's own words about the last failure of that cause; at most 512 bytes.
    pub detail: String,
    /// When the first failed attempt of the episode failed.
    pub onset: Timestamp,
    /// When the quota tripped.
    pub detected: Timestamp,
    /// When the last attempt failed, once it has subsided.
    pub ended: Option<Timestamp>,
    /// How many failures it took to detect it.
    pub detected_after_failures: u64,
    /// Attempts of the episode that were seen; a lower bound when history was cut or there was a gap.
    pub attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Failed attempts a minute, over the last ones that were seen.
    pub attempts_per_min: f64,
    /// The image reference that the attempts use; empty where none was seen.
    pub image: String,
    /// The registry of that image.
    pub registry: String,
    /// Whether the reference has a digest. A present digest is not asked for again.
    pub pinned: bool,
    /// Whether attempts reach the registry: the reference is a tag, the pull fails, or pulls were seen.
    pub pulls: bool,
    /// The nodes that attempts failed on, by name where it is known, at most 100.
    pub nodes: Vec<String>,
    /// What the attempts cost at the registry; null where that was not accounted.
    pub spend: Option<Spend>,
    /// The one next step.
    pub advice: String,
}

on_clock!(Storm { onset, detected, ended } rest {
    id, subject, state, cause, causes, detail, detected_after_failures, attempts, failed, attempts_per_min, image,
    registry, pinned, pulls, nodes, spend, advice,
});

impl Storm {
    /// What it costs at the registry, in words.
    pub fn cost(&self) -> String {
        let pace = self.attempts_per_min.round();
        if let Some(spend) = self.spend.filter(|spend| !spend.is_nothing() && !self.registry.is_empty()) {
            let pulls = if spend.pulls > 0 { format!(", {} of them pulls", spend.pulls) } else { String::new() };
            let per_min = spend.requests_per_min.round();
            return format!("asks {} {per_min} times/min: {} requests so far{pulls}", self.registry, spend.requests);
        }
        match (self.pulls, &*self.registry) {
            (true, "") => format!("each try asks the registry: {pace} tries/min"),
            (true, registry) => format!("each try asks {registry}: {pace} tries/min"),
            (false, _) => format!("asks no registry: {pace} tries/min"),
        }
    }
}

/// Whether a [`Storm`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StormState {
    /// Attempts fail, or the hold-down has not passed yet.
    Ongoing,
    /// squall holds the service.
    Quarantined,
    /// No failure for the whole hold-down, or the service was removed.
    Subsided,
}

/// What the detector has to say as it happens.
#[derive(Clone, Debug, PartialEq)]
pub enum Notice {
    /// A storm was detected.
    Onset(Arc<Storm>),
    /// Its recent failures have another cause than was said before.
    CauseChanged {
        /// The storm now.
        storm: Arc<Storm>,
        /// The cause that was said before.
        from: Cause,
        /// The cause of its recent failures.
        to: Cause,
    },
    /// It has subsided.
    Subsided(Arc<Storm>),
    /// Something waits that ought not to.
    Found(Box<Finding>),
}

impl OnClock for Notice {
    fn step(&mut self, step: ClockStep) {
        match self {
            Self::Onset(storm) | Self::CauseChanged { storm, .. } | Self::Subsided(storm) => storm.step(step),
            Self::Found(finding) => finding.step(step),
        }
    }
}
