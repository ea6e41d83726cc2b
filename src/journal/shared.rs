use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entry::State;

/// What the handles and the writer know of each other.
#[derive(Debug)]
pub(super) struct Shared {
    /// Entries that the writer has not written, nor let wait.
    pub(super) queued: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) state: Mutex<State>,
}

impl Shared {
    /// `pending` and `dropped` are without what is queued, and what the queue had no room for.
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Its fields are set one by one and mean nothing together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn served(&self) {
        self.queued.fetch_sub(1, Ordering::Relaxed);
    }

    /// An entry that was queued is lost.
    pub(super) fn lose_queued(&self) {
        self.served();
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }
}
