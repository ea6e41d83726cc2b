use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    AttemptCount, BudgetReading, Decision, Gap, LetGo, Settlement, SpendCount, Storm, Subject, TaskRecord, Timestamp,
};

/// Where the journal is, and how much it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The state directory: made with mode 0700 where it is missing; the mode of one that is there stays.
    pub dir: PathBuf,
    /// How long history is kept, by the entries' own times. Default 30 days: an incident and the month before it. At
    /// least a day is kept, because a restart asks for that much.
    pub keep: Duration,
    /// How large the file and its write-ahead log may grow. Default 256 MiB: 30 days of 250 services that fail every
    /// minute, at 23 bytes for each count. At least 1 MiB.
    pub bytes_max: u64,
    /// How long to wait, in memory, before the disk is tried again. Default 30 s: a full disk is seldom emptied sooner.
    pub retry_after: Duration,
}

impl Settings {
    /// A journal in `dir` with the defaults.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            keep: Duration::from_secs(30 * 24 * 3600),
            bytes_max: 256 << 20,
            retry_after: Duration::from_secs(30),
        }
    }
}

/// Something to keep.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// A storm as it is now: inserted, or brought up to date. One that has subsided is ended.
    Storm(Arc<Storm>),
    /// A proposal that was permitted or refused. One that is there already stays as it is.
    Decision {
        /// What was decided.
        decision: Decision,
        /// The tasks that it rests on; the first 200 are kept.
        evidence: Vec<TaskRecord>,
    },
    /// How a permitted decision ended. Of two, the later stays; without its decision it is nothing.
    Settlement(Settlement),
    /// A held subject was let go.
    LetGo(LetGo),
    /// A span that an origin cannot vouch for. One with the same beginning is made longer.
    Gap {
        /// Which origin.
        origin: String,
        /// The span.
        gap: Gap,
    },
    /// Added to what each minute has.
    Attempts(Vec<AttemptCount>),
    /// Added to what each minute has asked of registries.
    Spends(Vec<SpendCount>),
    /// What a registry said of its pull budget.
    Reading(BudgetReading),
    /// What is held has no label to say so: a container. It is kept until it is taken back, whatever its age.
    Hold {
        /// What is held.
        subject: Subject,
        /// What to know at its release; `None`: it is no longer held.
        mark: Option<String>,
    },
}

/// What the writer applies.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    Entry(Entry),
    /// Ends each storm that is not among these.
    EndStorms {
        except: Vec<String>,
        at: Timestamp,
    },
}

impl Change {
    /// The newest time that it carries.
    pub(super) fn at(&self) -> Option<Timestamp> {
        match self {
            Self::EndStorms { at, .. } => Some(*at),
            Self::Entry(entry) => match entry {
                Entry::Storm(storm) => Some(storm.onset.max(storm.detected).max(storm.ended.unwrap_or(storm.onset))),
                Entry::Decision { decision, .. } => Some(decision.at),
                Entry::Settlement(settlement) => Some(settlement.at),
                Entry::LetGo(let_go) => Some(let_go.at),
                Entry::Gap { gap, .. } => Some(gap.to),
                Entry::Attempts(counts) => counts.iter().map(|count| count.minute).max(),
                Entry::Spends(counts) => counts.iter().map(|count| count.minute).max(),
                Entry::Reading(reading) => Some(reading.at),
                Entry::Hold { .. } => None,
            },
        }
    }

    /// Whether a restart needs it, so that history goes first where there is no room for both.
    pub(super) fn is_state(&self) -> bool {
        match self {
            Self::EndStorms { .. } => true,
            Self::Entry(entry) => match entry {
                Entry::Decision { decision, .. } => decision.refusal.is_none(),
                Entry::Settlement(_) | Entry::LetGo(_) | Entry::Hold { .. } => true,
                Entry::Storm(_) | Entry::Gap { .. } | Entry::Attempts(_) | Entry::Spends(_) | Entry::Reading(_) => {
                    false
                }
            },
        }
    }

    /// About how many bytes it holds.
    pub(super) fn bytes(&self) -> usize {
        let subject =
            |subject: &Subject| subject.name.len() + subject.id.len() + subject.stack.as_ref().map_or(0, String::len);
        let texts = match self {
            Self::EndStorms { except, .. } => except.iter().map(|id| id.len() + size_of::<String>()).sum(),
            Self::Entry(entry) => match entry {
                Entry::Storm(storm) => {
                    let nodes: usize = storm.nodes.iter().map(|node| node.len() + size_of::<String>()).sum();
                    let texts = [&storm.id, &storm.detail, &storm.image, &storm.registry, &storm.advice];
                    let texts: usize = texts.iter().map(|text| text.len()).sum();
                    size_of::<Storm>() + subject(&storm.subject) + texts + nodes
                }
                Entry::Decision { decision, evidence } => {
                    let task = |task: &TaskRecord| {
                        size_of::<TaskRecord>()
                            + task.id.len()
                            + task.node_id.len()
                            + task.state.len()
                            + task.error.len()
                    };
                    let tasks: usize = evidence.iter().map(task).sum();
                    subject(&decision.subject) + decision.id.len() + decision.storm.len() + tasks
                }
                Entry::Settlement(settlement) => settlement.decision.len() + settlement.detail.len(),
                Entry::LetGo(let_go) => {
                    subject(&let_go.subject) + let_go.storm.len() + let_go.template.len() + let_go.why.len()
                }
                Entry::Gap { origin, gap } => origin.len() + gap.why.len(),
                Entry::Attempts(counts) => {
                    counts.iter().map(|count| size_of::<AttemptCount>() + subject(&count.subject)).sum()
                }
                Entry::Spends(counts) => {
                    let texts = |count: &SpendCount| subject(&count.subject) + count.registry.len() + count.node.len();
                    counts.iter().map(|count| size_of::<SpendCount>() + texts(count)).sum()
                }
                // Its texts are short: see the model.
                Entry::Reading(reading) => reading.registry.len() + size_of::<BudgetReading>(),
                Entry::Hold { subject: held, mark } => subject(held) + mark.as_ref().map_or(0, String::len),
            },
        };
        size_of::<Self>() + texts
    }
}

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Where the damaged file is that was set aside.
    pub set_aside: Option<PathBuf>,
    /// Why the journal is in memory; `None`: it is on disk.
    pub memory: Option<String>,
}

/// Where entries go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// To the file.
    Durable,
    /// To memory, until the file can be written again.
    InMemory {
        /// What was tried on what, and what the system said.
        why: String,
    },
}

/// How the journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Where entries go.
    pub medium: Medium,
    /// Entries that are not on disk yet: queued, or waiting in memory for the disk.
    pub pending: u64,
    /// Entries that were lost, since the start: the queue or the memory was full, or the file refused the entry.
    pub dropped: u64,
    /// Where the last damaged file is that was set aside, since the start.
    pub set_aside: Option<PathBuf>,
    /// How many damaged files were set aside, since the start.
    pub set_aside_count: u64,
    /// How often the file was gone, or another one, so that a new one was opened. Since the start.
    pub replaced: u64,
    /// Rows that a read left out, since the start: they have a word that this version does not know, or a damaged one.
    pub unread: u64,
    /// Rows that were deleted for age or size, since the start.
    pub pruned: u64,
}

impl State {
    /// Whether entries go to the file.
    pub fn is_durable(&self) -> bool {
        self.medium == Medium::Durable
    }
}
