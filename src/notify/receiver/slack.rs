//! Slack, by an incoming webhook.
//!
//! Block Kit and not attachments, which Slack calls legacy and folds behind "show more". Foreign text is in `rich_text`
//! elements and in a plain header only: there Slack parses neither mentions nor markup, so that a name can be copied as
//! it is; `mrkdwn` has no escape for `*` and `_`. The only `mrkdwn` is the operator's own mention.

use secrecy::SecretString;
use serde_json::{Value, json};

use super::story::{self, Block, Span, Tone};
use super::{FormatError, Request, text};
use crate::model::Alert;

/// A Slack incoming webhook.
#[derive(Clone, Debug)]
pub struct Slack {
    /// `https://hooks.slack.com/services/...`
    pub url: SecretString,
    /// Whom to ping, as Slack writes it: `<!here>`, `<@U012AB3CD>`, `<!subteam^S012AB3CD>`; none: nobody.
    pub mention: Option<String>,
}

/// Characters of a header.
const HEADER_MAX: usize = 150;
/// Characters of all blocks as JSON. Slack answers `msg_blocks_too_long` from about 13,200 on, which is documented
/// nowhere (slackapi/bolt-js#2509).
const BLOCKS_MAX: usize = 12_000;

impl Slack {
    pub(super) fn request(&self, alert: &Alert) -> Result<Request, FormatError> {
        let blocks = story::fitting("slack", alert, |told| {
            let blocks = self.blocks(alert, told);
            (text::units(&blocks.to_string()) <= BLOCKS_MAX).then_some(blocks)
        })?;
        // The text is what a notification shows; blocks are what the channel shows.
        let summary = text::escaped(&text::defuse(&story::title(alert)), escape);
        let body = json!({
            "text": summary,
            "blocks": blocks,
            "unfurl_links": false,
            "unfurl_media": false,
        });
        Request::json(self.url.clone(), &body)
    }

    fn blocks(&self, alert: &Alert, told: &[Block]) -> Value {
        let title = story::title(alert);
        let header = text::cut_escaped(&title, HEADER_MAX, &escape);
        let mut blocks = vec![json!({
            "type": "header",
            "text": {"type": "plain_text", "text": header, "emoji": false},
        })];
        if let Some(mention) = self.mention.as_ref().filter(|_| story::wants_mention(alert)) {
            blocks.push(json!({"type": "section", "text": {"type": "mrkdwn", "text": mention, "verbatim": true}}));
        }
        if header.ends_with(text::ELLIPSIS) {
            blocks.push(rich_text(&vec![vec![Span { tone: Tone::Strong, text: title }]]));
        }
        blocks.extend(told.iter().map(rich_text));
        Value::Array(blocks)
    }
}

fn rich_text(block: &Block) -> Value {
    let mut elements = Vec::new();
    for (number, line) in block.iter().enumerate() {
        for (place, span) in line.iter().enumerate() {
            let line_end = if number > 0 && place == 0 { "\n" } else { "" };
            let mut element = json!({"type": "text", "text": format!("{line_end}{}", span.text)});
            match span.tone {
                Tone::Plain => {}
                Tone::Strong => element["style"] = json!({"bold": true}),
                Tone::Name | Tone::Quote => element["style"] = json!({"code": true}),
            }
            if place == 0 && !line_end.is_empty() && span.tone != Tone::Plain {
                // A line's end in a code span is part of the code.
                elements.push(json!({"type": "text", "text": line_end}));
                element["text"] = json!(span.text);
            }
            elements.push(element);
        }
    }
    json!({"type": "rich_text", "elements": [{"type": "rich_text_section", "elements": elements}]})
}

/// The three characters that Slack asks to be escaped in text objects.
fn escape(char: char, out: &mut String) {
    match char {
        '"' => out.push('"'),
        char => text::escape_html(char, out),
    }
}
