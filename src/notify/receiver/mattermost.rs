//! Mattermost, by an incoming webhook, in Markdown. It has no switch for mentions: they are taken apart.

use secrecy::SecretString;
use serde_json::json;

use super::story::{self, Block};
use super::{FormatError, Request, markdown, text};
use crate::model::Alert;

/// A Mattermost incoming webhook.
#[derive(Clone, Debug)]
pub struct Mattermost {
    /// `https://chat.example.com/hooks/...`
    pub url: SecretString,
    /// Whom to ping: `@here`, `@channel`, `@name`; none: nobody.
    pub mention: Option<String>,
}

/// Characters of a post. A server whose database was never widened for it splits at 4,000, which loses nothing.
const TEXT_MAX: usize = 16_383;

impl Mattermost {
    pub(super) fn request(&self, alert: &Alert) -> Result<Request, FormatError> {
        let text = story::fitting("mattermost", alert, |told| {
            let text = self.text(alert, told);
            (text::units(&text) <= TEXT_MAX).then_some(text)
        })?;
        Request::json(self.url.clone(), &json!({"text": text}))
    }

    fn text(&self, alert: &Alert, told: &[Block]) -> String {
        let title = text::escaped(&text::defuse(&story::title(alert)), escape);
        let told = story::flat(told, "\n", |span| markdown::mark(span, escape));
        match self.mention.as_ref().filter(|_| story::wants_mention(alert)) {
            Some(mention) => format!("#### {title}\n{mention}\n\n{told}"),
            None => format!("#### {title}\n\n{told}"),
        }
    }
}

/// Mattermost knows no backslash before `<` and `&`, and shows HTML as text.
fn escape(char: char, out: &mut String) {
    match char {
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        char => markdown::escape(char, out),
    }
}
