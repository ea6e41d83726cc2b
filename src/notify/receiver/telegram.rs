//! Telegram, by a bot's `sendMessage`, in its HTML.

use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::story::{self, Block, Span, Tone};
use super::{FormatError, Request, text};
use crate::model::{Alert, Severity};

/// A Telegram bot and a chat that it is in.
#[derive(Clone, Debug)]
pub struct Telegram {
    /// Where the Bot API is, without a slash at its end: [`Telegram::API_URL`], or a server of one's own.
    pub api_url: String,
    /// The bot's token. It is a part of the URL.
    pub token: SecretString,
    /// The chat: a number, or `@channel`.
    pub chat_id: String,
    /// Whom to ping: `@name`; none: nobody.
    pub mention: Option<String>,
}

/// Characters of a message, once its markup is read.
const TEXT_MAX: usize = 4_096;

impl Telegram {
    /// The Bot API of Telegram itself.
    pub const API_URL: &'static str = "https://api.telegram.org";

    pub(super) fn request(&self, alert: &Alert) -> Result<Request, FormatError> {
        let text = story::fitting("telegram", alert, |told| {
            let shown = self.text(alert, told, |span| text::defuse(&span.text));
            (text::units(&shown) <= TEXT_MAX).then(|| self.text(alert, told, mark))
        })?;
        let url = format!("{}/bot{}/sendMessage", self.api_url, self.token.expose_secret());
        let body = json!({
            "chat_id": self.chat_id,
            "text": text,
            "parse_mode": "HTML",
            "link_preview_options": {"is_disabled": true},
            "disable_notification": story::is_over(alert) || alert.severity == Severity::Info,
        });
        Request::json(url.into(), &body)
    }

    fn text(&self, alert: &Alert, told: &[Block], mark: impl Fn(&Span) -> String) -> String {
        let title = mark(&Span { tone: Tone::Strong, text: story::title(alert) });
        let told = story::flat(told, "\n", mark);
        match self.mention.as_ref().filter(|_| story::wants_mention(alert)) {
            Some(mention) => format!("{title}\n{}\n\n{told}", text::escaped(mention, text::escape_html)),
            None => format!("{title}\n\n{told}"),
        }
    }
}

fn mark(span: &Span) -> String {
    let text = text::escaped(&text::defuse(&span.text), text::escape_html);
    match span.tone {
        Tone::Plain => text,
        Tone::Strong => format!("<b>{text}</b>"),
        Tone::Name | Tone::Quote => {
            // Nothing in code is a mention or a link.
            format!("<code>{}</code>", text::escaped(&span.text, text::escape_html))
        }
    }
}
