//! Failures that follow one another, and the storm that they become.

use std::time::Duration;

use super::arena::NodeId;
use super::key::Slot;
use super::settings::Settings;
use super::spent::Sum;
use crate::model::{Cause, CauseCounts, Timestamp, on_clock};

/// How many nodes of one storm are named.
const NODES_MAX: usize = 100;
/// An attempt that lived longer is not counted against the subject's quota, only against its slot's: what ends many
/// replicas at once after they ran well is the end of a node or of a dependency, and no retrying yet. A loop of a
/// period beyond this is slower than that quota anyway.
const SHORT_LIFE: Duration = Duration::from_secs(60);

/// One failed attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) at: Timestamp,
    pub(super) created: Timestamp,
    pub(super) slot: Slot,
    pub(super) node: NodeId,
    pub(super) cause: Cause,
    pub(super) exit_zero: bool,
}

impl Failure {
    pub(super) fn is_short_lived(&self) -> bool {
        self.at.since(self.created) < SHORT_LIFE
    }
}

/// Failures that follow one another closely enough for one quota to count them together.
#[derive(Clone, Debug, Default)]
pub(super) struct Run {
    pub(super) since: Timestamp,
    /// When the attempt that failed first was made.
    pub(super) first_created: Timestamp,
    pub(super) failed: u64,
    /// Attempts made since that did not fail.
    pub(super) others: u64,
    /// What the subject had asked before the first of them.
    pub(super) asked_before: Sum,
    pub(super) causes: CauseCounts,
    /// In order; there is mostly one.
    pub(super) nodes: Vec<NodeId>,
}

/// A storm that goes on.
#[derive(Clone, Debug)]
pub(super) struct Episode {
    pub(super) run: Run,
    pub(super) attempts: u64,
    pub(super) detected: Timestamp,
    pub(super) detected_after: u64,
    /// The cause that was said last.
    pub(super) said: Cause,
    /// The engine's own count has what was before this.
    pub(super) counted_until: Timestamp,
    /// See [`Storm::id`](crate::model::Storm::id).
    pub(super) id: u64,
    /// Its first failed attempt is known to be the first.
    pub(super) is_whole: bool,
}

/// The effect of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Onset,
    Cause { from: Cause, to: Cause },
}

on_clock!(Failure { at, created } rest { slot, node, cause, exit_zero });
on_clock!(Run { since, first_created } rest { failed, others, asked_before, causes, nodes });
on_clock!(Episode { run, detected, counted_until } rest {
    attempts, detected_after, said, id, is_whole,
});

impl Run {
    /// Counts a failure; begins anew when the last one is longer ago than `gap`.
    pub(super) fn add(&mut self, failure: &Failure, last: Timestamp, gap: Duration, asked_before: Sum) {
        if self.failed == 0 || failure.at.since(last) > gap {
            *self = Self { since: failure.at, first_created: failure.created, asked_before, ..Self::default() };
        }
        self.take(failure);
    }

    pub(super) fn take(&mut self, failure: &Failure) {
        self.since = self.since.min(failure.at);
        self.failed += 1;
        self.causes.add(failure.cause);
        if self.nodes.len() < NODES_MAX
            && failure.node.is_known()
            && let Err(place) = self.nodes.binary_search(&failure.node)
        {
            self.nodes.insert(place, failure.node);
        }
    }
}

impl Episode {
    pub(super) fn add(&mut self, failure: &Failure, settings: &Settings) {
        let is_old_news = self.run.since.since(failure.at) > settings.per.saturating_mul(settings.failures.get());
        if is_old_news || failure.at <= self.counted_until {
            return;
        }
        if failure.created < self.run.first_created {
            // A replica older than the storm: it was not counted when it was made.
            self.attempts += 1;
        }
        self.run.take(failure);
    }

    /// Counts an attempt that was made while the storm goes on.
    pub(super) fn count_attempt(&mut self, created: Timestamp) {
        let is_new = created >= self.run.first_created && created > self.counted_until;
        self.attempts += u64::from(is_new);
    }
}
