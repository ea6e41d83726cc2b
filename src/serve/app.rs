//! What the routes share.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, watch};

use super::access::Access;
use super::{page, wall_clock};
use crate::model::Status;

/// After how many seconds without a new state the daemon does not count as alive. It makes one at every turn of its
/// loop, which is every few seconds.
pub const STALE_SECS: u64 = 30;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct App(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) status: watch::Receiver<Arc<Status>>,
    pub(super) closing: watch::Receiver<bool>,
    pub(super) listeners: Arc<Semaphore>,
    pub(super) access: Access,
    /// The last state that was rendered, so that many clients cost one rendering.
    pub(super) rendered: Mutex<Option<(Arc<Status>, Arc<str>)>>,
}

impl std::ops::Deref for App {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    pub(super) fn newest(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }

    /// The page's body for a state.
    pub(super) fn rendered(&self, status: &Arc<Status>) -> Arc<str> {
        let mut rendered = self.rendered.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, body)) = &*rendered
            && Arc::ptr_eq(of, status)
        {
            return Arc::clone(body);
        }
        let body: Arc<str> = page::fragment(status, wall_clock()).into_string().into();
        *rendered = Some((Arc::clone(status), Arc::clone(&body)));
        body
    }
}
