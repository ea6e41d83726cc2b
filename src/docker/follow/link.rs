//! One open stream with the ping beside it, and the questions about what the daemon remembers.

use std::future::pending;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Boxed, FollowSettings, GapReason, wall_nanos};
use crate::docker::client::Client;
use crate::docker::error::{Error, Phase};
use crate::docker::events::{EventFilter, EventStream};
use crate::docker::overlap::Identity;
use crate::docker::version::ApiVersion;

/// Docker's ring holds 256 events; a full one has given 255 and 256. Fewer than this: it is not full.
const FULL_RING: usize = 250;
/// Most events read of what a daemon remembers. Podman's journal has no such bound.
const REMEMBERED: usize = 1024;
/// How far back the first connection looks for an event to hold on to. Podman would send its whole journal.
const LOOK_BACK_NANOS: i64 = 600_000_000_000;

/// What a link has to say.
pub(super) enum Signal {
    Event(Bytes),
    /// A ping was answered.
    Alive,
    /// A replay was waited for and nothing settled the doubt.
    ReplayOver,
    /// What the daemon remembers, after [`Link::probe`].
    Probed {
        why: GapReason,
        to_nanos: i64,
    },
    Lost {
        error: Error,
        /// When the stream was last known to deliver.
        alive: SystemTime,
    },
}

pub(super) struct Opened {
    pub(super) stream: EventStream,
    pub(super) api: ApiVersion,
    pub(super) since_nanos: Option<i64>,
    /// Events from before the stream, which a later replay may begin with.
    pub(super) earlier: Vec<Identity>,
}

/// Negotiates and subscribes. `is_first` asks beforehand for events to hold on to, so that a quiet daemon can vouch for
/// the time before its first event.
pub(super) async fn open(
    client: Client,
    settings: FollowSettings,
    since_nanos: Option<i64>,
    is_first: bool,
) -> Result<Opened, Error> {
    let api = client.negotiate().await?;
    let mut earlier = Vec::new();
    if is_first {
        let now = wall_nanos(SystemTime::now());
        let limit = settings.replay_limit;
        earlier = remembered(&client, now.saturating_sub(LOOK_BACK_NANOS), now, &settings.filter, limit).await?;
    }
    let stream = client.events(since_nanos, None, &settings.filter).await?;
    Ok(Opened { stream, api, since_nanos, earlier })
}

/// The events that the daemon remembers of a span, as far as they come within the limit.
async fn remembered(
    client: &Client,
    since_nanos: i64,
    until_nanos: i64,
    filter: &EventFilter,
    limit: Duration,
) -> Result<Vec<Identity>, Error> {
    let deadline = Instant::now() + limit;
    let mut stream = client.events(Some(since_nanos), Some(until_nanos), filter).await?;
    let mut found = Vec::new();
    // A daemon whose clock is behind ours keeps such a stream open until its clock is there: the limit ends that.
    while found.len() < REMEMBERED
        && let Ok(Some(event)) = tokio::time::timeout_at(deadline, stream.next()).await
    {
        found.extend(Identity::of(&event?));
    }
    Ok(found)
}

enum Ping {
    Due(Pin<Box<Sleep>>),
    Sent { answer: Boxed<Result<(), Error>>, at: SystemTime },
}

enum Replay {
    Settled,
    Awaited(Pin<Box<Sleep>>),
    Probing(Boxed<(GapReason, i64)>),
}

pub(super) struct Link {
    client: Client,
    stream: EventStream,
    ping_every: Duration,
    ping_limit: Duration,
    ping: Ping,
    replay: Replay,
    /// When the stream was last known to deliver.
    alive: SystemTime,
    is_local: bool,
}

impl Link {
    /// `replay_limit` is there when a replay has to settle a doubt.
    pub(super) fn new(
        client: Client,
        settings: &FollowSettings,
        stream: EventStream,
        replay_limit: Option<Duration>,
    ) -> Self {
        let replay = match replay_limit {
            Some(limit) => Replay::Awaited(Box::pin(sleep_until(Instant::now() + limit))),
            None => Replay::Settled,
        };
        let (ping_every, ping_limit) = (settings.ping_every, settings.ping_limit);
        let ping = Ping::Due(Box::pin(sleep_until(Instant::now() + ping_every)));
        let is_local = client.endpoint().socket().is_some();
        Self { client, stream, is_local, ping_every, ping_limit, ping, replay, alive: SystemTime::now() }
    }

    /// Cancel-safe: all that is under way is held in the link.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            event = self.stream.next() => match event {
                Some(Ok(event)) => {
                    self.alive = SystemTime::now();
                    Signal::Event(event)
                }
                // A socket of this host breaks when the daemon ends, a remote one perhaps long after.
                Some(Err(error)) if self.is_local => Signal::Lost { error, alive: SystemTime::now() },
                Some(Err(error)) => Signal::Lost { error, alive: self.alive },
                // An orderly end comes behind all that was sent, so the stream delivered until now.
                None => {
                    let error = self.client.lost("GET /events", "the daemon ended the stream");
                    Signal::Lost { error, alive: SystemTime::now() }
                }
            },
            ping = step_ping(&mut self.ping, &self.client, self.ping_limit) => {
                let sent = match ping {
                    Ok(sent) => sent,
                    Err((error, sent)) => {
                        if self.alive <= sent {
                            return Signal::Lost { error, alive: self.alive };
                        }
                        // The stream delivered meanwhile: the daemon is slow, not gone.
                        sent
                    }
                };
                // Another connection's answer says nothing of a remote stream.
                if self.is_local {
                    self.alive = self.alive.max(sent);
                }
                self.ping = Ping::Due(Box::pin(sleep_until(Instant::now() + self.ping_every)));
                Signal::Alive
            }
            signal = step_replay(&mut self.replay) => {
                self.replay = Replay::Settled;
                signal
            }
        }
    }

    /// The replay has vouched for the span.
    pub(super) fn settle(&mut self) {
        self.replay = Replay::Settled;
    }

    /// Asks, once, what the daemon remembers.
    pub(super) fn probe(&mut self, now_nanos: i64) {
        if !matches!(self.replay, Replay::Probing(_)) {
            let (client, limit) = (self.client.clone(), self.ping_limit);
            self.replay = Replay::Probing(Box::pin(async move {
                let asked = tokio::time::timeout(limit, reason(&client, now_nanos, limit)).await;
                asked.unwrap_or((GapReason::Unknown, now_nanos))
            }));
        }
    }
}

/// Why a replay had none of our events, and until when events may be missing: the oldest that is remembered was
/// replayed, or there is none.
async fn reason(client: &Client, now_nanos: i64, limit: Duration) -> (GapReason, i64) {
    match client.ping().await {
        Ok(ping) if !ping.is_podman => {}
        _ => return (GapReason::Unknown, now_nanos),
    }
    // Unfiltered, for the ring holds events of all kinds.
    let Ok(events) = remembered(client, 0, now_nanos, &EventFilter::all(), limit).await else {
        return (GapReason::Unknown, now_nanos);
    };
    let oldest = events.iter().filter(|event| event.is_local).map(|event| event.time_nanos).min();
    let why = if events.len() < FULL_RING { GapReason::DaemonRestarted } else { GapReason::RingOverrun };
    (why, oldest.unwrap_or(now_nanos))
}

/// Ends when a ping was answered (with when it was sent) or failed.
async fn step_ping(ping: &mut Ping, client: &Client, limit: Duration) -> Result<SystemTime, (Error, SystemTime)> {
    loop {
        match ping {
            Ping::Due(pause) => {
                pause.as_mut().await;
                let client = client.clone();
                let answer: Boxed<Result<(), Error>> = Box::pin(async move {
                    match tokio::time::timeout(limit, client.ping()).await {
                        Ok(answer) => answer.map(drop),
                        Err(_) => Err(client.timed_out("GET /_ping", Phase::Headers, limit)),
                    }
                });
                *ping = Ping::Sent { answer, at: SystemTime::now() };
            }
            Ping::Sent { answer, at } => {
                let at = *at;
                return answer.as_mut().await.map(|()| at).map_err(|error| (error, at));
            }
        }
    }
}

/// Ends when a replay was waited for in vain, or the probe is done.
async fn step_replay(replay: &mut Replay) -> Signal {
    match replay {
        Replay::Settled => pending().await,
        Replay::Awaited(pause) => {
            pause.as_mut().await;
            Signal::ReplayOver
        }
        Replay::Probing(probe) => {
            let (why, to_nanos) = probe.as_mut().await;
            Signal::Probed { why, to_nanos }
        }
    }
}
