//! ntfy, by a JSON message to the root of its server. The message is plain text: Markdown is off unless asked for.

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::story;
use super::{FormatError, Request, text};
use crate::model::{Alert, Severity};

/// A topic of an ntfy server.
#[derive(Clone, Debug)]
pub struct Ntfy {
    /// The root of the server: `https://ntfy.sh`. A message as JSON to a topic's own URL is shown as JSON.
    pub url: String,
    /// The topic. Whoever knows it can read it where the server has no access control, so it is a secret.
    pub topic: SecretString,
    /// An access token (`tk_...`); none where the topic is open.
    pub token: Option<SecretString>,
}

/// Bytes of a message. From 4,096 on ntfy makes it a file. Firebase has room for 4,000 bytes of all, the title among
/// them.
const MESSAGE_MAX: usize = 3_200;
/// Bytes of the title.
const TITLE_MAX: usize = 300;
/// Bytes of a request: ntfy reads twice the length of a message.
const BODY_MAX: usize = 8_000;

impl Ntfy {
    pub(super) fn request(&self, alert: &Alert) -> Result<Request, FormatError> {
        let body = story::fitting("ntfy", alert, |told| {
            let message = story::flat(told, "\n", story::unmarked);
            let body = json!({
                "topic": self.topic.expose_secret(),
                "title": title(alert),
                "message": message,
                "priority": priority(alert),
                "tags": [emoji(alert), alert.kind.as_str()],
            });
            let body = body.to_string().into_bytes();
            (message.len() <= MESSAGE_MAX && body.len() <= BODY_MAX).then_some(body)
        })?;
        let mut request = Request::of(self.url.as_str().into(), body);
        if let Some(token) = &self.token {
            request.headers.push(("authorization".to_owned(), format!("Bearer {}", token.expose_secret()).into()));
        }
        Ok(request)
    }
}

fn title(alert: &Alert) -> String {
    let title = story::title(alert);
    let mut max = text::units(&title);
    loop {
        let shown = text::cut(&title, max);
        if shown.len() <= TITLE_MAX {
            return shown.into_owned();
        }
        max -= 1;
    }
}

/// From 1 to 5; 3 is ntfy's default, 5 is the longest buzz.
fn priority(alert: &Alert) -> u8 {
    match alert.severity {
        _ if story::is_over(alert) => 2,
        Severity::Info => 3,
        Severity::Warning => 4,
        Severity::Critical => 5,
    }
}

/// A tag that ntfy shows as an emoji.
fn emoji(alert: &Alert) -> &'static str {
    match alert.severity {
        _ if story::is_over(alert) => "white_check_mark",
        Severity::Info => "information_source",
        Severity::Warning => "warning",
        Severity::Critical => "rotating_light",
    }
}
