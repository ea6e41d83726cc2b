//! The vocabulary: one word, one meaning, for every room of the house.
//!
//! Nothing here reads a clock, does I/O or knows another room.

mod cause;
mod image;
mod observation;
mod report;
mod storm;
mod subject;
mod time;

pub use cause::{Cause, CauseCounts};
pub use image::{ImageRef, ImageRefError};
pub use observation::{
    Condition, ContainerAction, ContainerFact, ContainerListing, ContainerOrigin, Engine, Fact, LogFact, LogKind, Mode,
    NodeFact, Observation, Order, Owner, RestartPolicy, ServiceFact, SwarmTask, TaskFact, TaskState,
};
pub use report::{Finding, FindingKind, Gap, OriginReport, REPORT_SCHEMA, Report, Risk, Skipped, Span};
pub use storm::{Notice, Storm, StormState};
pub use subject::{Subject, SubjectKind};
pub use time::{Pace, Timestamp, TimestampError};
