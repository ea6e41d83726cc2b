//! PagerDuty, by the Events API v2. A conversation is an alert of PagerDuty's: it is triggered, added to and resolved.

use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};

use super::story;
use super::{FormatError, Request, steps, text};
use crate::model::{Alert, AlertKind, AlertStorm};

/// A PagerDuty integration of the kind "Events API v2".
#[derive(Clone, Debug)]
pub struct PagerDuty {
    /// [`PagerDuty::EVENTS_URL`], or that of another service region.
    pub url: String,
    /// The integration key, 32 characters. It is a part of the body.
    pub routing_key: SecretString,
}

/// Characters of the deduplication key.
const DEDUP_KEY_MAX: usize = 255;
/// Further lines and nodes. All texts are short, so that twenty storms stay far below the 512 KB of an event.
const LINES_MAX: usize = 20;
const NODES_MAX: usize = 10;

impl PagerDuty {
    /// The Events API of the US service region.
    pub const EVENTS_URL: &'static str = "https://events.pagerduty.com/v2/enqueue";

    pub(super) fn request(&self, alert: &Alert) -> Result<Option<Request>, FormatError> {
        let Some(action) = action(alert) else { return Ok(None) };
        let key = [&alert.conversation, &alert.id].map(|key| text::short(key, DEDUP_KEY_MAX));
        let mut body = json!({
            "routing_key": self.routing_key.expose_secret(),
            "event_action": action,
            "dedup_key": key.iter().find(|key| !key.is_empty()).map_or("squall", |key| key),
        });
        if action == "trigger" {
            body["client"] = json!("squall");
            body["payload"] = payload(alert);
        }
        Request::json(self.url.as_str().into(), &body).map(Some)
    }
}

/// What PagerDuty is to do. What asks nobody for anything and ends nothing wakes nobody.
fn action(alert: &Alert) -> Option<&'static str> {
    match alert.kind {
        // Their parts come by themselves.
        AlertKind::Digest | AlertKind::Summary => None,
        _ if alert.ends => Some("resolve"),
        AlertKind::Onset
        | AlertKind::Baseline
        | AlertKind::CauseChanged
        | AlertKind::Escalation
        | AlertKind::Quarantine
        | AlertKind::Repeat
        | AlertKind::Trouble
        | AlertKind::Drill => Some("trigger"),
        AlertKind::Gap | AlertKind::Release | AlertKind::Subsided | AlertKind::Recovered => None,
    }
}

fn payload(alert: &Alert) -> Value {
    let node = text::short(&alert.node, text::NAME_MAX);
    let mut payload = json!({
        // At most 300 of the 1,024 characters that it may have.
        "summary": story::title(alert),
        "source": if node.is_empty() { "squall" } else { &node },
        // PagerDuty's words are ours.
        "severity": alert.severity.as_str(),
        "timestamp": alert.at,
        "class": alert.kind.as_str(),
        "custom_details": details(alert),
    });
    if let Some(storm) = alert.storms.first() {
        payload["class"] = json!(storm.cause);
        payload["component"] = json!(text::name(storm, text::NAME_MAX));
        let stack = storm.subject.stack.as_ref().map(|stack| text::short(stack, text::NAME_MAX));
        if let Some(stack) = stack.filter(|stack| !stack.is_empty()) {
            payload["group"] = json!(stack);
        }
    }
    payload
}

fn details(alert: &Alert) -> Value {
    let lines = alert.lines.iter().take(LINES_MAX).map(|line| text::short(line, story::LINE_MAX));
    let mut details = Map::new();
    let mut tell = |name: &str, value: Value| details.insert(name.to_owned(), value);
    tell("kind", json!(alert.kind));
    if !alert.storms.is_empty() {
        tell("storms", alert.storms.iter().take(crate::model::ALERT_STORMS_MAX).map(storm).collect());
    }
    if let Some(more) = story::left_out(alert, crate::model::ALERT_STORMS_MAX.min(alert.storms.len())) {
        tell("more", json!(more));
    }
    if !alert.lines.is_empty() {
        tell("lines", lines.collect());
    }
    let steps = steps::lines(alert, steps::STEPS_MAX);
    if !steps.is_empty() {
        tell("next_step", json!(steps.join("\n")));
    }
    Value::Object(details)
}

fn storm(storm: &AlertStorm) -> Value {
    let mut fields = json!({
        "service": text::name(storm, text::NAME_MAX),
        "cause": storm.cause,
        "since": storm.onset,
        "failed": storm.failed,
        "attempts_per_min": storm.attempts_per_min,
    });
    let texts = [
        ("stack", text::short(storm.subject.stack.as_deref().unwrap_or_default(), text::NAME_MAX)),
        ("nodes", text::names(&storm.nodes, NODES_MAX, text::NAME_MAX)),
        ("detail", text::short(&storm.detail, story::DETAIL_MAX)),
        ("image", text::short(&storm.image, story::LINE_MAX)),
        ("registry", text::short(&storm.registry, text::NAME_MAX)),
        ("cost", text::short(&storm.cost, story::LINE_MAX)),
        ("answer", text::short(&storm.answer, story::LINE_MAX)),
    ];
    for (name, text) in texts {
        if !text.is_empty() {
            fields[name] = json!(text);
        }
    }
    fields
}
