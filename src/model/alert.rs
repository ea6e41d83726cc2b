use serde::{Deserialize, Serialize};

use super::closed_set::closed_set;
use super::{Cause, Storm, Subject, Timestamp, on_clock};

closed_set! {
    /// What an alert is about.
    AlertKind {
        /// Storms have begun.
        Onset => "onset",
        /// What already stormed when squall started.
        Baseline => "baseline",
        /// The recent failures of a storm have another cause.
        CauseChanged => "cause-changed",
        /// Ten times as many failures as when it was told last.
        Escalation => "escalation",
        /// squall holds a service.
        Quarantine => "quarantine",
        /// A service that was held is as it was before, or somebody else has taken it over.
        Release => "release",
        /// It still storms.
        Repeat => "repeat",
        /// Nothing has failed for the whole hold-down.
        Subsided => "subsided",
        /// A span that nobody watched.
        Gap => "gap",
        /// Something is wrong with squall itself: Docker, the log, the journal.
        Trouble => "trouble",
        /// That is over.
        Recovered => "recovered",
        /// Many alerts in one.
        Digest => "digest",
        /// What happened while alerts were silenced.
        Summary => "summary",
        /// A person tries the way to a receiver.
        Drill => "drill",
    }
}

closed_set! {
    /// How bad it is.
    Severity {
        /// Nothing is to be done.
        Info => "info",
        /// It costs nobody else anything yet.
        Warning => "warning",
        /// It spends what others need, or squall cannot see.
        Critical => "critical",
    }
}

closed_set! {
    /// How a delivery of an alert to a receiver ended.
    DeliveryOutcome {
        /// The receiver took it.
        Delivered => "delivered",
        /// It did not, and is tried again.
        Retried => "retried",
        /// It refused it for good: it is in the list of dead letters.
        Dead => "dead",
        /// The receiver's filter does not want it.
        Filtered => "filtered",
        /// The outbox was full, or the alert too old to be news.
        Dropped => "dropped",
    }
}

/// How many storms an alert names to people; the others are counted.
pub const ALERT_STORMS_MAX: usize = 20;
/// How many it has before each receiver's filter takes its own out of them.
pub const ALERT_STORMS_KNOWN_MAX: usize = 1000;

/// A reference that Docker accepts has at most 255 characters of name, 128 of tag and 72 of digest.
const IMAGE_CHARS_MAX: usize = 512;
/// An advice is two or three sentences, with an image reference or two in it.
const ADVICE_CHARS_MAX: usize = 2000;

/// One message to people. Every text in it is plain, may hold anything that a daemon, a label or a log line said, and
/// is escaped by whoever puts it into a format.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    /// Sixteen hex digits: the same at every try and after a restart. Receivers tell a doubled delivery by it.
    pub id: String,
    /// Sixteen hex digits that all alerts of one conversation share: an onset, what follows, and its end.
    pub conversation: String,
    /// What it is about.
    pub kind: AlertKind,
    /// How bad it is.
    pub severity: Severity,
    /// When it was made, on this machine's clock.
    pub at: Timestamp,
    /// The name of the node that says it.
    pub node: String,
    /// One line that says it all; at most 300 bytes.
    pub title: String,
    /// Further lines, where `storms` does not say it: what a gap or a trouble is, what a summary sums up.
    pub lines: Vec<String>,
    /// The storms that it is about, those that fail most first; at most [`ALERT_STORMS_KNOWN_MAX`], and what is sent
    /// to people has at most [`ALERT_STORMS_MAX`].
    pub storms: Vec<AlertStorm>,
    /// How many more there are.
    pub storms_left_out: u64,
    /// The next step of an alert that is not about storms: each storm has its own. May be empty.
    pub next_step: String,
    /// Whether the conversation is over with it.
    pub ends: bool,
    /// The id of the digest or summary that says the same to people. Only receivers that keep conversations apart
    /// themselves, Alertmanager and PagerDuty, hear of such a part, and they hear of no digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
}

/// A storm as an alert tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertStorm {
    /// [`Storm::id`].
    pub id: String,
    /// What storms.
    pub subject: Subject,
    /// Why.
    pub cause: Cause,
    /// The engine's own words; at most 512 bytes, may be empty.
    pub detail: String,
    /// Since when.
    pub onset: Timestamp,
    /// When the last attempt failed, once it is over.
    pub ended: Option<Timestamp>,
    /// The nodes, at most 100.
    pub nodes: Vec<String>,
    /// How bad it is: critical where each try asks the registry.
    pub severity: Severity,
    /// Failed attempts so far.
    pub failed: u64,
    /// [`Storm::exact`]: if not, it began at `onset` or before, and `failed` is a lower bound.
    #[serde(default = "yes")]
    pub exact: bool,
    /// Failed attempts a minute.
    pub attempts_per_min: f64,
    /// The image reference, at most 512 characters; may be empty.
    pub image: String,
    /// Its registry; may be empty.
    pub registry: String,
    /// What it costs, in words: `each try asks docker.io: 60 tries/min`.
    pub cost: String,
    /// What squall has done or would have done, in words; may be empty.
    pub answer: String,
    /// [`Storm::advice`], at most 2,000 characters; may be empty.
    #[serde(default)]
    pub advice: String,
}

/// What an alert says that an earlier version wrote.
const fn yes() -> bool {
    true
}

// The storms in it are what was told then.
on_clock!(Alert { at } rest {
    id, conversation, kind, severity, node, title, lines, storms, storms_left_out, next_step, ends, part_of,
});

impl AlertStorm {
    /// A storm as it is now, with what squall did about it.
    pub fn new(storm: &Storm, answer: String) -> Self {
        Self {
            id: storm.id.clone(),
            subject: storm.subject.clone(),
            cause: storm.cause,
            detail: storm.detail.clone(),
            onset: storm.onset,
            ended: storm.ended,
            nodes: storm.nodes.clone(),
            severity: if storm.pulls { Severity::Critical } else { Severity::Warning },
            failed: storm.failed,
            exact: storm.exact,
            attempts_per_min: storm.attempts_per_min,
            image: storm.image.chars().take(IMAGE_CHARS_MAX).collect(),
            registry: storm.registry.clone(),
            cost: storm.cost(),
            answer,
            advice: storm.advice.chars().take(ADVICE_CHARS_MAX).collect(),
        }
    }

    /// The failed attempts, for people.
    pub fn failed_in_words(&self) -> String {
        if self.exact { self.failed.to_string() } else { format!(">= {}", self.failed) }
    }
}
