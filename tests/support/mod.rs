//! What several test binaries share.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, reason = "a test binary has no public face")]

pub mod fake_daemon;
pub mod fake_swarm;
