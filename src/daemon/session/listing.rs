//! The results of a session's listings.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::model::{Labels, Risk};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub(super) past: Past,
    /// By the last listing that was complete, and by the one under way.
    pub(super) services: Services,
    pub(super) under_way: Services,
    /// Nodes that may be given tasks.
    pub(super) active_nodes: u64,
    /// When everything was listed last.
    pub(super) swept: Option<Instant>,
    /// Images of this node have gone since they were listed.
    pub(super) has_lost_images: bool,
}

/// How much is known of the time before the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Past {
    /// Nothing.
    #[default]
    Unknown,
    /// The first sweep is under way.
    Sought,
    /// The first sweep has read the events and log lines of the time before. Nothing is said of them until they are
    /// compared with the listings: they may be about services that are gone.
    Read,
    /// Everything that can be known.
    Known,
}

/// The part of a listing of services that neither the detector nor the responder keeps.
#[derive(Debug, Default)]
pub(super) struct Services {
    /// Those with fewer tasks than they should have, and since when.
    pub(super) short: BTreeMap<String, Instant>,
    /// The labels `squall.*` of those that have any, by id.
    pub(super) labels: BTreeMap<String, Labels>,
    pub(super) risks: Vec<Risk>,
    /// Those that squall changed while they were listed: the listing may show them as they were before.
    pub(super) changed: BTreeSet<String>,
}
