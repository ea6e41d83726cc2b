//! Microsoft Teams, by the webhook of a Power Automate workflow, which posts an Adaptive Card.
//!
//! Foreign text is in the runs of a `RichTextBlock`: a `TextBlock` renders Markdown. Each line is a block of its own,
//! since clients do not agree on a line's end within a run.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::story::{self, Block, Line, Tone};
use super::{FormatError, Request};
use crate::model::{Alert, Severity};

/// A Power Automate workflow that begins with "When a Teams webhook request is received".
#[derive(Clone, Debug)]
pub struct Teams {
    /// The workflow's URL; its signature is part of it.
    pub url: SecretString,
    /// Whom to ping: the user principal name (`ops@example.com`) or the object id; none: nobody.
    pub mention: Option<String>,
}

/// Bytes of a request. Teams takes 28 KB of what the workflow makes of it, which is more; 20 KB are known to pass.
const BODY_MAX: usize = 20_000;

impl Teams {
    pub(super) fn request(&self, alert: &Alert) -> Result<Request, FormatError> {
        let body = story::fitting("teams", alert, |told| {
            let body = self.message(alert, told).to_string().into_bytes();
            (body.len() <= BODY_MAX).then_some(body)
        })?;
        Ok(Request::of(self.url.expose_secret().into(), body))
    }

    fn message(&self, alert: &Alert, told: &[Block]) -> Value {
        let mut body = vec![json!({
            "type": "RichTextBlock",
            "inlines": [{
                "type": "TextRun",
                "text": story::title(alert),
                "size": "large",
                "weight": "bolder",
                "color": colour(alert),
            }],
        })];
        let mut teams = json!({"width": "Full"});
        if let Some(mention) = self.mention.as_ref().filter(|_| story::wants_mention(alert)) {
            let text = format!("<at>{mention}</at>");
            body.push(json!({"type": "TextBlock", "text": text, "wrap": true}));
            teams["entities"] =
                json!([{"type": "mention", "text": text, "mentioned": {"id": mention, "name": mention}}]);
        }
        for block in told {
            let spacing = |number| if number == 0 { "medium" } else { "none" };
            body.extend(block.iter().enumerate().map(|(number, line)| rich_text(line, spacing(number))));
        }
        json!({
            "type": "message",
            "attachments": [{
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": null,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "body": body,
                    "msteams": teams,
                },
            }],
        })
    }
}

fn rich_text(line: &Line, spacing: &str) -> Value {
    let runs = line.iter().map(|span| match span.tone {
        Tone::Plain => json!({"type": "TextRun", "text": span.text}),
        Tone::Strong => json!({"type": "TextRun", "text": span.text, "weight": "bolder"}),
        Tone::Name | Tone::Quote => json!({"type": "TextRun", "text": span.text, "fontType": "monospace"}),
    });
    json!({"type": "RichTextBlock", "spacing": spacing, "inlines": runs.collect::<Vec<_>>()})
}

fn colour(alert: &Alert) -> &'static str {
    match alert.severity {
        _ if story::is_over(alert) => "good",
        Severity::Critical => "attention",
        Severity::Warning => "warning",
        Severity::Info => "default",
    }
}
