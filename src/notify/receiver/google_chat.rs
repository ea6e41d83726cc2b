//! Google Chat, by the webhook of a space, as a card.
//!
//! Foreign text is in the card, whose HTML can be escaped; the text of a message has no escapes, and there
//! `<users/all>` in the name of a service would ping the space. A conversation is a thread.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::story::{self, Block, Span, Tone};
use super::{FormatError, Request, text};
use crate::model::Alert;

/// A webhook of a Google Chat space.
#[derive(Clone, Debug)]
pub struct GoogleChat {
    /// `https://chat.googleapis.com/v1/spaces/.../messages?key=...&token=...`
    pub url: SecretString,
    /// Whom to ping: `<users/all>` or `<users/user id>`; none: nobody.
    pub mention: Option<String>,
}

/// Bytes of a message with its cards.
const BODY_MAX: usize = 32_000;
/// Characters of a thread's key.
const THREAD_KEY_MAX: usize = 4_000;

impl GoogleChat {
    pub(super) fn request(&self, alert: &Alert) -> Result<Request, FormatError> {
        let body = story::fitting("google-chat", alert, |told| {
            let body = self.message(alert, told).to_string().into_bytes();
            (body.len() <= BODY_MAX).then_some(body)
        })?;
        Ok(Request::of(self.threaded_url(), body))
    }

    /// Where a message replies in the thread of its key, or begins it.
    fn threaded_url(&self) -> SecretString {
        let url = self.url.expose_secret();
        let joint = if url.contains('?') { '&' } else { '?' };
        format!("{url}{joint}messageReplyOption=REPLY_MESSAGE_FALLBACK_TO_NEW_THREAD").into()
    }

    fn message(&self, alert: &Alert, told: &[Block]) -> Value {
        let title = story::title(alert);
        let strong = text::escaped(&text::defuse(&title), text::escape_html);
        let paragraph = |text: String| json!({"textParagraph": {"text": text}});
        let mut widgets = vec![paragraph(format!("<b>{strong}</b>"))];
        widgets.extend(told.iter().map(|block| paragraph(story::flat(std::slice::from_ref(block), "<br>", mark))));
        let mut message = json!({
            "cardsV2": [{"cardId": "squall", "card": {"sections": [{"widgets": widgets}]}}],
            // For notifications. It has no markup, and what would look like some is replaced.
            "fallbackText": text::defuse(&title).replace('<', "‹").replace('>', "›"),
        });
        let key = text::short(&alert.conversation, THREAD_KEY_MAX);
        if !key.is_empty() {
            message["thread"] = json!({"threadKey": key});
        }
        if let Some(mention) = self.mention.as_ref().filter(|_| story::wants_mention(alert)) {
            message["text"] = json!(mention);
        }
        message
    }
}

fn mark(span: &Span) -> String {
    let text = text::escaped(&text::defuse(&span.text), text::escape_html);
    match span.tone {
        Tone::Plain => text,
        Tone::Strong | Tone::Name => format!("<b>{text}</b>"),
        // Cards have no code; grey sets a quotation off.
        Tone::Quote => format!("<font color=\"#5f6368\">{text}</font>"),
    }
}
