use serde::Serialize;

use super::closed_set::closed_set;
use super::{Cause, ClockStep, OnClock, Subject, Timestamp};

closed_set! {
    /// What is done about a storm. A service's label `squall.response` names one; so does the configuration.
    Response {
        /// Nothing but saying it. The default.
        Observe => "observe",
        /// A placement constraint that no node meets; containers are stopped. A person undoes it.
        Pause => "pause",
        /// No replicas; a global service is paused, containers are stopped. A person undoes it.
        ScaleToZero => "scale-to-zero",
        /// Held, and tried again after a growing delay. It undoes itself.
        Backoff => "backoff",
    }
}

closed_set! {
    /// A change of a held subject.
    Action {
        /// It is held: no further attempt.
        Quarantine => "quarantine",
        /// One watched attempt: one replica, or one node of a global service. Its state is called probation.
        Probe => "probe",
        /// The attempt was stable: more of its replicas or nodes come back.
        Raise => "raise",
        /// It is as it was before the quarantine.
        Release => "release",
    }
}

closed_set! {
    /// Why a proposal is refused. In the order in which the guards are asked.
    Refusal {
        /// Its label `squall.ignore` is `true`.
        Ignored => "ignored",
        /// A label of squall's has a value that it may not have: nothing is done in doubt.
        BadLabel => "bad-label",
        /// The response is to observe.
        Observe => "observe",
        /// Neither a label, nor the allow-list, nor `enforce = "all"` opts it in.
        NotOptedIn => "not-opted-in",
        /// It is held already.
        Held => "held",
        /// It cannot be held without harm: a job, an ECS family, a mode that squall does not know.
        Unsupported => "unsupported",
        /// It is gone, or there is nothing to undo.
        Gone => "gone",
        /// A rollout or rollback of Swarm's own is under way.
        Rollout => "rollout",
        /// Fewer failures than the policy asks for.
        TooFewFailures => "too-few-failures",
        /// The storm is younger than the policy asks for.
        TooYoung => "too-young",
        /// There is a gap in the evidence, or events or listings were lost and not everything has been listed since.
        EvidenceGap => "evidence-gap",
        /// A healthy replica would be taken away.
        HealthyReplica => "healthy-replica",
        /// Somebody undid the last quarantine of this specification, and the cool-down has not passed.
        CoolDown => "cool-down",
        /// This is no manager that leads the Swarm.
        NotLeader => "not-leader",
        /// The state of a container can only be kept in the journal, which cannot be written.
        NoJournal => "no-journal",
        /// Acting is switched off. All guards before have let it pass: it would have been done.
        NotEnforced => "not-enforced",
        /// The hour's actions are spent.
        ActionBudget => "action-budget",
    }
}

closed_set! {
    /// How a permitted action ended.
    Outcome {
        /// It was done.
        Done => "done",
        /// Somebody changed the subject in between; it is read and decided again.
        Raced => "raced",
        /// Docker refused, or the subject is gone.
        Failed => "failed",
        /// Docker was not asked, or the subject shows that it was not done: the process ended in between, events or listings
        /// were lost, or the journal could not be written.
        NotDone => "not-done",
    }
}

closed_set! {
    /// Who decides.
    Author {
        /// The breaker: a storm tripped it, or a schedule fell due.
        Breaker => "breaker",
        /// A person, by `squall quarantine` or `squall release`.
        Hand => "hand",
    }
}

/// The label that a service has while squall holds it, or has let it go; the names of the others of a quarantine begin
/// with it and a point.
pub const HELD_LABEL: &str = "squall.quarantine";

/// A proposal and what became of it: permitted, or refused for a reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Sixteen hex digits made of the other fields: the key of its settlement.
    pub id: String,
    /// When it was decided, on the daemon's clock.
    pub at: Timestamp,
    /// What it is about.
    pub subject: Subject,
    /// The [`Storm::id`](super::Storm::id); empty where a person decided without one.
    pub storm: String,
    /// Why it storms.
    pub cause: Cause,
    /// Failed attempts of the storm so far.
    pub failed: u64,
    /// Who proposed it.
    pub by: Author,
    /// What was proposed.
    pub action: Action,
    /// The response that it belongs to.
    pub response: Response,
    /// The response that was asked for, where the blast radius or a registry's incident made it another.
    pub instead_of: Option<Response>,
    /// Why it is refused; null where it is permitted.
    pub refusal: Option<Refusal>,
}

/// How a permitted decision ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Settlement {
    /// The [`Decision::id`].
    pub decision: String,
    /// When it ended, on the daemon's clock.
    pub at: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// In words: Docker's error, what the subject was set to.
    pub detail: String,
}

/// squall let go of a held subject because somebody else changed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LetGo {
    /// When that was seen, on the daemon's clock.
    pub at: Timestamp,
    /// What was held.
    pub subject: Subject,
    /// The storm that it was held for.
    pub storm: String,
    /// Sixteen hex digits of the specification apart from what squall changes: it is not held again for a cool-down.
    pub template: String,
    /// What was changed.
    pub why: String,
}

/// One task as evidence: what a later update of the service deletes from Swarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskRecord {
    /// The task's id.
    pub id: String,
    /// Its slot; 0 for global services.
    pub slot: u64,
    /// Its node's id.
    pub node_id: String,
    /// When Swarm made it.
    pub created: Timestamp,
    /// Its state, in the API's word where squall knows it.
    pub state: String,
    /// The exit code, where it has one.
    pub exit_code: Option<i32>,
    /// The engine's own words.
    pub error: String,
}

/// What one subject did within one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptCount {
    /// The minute's first moment.
    pub minute: Timestamp,
    /// Whose attempts.
    pub subject: Subject,
    /// Attempts that ended.
    pub attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
}

impl OnClock for AttemptCount {
    fn step(&mut self, step: ClockStep) {
        let Self { minute, subject: _, attempts: _, failed: _ } = self;
        *minute = step.carry_minute(*minute);
    }
}
