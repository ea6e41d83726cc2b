use super::role::Role;
use crate::model::{Decision, Finding, Gap, Settlement, Transition};

/// What a session has to say as it happens.
#[derive(Clone, Debug)]
pub enum Said {
    /// A case began, took a step, or is over.
    Case(Transition),
    /// Something waits that ought not to.
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
    /// What was decided about a storm or a quarantine, said once.
    Decided(Decision),
    /// How a permitted decision ended.
    Settled(Decision, Settlement),
    /// The journal cannot be written, and why; history is kept in memory.
    NoJournal(String),
    /// The journal is written again.
    JournalBack,
    /// The node has become this: a manager sees services, another node does not.
    Role(Role),
}
