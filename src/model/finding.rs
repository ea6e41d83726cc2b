use serde::{Deserialize, Serialize};

use super::{Cause, Subject, Timestamp, on_clock};

/// Something that is not as it ought to be, and no loop, so no storm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// What waits.
    pub subject: Subject,
    /// Why, from the closed set of causes.
    pub cause: Cause,
    /// Since when the oldest of its tasks waits.
    pub since: Timestamp,
    /// How many tasks wait, or failed to pull since then without a pause of two minutes.
    pub tasks: u64,
    /// The engine's own words; at most 512 bytes.
    pub detail: String,
    /// The nodes concerned, by name where it is known, at most 100.
    pub nodes: Vec<String>,
}

on_clock!(Finding { since } rest { kind, subject, cause, tasks, detail, nodes });

/// The kinds of [`Finding`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FindingKind {
    /// Tasks that no node takes, for longer than 2 minutes.
    Pending,
    /// Tasks that stay in `preparing` for longer than 5 minutes: the pull hangs.
    HangingPull,
    /// A registry does not serve services that have nothing to do with one another.
    RegistryIncident,
    /// A registry has had enough, of what this Swarm asked itself.
    BudgetSpent,
}

impl FindingKind {
    /// The kind as reports and logs spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::HangingPull => "hanging-pull",
            Self::RegistryIncident => "registry-incident",
            Self::BudgetSpent => "budget-spent",
        }
    }
}
