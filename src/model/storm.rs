use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Cause, CauseCounts, ClockStep, Finding, OnClock, Spend, Subject, Timestamp, on_clock};

/// How many slots, and nodes, a sentence names.
const SLOTS_NAMED_MAX: usize = 5;

/// An episode of failed attempts of one subject, as reports show it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Storm {
    /// Sixteen hex digits made of the subject's kind and name and of the second in which the first failed attempt was
    /// made: the same on every manager and in a replay, as long as each knows that attempt from the task list.
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
    /// When the first failed attempt of the episode failed; where the storm is not [`exact`](Self::exact), it began then
    /// or before.
    pub onset: Timestamp,
    /// Whether onset and counts are exact. If not, they are bounds: what was seen begins in the middle of the storm,
    /// because Swarm keeps five tasks of a slot, or there was a gap.
    #[serde(default)]
    pub exact: bool,
    /// When the service was last changed, where a listing told.
    #[serde(default)]
    pub updated: Option<Timestamp>,
    /// When the quota tripped.
    pub detected: Timestamp,
    /// When the last attempt failed, once it has subsided.
    pub ended: Option<Timestamp>,
    /// How many failures it took to detect it.
    pub detected_after_failures: u64,
    /// Attempts of the episode that were seen; a lower bound where it is not [`exact`](Self::exact).
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
    /// The slots that attempts failed in, the lowest 20; empty where all of them fail, and for a global service, whose
    /// nodes name them.
    #[serde(default)]
    pub slots: Vec<u64>,
    /// How many slots a replicated service wants, where a listing told.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// What the attempts cost at the registry; null where that was not accounted.
    pub spend: Option<Spend>,
    /// The one next step.
    pub advice: String,
}

on_clock!(Storm { onset, updated, detected, ended } rest {
    id, subject, state, cause, causes, detail, detected_after_failures, attempts, failed, attempts_per_min, image,
    registry, pinned, pulls, nodes, spend, advice, exact, slots, replicas,
});

impl Storm {
    /// Part of a storm that has this id and began at `onset`, if that is earlier.
    #[must_use]
    pub fn part_of(self, id: &str, onset: Timestamp) -> Self {
        Self { id: id.to_owned(), ..self.since(onset) }
    }

    /// As a storm that began at `onset`, if that is earlier. Its counts do not reach back to it, and are lower bounds.
    #[must_use]
    pub fn since(self, onset: Timestamp) -> Self {
        Self { exact: self.exact && onset >= self.onset, onset: self.onset.min(onset), ..self }
    }

    /// What it costs at the registry, in words: requests where they are counted, else tries.
    pub fn cost(&self) -> String {
        let pace = self.attempts_per_min.round();
        let asked = self.spend.filter(|spend| !spend.is_nothing());
        match (self.pulls, &*self.registry, asked) {
            (true, "", _) => format!("each try asks the registry: {pace} tries/min"),
            (true, registry, None) => format!("each try asks {registry}: {pace} tries/min"),
            (true, registry, Some(spend)) => {
                let pulls = if spend.pulls > 0 { format!(", {} of them pulls", spend.pulls) } else { String::new() };
                let per_min = spend.requests_per_min.round();
                format!("asks {registry}: {per_min} requests/min, {} so far{pulls}", spend.requests)
            }
            (false, registry, Some(spend)) if !registry.is_empty() => {
                format!("asks no registry now: {pace} tries/min; {} requests to {registry} before", spend.requests)
            }
            (false, ..) => format!("asks no registry: {pace} tries/min"),
        }
    }

    /// How many attempts failed: `5`, or `>= 5` where more may have failed than were seen.
    pub fn failed_in_words(&self) -> String {
        if self.exact { self.failed.to_string() } else { format!(">= {}", self.failed) }
    }

    /// Since when it storms, with its onset as the caller writes times: `since 00:40`, or `before 00:40` where it began
    /// before what was seen.
    pub fn onset_in_words(&self, onset: &str) -> String {
        if self.exact { format!("since {onset}") } else { format!("before {onset}") }
    }

    /// Which slots fail where others do not: `slot 7 of 20 fails, on node2`.
    pub fn slots_in_words(&self) -> Option<String> {
        let replicas = self.replicas?;
        let named: Vec<String> = self.slots.iter().take(SLOTS_NAMED_MAX).map(u64::to_string).collect();
        let (slots, fail) = match self.slots.len() {
            0 => return None,
            1 => ("slot", "fails"),
            _ => ("slots", "fail"),
        };
        let more = if self.slots.len() > named.len() { " and more" } else { "" };
        let nodes = &self.nodes[..self.nodes.len().min(SLOTS_NAMED_MAX)];
        let on = if nodes.is_empty() { String::new() } else { format!(", on {}", nodes.join(", ")) };
        Some(format!("{slots} {}{more} of {replicas} {fail}{on}", named.join(", ")))
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
    /// The subject of a storm that goes on has another id: its service was removed and made again under its name.
    Moved {
        /// The storm now.
        storm: Arc<Storm>,
        /// The id before.
        from: String,
    },
    /// It has subsided.
    Subsided(Arc<Storm>),
    /// Something waits that ought not to.
    Found(Box<Finding>),
}

impl OnClock for Notice {
    fn step(&mut self, step: ClockStep) {
        match self {
            Self::Onset(storm)
            | Self::CauseChanged { storm, .. }
            | Self::Moved { storm, .. }
            | Self::Subsided(storm) => storm.step(step),
            Self::Found(finding) => finding.step(step),
        }
    }
}
