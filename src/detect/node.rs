//! A node as reports name it.

use super::arena::keyed;
use super::key::Key;
use crate::budget::Engine;

/// A node of the Swarm.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) key: Key,
    pub(super) id: Box<str>,
    pub(super) hostname: Box<str>,
    pub(super) engine: Box<str>,
    /// It is ready, and takes tasks.
    pub(super) is_active: bool,
    /// How it pulls, if the daemon told.
    pub(super) store: Option<Engine>,
}

keyed!(Node);
