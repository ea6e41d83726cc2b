//! What pulls cost at a registry, and when a budget runs out. Pure.

mod cost;
mod forecast;
mod header;

pub use cost::{Authentication, Engine, Pulled, Requests, requests};
pub use forecast::{Outlook, exhaustion};
pub use header::{HeaderError, budget};
