//! The daemon's event stream as raw objects, one at a time.
//!
//! Framing is cut by [`crate::ingest::split`]: an event is handed on with its last brace, whatever the newlines do
//! and however the bytes were chunked, and an odd object is handed on like any other. It reconnects nothing.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::Response;
use hyper::body::Incoming;

use super::client::{Client, header, name_of};
use super::error::Error;
use super::limits::ELEMENT_BYTES;
use super::query;
use crate::ingest::split::{Piece, Splitter};

/// The kinds of objects whose events tell of attempts, intents and pulls. Networks are a quarter of a storm's events
/// and tell nothing, volumes, secrets and configs neither.
const STORM_TYPES: [&str; 5] = ["container", "image", "service", "node", "daemon"];

/// The actions that tell of attempts, intents and pulls, Podman's words among them.
///
/// Left out above all: exec_create, exec_start and exec_die, three for each health check. `health_status` makes moby
/// match all of these as prefixes (`daemon/events/filter.go: matchEvent`), which is how `health_status: unhealthy`
/// gets through, and `pull` brings Podman's `pull-error`.
const STORM_ACTIONS: [&str; 18] = [
    "create",
    "start",
    "restart",
    "die",
    "died",
    "kill",
    "stop",
    "oom",
    "destroy",
    "remove",
    "rename",
    "health_status",
    "pull",
    "untag",
    "delete",
    "update",
    "reload",
    "shutdown",
];

/// Which events the daemon is asked for. What it filters out costs neither side anything and cannot block it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Kinds of objects; empty for all.
    pub types: Vec<&'static str>,
    /// Actions, or their beginnings; empty for all.
    pub actions: Vec<&'static str>,
}

impl EventFilter {
    /// Every event.
    pub fn all() -> Self {
        Self::default()
    }

    /// The events that tell of attempts, intents and pulls.
    pub fn storms() -> Self {
        Self { types: STORM_TYPES.to_vec(), actions: STORM_ACTIONS.to_vec() }
    }

    fn parameter(&self) -> Option<String> {
        let encoded = query::filters(&[("type", &self.types), ("event", &self.actions)]);
        (!encoded.is_empty()).then(|| format!("filters={encoded}"))
    }
}

impl Client {
    /// Opens the stream of events from `since` (inclusive) to `until`, in Unix nanoseconds by the daemon's clock.
    ///
    /// Without `since` it begins now; without `until` it does not end. It has no time limit of its own: ping beside it,
    /// or use [`super::Follow`].
    ///
    /// # Errors
    /// When the daemon cannot be reached in time, or answers with an error.
    pub async fn events(
        &self,
        since: Option<i64>,
        until: Option<i64>,
        filter: &EventFilter,
    ) -> Result<EventStream, Error> {
        let mut parameters = Vec::new();
        parameters.extend(since.map(|nanos| format!("since={}", query::time(nanos))));
        parameters.extend(until.map(|nanos| format!("until={}", query::time(nanos))));
        parameters.extend(filter.parameter());
        let path = format!("/events?{}", parameters.join("&"));
        let what = name_of(&path);
        let response = self.send_versioned(path.trim_end_matches('?'), &what).await?;
        Ok(EventStream::new(response, self.clone(), what))
    }
}

/// An open stream of events. Dropping it closes its connection.
pub struct EventStream {
    /// None after the end.
    body: Option<Incoming>,
    splitter: Splitter,
    ready: VecDeque<Bytes>,
    too_long: u64,
    garbage_bytes: u64,
    date_nanos: Option<i64>,
    client: Client,
    what: String,
}

impl EventStream {
    fn new(response: Response<Incoming>, client: Client, what: String) -> Self {
        let date_nanos = header(response.headers(), "date").and_then(|text| {
            let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
            date.as_second().checked_mul(1_000_000_000)
        });
        Self {
            body: Some(response.into_body()),
            splitter: Splitter::new(ELEMENT_BYTES),
            ready: VecDeque::new(),
            too_long: 0,
            garbage_bytes: 0,
            date_nanos,
            client,
            what,
        }
    }

    /// The next event as JSON; None when the daemon ended the stream, and for ever after the first error.
    ///
    /// Cancel-safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            match self.body.as_mut()?.frame().await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.take(&data);
                    }
                }
                Some(Err(error)) => {
                    self.body = None;
                    return Some(Err(self.client.transport_error(&self.what, &error).await));
                }
                None => {
                    self.body = None;
                    if !self.splitter.is_between() {
                        return Some(Err(self.client.lost(&self.what, "it ended within an event")));
                    }
                    return None;
                }
            }
        }
    }

    /// Events longer than 4 MiB, passed over so far.
    pub fn too_long(&self) -> u64 {
        self.too_long
    }

    /// Bytes between events that are no separators, so far.
    pub fn garbage_bytes(&self) -> u64 {
        self.garbage_bytes
    }

    /// The daemon's clock when it answered, in Unix nanoseconds, by the second.
    pub fn date_nanos(&self) -> Option<i64> {
        self.date_nanos
    }

    fn take(&mut self, data: &[u8]) {
        let Self { splitter, ready, too_long, garbage_bytes, .. } = self;
        splitter.push(data, &mut |piece| match piece {
            Piece::Object(bytes) => ready.push_back(Bytes::copy_from_slice(bytes)),
            Piece::TooLong { .. } => *too_long += 1,
            Piece::Garbage { bytes } => *garbage_bytes += bytes,
        });
    }
}

impl fmt::Debug for EventStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventStream").field("what", &self.what).finish_non_exhaustive()
    }
}
