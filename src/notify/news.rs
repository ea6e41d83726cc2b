use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Cause, Decision, Gap, LetGo, Settlement, Storm, Timestamp};

/// The labels `squall.*` of a service: what silences and filters ask for.
pub type Labels = BTreeMap<String, String>;

/// What the desk hears.
#[derive(Clone, Debug)]
pub enum News {
    /// Whether this node is the one that tells: it leads its Swarm, or there is none.
    Leads(bool),
    /// A storm was detected.
    Onset(Told),
    /// Its recent failures have another cause.
    CauseChanged {
        /// The storm now.
        told: Told,
        /// The cause that was told before.
        from: Cause,
        /// The cause now.
        to: Cause,
    },
    /// It has subsided.
    Subsided(Told),
    /// Storms that go on, as they are now: a part of the list of all.
    Storms {
        /// Some.
        storms: Vec<Told>,
        /// Whether the list ends with them: what was in none of its parts is over.
        is_last: bool,
    },
    /// What was decided about one.
    Decided(Decision),
    /// How a permitted decision ended.
    Settled(Decision, Settlement),
    /// Somebody changed what was held.
    LetGo(LetGo),
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

/// A storm, with the labels of its service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The storm.
    pub storm: Arc<Storm>,
    /// The labels.
    pub labels: Labels,
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
