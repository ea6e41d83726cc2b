use std::collections::BTreeSet;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Case, Gap, Step, Timestamp, on_clock};

/// What the desk hears.
#[derive(Clone, Debug)]
pub enum News {
    /// Whether this node is the one that tells: it leads its Swarm, or there is none.
    Leads(bool),
    /// Whether this node sees services: it is a manager. One that does not leaves their cases to the managers.
    SeesServices(bool),
    /// Everything was listed for the first time: a case that this process has not heard of ended before it began.
    Listed,
    /// Cases as they are now, each with the steps that it took since the desk heard of it last.
    Cases(Vec<Heard>),
    /// A span that nobody watched.
    Gap(Gap),
    /// A part of squall does not work.
    Trouble {
        /// Which.
        part: Part,
        /// Why.
        why: String,
    },
    /// It works again.
    Recovered(Part),
}

/// A case as it is now, and the steps that it took since it was heard of last: none where only its figures changed.
#[derive(Clone, Debug, PartialEq)]
pub struct Heard {
    /// The case.
    pub case: Arc<Case>,
    /// The steps.
    pub steps: BTreeSet<Step>,
}

/// A part of squall that may fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// The connection to Docker.
    Docker,
    /// A listing that Docker refuses.
    Listing,
    /// dockerd's log.
    Log,
    /// The journal.
    Journal,
    /// The outbox.
    Outbox,
}

impl Part {
    /// What it is, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Docker => "Docker cannot be reached",
            Self::Listing => "a request to Docker fails",
            Self::Log => "dockerd's log cannot be read",
            Self::Journal => "the journal cannot be written",
            Self::Outbox => "the outbox cannot be written",
        }
    }

    /// What to do about it.
    pub const fn next_step(self) -> &'static str {
        match self {
            Self::Docker => "see whether dockerd runs on this node, and whether squall may use its socket",
            Self::Listing => "see dockerd's own log on this node",
            Self::Log => "name dockerd's log with --log FILE: without it a failed pull has no cause but pull-failed",
            Self::Journal | Self::Outbox => "make room in squall's state directory, and see that it may be written",
        }
    }
}

/// A trouble as it goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Trouble {
    pub(super) since: Timestamp,
    pub(super) why: String,
    pub(super) is_told: bool,
    /// It was heard of since the process began.
    #[serde(skip)]
    pub(super) is_heard: bool,
}

on_clock!(Trouble { since } rest { why, is_told, is_heard });
