use serde::{Serialize, Serializer};

use super::rule::{Finding, Level};

/// The `schema` of the JSON object.
pub const LINT_SCHEMA: &str = "squall.lint/1";

/// What a stack would cost if it looped, and what would be changed first.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LintReport {
    /// [`LINT_SCHEMA`].
    pub schema: &'static str,
    /// The files that were read, those of `extends` behind those that were named.
    pub files: Vec<String>,
    /// How many nodes a global service was taken to run on.
    pub nodes: u64,
    /// How many pulls Docker Hub was taken to allow in 6 h.
    pub budget: u64,
    /// By name.
    pub services: Vec<ServiceCost>,
    /// All of them.
    pub totals: Totals,
    /// By place.
    pub findings: Vec<Finding>,
}

impl LintReport {
    /// Whether there is a finding that is so bad or worse.
    pub fn has(&self, level: Level) -> bool {
        self.findings.iter().any(|finding| finding.level >= level)
    }
}

/// What one service would cost if it looped.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceCost {
    /// Its name in the file, without the stack's.
    pub name: String,
    /// The image reference, with its variables written out.
    pub image: String,
    /// The image's registry; `docker.io` for Docker Hub.
    pub registry: String,
    /// Whether the reference has a digest.
    pub pinned: bool,
    /// `deploy.mode`.
    pub mode: &'static str,
    /// How many tasks there are at a time.
    pub slots: u64,
    /// From one try of a slot to the next, where it fails at once; `None` where it is not tried again.
    pub period_secs: Option<f64>,
    /// The tries of a slot, the first one with them; `None` where nothing ends them.
    pub tries_max: Option<u64>,
    /// Requests at the registry in the worst minute.
    pub requests_per_min: f64,
    /// GETs of a manifest in the worst minute: what Docker Hub counts as pulls.
    pub pulls_per_min: f64,
    /// When it alone would have spent the pull budget; `None` where it would not, or the budget is not known.
    pub budget_spent_secs: Option<f64>,
    /// What the figures take for granted.
    pub assumptions: Vec<Assumption>,
}

/// What all services would cost if they looped together.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Totals {
    /// Tasks at a time.
    pub slots: u64,
    /// Requests in the worst minute, at all registries.
    pub requests_per_min: f64,
    /// Counted pulls in the worst minute, at all registries.
    pub pulls_per_min: f64,
    /// Requests in the worst minute at Docker Hub.
    pub hub_requests_per_min: f64,
    /// When they would have spent Docker Hub's budget; `None` where they would not.
    pub budget_spent_secs: Option<f64>,
}

/// What figures take for granted: the worst that the service can meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assumption {
    /// The tag stays a tag: it could not be resolved at the deployment, or was not to be.
    UnresolvedTag,
    /// Each pull is refused after authentication.
    RefusedPull,
    /// The digest is on every node.
    PresentDigest,
    /// Nothing is tried again: condition `none`, or no slot.
    NoRestart,
    /// A global service has a slot on each node.
    SlotOnEachNode,
}

impl Assumption {
    /// The word, as reports spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UnresolvedTag => "unresolved-tag",
            Self::RefusedPull => "refused-pull",
            Self::PresentDigest => "present-digest",
            Self::NoRestart => "no-restart",
            Self::SlotOnEachNode => "slot-on-each-node",
        }
    }

    /// A sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::UnresolvedTag => {
                "a tag was not resolved to a digest at the deployment, as after --resolve-image never or where the \
                 registry refused that too"
            }
            Self::RefusedPull => {
                "each try asks for its tag and is refused: 4 requests of a graph driver, one of them a GET that may count \
                 as a pull; where the image is present and the container fails, 3 requests and no pull"
            }
            Self::PresentDigest => "a digest is present on the nodes: a try asks for nothing",
            Self::NoRestart => "what has no restart, or no slot, costs nothing again",
            Self::SlotOnEachNode => "a global service has a slot on each node: say how many by --nodes",
        }
    }
}

impl Serialize for Assumption {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
