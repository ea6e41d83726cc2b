//! What pulls cost at a registry, and when a budget runs out. Pure.

mod forecast;
mod header;

pub use forecast::{Outlook, exhaustion};
pub use header::{HeaderError, budget};
