//! The only place that talks to Docker, and the only one that names bollard.
//!
//! - [`endpoint`] finds the daemon as the docker command would.
//! - [`connect`], [`ssh`] and [`tls`] open a connection to it: one connector for every kind of address.
//! - [`client`] asks: small answers, listings cut into their elements, event streams.
//! - [`follow`] makes the event stream durable: it reconnects, drops what came twice and says what may be missing.
//! - [`error`] tells apart the ways in which all this fails, for the operator's next step.
//!
//! Why so little of bollard: its typed decoding kills an event stream at the first word that it does not know, fails a
//! whole listing for one odd element, loses health checks on a round trip, and its time limit covers only headers.
//! It is kept for the version exchange, over our own transport; all else is raw JSON, which [`crate::ingest`] reads
//! tolerantly.
//!
//! - [`actuate`] is the one module that writes, and it takes a permit of [`crate::respond`].
//!
//! What it does not do: it holds no state of the cluster, and interprets no event beyond its identity.

pub mod actuate;
mod address;
pub mod client;
pub mod connect;
mod context;
pub mod endpoint;
pub mod error;
pub mod events;
pub mod follow;
pub mod info;
pub mod limits;
mod negotiate;
mod overlap;
mod query;
pub mod ssh;
mod surroundings;
pub mod tls;
pub mod version;

pub use actuate::Actuated;
pub use client::{Client, ListStats, Ping};
pub use endpoint::Endpoint;
pub use error::Error;
pub use events::{EventFilter, EventStream};
pub use follow::{Follow, FollowItem, FollowSettings, GapReason};
pub use info::Info;
pub use limits::Limits;
pub use surroundings::{EndpointError, Surroundings};
pub use version::ApiVersion;
