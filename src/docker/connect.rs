//! Opens connections to a daemon: one connector for unix sockets, TCP, TLS and ssh, shared by our client and bollard.
//!
//! It keeps TCP connections probed, so that a peer that vanished is noticed without traffic, and limits the time that
//! opening takes. It sends nothing.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::Uri;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tower_service::Service;

use super::address::bracketed;
use super::endpoint::{Address, Endpoint};
use super::limits::Limits;
use super::ssh::{LastWords, SshStream, SshTarget};
use super::tls::{TlsError, client_config};

/// A silent TCP connection is probed after 30 s, then each 10 s; three unanswered probes end it: dead within 60 s.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_RETRIES: u32 = 3;

type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a connection was not opened, where the operating system's error does not say it.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The limit passed.
    #[error("no connection within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
    },
    /// ssh could not be run.
    #[error("{detail}")]
    Ssh {
        /// The reason.
        detail: String,
    },
}

/// Opens connections to one daemon.
#[derive(Debug, Clone)]
pub struct Connector {
    way: Way,
    limit: Duration,
}

#[derive(Debug, Clone)]
enum Way {
    Unix(PathBuf),
    Tcp(HttpConnector),
    Tls(HttpsConnector<HttpConnector>),
    Ssh { program: PathBuf, target: SshTarget, last_words: LastWords },
}

impl Connector {
    /// The connector for an endpoint.
    ///
    /// # Errors
    /// When certificates cannot be used.
    pub fn new(endpoint: &Endpoint, limits: &Limits) -> Result<Self, TlsError> {
        let way = match endpoint.address() {
            Address::Unix { path } => Way::Unix(path.clone()),
            Address::Tcp { tls: None, .. } => Way::Tcp(tcp_connector(limits)),
            Address::Tcp { tls: Some(files), .. } => {
                let mut tcp = tcp_connector(limits);
                tcp.enforce_http(false);
                let config = client_config(files)?;
                let tls = HttpsConnectorBuilder::new().with_tls_config(config).https_only().enable_http1();
                Way::Tls(tls.wrap_connector(tcp))
            }
            Address::Ssh { user, host, port, socket } => Way::Ssh {
                program: limits.ssh_program.clone(),
                target: SshTarget { user: user.clone(), host: host.clone(), port: *port, socket: socket.clone() },
                last_words: LastWords::default(),
            },
        };
        Ok(Self { way, limit: limits.connect })
    }

    /// The URI that all paths are appended to. Its authority becomes the Host header; for a local daemon it is the
    /// placeholder that the docker command sends.
    pub(crate) fn base(endpoint: &Endpoint) -> String {
        match endpoint.address() {
            Address::Unix { .. } | Address::Ssh { .. } => "http://api.moby.localhost".to_owned(),
            Address::Tcp { host, port, prefix, tls } => {
                let scheme = if tls.is_some() { "https" } else { "http" };
                format!("{scheme}://{}:{port}{prefix}", bracketed(host))
            }
        }
    }

    /// What ssh said last, when the way is ssh.
    pub(crate) async fn last_words(&self) -> Option<String> {
        match &self.way {
            Way::Ssh { last_words, .. } => {
                Some(last_words.heard().await.unwrap_or_else(|| "it ended without a word".to_owned()))
            }
            _ => None,
        }
    }
}

fn tcp_connector(limits: &Limits) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(limits.connect));
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE_IDLE));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    tcp
}

impl Service<Uri> for Connector {
    type Response = Stream;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Stream, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (way, after) = (self.way.clone(), self.limit);
        Box::pin(async move {
            match tokio::time::timeout(after, open(way, uri)).await {
                Ok(opened) => opened,
                Err(_) => Err(ConnectError::Timeout { after }.into()),
            }
        })
    }
}

async fn open(way: Way, uri: Uri) -> Result<Stream, BoxError> {
    Ok(match way {
        Way::Unix(path) => Stream::new(TokioIo::new(UnixStream::connect(path).await?)),
        Way::Tcp(mut tcp) => Stream::new(tcp.call(uri).await?),
        Way::Tls(mut tls) => Stream::new(tls.call(uri).await?),
        Way::Ssh { program, target, last_words } => {
            let opened = SshStream::open(&program, &target, &last_words);
            let stream = opened
                .map_err(|error| ConnectError::Ssh { detail: format!("cannot run {}: {error}", program.display()) })?;
            Stream::new(TokioIo::new(stream))
        }
    })
}

trait Io: Read + Write + Send + Unpin {}
impl<T: Read + Write + Send + Unpin> Io for T {}

/// An open connection of any kind.
pub struct Stream(Box<dyn Io>);

impl Stream {
    fn new(io: impl Io + 'static) -> Self {
        Self(Box::new(io))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl Connection for Stream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
