//! Observations to storms. Pure: time comes with the observation, and the same observations give the same verdicts.
//!
//! An attempt is one task of a Swarm service, or one start of a container that its engine restarts. Facts about it
//! come from tasks, events and log lines, in any order and more than once; they are joined by its id, and it is
//! judged [`Settings::slack`] after its end. Failed attempts of a subject are counted against two governor quotas on
//! event time; the one that trips begins a storm. A storm subsides when nothing has failed for three loop periods.
//!
//! Several slots that fail once are no loop: the fast quota needs a slot that has failed three times in a row, and the
//! slow one counts each slot by itself. Only the specification in force is judged, and a long time without a failure
//! ends a row. A service that was removed and comes back under its name is the same subject. History that a listing
//! tells is judged by the same rules.
//!
//! Not every stop is a failure: what somebody ordered, what a job or a cron-like service does at its end, and a
//! container that is removed when it ends, are calm.

mod account;
mod advice;
mod arena;
mod attempt;
mod cause;
mod container;
mod detector;
mod failing;
mod incident;
mod key;
mod node;
mod quota;
mod run;
mod settings;
mod spec;
mod spent;
mod subject;
mod verdict;

pub use arena::SubjectId;
pub use detector::{Counters, Detector, Suspect};
pub use settings::Settings;
