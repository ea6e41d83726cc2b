//! The permit: what [`crate::docker`] takes to change something, and what only the policy can make.

use serde_json::Value;

use super::container::{ContainerStep, StopMark};
use super::mark::Mark;
use super::spec::edit;
use crate::model::Decision;

/// Leave to change one subject once, as it was when that was decided. Nothing else in this crate makes Docker change
/// anything, and nothing outside of this room can make one.
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    decision: Decision,
    change: Change,
}

#[derive(Debug, PartialEq, Eq)]
enum Change {
    Service { version: u64, old: Option<Mark>, new: Option<Mark> },
    Containers { mark: StopMark, steps: Vec<ContainerStep> },
}

/// What a permit lets be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work<'a> {
    /// The specification of a service is edited.
    Service {
        /// The service's `Version.Index` that it was decided on: the only one that may be changed.
        version: u64,
    },
    /// Containers are changed, one step after another.
    Containers(&'a [ContainerStep]),
}

impl Permit {
    pub(super) const fn new(decision: Decision, version: u64, old: Option<Mark>, new: Option<Mark>) -> Self {
        Self { decision, change: Change::Service { version, old, new } }
    }

    pub(super) fn stop(decision: Decision, mark: StopMark) -> Self {
        let steps = mark.stop_steps();
        Self { decision, change: Change::Containers { mark, steps } }
    }

    pub(super) fn start(decision: Decision, mark: StopMark) -> Self {
        let steps = mark.restore_steps();
        Self { decision, change: Change::Containers { mark, steps } }
    }

    /// What was decided.
    pub const fn decision(&self) -> &Decision {
        &self.decision
    }

    /// What may be done.
    pub fn work(&self) -> Work<'_> {
        match &self.change {
            Change::Service { version, .. } => Work::Service { version: *version },
            Change::Containers { steps, .. } => Work::Containers(steps),
        }
    }

    /// The mark that a service will have; `None` after a release, and for containers.
    pub const fn mark(&self) -> Option<&Mark> {
        match &self.change {
            Change::Service { new, .. } => new.as_ref(),
            Change::Containers { .. } => None,
        }
    }

    /// What is stopped, or was, where it is about containers.
    pub const fn stop_mark(&self) -> Option<&StopMark> {
        match &self.change {
            Change::Service { .. } => None,
            Change::Containers { mark, .. } => Some(mark),
        }
    }

    /// Changes the specification, which is the value of `Spec` of that version, as it was decided.
    ///
    /// # Errors
    /// A sentence, when it has not the shape that this needs, or this is about no service.
    pub fn apply(&self, spec: &mut Value) -> Result<(), &'static str> {
        match &self.change {
            Change::Service { old, new, .. } => edit(spec, old.as_ref(), new.as_ref()),
            Change::Containers { .. } => Err("it is no service"),
        }
    }
}
