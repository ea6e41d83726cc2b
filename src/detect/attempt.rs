//! One try, joined from tasks, events and log lines; and what it comes to.

use super::arena::{Arena, AttemptId, NodeId, SubjectId, keyed};
use super::key::{Key, Slot};
use super::subject::Policy;
use crate::model::{Cause, Condition, TaskState, Timestamp, on_clock};

pub(super) type Attempts = Arena<AttemptId, Attempt>;

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
    pub(super) life: Life,
    pub(super) superseded: Superseded,
    pub(super) signs: Signs,
    pub(super) is_job: bool,
    /// Its requests to a registry are counted.
    pub(super) is_accounted: bool,
    /// What it was judged to be.
    pub(super) outcome: Option<Outcome>,
}

keyed!(Attempt);

on_clock!(Attempt { created, ended, state_since } rest {
    key, subject, slot, node, version, listing, state, desired, exit_code, task_cause, pull_cause, life, superseded,
    signs, is_job, is_accounted, outcome,
});

/// How far its container is known to have come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Life {
    #[default]
    Unseen,
    Created,
    Started,
    Died,
}

/// Whether its container was removed, or the next one of its slot made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Superseded {
    #[default]
    No,
    Watched,
    /// It was made at a time that nothing is known of: its start and end may have been missed.
    Unwatched,
}

/// Another thing that may be known of an attempt.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sign {
    Killed,
    OutOfMemory,
    Unhealthy,
    /// `fatal task error`.
    FatalInLog,
    /// The error tells of an order.
    OrderedError,
    /// It was to be shut down before it ended.
    OrderedDown,
}

/// The signs that were seen.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Signs(u8);

impl Signs {
    pub(super) fn has(self, sign: Sign) -> bool {
        self.0 & (1 << sign as u8) != 0
    }

    pub(super) fn set(&mut self, sign: Sign, is_seen: bool) {
        self.0 = self.0 & !(1 << sign as u8) | u8::from(is_seen) << sign as u8;
    }
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
    fn is_superseded(&self) -> bool {
        self.superseded != Superseded::No
    }

    /// Its container was removed, or the next one of its slot made. Nothing is known of the time up to `blind_until`.
    pub(super) fn supersede(&mut self, blind_until: Timestamp) {
        let is_watched = self.created > blind_until;
        self.superseded = self.superseded.max(if is_watched { Superseded::Watched } else { Superseded::Unwatched });
    }

    /// Whether enough is known to judge it.
    pub(super) fn has_ended(&self) -> bool {
        self.state.is_terminal()
            || self.life == Life::Died
            || self.signs.has(Sign::FatalInLog)
            || (self.is_superseded() && self.life == Life::Created && self.state == TaskState::Other)
    }

    /// Whether it got as far as pulling the image: networks and volumes are made before it.
    pub(super) fn has_prepared(&self) -> bool {
        let failed_before =
            matches!(self.task_cause, Some(Cause::Network | Cause::Unschedulable | Cause::SecretConfig))
                || (self.task_cause == Some(Cause::Volume) && self.state == TaskState::Rejected);
        match self.state {
            _ if self.life >= Life::Created => true,
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
        of_task.filter(|_| self.life == Life::Unseen).or(self.pull_cause)
    }

    /// What it came to. The task's state goes before what its node's events and log tell; SIGTERM and SIGKILL that
    /// somebody sent are no failure, but the health check's are.
    pub(super) fn judge(&self, policy: Option<Policy>, subject_ran_out_of_memory: bool, was_ordered: bool) -> Outcome {
        let has = |sign| self.signs.has(sign);
        let may_be_oom = subject_ran_out_of_memory || policy.is_some_and(|policy| policy.has_memory_limit);
        let cause = self.cause(may_be_oom);
        let was_stopped =
            has(Sign::Killed) && !has(Sign::Unhealthy) && !has(Sign::OutOfMemory) && cause == Cause::AppExit;
        let failed = Outcome::Failed { cause, exit_zero: false };
        match self.state {
            TaskState::Rejected | TaskState::Failed if has(Sign::OrderedError) => Outcome::Intended,
            TaskState::Rejected => failed,
            TaskState::Failed if was_stopped || (has(Sign::OrderedDown) && cause == Cause::AppExit) => {
                Outcome::Intended
            }
            TaskState::Failed => failed,
            // A dockerd that stops ends its containers first: those that stop well when they are told to are complete.
            TaskState::Complete if has(Sign::Killed) && !has(Sign::Unhealthy) => Outcome::Intended,
            TaskState::Complete => self.judge_exit_zero(policy),
            TaskState::Shutdown | TaskState::Orphaned | TaskState::Remove => Outcome::Intended,
            _ if has(Sign::OrderedError) || was_stopped => Outcome::Intended,
            _ if has(Sign::FatalInLog) => failed,
            _ if self.life == Life::Died && self.exit_code == Some(0) && !has(Sign::Unhealthy) => {
                if has(Sign::Killed) {
                    Outcome::Intended
                } else {
                    self.judge_exit_zero(policy)
                }
            }
            // A deployment that breaks off the one before leaves containers that never started, and a gap those whose
            // start was not seen.
            _ if self.life != Life::Died
                && (self.superseded == Superseded::Unwatched || was_ordered && self.is_superseded()) =>
            {
                Outcome::Intended
            }
            _ => failed,
        }
    }

    /// Exit 0 is the end of a job and of what runs once; under the condition `any` it is run again for ever.
    fn judge_exit_zero(&self, policy: Option<Policy>) -> Outcome {
        match policy {
            Some(policy) if policy.restart.condition == Condition::Any && !policy.is_job && !self.is_job => {
                Outcome::Failed { cause: Cause::AppExit, exit_zero: true }
            }
            _ => Outcome::Completed,
        }
    }

    fn cause(&self, may_be_oom: bool) -> Cause {
        if self.signs.has(Sign::Unhealthy) && self.task_cause.is_none_or(|cause| cause == Cause::AppExit) {
            return Cause::HealthCheck;
        }
        match (self.task_cause, self.pull_cause) {
            // The task says that there is no image; the log says why.
            (Some(task), Some(pull)) if task.is_pull() && pull != Cause::Unknown => pull,
            (None, Some(pull)) if self.state == TaskState::Rejected => pull,
            (Some(Cause::AppExit) | None, _) if self.ran_out_of_memory(may_be_oom) => Cause::Oom,
            (Some(cause), _) => cause,
            (None, _) if self.life == Life::Died => Cause::AppExit,
            (None, _) => Cause::Unknown,
        }
    }

    /// SIGKILL that nobody sent. The `oom` event is missing in some: another one of the subject, or a memory limit,
    /// stands for it.
    fn ran_out_of_memory(&self, may_be_oom: bool) -> bool {
        let is_killed = self.exit_code == Some(137) && !self.signs.has(Sign::Killed);
        (self.signs.has(Sign::OutOfMemory) && self.exit_code != Some(0)) || (is_killed && may_be_oom)
    }
}
