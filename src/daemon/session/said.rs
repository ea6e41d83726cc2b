use super::role::Role;
use crate::model::{Decision, Finding, Gap, Settlement, Transition};

/// A message of a session, as things happen.
#[derive(Clone, Debug)]
pub enum Said {
    /// A case began, took a step, or is over.
    Case(Transition),
    /// A task waits for too long, or a registry fails.
    Found(Box<Finding>),
    /// A span that cannot be vouched for.
    Gap(Gap),
    /// The daemon cannot be reached, and why; said once per change.
    Lost(String),
    /// It can be reached again.
    Back,
    /// dockerd's log cannot be read, and why; said once per change.
    NoLog(String),
    /// A listing failed, and why; said once per change.
    Trouble(String),
    /// A decision about a storm or a quarantine; said once.
    Decided(Decision),
    /// How a permitted decision ended.
    Settled(Decision, Settlement),
    /// The journal cannot be written, and why; history is kept in memory.
    NoJournal(String),
    /// The journal is written again.
    JournalBack,
    /// The node has another role. Only a manager sees services.
    Role(Role),
}
