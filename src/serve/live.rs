//! The newest state as server-sent events: `status` with the page's body, and `stale` while the daemon says nothing.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;

use super::app::{App, STALE_SECS};
use super::wall_clock;
use crate::model::Status;

/// How many clients listen at once; the next is told to come again. Each holds a connection, of
/// [`super::CONNECTIONS_MAX`], so that the others are left for scrapes and health checks.
pub const LISTENERS_MAX: usize = 64;
/// How often something is sent at least, so that a proxy does not think the connection dead.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// The shortest time between two states that are sent to one client.
const PAUSE: Duration = Duration::from_millis(250);

struct Listener {
    app: App,
    status: watch::Receiver<Arc<Status>>,
    closing: watch::Receiver<bool>,
    /// Before when no further state is sent.
    not_before: Instant,
    _slot: OwnedSemaphorePermit,
}

pub(super) async fn events(State(app): State<App>) -> Response {
    let Ok(slot) = Arc::clone(&app.listeners).try_acquire_owned() else {
        let wait = [(header::RETRY_AFTER, "30")];
        return (StatusCode::SERVICE_UNAVAILABLE, wait, "too many pages are open: they share 64 live connections\n")
            .into_response();
    };
    let mut status = app.status.clone();
    status.mark_changed();
    let closing = app.closing.clone();
    let listener = Listener { app, status, closing, not_before: Instant::now(), _slot: slot };
    Sse::new(states(listener)).into_response()
}

/// The states that this client is quick enough for, until the daemon ends.
fn states(listener: Listener) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream::unfold(listener, |mut listener| async move {
        let event = next(&mut listener).await?;
        Some((Ok(event), listener))
    })
}

async fn next(listener: &mut Listener) -> Option<Event> {
    let newer = async {
        tokio::time::sleep_until(listener.not_before).await;
        listener.status.changed().await
    };
    tokio::select! {
        _ = listener.closing.wait_for(|is_closing| *is_closing) => None,
        changed = newer => {
            changed.ok()?;
            let status = Arc::clone(&listener.status.borrow_and_update());
            listener.not_before = Instant::now() + PAUSE;
            let body = listener.app.rendered(&status);
            Some(Event::default().event("status").retry(Duration::from_secs(3)).data(&*body))
        }
        () = tokio::time::sleep(HEARTBEAT) => {
            let age = wall_clock().since(listener.status.borrow().at).as_secs();
            Some(if age > STALE_SECS {
                Event::default().event("stale").data(age.to_string())
            } else {
                Event::default().comment("heartbeat")
            })
        }
    }
}
