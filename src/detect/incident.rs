//! Whether it is a registry that fails, or a budget that is spent: services that have nothing to do with one another
//! cannot pull, at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::arena::{NodeId, SubjectId};
use crate::model::{Cause, Timestamp, on_clock};

/// How long ago a pull may have failed that counts with the others: Swarm's default delay makes 24 tries of it.
const WITHIN: Duration = Duration::from_secs(120);
/// After so long without a refusal the next one begins anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// How many services and nodes of a registry are told apart; of more the one that failed longest ago is forgotten.
const FAILED_MAX: usize = 1024;
/// How many registries are told apart; of more none is judged.
const REGISTRIES_MAX: usize = 1000;
/// How many services it takes: two may have a mistake in common.
pub(super) const SERVICES_MIN: usize = 3;

/// The pulls of a service on a node that a registry did not serve of late.
#[derive(Clone, Copy, Debug)]
struct Failed {
    last: Timestamp,
    cause: Cause,
    count: u64,
}

/// What a registry did not serve.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// By subject and node.
    failed: BTreeMap<(SubjectId, NodeId), Failed>,
    last: Option<Timestamp>,
    /// Since when it fails, without a longer pause than [`WITHIN`].
    onset: Timestamp,
    refused: Option<Refused>,
    last_refused: Timestamp,
}

/// A registry has had enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refused {
    /// When it first said so.
    pub(super) at: Timestamp,
    /// In what way.
    pub(super) cause: Cause,
    /// Pulls of its window, and requests of the last minutes, that were known by then.
    pub(super) asked: (u64, u64),
}

/// Pulls that a registry does not serve, and whom that hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) cause: Cause,
    pub(super) since: Timestamp,
    pub(super) tasks: u64,
    pub(super) subjects: BTreeSet<SubjectId>,
    pub(super) nodes: BTreeSet<NodeId>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    registries: BTreeMap<Box<str>, Faults>,
}

impl Incidents {
    /// A pull failed for a reason of the registry.
    pub(super) fn failed(&mut self, registry: &str, at: Timestamp, subject: SubjectId, node: NodeId, cause: Cause) {
        if registry.is_empty() || (self.registries.len() >= REGISTRIES_MAX && !self.registries.contains_key(registry)) {
            return;
        }
        let faults = self.registries.entry(registry.into()).or_default();
        if faults.last.is_none_or(|last| at.since(last) > WITHIN) {
            faults.onset = at;
        }
        faults.last = faults.last.max(Some(at));
        let failed = faults.failed.entry((subject, node)).or_insert(Failed { last: at, cause, count: 0 });
        let count = if at.since(failed.last) > WITHIN { 1 } else { failed.count + 1 };
        *failed = Failed { last: failed.last.max(at), cause, count };
        if faults.failed.len() > FAILED_MAX
            && let Some(oldest) = faults.failed.iter().min_by_key(|(_, failed)| failed.last).map(|(key, _)| *key)
        {
            faults.failed.remove(&oldest);
        }
    }

    /// A registry answered that it is asked too often. `asked` says what was asked of it before; it is wanted for the
    /// first such answer only.
    pub(super) fn refused_now(&mut self, registry: &str, at: Timestamp, cause: Cause, asked: impl Fn() -> (u64, u64)) {
        let Some(faults) = self.registries.get_mut(registry) else { return };
        let is_over = at.since(faults.last_refused) > FORGIVEN_AFTER;
        if faults.refused.is_none() || is_over {
            faults.refused = Some(Refused { at, cause, asked: asked() });
        }
        faults.last_refused = faults.last_refused.max(at);
    }

    /// When, and how, a registry has had enough.
    pub(super) fn refused(&self, registry: &str) -> Option<Refused> {
        self.registries.get(registry)?.refused
    }

    /// A subject is gone; its number will be another's.
    pub(super) fn forget(&mut self, subject: SubjectId) {
        for faults in self.registries.values_mut() {
            faults.failed.retain(|(of, _), _| *of != subject);
        }
    }

    /// What each registry does not serve at `now`.
    pub(super) fn faults(&self, now: Timestamp) -> impl Iterator<Item = (&str, Fault)> {
        self.registries.iter().filter_map(move |(registry, faults)| Some((&**registry, faults.now(now)?)))
    }
}

impl Faults {
    fn now(&self, now: Timestamp) -> Option<Fault> {
        let late = || self.failed.iter().filter(|(_, failed)| now.since(failed.last) <= WITHIN);
        let mut causes: BTreeMap<Cause, u64> = BTreeMap::new();
        late().for_each(|(_, failed)| *causes.entry(failed.cause).or_default() += failed.count);
        let cause = causes.iter().max_by_key(|(cause, count)| (**count, std::cmp::Reverse(**cause)))?.0;
        Some(Fault {
            cause: *cause,
            since: self.onset,
            tasks: late().map(|(_, failed)| failed.count).sum(),
            subjects: late().map(|((subject, _), _)| *subject).collect(),
            nodes: late().map(|((_, node), _)| *node).filter(|node| node.is_known()).collect(),
        })
    }
}

on_clock!(Incidents { registries } rest {});
on_clock!(Faults { failed, last, onset, refused, last_refused } rest {});
on_clock!(Failed { last } rest { cause, count });
on_clock!(Refused { at } rest { cause, asked });
