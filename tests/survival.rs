//! squall survives what happens to a Swarm: dockerd restarted, replaced and frozen, clocks that step, a full disk, a cut
//! network, hundreds of storms at once, and hours of events. On the real Swarm that tests/run or tests/survive starts.
//!
//! The long trials are ignored here: tests/survive runs them one by one and prints their rows as a table. After each,
//! what was told is held against what really stormed, outages against the gaps that were said, and every write against
//! the storms that are opted in. Nothing asserts how fast anything is.

#[path = "survival/api.rs"]
mod api;
#[path = "survival/clocks.rs"]
mod clocks;
#[path = "survival/crowd.rs"]
mod crowd;
#[path = "survival/daemon.rs"]
mod daemon;
#[path = "survival/disk.rs"]
mod disk;
#[path = "support/lab.rs"]
mod lab;
#[allow(dead_code, reason = "other tests use more of it")]
#[path = "telling/listener.rs"]
mod listener;
#[path = "survival/network.rs"]
mod network;
#[path = "survival/relay.rs"]
mod relay;
#[path = "survival/soak.rs"]
mod soak;
#[path = "survival/trial.rs"]
mod trial;
