//! One try, joined from tasks, events and log lines; and what it comes to.

use super::arena::{Keyed, NodeId, SubjectId};
use super::key::{Key, Slot};
use super::subject::Policy;
use crate::model::{Cause, Condition, TaskState, Timestamp, on_clock};

/// What is known of one Swarm task.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempt {
    pub(super) key: Key,
    pub(super) subject: SubjectId,
    pub(super) slot: Slot,
    pub(super) node: NodeId,
    /// `CreatedAt`, else when it was first seen.
    pub(super) created: Timestamp,
    /// When the first fact told that it had ended.
    pub(super) ended: Option<Timestamp>,
    /// `Version.Index` of its last listing.
    pub(super) version: u64,
    /// The number of the full listing of tasks that last had it.
    pub(super) listing: u32,
    pub(super) state: TaskState,
    pub(super) desired: TaskState,
    /// `Status.Timestamp`: since when it is in `state`.
    pub(super) state_since: Timestamp,
    pub(super) exit_code: Option<i32>,
    /// What the task's error, or the log's copy of it, says.
    pub(super) task_cause: Option<Cause>,
    /// What `pulling image failed` says.
    pub(super) pull_cause: Option<Cause>,
    pub(super) facts: Facts,
    /// What it was judged to be.
    pub(super) outcome: Option<Outcome>,
}

on_clock!(Attempt { created, ended, state_since } rest {
    key, subject, slot, node, version, listing, state, desired, exit_code, task_cause, pull_cause, facts, outcome,
});

impl Keyed for Attempt {
    type Key = Key;

    fn keys(&self) -> impl Iterator<Item = Key> {
        std::iter::once(self.key)
    }
}

/// What was seen of an attempt, yes or no.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Facts {
    pub(super) created: bool,
    pub(super) started: bool,
    pub(super) died: bool,
    pub(super) killed: bool,
    pub(super) out_of_memory: bool,
    pub(super) unhealthy: bool,
    /// Its container was removed, or the next one of its slot made.
    pub(super) superseded: bool,
    /// It was made at a time that nothing is known of: its start and end may have been missed.
    pub(super) unwatched: bool,
    /// `fatal task error`.
    pub(super) logged_fatal: bool,
    /// The error tells of an order.
    pub(super) ordered_error: bool,
    /// It was to be shut down before it ended.
    pub(super) ordered_down: bool,
    pub(super) is_job: bool,
    /// What it asked of a registry is counted.
    pub(super) accounted: bool,
}

/// What an attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It failed.
    Failed { cause: Cause, exit_zero: bool },
    /// It ended well.
    Completed,
    /// Somebody ended it.
    Intended,
}

impl Attempt {
    /// Whether enough is known to judge it.
    pub(super) fn has_ended(&self) -> bool {
        self.state.is_terminal()
            || self.facts.died
            || self.facts.logged_fatal
            || (self.facts.superseded && self.facts.created && !self.facts.started && self.state == TaskState::Other)
    }

    /// Whether it came to its pull: networks and volumes are made before it.
    pub(super) fn has_prepared(&self) -> bool {
        let failed_before =
            matches!(self.task_cause, Some(Cause::Network | Cause::Unschedulable | Cause::SecretConfig))
                || (self.task_cause == Some(Cause::Volume) && self.state == TaskState::Rejected);
        match self.state {
            _ if self.facts.created || self.facts.started => true,
            TaskState::Rejected => !failed_before,
            TaskState::Ready | TaskState::Starting | TaskState::Running | TaskState::Complete | TaskState::Failed => {
                true
            }
            TaskState::Shutdown => self.exit_code.is_some(),
            _ => false,
        }
    }

    /// Why its pull failed, where it did.
    pub(super) fn failed_pull(&self) -> Option<Cause> {
        let of_task = self.task_cause.filter(|cause| cause.is_pull() && self.state != TaskState::Failed);
        of_task.filter(|_| !self.facts.created).or(self.pull_cause)
    }

    /// What it came to. The task's state goes before what its node's events and log tell; SIGTERM and SIGKILL that
    /// somebody sent are no failure, but the health check's are.
    pub(super) fn judge(&self, policy: Option<Policy>, subject_ran_out_of_memory: bool, was_ordered: bool) -> Outcome {
        let facts = self.facts;
        let may_be_oom = subject_ran_out_of_memory || policy.is_some_and(|policy| policy.has_memory_limit);
        let cause = self.cause(may_be_oom);
        let was_stopped = facts.killed && !facts.unhealthy && !facts.out_of_memory && cause == Cause::AppExit;
        let failed = Outcome::Failed { cause, exit_zero: false };
        match self.state {
            TaskState::Rejected | TaskState::Failed if facts.ordered_error => Outcome::Intended,
            TaskState::Rejected => failed,
            TaskState::Failed if was_stopped || (facts.ordered_down && cause == Cause::AppExit) => Outcome::Intended,
            TaskState::Failed => failed,
            // A dockerd that stops ends its containers first: those that stop well when they are told to are complete.
            TaskState::Complete if facts.killed && !facts.unhealthy => Outcome::Intended,
            TaskState::Complete => self.judge_exit_zero(policy),
            TaskState::Shutdown | TaskState::Orphaned | TaskState::Remove => Outcome::Intended,
            _ if facts.ordered_error || was_stopped => Outcome::Intended,
            _ if facts.logged_fatal => failed,
            _ if facts.died && self.exit_code == Some(0) && !facts.unhealthy => {
                if facts.killed {
                    Outcome::Intended
                } else {
                    self.judge_exit_zero(policy)
                }
            }
            // A deployment that breaks off the one before leaves containers that never started, and a gap those whose
            // start was not seen.
            _ if facts.superseded && !facts.died && (was_ordered || facts.unwatched) => Outcome::Intended,
            _ => failed,
        }
    }

    /// Exit 0 is the end of a job and of what runs once; under the condition `any` it is run again for ever.
    fn judge_exit_zero(&self, policy: Option<Policy>) -> Outcome {
        match policy {
            Some(policy) if policy.restart.condition == Condition::Any && !policy.is_job && !self.facts.is_job => {
                Outcome::Failed { cause: Cause::AppExit, exit_zero: true }
            }
            _ => Outcome::Completed,
        }
    }

    fn cause(&self, may_be_oom: bool) -> Cause {
        let facts = self.facts;
        if facts.unhealthy && self.task_cause.is_none_or(|cause| cause == Cause::AppExit) {
            return Cause::HealthCheck;
        }
        match (self.task_cause, self.pull_cause) {
            // The task says that there is no image; the log says why.
            (Some(task), Some(pull)) if task.is_pull() && pull != Cause::Unknown => pull,
            (None, Some(pull)) if self.state == TaskState::Rejected => pull,
            (Some(Cause::AppExit) | None, _) if self.ran_out_of_memory(may_be_oom) => Cause::Oom,
            (Some(cause), _) => cause,
            (None, _) if facts.died => Cause::AppExit,
            (None, _) => Cause::Unknown,
        }
    }

    /// SIGKILL that nobody sent. The `oom` event is missing in some: another one of the subject, or a memory limit,
    /// stands for it.
    fn ran_out_of_memory(&self, may_be_oom: bool) -> bool {
        let is_killed = self.exit_code == Some(137) && !self.facts.killed;
        (self.facts.out_of_memory && self.exit_code != Some(0)) || (is_killed && may_be_oom)
    }
}
