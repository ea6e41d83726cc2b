//! Any HTTP server: the alert as JSON, or what the operator's template makes of it, signed.

use std::fmt::Write as _;

use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;

use super::steps::{Step, steps};
use super::template::Template;
use super::{FormatError, JSON, Request, text};
use crate::model::{Alert, AlertStorm, Subject};

/// A server that takes alerts.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Where it is.
    pub url: SecretString,
    /// Further headers. A content type among them replaces that of JSON.
    pub headers: Vec<(String, SecretString)>,
    /// What makes the body; none: the alert as JSON with its schema.
    pub template: Option<Template>,
    /// The key that the body is signed with, by HMAC-SHA256 in `X-Squall-Signature`; none: it is not.
    pub signing_key: Option<SecretString>,
}

/// The schema of an alert as JSON. A field that is added leaves it; one that is changed or removed does not.
pub const ALERT_SCHEMA: &str = "squall.alert/1";

/// An alert as JSON, and the context of a template.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    #[serde(flatten)]
    alert: Alert,
    next_steps: Vec<Step>,
}

impl Webhook {
    pub(super) fn request(&self, alert: &Alert) -> Result<Request, FormatError> {
        let alert = clean(alert);
        let next_steps = steps(&alert);
        // The receiver knows a doubled delivery by it. Hex digits, or what of it may be in a header.
        let delivery: String = alert.id.chars().filter(char::is_ascii_graphic).collect();
        let document = Document { schema: ALERT_SCHEMA, alert, next_steps };
        let body = match &self.template {
            Some(template) => template.render(&document)?,
            None => serde_json::to_vec(&document)?,
        };
        let mut headers = self.headers.clone();
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            headers.push(("content-type".to_owned(), JSON.into()));
        }
        headers.push(("x-squall-delivery".to_owned(), delivery.into()));
        if let Some(key) = &self.signing_key {
            headers.push(("x-squall-signature".to_owned(), signature(key, &body).into()));
        }
        Ok(Request { url: self.url.clone(), headers, body })
    }
}

/// `sha256=` and 64 hex digits, as GitHub signs its webhooks.
fn signature(key: &SecretString, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.expose_secret().as_bytes());
    let mut signature = "sha256=".to_owned();
    for byte in hmac::sign(&key, body).as_ref() {
        let _ = write!(signature, "{byte:02x}");
    }
    signature
}

/// The alert with every text clean: the program that gets it prints it somewhere.
fn clean(alert: &Alert) -> Alert {
    let all = |texts: &[String]| texts.iter().map(|text| text::clean(text)).collect();
    Alert {
        id: text::clean(&alert.id),
        conversation: text::clean(&alert.conversation),
        node: text::clean(&alert.node),
        title: text::clean(&alert.title),
        lines: all(&alert.lines),
        storms: alert.storms.iter().map(clean_storm).collect(),
        next_step: text::clean(&alert.next_step),
        part_of: None,
        ..*alert
    }
}

fn clean_storm(storm: &AlertStorm) -> AlertStorm {
    AlertStorm {
        id: text::clean(&storm.id),
        subject: Subject {
            kind: storm.subject.kind,
            name: text::clean(&storm.subject.name),
            id: text::clean(&storm.subject.id),
            stack: storm.subject.stack.as_deref().map(text::clean),
        },
        detail: text::clean(&storm.detail),
        nodes: storm.nodes.iter().map(|node| text::clean(node)).collect(),
        image: text::clean(&storm.image),
        registry: text::clean(&storm.registry),
        cost: text::clean(&storm.cost),
        answer: text::clean(&storm.answer),
        advice: text::clean(&storm.advice),
        ..*storm
    }
}
