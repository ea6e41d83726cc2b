//! The vocabulary: one word, one meaning, for every room of the house.
//!
//! Nothing here reads a clock, does I/O or knows another room.

mod alert;
mod budget;
mod case;
mod cause;
mod closed_set;
mod finding;
mod hash;
mod image;
mod observation;
mod pattern;
mod quota;
mod report;
mod response;
mod spend;
mod status;
mod storm;
mod subject;
mod time;

pub use alert::{ALERT_STORMS_KNOWN_MAX, ALERT_STORMS_MAX, Alert, AlertKind, AlertStorm, DeliveryOutcome, Severity};
pub use budget::{Budget, BudgetAnswer, BudgetReading, BudgetStanding, Exhaustion};
pub use case::{
    Case, CaseKey, FOUND_AGAIN_WITHIN, Hold, HoldChange, HoldEnd, Labels, Phase, Quarantine, Step, Transition, key_of,
};
pub use cause::{Cause, CauseCounts};
pub use finding::{Finding, FindingKind};
pub use hash::fnv_64;
pub use image::{ImageRef, ImageRefError};
pub use observation::{
    Condition, ContainerAction, ContainerFact, ContainerListing, ContainerOrigin, Engine, Fact, LogFact, LogKind, Mode,
    NodeFact, Observation, Order, Owner, RestartPolicy, ServiceFact, SwarmTask, TaskFact, TaskState,
};
pub use pattern::matches_pattern;
pub use quota::{EventClock, Limiter};
pub use report::{Gap, OriginReport, REPORT_SCHEMA, RegistryReport, Report, Risk, Skipped, Span};
pub use response::{
    Action, AttemptCount, Author, Decision, HELD_LABEL, LetGo, Outcome, Refusal, Response, Settlement, TaskRecord,
};
pub use spend::{Basis, Requests, Spend, SpendCount, Spender};
pub use status::{
    Check, Health, HistoryBucket, QuarantineStatus, ReceiverStatus, RegistryStatus, STATUS_SCHEMA, STATUS_STORMS_MAX,
    Status, Totals,
};
pub use storm::{Notice, Storm, StormState};
pub use subject::{Subject, SubjectKind};
pub(crate) use time::on_clock;
pub use time::{ClockStep, OnClock, Pace, Timestamp, TimestampError, span_in_words, step_keys};
