//! What pulls cost at a registry, and when a budget runs out. Pure.

mod cost;
mod forecast;
mod header;
mod meter;
mod registries;

pub use cost::{Authentication, Engine, Pulled, requests};
pub use forecast::{Outlook, exhaustion};
pub use header::{HeaderError, budget};
pub use meter::Meter;
pub use registries::{HUB, HUB_PULLS, HUB_REQUESTS_PER_MIN, HUB_WINDOW, OwnTerms, Registries, Terms};
