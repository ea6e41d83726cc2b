//! Waits for a Docker that is away when a watch begins: a machine that starts, or a dockerd that is being replaced.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::clock::wall_clock;
use super::opened::{Opened, SessionError};
use super::session::Session;
use super::supervisor::Supervisor;
use crate::config::Config;
use crate::model::{Check, Health, STATUS_SCHEMA, Status};
use crate::serve::Server;

/// The pause before the second try; each later one is twice as long, up to the longest.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How often it is shown, and told to the service manager, that squall lives.
const BEAT: Duration = Duration::from_millis(250);

/// Connects as [`Session::connect`] does. While Docker is away it tries again and again, says why whenever the reason
/// changes, and shows squall as not ready. It can be dropped at any moment.
///
/// # Errors
/// When waiting would not help: the address, the context or the certificates cannot be used, or permission is denied.
pub async fn await_docker(config: &Config, mut say: impl FnMut(&str)) -> Result<Session, SessionError> {
    let mut supervisor = Supervisor::of_environment();
    let mut shown: Option<Shown> = None;
    let mut pause = PAUSE_MIN;
    let mut said = String::new();
    loop {
        let connected = live(Session::connect(config, false), &mut supervisor, shown.as_ref()).await;
        let why = match connected {
            Err(SessionError::Docker(error)) if error.is_transient() => error.to_string(),
            ended => {
                if let Some(shown) = shown {
                    shown.close().await;
                }
                return ended;
            }
        };
        if why != said {
            say(&why);
            if shown.is_none() {
                shown = Some(Shown::start(config).await);
            }
            shown.iter().for_each(|shown| shown.because(&why));
            said = why;
        }
        supervisor.wait(&said);
        live(tokio::time::sleep(pause), &mut supervisor, shown.as_ref()).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

/// Waits for something, and gives signs of life meanwhile.
async fn live<T>(work: impl Future<Output = T>, supervisor: &mut Supervisor, shown: Option<&Shown>) -> T {
    tokio::pin!(work);
    loop {
        supervisor.turn();
        if let Some(shown) = shown {
            shown.turn();
        }
        let beat = tokio::time::sleep_until(Instant::now() + BEAT);
        tokio::select! {
            done = &mut work => return done,
            () = beat => {}
        }
    }
}

/// The page, metrics and health of a squall that waits.
struct Shown {
    status: watch::Sender<Arc<Status>>,
    /// None if nothing is to be served, or if the address cannot be bound: the watch itself reports that.
    server: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Shown {
    async fn start(config: &Config) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let health = Health { is_alive: true, is_ready: false, checks: Vec::new() };
        let started = wall_clock();
        let status = Status { schema: STATUS_SCHEMA.to_owned(), version, started, health, ..Status::default() };
        let (status, receiver) = watch::channel(Arc::new(status));
        let settings = Opened::of(config).ok().and_then(|opened| opened.serve);
        let bound = match settings {
            Some(settings) => Server::bind(settings, receiver).await.ok(),
            None => None,
        };
        let server = bound.map(|server| {
            let (stop, stopped) = oneshot::channel();
            let stopped = async move { drop(stopped.await) };
            (stop, tokio::spawn(server.run(stopped)))
        });
        Self { status, server }
    }

    fn because(&self, why: &str) {
        let check = Check { name: "events".to_owned(), is_ok: false, detail: why.to_owned(), age_secs: None };
        self.status.send_modify(|status| Arc::make_mut(status).health.checks = vec![check]);
    }

    fn turn(&self) {
        self.status.send_modify(|status| Arc::make_mut(status).at = wall_clock());
    }

    /// Gives the address back.
    async fn close(self) {
        if let Some((stop, served)) = self.server {
            let _ = stop.send(());
            let _ = served.await;
        }
    }
}
