//! What is done about a storm: proposal, decision, permit. Pure: it is told the time, the storms, and what was read of
//! a service, and it says what is to be read and what may be done.
//!
//! - [`Responder`] holds what is held, and says which services want a look: a storm that is not held yet, a back-off
//!   that is due, a quarantine that somebody else changed.
//! - A look at a service ([`View`]: the raw specification; its tasks) gives a [`Verdict`]: a decision, permitted or
//!   refused for a reason of a closed set, or that squall lets go.
//! - A chain of guards decides. Only it makes a [`Permit`], and [`crate::docker`] changes nothing without one.
//! - The state of a quarantine is a [`Mark`] in the service's own labels, so that it survives everything but the
//!   service. In doubt nothing is done.

mod budget;
mod container;
mod guard;
mod health;
mod mark;
mod permit;
mod responder;
mod settings;
mod spec;

pub use container::{ContainerStep, ContainerView, EnginePolicy, NEVER_RESTART, StopMark, Stopped};
pub use guard::Scene;
pub use mark::{BadLabel, Before, IGNORE_LABEL, Mark, Phase, Placement, RESPONSE_LABEL, Set, UNMET};
pub use permit::{Permit, Work};
pub use responder::{Counters, Held, Look, Responder, Verdict};
pub use settings::{Enforce, Settings};
pub use spec::View;
