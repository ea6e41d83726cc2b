//! Asks a registry for its pull budget, at no pull's cost: a HEAD of a manifest states it in headers, as Docker Hub
//! documents for `ratelimitpreview/test`. Nothing here ever sends GET for a manifest, which is what registries count.

mod challenge;
mod login;
mod probe;

pub use login::{Login, LoginError};
pub use probe::{Prober, ProberError, Target};
