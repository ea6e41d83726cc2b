//! One request to a receiver, and what its answer means.

use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::RETRY_AFTER;
use secrecy::ExposeSecret as _;

use super::receiver::Request;
use crate::http;

/// How much of an answer is read, and how much of that is shown.
const ANSWER_BYTES_MAX: usize = 4096;
const EXCERPT_CHARS_MAX: usize = 200;
/// A secret that is shorter is not looked for in an answer: any text may hold it by chance.
const SECRET_LENGTH_MIN: usize = 6;

/// What a receiver has answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It took the alert.
    Taken,
    /// It has no use for this kind of alert.
    Unwanted,
    /// It refuses it, and would again.
    Refused(String),
    /// It may take it later.
    Later {
        /// Why not now.
        why: String,
        /// When, where it says so.
        after: Option<Duration>,
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
            Err(error) => return Answer::Later { why: words(error), after: None },
        };
        let status = response.status();
        if status.is_success() {
            return Answer::Taken;
        }
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
        let mut answer = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            answer.extend_from_slice(&chunk);
            if answer.len() >= ANSWER_BYTES_MAX {
                break;
            }
        }
        let why = format!("it answers {status}: {}", excerpt(&answer, request));
        match status {
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
                Answer::Later { why, after }
            }
            status if status.is_server_error() => Answer::Later { why, after },
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

/// What an answer says, in one line and without what was sent as a secret.
fn excerpt(answer: &[u8], request: &Request) -> String {
    let text = String::from_utf8_lossy(answer);
    let mut text: String = text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect();
    let url = request.url.expose_secret();
    let path = url.split_once("://").and_then(|(_, rest)| rest.split_once('/')).map(|(_, path)| path);
    let headers = request.headers.iter().map(|(_, value)| value.expose_secret());
    let words = headers.flat_map(|value| value.split_whitespace());
    let parts = || path.into_iter().flat_map(|path| path.split(['/', '?', '&', '=']));
    // What stands alone in the body is a secret as well: PagerDuty's routing key, ntfy's topic.
    let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap_or_default();
    let own = ["routing_key", "topic"].into_iter().filter_map(|key| body[key].as_str());
    // A bot's token is behind `bot`.
    let token = parts().filter_map(|part| part.strip_prefix("bot"));
    for secret in [url].into_iter().chain(own).chain(token).chain(path).chain(words).chain(parts()) {
        if secret.len() >= SECRET_LENGTH_MIN && secret != "application/json" {
            text = text.replace(secret, "[secret]");
        }
    }
    text.chars().take(EXCERPT_CHARS_MAX).collect::<String>().trim().to_owned()
}
