use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::closed_set::closed_set;
use super::{Author, Cause, ClockStep, OnClock, Refusal, Response, Storm, Subject, SubjectKind, Timestamp, on_clock};

/// The labels `squall.*` of a service: silences and filters ask for them.
pub type Labels = BTreeMap<String, String>;

closed_set! {
    /// How far a case has come.
    Phase {
        /// It fails, and squall does not hold it.
        Storming => "storming",
        /// squall holds it: no further attempt, or none beyond those that run well.
        Held => "held",
        /// One attempt is made and watched.
        Probation => "probation",
        /// The attempt was stable; the rest comes back step by step.
        Returning => "returning",
        /// Somebody changed it while it was held. squall waits to see whether it still fails.
        LetGo => "let-go",
        /// Nothing failed for the whole hold-down, squall has given it back, or it was removed.
        Over => "over",
    }
}

impl Phase {
    /// Whether a quarantine is in force.
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Held | Self::Probation | Self::Returning)
    }
}

closed_set! {
    /// What happened to a case: what tells one transition from another.
    Step {
        /// The case began.
        Began => "began",
        /// Its recent failures have another cause.
        CauseChanged => "cause-changed",
        /// squall holds it.
        Held => "held",
        /// One attempt is made and watched.
        Tried => "tried",
        /// The watched attempt failed: it is held for longer.
        AttemptFailed => "attempt-failed",
        /// The watched attempt was stable: the rest comes back.
        Returning => "returning",
        /// Somebody changed it while it was held.
        LetGo => "let-go",
        /// It was let go and fails again.
        Resumed => "resumed",
        /// It is over.
        Over => "over",
        /// Figures, labels, or what squall decided about it changed; the phase did not.
        Updated => "updated",
    }
}

/// A quarantine as a case shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The response that it belongs to.
    pub response: Response,
    /// Who began it.
    pub by: Author,
    /// When it began.
    pub since: Timestamp,
    /// When the next watched attempt is due; none where a person has to release it.
    pub until: Option<Timestamp>,
    /// How many watched attempts have failed.
    pub tries: u32,
}

/// A quarantine in force, as it was seen on its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// What is held.
    pub subject: Subject,
    /// The id of the storm that it is for; empty where a person held it without one.
    pub storm: String,
    /// Why that stormed.
    pub cause: Cause,
    /// The image reference of its specification; empty if that was not read.
    pub image: String,
    /// [`Phase::Held`], [`Phase::Probation`] or [`Phase::Returning`].
    pub phase: Phase,
    /// The rest of it.
    pub hold: Hold,
}

/// How a quarantine ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldEnd {
    /// squall gave the subject back, as it was before, after it had run without failing.
    Returned,
    /// Somebody changed it; why squall thinks so.
    LetGo(String),
    /// The subject was removed.
    Gone,
}

/// A change of what is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoldChange {
    /// It is held, as it is now.
    Held(Box<Quarantine>),
    /// It is held no more.
    Ended(Subject, HoldEnd),
}

impl HoldChange {
    /// The subject whose hold changed.
    pub fn subject(&self) -> &Subject {
        match self {
            Self::Held(held) => &held.subject,
            Self::Ended(subject, _) => subject,
        }
    }
}

/// One subject's trouble from its onset until it is over. There is one for each subject at a time, in
/// [`Situation`](crate::situation::Situation).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Sixteen hex digits: the storm's id, or where it is held the one that is written on the service. It stays the same
    /// from the first transition to the last, on each manager and after each restart.
    pub id: String,
    /// How far it has come.
    pub phase: Phase,
    /// Since when it is in that phase.
    pub since: Timestamp,
    /// Its storm as it was seen last. For a quarantine that began without one it has no attempts.
    pub storm: Arc<Storm>,
    /// The quarantine that is in force, or that was let go.
    pub hold: Option<Hold>,
    /// Why squall does not hold it, and which response it would have been.
    pub refusal: Option<(Refusal, Response)>,
    /// Why it was let go, or how it ended, where that is known; may be empty.
    pub why: String,
    /// The labels of its service.
    pub labels: Labels,
}

/// A case's step: one subject, before and after.
#[derive(Clone, Debug, PartialEq)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// The case before; none where it begins.
    pub before: Option<Arc<Case>>,
    /// The case now.
    pub case: Arc<Case>,
    /// What happened.
    pub step: Step,
}

on_clock!(Hold { since, until } rest { response, by, tries });
on_clock!(Quarantine { hold } rest { subject, storm, cause, image, phase });
on_clock!(Case { since, storm, hold } rest { id, phase, refusal, why, labels });
on_clock!(Transition { at, before, case } rest { step });

impl OnClock for HoldChange {
    fn step(&mut self, step: ClockStep) {
        match self {
            Self::Held(held) => held.step(step),
            Self::Ended(..) => {}
        }
    }
}

/// How long after everything was listed a case may be found again that went on when the process before this one ended.
/// A storm with a loop period of 40 s needs as long.
pub const FOUND_AGAIN_WITHIN: Duration = Duration::from_secs(120);

/// What a case is known by: the name of its subject, which survives every attempt and every restart.
pub type CaseKey = (SubjectKind, String);

impl Case {
    /// What it is about.
    pub fn subject(&self) -> &Subject {
        &self.storm.subject
    }

    /// What it is known by.
    pub fn key(&self) -> CaseKey {
        key_of(self.subject())
    }

    /// A storm of it, with the id of the case, and from the onset of the case on.
    pub fn told(&self, storm: Storm) -> Storm {
        storm.part_of(&self.id, self.storm.onset)
    }

    /// What squall has done about it, or would have done, in words; may be empty.
    pub fn answer(&self) -> String {
        let response = self.hold.as_ref().map_or(Response::Observe, |hold| hold.response);
        let failed = match self.hold.as_ref().map_or(0, |hold| hold.tries) {
            0 => String::new(),
            1 => "; 1 watched attempt failed".to_owned(),
            tries => format!("; {tries} watched attempts failed"),
        };
        match (self.phase, self.refusal) {
            (Phase::Held, _) => format!("squall holds it ({response}){failed}"),
            (Phase::Probation, _) => format!("squall tries one attempt and watches it{failed}"),
            (Phase::Returning, _) => "squall brings it back step by step".to_owned(),
            (Phase::LetGo, _) => format!("squall has let go of it: {}", self.why),
            (Phase::Over, _) => self.why.clone(),
            (Phase::Storming, Some((Refusal::NotEnforced, response))) => {
                format!("squall would have held it ({response})")
            }
            (
                Phase::Storming,
                None | Some((Refusal::Observe | Refusal::NotOptedIn | Refusal::Ignored | Refusal::NotLeader, _)),
            ) => String::new(),
            (Phase::Storming, Some((refusal, _))) => format!("squall does not hold it: {refusal}"),
        }
    }

    /// What happens next, in words.
    pub fn next(&self) -> String {
        match (self.phase, self.hold.as_ref().and_then(|hold| hold.until)) {
            (Phase::Held, Some(_)) => "one attempt is tried and watched".to_owned(),
            (Phase::Held, None) => format!("nothing, until `squall release {}`", self.subject().name),
            (Phase::Probation | Phase::Returning, _) => {
                "the attempts that run are watched; the rest follows".to_owned()
            }
            (Phase::LetGo, _) => "nothing: somebody changed it".to_owned(),
            (Phase::Storming | Phase::Over, _) => String::new(),
        }
    }
}

/// What a subject's case is known by.
pub fn key_of(subject: &Subject) -> CaseKey {
    (subject.kind, subject.name.clone())
}
