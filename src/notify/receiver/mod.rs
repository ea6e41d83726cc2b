//! Receivers: from an alert to the one HTTP request that tells it to people or to another program.
//!
//! Everything here is a pure function of the alert and the receiver's checked settings: the same alert gives the same
//! bytes, so a doubled delivery is the same delivery. Nothing is sent here, and nothing is read from the settings file.
//!
//! Two rules hold for every receiver. What a daemon, a label or a log line said stays text: it pings nobody, links to
//! nothing and opens no markup. And a payload keeps to the limits that its service documents, by saying less: the
//! title, the services and the next step go last. The limits and where they are documented are in
//! `tests/fixtures/receivers/`.

mod alertmanager;
mod discord;
mod google_chat;
mod markdown;
mod mattermost;
mod ntfy;
mod pagerduty;
mod slack;
mod steps;
mod story;
mod teams;
mod telegram;
mod template;
mod text;
mod webhook;

use std::fmt;

use secrecy::SecretString;
use serde::Serialize;

pub use alertmanager::Alertmanager;
pub use discord::Discord;
pub use google_chat::GoogleChat;
pub use mattermost::Mattermost;
pub use ntfy::Ntfy;
pub use pagerduty::PagerDuty;
pub use slack::Slack;
pub use teams::Teams;
pub use telegram::Telegram;
pub use template::{OUTPUT_MAX, Template};
pub use webhook::{ALERT_SCHEMA, Webhook};

use crate::model::Alert;

/// What a receiver is, with its checked settings.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A Slack incoming webhook.
    Slack(Slack),
    /// A Discord webhook.
    Discord(Discord),
    /// A Power Automate workflow that posts into Microsoft Teams.
    Teams(Teams),
    /// A Mattermost incoming webhook.
    Mattermost(Mattermost),
    /// A Google Chat webhook of a space.
    GoogleChat(GoogleChat),
    /// A Telegram bot.
    Telegram(Telegram),
    /// A topic of an ntfy server.
    Ntfy(Ntfy),
    /// A PagerDuty integration, by the Events API v2.
    PagerDuty(PagerDuty),
    /// A Prometheus Alertmanager, by its API v2.
    Alertmanager(Alertmanager),
    /// Any HTTP server.
    Webhook(Webhook),
}

/// One HTTP request. The method is always POST.
#[derive(Clone)]
pub struct Request {
    /// Where to; it often is the secret itself.
    pub url: SecretString,
    /// What goes with it; the content type is among them, each name is there once.
    pub headers: Vec<(String, SecretString)>,
    /// What is sent. It may hold a secret: PagerDuty's routing key, ntfy's topic.
    pub body: Vec<u8>,
}

/// Why an alert could not be put into a receiver's words. None of it is over after a while: trying again is no use.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The operator's template cannot be read, or not be filled in.
    #[error("template{}: {reason}", line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Template {
        /// The line of the template, from 1; none where no line is to blame.
        line: Option<usize>,
        /// What is wrong, without anything that the template or the alert holds.
        reason: String,
    },
    /// The alert is no JSON.
    #[error("alert as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Even the shortest rendering is larger than the service takes.
    #[error("the shortest rendering is larger than {receiver} takes")]
    TooLarge {
        /// [`Kind::as_str`].
        receiver: &'static str,
    },
}

impl Kind {
    /// The kind as the settings, logs and metrics spell it.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Slack(_) => "slack",
            Self::Discord(_) => "discord",
            Self::Teams(_) => "teams",
            Self::Mattermost(_) => "mattermost",
            Self::GoogleChat(_) => "google-chat",
            Self::Telegram(_) => "telegram",
            Self::Ntfy(_) => "ntfy",
            Self::PagerDuty(_) => "pagerduty",
            Self::Alertmanager(_) => "alertmanager",
            Self::Webhook(_) => "webhook",
        }
    }

    /// The request that tells `alert`; none where this receiver has nothing to tell of it.
    ///
    /// # Errors
    /// When the operator's template fails, or not even the shortest rendering fits. Both are final.
    pub fn request(&self, alert: &Alert) -> Result<Option<Request>, FormatError> {
        let request = match self {
            Self::Slack(slack) => slack.request(alert)?,
            Self::Discord(discord) => discord.request(alert)?,
            Self::Teams(teams) => teams.request(alert)?,
            Self::Mattermost(mattermost) => mattermost.request(alert)?,
            Self::GoogleChat(chat) => chat.request(alert)?,
            Self::Telegram(telegram) => telegram.request(alert)?,
            Self::Ntfy(ntfy) => ntfy.request(alert)?,
            Self::PagerDuty(pagerduty) => return pagerduty.request(alert),
            Self::Alertmanager(alertmanager) => alertmanager.request(alert)?,
            Self::Webhook(webhook) => webhook.request(alert)?,
        };
        Ok(Some(request))
    }
}

impl Request {
    /// A request with a body of JSON.
    fn json(url: SecretString, body: &impl Serialize) -> Result<Self, FormatError> {
        Ok(Self::of(url, serde_json::to_vec(body)?))
    }

    /// A request with a body that is JSON. Teams takes a body that does not name its charset for UTF-16.
    fn of(url: SecretString, body: Vec<u8>) -> Self {
        let headers = vec![("content-type".to_owned(), JSON.into())];
        Self { url, headers, body }
    }
}

const JSON: &str = "application/json; charset=utf-8";

/// Without the body, which may hold a secret.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("url", &self.url)
            .field("headers", &self.headers)
            .field("body_bytes", &self.body.len())
            .finish()
    }
}
