//! What a running daemon shows over HTTP: a status page, its JSON, metrics, and whether it is well.
//!
//! It is fed by one [`watch`] channel of [`Status`] and reads nothing else, so that whoever looks cannot hold up the
//! daemon: a slow reader gets the newest state and none of those between. It changes nothing: every route is a GET.
//!
//! Beyond loopback it asks for a token, since storms name services, nodes and images; the names that it answers to are
//! checked, so that a page elsewhere cannot read it by rebinding its own name to this address. It speaks HTTP only:
//! TLS is for a proxy in front of it.

mod access;
mod app;
mod assets;
mod connection;
mod live;
mod metrics;
mod page;
mod routes;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::model::{Status, Timestamp};

pub use app::STALE_SECS;
pub use live::LISTENERS_MAX;
pub use metrics::{METRICS_REGISTRIES_MAX, METRICS_STORMS_MAX, metrics, openmetrics};
pub use page::{PAGE_ROWS_MAX, fragment, page};
pub use routes::{OPENAPI, paths};

/// How many connections are open at once; further ones wait in the kernel's queue. Above it a port scan or a fleet of
/// forgotten browsers would take the daemon's file descriptors.
pub const CONNECTIONS_MAX: usize = 256;
/// How long an end waits for the answers under way.
const GRACE: Duration = Duration::from_secs(2);
/// How long nothing is accepted after an error, which mostly is a want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Where to serve, and to whom.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// What a client has to show, as `Authorization: Bearer` or as the password of HTTP Basic. Health is for all.
    pub token: Option<SecretString>,
    /// Whether other machines may look without a token.
    pub insecure: bool,
    /// Further host names that it answers to.
    pub hosts: Vec<String>,
}

impl Settings {
    /// Whether nobody gets in who should not.
    ///
    /// # Errors
    /// When other machines reach the address and neither a token nor `insecure` is set, or the token is empty.
    pub fn check(&self) -> Result<(), ServeError> {
        if self.token.as_ref().is_some_and(|token| token.expose_secret().is_empty()) {
            return Err(ServeError::EmptyToken);
        }
        if !self.listen.ip().is_loopback() && self.token.is_none() && !self.insecure {
            return Err(ServeError::Exposed(self.listen));
        }
        Ok(())
    }
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Other machines reach the address, and nobody said that they may.
    #[error("other machines reach {0}: set serve.token, or serve.insecure = true where anybody may look")]
    Exposed(SocketAddr),
    /// An empty token would let everybody in.
    #[error("serve.token is empty")]
    EmptyToken,
    /// The address cannot be had.
    #[error("cannot bind {address}: {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

impl ServeError {
    /// Whether somebody else has the address.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Bind { source, .. } if source.kind() == io::ErrorKind::AddrInUse)
    }
}

/// A bound address, and all that answers there.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    app: Router,
    closing: watch::Sender<bool>,
}

impl Server {
    /// Binds the address; nobody is answered before [`Server::run`].
    ///
    /// # Errors
    /// When other machines reach the address and neither a token nor `insecure` is set, when the token is empty, and
    /// when the address cannot be bound.
    pub async fn bind(settings: Settings, status: watch::Receiver<Arc<Status>>) -> Result<Self, ServeError> {
        settings.check()?;
        let failed = |source| ServeError::Bind { address: settings.listen, source };
        let listener = TcpListener::bind(settings.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (closing, closed) = watch::channel(false);
        let app = routes::router(&settings, status, closed);
        Ok(Self { listener, address, app, closing })
    }

    /// The address that was bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` ends, and then for at most 2 s more those who have asked.
    pub async fn run(self, stop: impl Future<Output = ()> + Send + 'static) {
        let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut open = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            while open.try_join_next().is_some() {}
            let accepted = tokio::select! {
                () = &mut stop => break,
                accepted = accept(&self.listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let served = connection::serve(stream, self.app.clone(), self.closing.subscribe());
                    open.spawn(async move {
                        served.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection was not accepted");
                    tokio::select! {
                        () = &mut stop => break,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
        drop(self.listener);
        self.closing.send_replace(true);
        let ended = async { while open.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, ended).await.is_err() {
            open.shutdown().await;
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Option<OwnedSemaphorePermit>)> {
    // Never closed: no slot cannot happen.
    let slot = Arc::clone(slots).acquire_owned().await.ok();
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

/// The time on this machine's clock.
fn wall_clock() -> Timestamp {
    Timestamp::from_nanos(i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX))
}
