//! The event stream made durable: it reconnects, drops what came twice, and says what it cannot vouch for.
//!
//! Docker's stream has no sequence numbers and ends without a word, or does not end when the peer is gone. So:
//! - a ping goes beside the stream; a stream whose daemon does not answer is given up;
//! - a reconnect asks for the events since a second before the last one seen. The daemon keeps its last 256 events; if
//!   one of ours is among what it replays, nothing is missing after it. If none is, the span is reported as a gap;
//! - what was replayed needlessly is known by its time, type, action and actor, and dropped.
//!
//! What it cannot see: events that the daemon dropped because we read too slowly. So the caller only queues what it
//! gets here and compares with listings. It reads the wall clock, for the spans in which there are no events.

mod link;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::Instant;

use super::client::Client;
use super::error::Error;
use super::events::EventFilter;
use super::overlap::{Backoff, Identity, Memory};
use super::version::ApiVersion;
use link::{Link, Opened, Signal};

/// Asked for again after a reconnect, before the last event: events of concurrent publishers stand in the ring out of
/// order by less than this, and the daemon's replay stops at the first that is too old.
const SLACK_NANOS: i64 = 1_000_000_000;
/// Differences of the daemon's clock from ours below this are the whole seconds of the Date header.
const CLOCK_TOLERANCE_NANOS: i64 = 2_000_000_000;

/// How a stream is followed. The defaults are for production.
#[derive(Debug, Clone)]
pub struct FollowSettings {
    /// Which events are asked for. Default: [`EventFilter::storms`].
    pub filter: EventFilter,
    /// Between two pings. Default 10 s: a lost daemon is noticed within 15 s, at 6 small requests a minute.
    pub ping_every: Duration,
    /// How long a ping may take. Default 5 s.
    pub ping_limit: Duration,
    /// The first pause before reconnecting. Default 100 ms.
    pub backoff_shortest: Duration,
    /// The longest pause before reconnecting. Default 30 s.
    pub backoff_longest: Duration,
    /// How long a replay may take to begin, after which it is taken for empty. Default 2 s: the daemon sends it right
    /// behind the headers.
    pub replay_limit: Duration,
}

impl Default for FollowSettings {
    fn default() -> Self {
        Self {
            filter: EventFilter::storms(),
            ping_every: Duration::from_secs(10),
            ping_limit: Duration::from_secs(5),
            backoff_shortest: Duration::from_millis(100),
            backoff_longest: Duration::from_secs(30),
            replay_limit: Duration::from_secs(2),
        }
    }
}

/// Why a span cannot be vouched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// The daemon's memory of events is short and has none of ours: it was restarted.
    DaemonRestarted,
    /// The daemon has seen so many events since that it forgot ours.
    RingOverrun,
    /// The daemon does not say what it remembers: it is Podman, or the connection was lost again.
    Unknown,
}

impl GapReason {
    /// The word for it in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DaemonRestarted => "daemon-restarted",
            Self::RingOverrun => "ring-overrun",
            Self::Unknown => "unknown",
        }
    }
}

/// What following a stream yields.
#[derive(Debug)]
pub enum FollowItem {
    /// An event as JSON, as the daemon sent it.
    Event(Bytes),
    /// The stream is open.
    Connected {
        /// The version of the API that is spoken.
        api: ApiVersion,
        /// From which event time on events were asked for again; None at a first connection that begins now.
        since_nanos: Option<i64>,
        /// Events from before may be missing: [`FollowItem::Vouched`] or [`FollowItem::Gap`] follows.
        is_in_doubt: bool,
    },
    /// No event is missing: those since the stream broke were sent again.
    Vouched,
    /// The stream broke, or an attempt to open it failed. It goes on by itself.
    Lost {
        /// Why.
        error: Error,
        /// Which attempt to open it this was, from 1; 0 when an open stream broke.
        tries: u32,
    },
    /// Events between these times may be missing. It may come after newer events.
    Gap {
        /// Unix nanoseconds by the daemon's clock.
        from_nanos: i64,
        /// Unix nanoseconds by the daemon's clock; never before `from_nanos`.
        to_nanos: i64,
        /// Why.
        why: GapReason,
    },
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

enum State {
    Waiting(Pin<Box<tokio::time::Sleep>>),
    Opening(Boxed<Result<Opened, Error>>),
    Open(Box<Link>),
}

/// A span that a replay may still vouch for.
#[derive(Debug, Clone, Copy)]
struct Doubt {
    from_nanos: i64,
    /// The time of the one event that settles it when the memory holds none: that of a former run.
    expected_nanos: Option<i64>,
    /// Of the memory when the stream was lost: only an event from before can settle it.
    mark: u64,
}

/// An event stream that does not end. See the module.
pub struct Follow {
    client: Client,
    settings: FollowSettings,
    state: State,
    memory: Memory,
    backoff: Backoff,
    tries: u32,
    doubt: Option<Doubt>,
    /// Where a former run ended, until an event is seen.
    resume_nanos: Option<i64>,
    /// Whether a stream was ever open: the next one has to close a span.
    was_open: bool,
    /// What to add to our clock for the daemon's.
    clock_offset_nanos: i64,
    queue: VecDeque<FollowItem>,
    doubled: u64,
}

impl Follow {
    /// Follows the client's daemon from now on, or from the event at `since_nanos` that a former run saw last (which
    /// comes again). `seed` makes the pauses differ between hosts.
    pub fn new(client: Client, settings: FollowSettings, since_nanos: Option<i64>, seed: u64) -> Self {
        let backoff = Backoff::new(settings.backoff_shortest, settings.backoff_longest, seed);
        Self {
            client,
            settings,
            state: State::Waiting(Box::pin(tokio::time::sleep(Duration::ZERO))),
            memory: Memory::default(),
            backoff,
            tries: 0,
            doubt: since_nanos.map(|nanos| Doubt { from_nanos: nanos, expected_nanos: Some(nanos), mark: 0 }),
            resume_nanos: since_nanos,
            was_open: false,
            clock_offset_nanos: 0,
            queue: VecDeque::new(),
            doubled: 0,
        }
    }

    /// Events that came again and were dropped.
    pub fn doubled(&self) -> u64 {
        self.doubled
    }

    /// The time of the last event, to resume at; None when none was seen and none was given.
    pub fn last_nanos(&self) -> Option<i64> {
        self.memory.last_nanos().or(self.resume_nanos)
    }

    /// The next thing that happens. It ends never, but waits for as long as nothing happens.
    ///
    /// Cancel-safe: dropping the future loses nothing; nothing moves on while none is polled.
    pub async fn next(&mut self) -> FollowItem {
        loop {
            if let Some(item) = self.queue.pop_front() {
                return item;
            }
            match &mut self.state {
                State::Waiting(pause) => {
                    pause.as_mut().await;
                    self.open();
                }
                State::Opening(opening) => match opening.as_mut().await {
                    Ok(opened) => self.opened(opened),
                    Err(error) => {
                        self.tries = self.tries.saturating_add(1);
                        self.wait(error);
                    }
                },
                State::Open(link) => match link.next().await {
                    Signal::Event(event) => self.event(event),
                    Signal::Alive => self.backoff.reset(),
                    Signal::ReplayOver => self.probe(),
                    Signal::Probed { why, to_nanos } => self.gap(why, to_nanos),
                    Signal::Lost { error, alive } => self.lost(error, alive),
                },
            }
        }
    }

    fn open(&mut self) {
        let since = match (self.memory.last_nanos(), self.resume_nanos) {
            (Some(last), _) => Some(last.saturating_sub(SLACK_NANOS)),
            (None, Some(resume)) => Some(resume),
            // Nothing was ever seen: a replay can prove nothing, but it can give what came meanwhile.
            (None, None) => self.doubt.map(|doubt| doubt.from_nanos),
        };
        let is_first = !self.was_open && self.resume_nanos.is_none();
        self.state = State::Opening(Box::pin(link::open(self.client.clone(), self.settings.clone(), since, is_first)));
    }

    fn opened(&mut self, opened: Opened) {
        for identity in opened.earlier {
            self.memory.remember(identity);
        }
        if let Some(date) = opened.stream.date_nanos() {
            let offset = date - wall_nanos(SystemTime::now());
            self.clock_offset_nanos = if offset.abs() > CLOCK_TOLERANCE_NANOS { offset } else { 0 };
        }
        self.tries = 0;
        self.was_open = true;
        let is_in_doubt = self.doubt.is_some();
        self.queue.push_back(FollowItem::Connected { api: opened.api, since_nanos: opened.since_nanos, is_in_doubt });
        let replay_limit = self.doubt.is_some().then_some(self.settings.replay_limit);
        self.state = State::Open(Box::new(Link::new(self.client.clone(), &self.settings, opened.stream, replay_limit)));
    }

    fn event(&mut self, event: Bytes) {
        let Some(identity) = Identity::of(&event) else {
            self.queue.push_back(FollowItem::Event(event));
            return;
        };
        let is_known = self.memory.knows(identity);
        if let Some(doubt) = self.doubt {
            // A manager that starts says the swarm's events of its Raft log again: they prove nothing of its memory.
            let is_ours = identity.is_local && self.memory.knew(identity, doubt.mark);
            if is_ours || doubt.expected_nanos == Some(identity.time_nanos) {
                self.doubt = None;
                self.queue.push_back(FollowItem::Vouched);
                self.with_link(Link::settle);
            } else if !is_known && identity.time_nanos >= self.last_nanos().unwrap_or(doubt.from_nanos) {
                // Newer than ours before any of ours came: the replay does not reach back.
                self.probe();
            }
        }
        if is_known {
            self.doubled += 1;
            return;
        }
        self.memory.remember(identity);
        self.queue.push_back(FollowItem::Event(event));
    }

    /// The replay did not vouch for the span: asks the daemon what it remembers.
    fn probe(&mut self) {
        let now = self.daemon_now(SystemTime::now());
        self.with_link(|link| link.probe(now));
    }

    fn gap(&mut self, why: GapReason, to_nanos: i64) {
        if let Some(doubt) = self.doubt.take() {
            let to_nanos = to_nanos.max(doubt.from_nanos);
            self.queue.push_back(FollowItem::Gap { from_nanos: doubt.from_nanos, to_nanos, why });
        }
    }

    fn lost(&mut self, error: Error, alive: SystemTime) {
        // A span still in doubt cannot be settled later: newer events have been seen since.
        let now = self.daemon_now(SystemTime::now());
        self.gap(GapReason::Unknown, now);
        let alive = self.daemon_now(alive);
        let from_nanos = self.last_nanos().map_or(alive, |last| last.max(alive)).min(now.max(alive));
        self.doubt = Some(Doubt { from_nanos, expected_nanos: None, mark: self.memory.seen() });
        self.wait(error);
    }

    fn wait(&mut self, error: Error) {
        self.queue.push_back(FollowItem::Lost { error, tries: self.tries });
        self.state = State::Waiting(Box::pin(tokio::time::sleep_until(Instant::now() + self.backoff.pause())));
    }

    fn with_link(&mut self, act: impl FnOnce(&mut Link)) {
        if let State::Open(link) = &mut self.state {
            act(link);
        }
    }

    fn daemon_now(&self, ours: SystemTime) -> i64 {
        wall_nanos(ours).saturating_add(self.clock_offset_nanos)
    }
}

impl std::fmt::Debug for Follow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Follow").field("endpoint", self.client.endpoint()).finish_non_exhaustive()
    }
}

fn wall_nanos(time: SystemTime) -> i64 {
    let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX)
}
