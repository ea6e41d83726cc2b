//! The ways in which talking to Docker fails, told apart by what the operator does next.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use super::connect::ConnectError;
use super::endpoint::Endpoint;
use super::version::{ApiVersion, NEWEST, OLDEST};

/// Longest message of a daemon that is shown.
const MESSAGE_CHARS: usize = 500;

/// The part of a call that a time limit covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Opening the connection, with its TLS handshake.
    Connect,
    /// From the request to the answer's headers.
    Headers,
    /// The answer's body: a pause in it, or all of it.
    Body,
}

impl Phase {
    fn waited_for(self) -> &'static str {
        match self {
            Self::Connect => "a connection",
            Self::Headers => "an answer",
            Self::Body => "the rest of the answer",
        }
    }
}

/// Why a daemon does not answer for the swarm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotManager {
    /// It is a worker.
    Worker,
    /// It is in no swarm.
    NoSwarm,
    /// It is a manager whose store is locked.
    Locked,
    /// It is a manager that is starting or cannot reach the others.
    Preparing,
}

impl NotManager {
    fn sentence(self) -> &'static str {
        match self {
            Self::Worker => "is a swarm worker: run squall on a manager to see the swarm's tasks",
            Self::NoSwarm => "is in no swarm",
            Self::Locked => "is a locked swarm manager: run `docker swarm unlock` on it",
            Self::Preparing => "is a swarm manager that is still starting, or cannot reach the other managers",
        }
    }
}

/// What went wrong with a call to Docker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no socket at the path.
    #[error("no Docker socket at {} ({chosen_by}): is Docker running? name another with --host or DOCKER_HOST", path.display())]
    NoSocket {
        /// Where it was looked for.
        path: PathBuf,
        /// What named it.
        chosen_by: String,
    },
    /// The socket may not be opened.
    #[error("no permission to open Docker's socket {}: run as root or as a member of the docker group", path.display())]
    PermissionDenied {
        /// The socket.
        path: PathBuf,
    },
    /// Nothing listens there.
    #[error("connection to Docker at {endpoint} refused: is Docker running, and listening there?")]
    Refused {
        /// The daemon.
        endpoint: String,
    },
    /// The connection could not be opened for another reason: name resolution, routing.
    #[error("could not connect to Docker at {endpoint}: {detail}")]
    Connect {
        /// The daemon.
        endpoint: String,
        /// The reason.
        detail: String,
    },
    /// The TLS handshake failed, or the certificates cannot be read.
    #[error("TLS to Docker at {endpoint} failed: {detail}")]
    Tls {
        /// The daemon.
        endpoint: String,
        /// The reason, and what to do where it is known.
        detail: String,
    },
    /// `ssh` could not be run, or ended.
    #[error("ssh to Docker at {endpoint} failed: {detail}")]
    Ssh {
        /// The daemon.
        endpoint: String,
        /// The last line that ssh wrote, or why it could not be run.
        detail: String,
    },
    /// A time limit passed.
    #[error("Docker at {endpoint} kept {what} waiting {after:?} for {}: it is overloaded or unreachable", phase.waited_for())]
    Timeout {
        /// The daemon.
        endpoint: String,
        /// The request.
        what: String,
        /// What was waited for.
        phase: Phase,
        /// The limit.
        after: Duration,
    },
    /// The connection ended within an answer.
    #[error("connection to Docker at {endpoint} was lost during {what}: {detail}")]
    Lost {
        /// The daemon.
        endpoint: String,
        /// The request.
        what: String,
        /// How.
        detail: String,
    },
    /// The daemon does not answer for the swarm.
    #[error("Docker at {endpoint} {}", why.sentence())]
    NotManager {
        /// The daemon.
        endpoint: String,
        /// Which of the reasons.
        why: NotManager,
    },
    /// The managers have lost their quorum.
    #[error("the swarm of Docker at {endpoint} has no leader; too few managers may be online: {message}")]
    NoLeader {
        /// The daemon.
        endpoint: String,
        /// The daemon's message.
        message: String,
    },
    /// No common version of the API.
    #[error("Docker at {endpoint} speaks API {daemon}, squall {OLDEST} to {NEWEST}: update the older of the two")]
    NoCommonVersion {
        /// The daemon.
        endpoint: String,
        /// The daemon's version, or its range.
        daemon: String,
    },
    /// The daemon refused the version that was negotiated: it was replaced meanwhile.
    #[error("Docker at {endpoint} refused API {asked}: {message}")]
    VersionRefused {
        /// The daemon.
        endpoint: String,
        /// What was asked for.
        asked: ApiVersion,
        /// The daemon's message.
        message: String,
    },
    /// Another HTTP error.
    #[error("Docker at {endpoint} answered {what} with HTTP {status}: {message}")]
    Status {
        /// The daemon.
        endpoint: String,
        /// The request.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The daemon's message, at most 500 characters.
        message: String,
    },
    /// The answer is not what Docker sends.
    #[error("Docker at {endpoint} answered {what} with something unexpected: {detail}; is it a Docker daemon?")]
    BadAnswer {
        /// The daemon.
        endpoint: String,
        /// The request.
        what: String,
        /// What is odd about it.
        detail: String,
    },
}

impl Error {
    /// Whether the same call may succeed later with nobody having mended anything here.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NoSocket { .. }
            | Self::Refused { .. }
            | Self::Connect { .. }
            | Self::Ssh { .. }
            | Self::Timeout { .. }
            | Self::Lost { .. }
            | Self::NoLeader { .. }
            | Self::VersionRefused { .. } => true,
            Self::NotManager { why, .. } => *why == NotManager::Preparing,
            Self::Status { status, .. } => *status >= 500 || *status == 429,
            Self::PermissionDenied { .. }
            | Self::Tls { .. }
            | Self::NoCommonVersion { .. }
            | Self::BadAnswer { .. } => false,
        }
    }

    /// Whether the daemon said that the thing asked for does not exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }

    /// Whether the daemon is a swarm's, and no manager.
    pub const fn is_worker(&self) -> bool {
        matches!(self, Self::NotManager { why: NotManager::Worker, .. })
    }

    /// Whether the daemon does not answer for a swarm, as it is no manager of one.
    pub fn is_no_manager(&self) -> bool {
        matches!(self, Self::NotManager { why: NotManager::Worker | NotManager::NoSwarm, .. })
    }

    /// What an HTTP status other than success means.
    pub(crate) fn from_status(
        endpoint: &Endpoint,
        what: &str,
        asked: Option<ApiVersion>,
        status: u16,
        body: &[u8],
    ) -> Self {
        let message = daemon_message(body);
        let endpoint = endpoint.to_string();
        let has = |words: &str| message.contains(words);
        // Matched by their words: the statuses changed over the years (406, 500, 503), the sentences did not.
        let not_manager = if has("being prepared") {
            Some(NotManager::Preparing)
        } else if has("Swarm is encrypted") {
            Some(NotManager::Locked)
        } else if has("This node is not a swarm manager") {
            Some(if has("Worker nodes") { NotManager::Worker } else { NotManager::NoSwarm })
        } else {
            None
        };
        if let Some(why) = not_manager {
            return Self::NotManager { endpoint, why };
        }
        if has("does not have a leader") || has("too few managers are online") {
            return Self::NoLeader { endpoint, message };
        }
        if has("HTTP request to an HTTPS server") {
            let detail = "it expects TLS: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH, or use a context".to_owned();
            return Self::Tls { endpoint, detail };
        }
        match asked {
            Some(asked) if has("client version") && (has("too old") || has("too new") || has("is newer")) => {
                Self::VersionRefused { endpoint, asked, message }
            }
            _ => Self::Status { endpoint, what: what.to_owned(), status, message },
        }
    }

    /// What an error of the HTTP client or of our connector means, by the outermost cause that says something.
    pub(crate) fn from_transport(endpoint: &Endpoint, what: &str, error: &(dyn StdError + 'static)) -> Self {
        let mut is_connecting = false;
        let mut next = Some(error);
        let mut innermost = error;
        while let Some(cause) = next {
            let client_error = cause.downcast_ref::<hyper_util::client::legacy::Error>();
            is_connecting |= client_error.is_some_and(hyper_util::client::legacy::Error::is_connect);
            if let Some(found) = Self::from_cause(endpoint, what, cause, is_connecting) {
                return found;
            }
            innermost = cause;
            next = cause.source();
        }
        Self::Lost { endpoint: endpoint.to_string(), what: what.to_owned(), detail: innermost.to_string() }
    }

    fn from_cause(
        endpoint: &Endpoint,
        what: &str,
        cause: &(dyn StdError + 'static),
        is_connecting: bool,
    ) -> Option<Self> {
        let address = endpoint.to_string();
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Some(Self::Tls { endpoint: address, detail: tls_detail(tls) });
        }
        match cause.downcast_ref::<ConnectError>() {
            Some(ConnectError::Timeout { after }) => {
                let (what, phase, after) = (what.to_owned(), Phase::Connect, *after);
                return Some(Self::Timeout { endpoint: address, what, phase, after });
            }
            Some(ConnectError::Ssh { detail }) => {
                return Some(Self::Ssh { endpoint: address, detail: detail.clone() });
            }
            None => {}
        }
        let io = cause.downcast_ref::<io::Error>()?;
        // io::Error::source skips its own payload, so that is looked at here.
        let inner = io.get_ref().and_then(|inner| Self::from_cause(endpoint, what, inner, is_connecting));
        if inner.is_some() {
            return inner;
        }
        Some(match (io.kind(), endpoint.socket()) {
            (io::ErrorKind::NotFound, Some(path)) => {
                Self::NoSocket { path: path.to_owned(), chosen_by: endpoint.chosen_by().to_owned() }
            }
            (io::ErrorKind::PermissionDenied, Some(path)) => Self::PermissionDenied { path: path.to_owned() },
            (io::ErrorKind::ConnectionRefused, _) => Self::Refused { endpoint: address },
            (io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable, _) => {
                Self::Connect { endpoint: address, detail: io.to_string() }
            }
            _ if is_connecting => Self::Connect { endpoint: address, detail: io.to_string() },
            _ => Self::Lost { endpoint: address, what: what.to_owned(), detail: io.to_string() },
        })
    }
}

fn tls_detail(error: &rustls::Error) -> String {
    use rustls::{AlertDescription, CertificateError};
    let advice = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
            ": its certificate is not signed by the CA in ca.pem"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => ": its certificate is for another name",
        rustls::Error::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::HandshakeFailure
            | AlertDescription::UnknownCA,
        ) => ": it wants a client certificate that it trusts (cert.pem and key.pem in DOCKER_CERT_PATH or the context)",
        rustls::Error::InvalidMessage(_) => ": it does not speak TLS on this port",
        _ => "",
    };
    format!("{error}{advice}")
}

/// The daemon's message, from `{"message":...}` or from plain text, as one line of at most 500 characters.
fn daemon_message(body: &[u8]) -> String {
    let parsed: Option<String> = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|value| ["message", "cause"].iter().find_map(|name| Some(value.get(name)?.as_str()?.to_owned())));
    let text = parsed.unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MESSAGE_CHARS) {
        _ if line.is_empty() => "no message".to_owned(),
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
