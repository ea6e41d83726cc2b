//! Discord, by a webhook with one embed. Embeds ping nobody; the content, which can, holds the operator's mention only.

use secrecy::SecretString;
use serde_json::{Value, json};

use super::story;
use super::{FormatError, Request, markdown, text};
use crate::model::{Alert, Severity};

/// A Discord webhook.
#[derive(Clone, Debug)]
pub struct Discord {
    /// `https://discord.com/api/webhooks/...`
    pub url: SecretString,
    /// Whom to ping, as Discord writes it: `<@&role id>`, `<@user id>`, `@here`, `@everyone`; none: nobody.
    pub mention: Option<String>,
}

/// Characters of an embed's title and description. Together they are far below the 6,000 of all embeds of a message.
const TITLE_MAX: usize = 256;
const DESCRIPTION_MAX: usize = 4_096;

impl Discord {
    pub(super) fn request(&self, alert: &Alert) -> Result<Request, FormatError> {
        let description = story::fitting("discord", alert, |told| {
            let text = story::flat(told, "\n", |span| markdown::mark(span, markdown::escape));
            (text::units(&text) <= DESCRIPTION_MAX).then_some(text)
        })?;
        let title = text::defuse(&story::title(alert));
        let mut body = json!({
            "embeds": [{
                "title": text::cut_escaped(&title, TITLE_MAX, &markdown::escape),
                "description": description,
                "color": colour(alert),
            }],
            "allowed_mentions": {"parse": []},
        });
        if let Some(mention) = self.mention.as_ref().filter(|_| story::wants_mention(alert)) {
            body["content"] = json!(mention);
            body["allowed_mentions"] = allowed(mention);
        }
        Request::json(self.url.clone(), &body)
    }
}

/// The one mention that may ping.
fn allowed(mention: &str) -> Value {
    let id = |start: &str| mention.strip_prefix(start).and_then(|rest| rest.strip_suffix('>'));
    if let Some(role) = id("<@&") {
        json!({"parse": [], "roles": [role]})
    } else if let Some(user) = id("<@!").or_else(|| id("<@")) {
        json!({"parse": [], "users": [user]})
    } else if matches!(mention, "@here" | "@everyone") {
        json!({"parse": ["everyone"]})
    } else {
        json!({"parse": []})
    }
}

/// The bar beside the embed: red, amber, blue; green for what is over.
fn colour(alert: &Alert) -> u32 {
    match alert.severity {
        _ if story::is_over(alert) => 0x2e_a0_43,
        Severity::Critical => 0xd7_3a_49,
        Severity::Warning => 0xd2_99_22,
        Severity::Info => 0x38_8b_fd,
    }
}
