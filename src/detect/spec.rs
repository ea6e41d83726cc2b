//! Which specification of a service is in force: an account of failures begins with each.

use crate::model::{Timestamp, on_clock};

/// Hashes of specifications; 0 if none is known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Specs {
    /// Of its newest attempt.
    of_attempts: u64,
    /// When that attempt was made.
    newest: Timestamp,
    /// Of its last listing.
    listed: u64,
}

on_clock!(Specs { newest } rest { of_attempts, listed });

impl Specs {
    /// An attempt was made at `created` from a specification. The newest attempt has the one in force, as Swarm makes each
    /// attempt from it. Returns up to when attempts were made from others: those prove nothing about it.
    pub(super) fn see_attempt(&mut self, spec: u64, created: Timestamp) -> Option<Timestamp> {
        if spec == 0 || (spec == self.of_attempts && created <= self.newest) {
            return None;
        }
        if created <= self.newest {
            return Some(created);
        }
        let before = std::mem::replace(&mut self.newest, created);
        let former = std::mem::replace(&mut self.of_attempts, spec);
        (former != 0 && former != spec).then_some(before)
    }

    /// The service was listed with a specification, changed last at `updated`. Returns when the account begins anew, if
    /// it does.
    pub(super) fn see_listing(&mut self, spec: u64, updated: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let is_other = self.listed != 0 && self.listed != spec;
        if is_other && updated > now {
            // A recording tells the end before the beginning.
            return None;
        }
        self.listed = spec;
        is_other.then_some(updated)
    }
}
