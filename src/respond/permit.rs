//! The permit: what [`crate::docker`] takes to change a service, and what only the policy can make.

use serde_json::Value;

use super::mark::Mark;
use super::spec::edit;
use crate::model::Decision;

/// Leave to change one service once, as it was when that was decided. Nothing else in this crate makes Docker change
/// anything, and nothing outside of this room can make one.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    decision: Decision,
    version: u64,
    old: Option<Mark>,
    new: Option<Mark>,
}

impl Permit {
    pub(super) const fn new(decision: Decision, version: u64, old: Option<Mark>, new: Option<Mark>) -> Self {
        Self { decision, version, old, new }
    }

    /// What was decided.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// The service's `Version.Index` that it was decided on: the only one that may be changed.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// The mark that the service will have; `None` after a release.
    pub const fn mark(&self) -> Option<&Mark> {
        self.new.as_ref()
    }

    /// Changes the specification, which is the value of `Spec` of that version, as it was decided.
    ///
    /// # Errors
    /// A sentence, when it has not the shape that this needs.
    pub fn apply(&self, spec: &mut Value) -> Result<(), &'static str> {
        edit(spec, self.old.as_ref(), self.new.as_ref())
    }
}
