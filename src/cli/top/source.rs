//! Where the view's [`Status`] comes from: Docker itself, or a running daemon that is asked once a second.
//!
//! Nothing is acted on and no journal is kept.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use tokio::sync::mpsc::Sender;
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::super::live;
use super::view::Update;
use crate::daemon::{Said, Session};
use crate::http;
use crate::model::{STATUS_SCHEMA, Status};

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(1);
/// How long after a first look that failed the next one is tried.
const AGAIN: Duration = Duration::from_secs(2);
/// How long a daemon may take for its answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer that is read: 500 storms are about 1 MB.
const BODY_BYTES_MAX: usize = 16 << 20;
/// Where a running daemon shows its status.
const PATH: &str = "/api/v1/status";
/// The variable that holds the token, where no file does.
const TOKEN: &str = "SQUALL_TOKEN";
/// What is looked at.
pub(super) enum Source {
    /// Docker itself.
    Docker(Box<Session>),
    /// A running daemon.
    Daemon(Remote),
}

impl Source {
    /// Looks again and again, and tells each time what was seen, until nobody listens.
    pub(super) async fn run(&self, tell: Sender<Update>) {
        match self {
            Self::Docker(session) => watch(session, &tell).await,
            Self::Daemon(remote) => poll(remote, &tell).await,
        }
    }
}

async fn watch(session: &Session, tell: &Sender<Update>) {
    // What is found and what fails is in the status.
    let mut say = |_: Said| {};
    // Before the first look nobody knows, and nothing is shown.
    while let Err(error) = session.look(&mut say).await {
        if tell.send(Update::Trouble(error.to_string())).await.is_err() {
            return;
        }
        sleep(AGAIN).await;
    }
    let look = async {
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let update = match session.lost() {
                Some(why) => Update::Trouble(why),
                None => Update::Status(Box::new(session.status())),
            };
            if tell.send(update).await.is_err() {
                break;
            }
        }
    };
    tokio::select! {
        () = session.run(None, &mut say) => {
            let _ = tell.send(Update::Trouble("the readers of events and log have ended".to_owned())).await;
            tell.closed().await;
        }
        () = look => {}
    }
}

/// A running daemon.
pub(super) struct Remote {
    client: Client,
    url: Url,
    /// Marked so that no debug output shows it.
    authorization: Option<HeaderValue>,
}

impl Remote {
    /// The daemon at this address; the token is in the file, or else in the environment.
    pub(super) fn new(address: &str, token_file: Option<&Path>) -> anyhow::Result<Self> {
        let url = live::url(address, PATH)?;
        let client = http::client(TIMEOUT)?;
        Ok(Self { client, url, authorization: authorization(token_file)? })
    }

    async fn status(&self) -> Result<Status, String> {
        let mut request = self.client.get(self.url.clone());
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization.clone());
        }
        let mut response = request.send().await.map_err(|error| http::explain(error, TIMEOUT))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN if self.authorization.is_some() => {
                return Err("it does not take this token".to_owned());
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(format!("it wants a token: --token-file FILE, or {TOKEN}"));
            }
            StatusCode::NOT_FOUND => return Err(format!("nothing at {PATH}: is this squall's address?")),
            other => return Err(format!("it answers {other}")),
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| http::explain(error, TIMEOUT))? {
            if body.len() + piece.len() > BODY_BYTES_MAX {
                return Err(format!("its answer is longer than {} MB", BODY_BYTES_MAX >> 20));
            }
            body.extend_from_slice(&piece);
        }
        let status: Status =
            serde_json::from_slice(&body).map_err(|error| format!("its answer is no status of squall's: {error}"))?;
        if status.schema != STATUS_SCHEMA {
            return Err(format!("it speaks {}, this squall {STATUS_SCHEMA}", status.schema));
        }
        Ok(status)
    }
}

async fn poll(remote: &Remote, tell: &Sender<Update>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let update = match remote.status().await {
            Ok(status) => Update::Status(Box::new(status)),
            Err(why) => Update::Trouble(why),
        };
        if tell.send(update).await.is_err() {
            break;
        }
    }
}

fn authorization(file: Option<&Path>) -> anyhow::Result<Option<HeaderValue>> {
    let (token, place) = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("the token in {} cannot be read", path.display()))?;
            (text, path.display().to_string())
        }
        None => match std::env::var(TOKEN) {
            Ok(token) => (token, TOKEN.to_owned()),
            Err(_) => return Ok(None),
        },
    };
    let token = token.trim();
    if token.is_empty() {
        bail!("{place} holds no token");
    }
    // The error would not hold the token, but says nothing either.
    let Ok(mut value) = HeaderValue::from_str(&format!("Bearer {token}")) else {
        bail!("the token in {place} has characters that no token has");
    };
    value.set_sensitive(true);
    Ok(Some(value))
}
