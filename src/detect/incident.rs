//! Whether it is a registry that fails, or a budget that is spent: services that have nothing to do with one another
//! cannot pull, at once.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::model::{Cause, Timestamp};

/// How long ago a pull may have failed that counts with the others: Swarm's default delay makes 24 tries of it.
const WITHIN: Duration = Duration::from_secs(120);
/// After so long without a refusal the next one begins anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);
/// How many failed pulls of a registry are remembered.
const FAILED_MAX: usize = 256;
/// How many registries are told apart; of more none is judged.
const REGISTRIES_MAX: usize = 1000;
/// How many services it takes: two may have a mistake in common.
pub(super) const SERVICES_MIN: usize = 3;

/// A pull that a registry did not serve.
#[derive(Clone, Copy, Debug)]
struct Failed {
    at: Timestamp,
    subject: u32,
    node: u32,
    cause: Cause,
}

/// What a registry did not serve.
#[derive(Debug, Default)]
pub(super) struct Faults {
    failed: VecDeque<Failed>,
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
    pub(super) subjects: BTreeSet<u32>,
    pub(super) nodes: BTreeSet<u32>,
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    registries: BTreeMap<Box<str>, Faults>,
}

impl Incidents {
    /// A pull failed for a reason of the registry.
    pub(super) fn failed(&mut self, registry: &str, at: Timestamp, subject: u32, node: u32, cause: Cause) {
        if registry.is_empty() || (self.registries.len() >= REGISTRIES_MAX && !self.registries.contains_key(registry)) {
            return;
        }
        let faults = self.registries.entry(registry.into()).or_default();
        faults.failed.push_back(Failed { at, subject, node, cause });
        if faults.failed.len() > FAILED_MAX {
            faults.failed.pop_front();
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
    pub(super) fn forget(&mut self, subject: u32) {
        for faults in self.registries.values_mut() {
            faults.failed.retain(|failed| failed.subject != subject);
        }
    }

    /// What each registry does not serve at `now`.
    pub(super) fn faults(&self, now: Timestamp) -> impl Iterator<Item = (&str, Fault)> {
        self.registries.iter().filter_map(move |(registry, faults)| Some((&**registry, faults.now(now)?)))
    }
}

impl Faults {
    fn now(&self, now: Timestamp) -> Option<Fault> {
        let late = || self.failed.iter().filter(|failed| now.since(failed.at) <= WITHIN);
        let mut causes: BTreeMap<Cause, u64> = BTreeMap::new();
        late().for_each(|failed| *causes.entry(failed.cause).or_default() += 1);
        let cause = causes.iter().max_by_key(|(cause, count)| (**count, std::cmp::Reverse(**cause)))?.0;
        Some(Fault {
            cause: *cause,
            since: late().map(|failed| failed.at).min()?,
            tasks: late().count() as u64,
            subjects: late().map(|failed| failed.subject).collect(),
            nodes: late().map(|failed| failed.node).filter(|node| *node != 0).collect(),
        })
    }
}
