//! The limits on what one call to Docker may take.

use std::path::PathBuf;
use std::time::Duration;

/// Longest answer that is held whole (info, one container). `/info` of a large cluster is a few tens of kB.
pub(crate) const SMALL_BODY_BYTES: usize = 8 << 20;
/// Longest error answer that is read. The daemon's are one line.
pub(crate) const ERROR_BODY_BYTES: usize = 64 << 10;
/// Longest element of a listing or event that is kept; longer ones are counted and passed over. A service's spec is
/// bounded by Raft's 1.5 MB messages, so only something broken comes near.
pub(crate) const ELEMENT_BYTES: usize = 4 << 20;

/// How long a call to Docker may take in each phase, and which `ssh` it runs. The defaults are for production.
#[derive(Debug, Clone)]
pub struct Limits {
    /// To open a connection, with its TLS handshake. Default 5 s: two lost SYNs (1 s + 2 s) and a slow handshake fit.
    /// ssh has its own limit of 10 s, which it is given.
    pub connect: Duration,
    /// From the request to the answer's headers. Default 30 s: a manager without a leader answers after 20 s.
    pub headers: Duration,
    /// Between two pieces of a body that is not an event stream. Default 15 s.
    pub idle: Duration,
    /// A whole small answer. Default 60 s.
    pub small: Duration,
    /// A whole listing. Default 5 min: 50,000 tasks with long specs over a slow ssh.
    pub listing: Duration,
    /// The `ssh` to run. Default `ssh`, found on the PATH.
    pub ssh_program: PathBuf,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            headers: Duration::from_secs(30),
            idle: Duration::from_secs(15),
            small: Duration::from_secs(60),
            listing: Duration::from_secs(300),
            ssh_program: PathBuf::from("ssh"),
        }
    }
}
