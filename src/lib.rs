//! squall finds the Docker Swarm services that restart-loop and ask the registry again at every try, says why, and
//! where it is allowed stops them.
//!
//! # Architecture
//!
//! An observation goes one way through the rooms of this crate:
//!
//! ```text
//!  docker events ┐                                ┌─ respond/ ─── decision ─── permit ─── docker/ actuate
//!  task listings ├─ docker/ ─┐                    │     │ holds
//!  dockerd log   ┘           ├─ ingest/ ── detect/┴─ situation/ ─┬─ transitions ── notify/, journal/, watch's lines
//!  recordings ───────────────┘ observations storms     cases     └─ as it is ───── serve/
//!                            budget/ prices attempts; registry/ asks what is left
//! ```
//!
//! | room | holds | names, of this crate |
//! |---|---|---|
//! | [`model`] | the vocabulary: [`model::Observation`], [`model::Cause`], [`model::Storm`] ... | nothing |
//! | [`ingest`] | bytes to observations; tolerant | `model` |
//! | [`budget`] | what attempts cost, what is left of a pull budget, whose it was, and when it runs out | `model` |
//! | [`detect`] | attempts, intents, storms, and what they ask of registries | `model`, `budget` for its prices |
//! | [`respond`] | the policy: guards, the way of a quarantine, and the only mint of a [`respond::Permit`] | `model` |
//! | [`situation`] | the one list of cases: what storms, is held, is tried, was let go; its transitions | `model` |
//! | [`docker`] | the only place that talks to Docker, and the only one that names bollard | `model`, `ingest`, `respond` |
//! | [`lint`] | what a stack would cost if it looped, by its files | `model`, `budget` |
//! | `http` | the one way to be a client over HTTP, Docker apart | nothing |
//! | [`registry`] | asks a registry for its pull budget, at no pull's cost | `model`, `budget`, `http` |
//! | [`journal`] | history on disk | `model` |
//! | [`notify`] | alerts to people: their grouping, their outbox, the words of each receiver | `model`, `journal`, `http` |
//! | [`serve`] | a status page, JSON, metrics and health over HTTP; reads only | `model` |
//! | [`config`] | a TOML file to checked settings | `budget`, `detect`, `respond`, `journal`, `notify`, for their defaults |
//! | [`daemon`] | the shell: one loop over all that can wake it | all above |
//! | [`cli`] | one file for each command | all above |
//!
//! # Invariants
//!
//! - `model`, `ingest`, `detect`, `budget`, `respond`, `situation` and `lint` are pure: no clock, no file, no network, no environment,
//!   no log. Time comes with the observation. The same observations give the same bytes, so a recording replays to the
//!   verdicts of the live run, and everything is tested by replay.
//! - They cannot fail: what cannot be read is skipped, counted by reason and shown. `lint` alone refuses: what docker would
//!   refuse, with its place.
//! - What is retried is a [`model::Subject`]: a service or a container's name, never a container or task id, which are
//!   new at every try.
//! - The task list is the primary source where there is one; events and the log enrich it. A missing mount, a missing
//!   image, a refused login and a 429 emit no container event.
//! - Every map, queue and buffer has a cap, a rule at the cap, and a counter: [`detect::Counters`].
//! - A span that cannot be vouched for is said: [`model::Gap`].
//! - A subject's trouble is one [`model::Case`], in one phase, in one place. Nothing is over while squall holds it.
//! - Docker is changed by [`docker::Client::actuate`] only, which takes a permit, which only the policy makes. Acting is
//!   off unless it is asked for. In doubt nothing is done.
//! - A quarantine's state is in the service's own labels ([`respond::Mark`]), in Swarm's Raft: what the journal says
//!   differently is wrong. A decision is journaled before it is carried out, and its settlement after.
//! - Whoever else edits a held service wins.
//! - Who is told, and what is shown, is on a thread of its own: no disk, chat or browser delays detection
//!   ([`daemon::Teller`]). An alert is on disk before it is sent, and goes when it was taken.
//!
//! # Absences
//!
//! - A registry is asked by HEAD and never for a pull: by `squall budget`, and by the daemon where a `[[registry]]` is
//!   configured, every five minutes at most.
//! - No specification goes through bollard's types, and no environment or argument of a service is kept. No credentials
//!   are sent with a change of a service: Swarm keeps those that it has.
//!
//! # The detector on a stream of one's own
//!
//! ```
//! use squall::detect::{Detector, Settings};
//! use squall::ingest::{Reading, read_line};
//! use squall::model::Timestamp;
//!
//! let mut detector = Detector::new(Settings::default());
//! for second in 0..8 {
//!     let task = format!(
//!         r#"{{"ID":"t{second}","ServiceID":"web","Slot":1,"CreatedAt":"2026-11-20T20:00:0{second}Z",
//!             "Status":{{"State":"rejected","Err":"No such image: shop/web:7"}},"DesiredState":"shutdown"}}"#
//!     );
//!     if let Reading::Observation(observation) = read_line(&task, 0) {
//!         detector.observe(&observation);
//!     }
//! }
//! detector.finish(Timestamp::parse("2026-11-20T20:00:08Z")?);
//! let storm = &detector.storms()[0];
//! assert_eq!((storm.failed, storm.cause.as_str()), (8, "pull-failed"));
//! # Ok::<(), squall::model::TimestampError>(())
//! ```

#[deny(clippy::disallowed_methods, reason = "a pure room reads no clock")]
pub mod budget;
pub mod cli;
pub mod config;
pub mod daemon;
#[deny(clippy::disallowed_methods, reason = "a pure room reads no clock")]
pub mod detect;
pub mod docker;
mod http;
#[deny(clippy::disallowed_methods, reason = "a pure room reads no clock")]
pub mod ingest;
pub mod journal;
#[deny(clippy::disallowed_methods, reason = "a pure room reads no clock")]
pub mod lint;
#[deny(clippy::disallowed_methods, reason = "a pure room reads no clock")]
pub mod model;
pub mod notify;
pub mod registry;
#[deny(clippy::disallowed_methods, reason = "a pure room reads no clock")]
pub mod respond;
pub mod serve;
#[deny(clippy::disallowed_methods, reason = "a pure room reads no clock")]
pub mod situation;
