//! One request to a receiver, and what its answer means.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use secrecy::ExposeSecret as _;

use super::receiver::Request;
use crate::http;

/// How much of an answer is read, for how long, and how much of that is shown.
const ANSWER_BYTES_MAX: usize = 4096;
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
const EXCERPT_CHARS_MAX: usize = 200;
/// A secret that is shorter is not looked for in an answer: any text may hold it by chance.
const SECRET_LENGTH_MIN: usize = 6;

/// A receiver's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It took the alert; with its words, which may be empty.
    Taken(String),
    /// It has no use for this kind of alert.
    Unwanted,
    /// It refuses it, and would again.
    Refused(String),
    /// It may take it later.
    Later {
        /// Why not now.
        why: String,
        /// When, if it says so.
        after: Option<Duration>,
        /// Whether it refuses the alert: for good, unless a proxy answers so while the server behind it restarts.
        is_refusal: bool,
    },
}

/// Sends requests. Redirects are not followed: they would take secrets elsewhere. Proxies are those of the environment.
#[derive(Clone, Debug)]
pub struct Sender {
    client: reqwest::Client,
}

/// Why nothing can be sent.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS or a proxy for alerts: {0}")]
pub struct SenderError(#[from] reqwest::Error);

impl Sender {
    /// A sender.
    ///
    /// # Errors
    /// When TLS cannot be set up, or a proxy of the environment is none.
    pub fn new() -> Result<Self, SenderError> {
        Ok(Self { client: http::client(http::REQUEST_LIMIT)? })
    }

    /// Asks a URL.
    ///
    /// # Errors
    /// Why it did not answer with success, without the URL.
    pub async fn ping(&self, url: &str) -> Result<(), String> {
        match self.client.get(url).send().await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => Err(format!("it answers {}", response.status())),
            Err(error) => Err(words(error)),
        }
    }

    /// Sends a request.
    pub async fn send(&self, request: &Request) -> Answer {
        let mut builder = self.client.post(request.url.expose_secret()).body(request.body.clone());
        for (name, value) in &request.headers {
            builder = builder.header(name, value.expose_secret());
        }
        let mut response = match builder.send().await {
            Ok(response) => response,
            Err(error) if error.is_builder() => return Answer::Refused("its URL or a header is none".to_owned()),
            Err(error) => return Answer::Later { why: words(error), after: None, is_refusal: false },
        };
        let status = response.status();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
        let mut answer = Vec::new();
        let read = async {
            while let Ok(Some(chunk)) = response.chunk().await {
                answer.extend_from_slice(&chunk);
                if answer.len() >= ANSWER_BYTES_MAX {
                    break;
                }
            }
        };
        // The status has decided: the rest is for people, and a slow one holds up no other alert.
        let _ = tokio::time::timeout(ANSWER_LIMIT, read).await;
        let said = excerpt(&answer, request);
        let why = if said.is_empty() { format!("it answers {status}") } else { format!("it answers {status}: {said}") };
        match status {
            status if status.is_success() => Answer::Taken(why),
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Answer::Later { why, after, is_refusal: false }
            }
            status if status.is_server_error() => Answer::Later { why, after, is_refusal: false },
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {
                Answer::Later { why, after, is_refusal: true }
            }
            _ => Answer::Refused(why),
        }
    }
}

/// An error with its causes, and without the URL: that may be a secret.
fn words(error: reqwest::Error) -> String {
    format!("{:#}", anyhow::Error::new(error.without_url()))
}

/// `Retry-After`: seconds, or a date (RFC 9110, section 10.2.3).
fn retry_after(text: &str) -> Option<Duration> {
    if let Ok(secs) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(secs).ok();
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text.trim()).ok()?;
    Duration::try_from(date.duration_since(jiff::Timestamp::now())).ok()
}

/// An answer in one line, without the secrets of the request.
fn excerpt(answer: &[u8], request: &Request) -> String {
    let text = String::from_utf8_lossy(answer);
    let mut text: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    let url = request.url.expose_secret();
    let (host, path) = url.split_once("://").map_or(("", None), |(_, rest)| match rest.split_once('/') {
        Some((host, path)) => (host, Some(path)),
        None => (rest, None),
    });
    let login = host.rsplit_once('@').into_iter().flat_map(|(login, _)| login.split(':'));
    let headers = request.headers.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
    let headers = headers.map(|(_, value)| value.expose_secret());
    let words = headers.flat_map(|value| value.split_whitespace());
    let parts = || path.into_iter().flat_map(|path| path.split(['/', '?', '&', '=']));
    // What stands alone in the body is a secret as well: PagerDuty's routing key, ntfy's topic.
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let own = ["routing_key", "topic"].into_iter().filter_map(|key| body[key].as_str());
    // A bot's token is behind `bot`.
    let token = parts().filter_map(|part| part.strip_prefix("bot"));
    for secret in [url].into_iter().chain(own).chain(token).chain(path).chain(words).chain(parts()).chain(login) {
        if secret.len() >= SECRET_LENGTH_MIN {
            text = text.replace(secret, "[secret]");
        }
    }
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().take(EXCERPT_CHARS_MAX).collect()
}
