//! Prometheus Alertmanager, by its API v2: one of its alerts for each storm.
//!
//! Alertmanager groups, silences and routes by itself, so it is told what is, not what is new. An alert of its own is
//! its labels: nothing that changes from one message to the next is among them, but for the cause and the severity,
//! which routes need. What fired with another cause or severity is over when its `endsAt` has passed.

use std::collections::BTreeMap;
use std::time::Duration;

use secrecy::SecretString;
use serde::Serialize;

use super::story;
use super::{FormatError, Request, steps, text};
use crate::model::{Alert, AlertKind, AlertStorm, Severity, Timestamp};

/// A Prometheus Alertmanager.
#[derive(Clone, Debug)]
pub struct Alertmanager {
    /// Its root, without a slash at its end: `http://alertmanager:9093`.
    pub url: String,
    /// Further headers: the credentials of a proxy before it.
    pub headers: Vec<(String, SecretString)>,
    /// How long an alert fires that is not told again. Longer than the time between repeats, or it flaps.
    pub resolve_after: Duration,
}

/// Units of a label's value. Alertmanager has no limit; a label is an index of it and a line of its page.
const LABEL_MAX: usize = 200;

/// `postableAlert` of Alertmanager's OpenAPI.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Postable {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

impl Alertmanager {
    pub(super) fn request(&self, alert: &Alert) -> Result<Request, FormatError> {
        let told: Vec<Postable> = if alert.storms.is_empty() {
            severities(alert, is_over(alert)).map(|severity| self.without_storm(alert, severity)).collect()
        } else {
            alert.storms.iter().map(|storm| self.of_storm(alert, storm)).collect()
        };
        let mut request = Request::json(format!("{}/api/v2/alerts", self.url).into(), &told)?;
        request.headers.extend(self.headers.iter().cloned());
        Ok(request)
    }

    fn of_storm(&self, alert: &Alert, storm: &AlertStorm) -> Postable {
        let labels = [
            ("alertname", "SquallStorm".to_owned()),
            ("service", text::name(storm, LABEL_MAX)),
            ("stack", label(storm.subject.stack.as_deref().unwrap_or_default())),
            ("cause", storm.cause.as_str().to_owned()),
            ("registry", label(&storm.registry)),
            ("severity", storm.severity.as_str().to_owned()),
            ("storm", label(&storm.id)),
        ];
        let ended = ended(alert, storm);
        let mut block = story::storm_in_full(alert, storm);
        block.truncate(3);
        let annotations = [
            ("summary", format!("{}: {}, {}", labels[1].1, storm.cause, text::frequency(storm))),
            ("description", story::flat(&[block], "\n", story::unmarked)),
            ("cost", text::short(&storm.cost, story::LINE_MAX)),
            ("answer", text::short(&storm.answer, story::LINE_MAX)),
            ("advice", text::short(if ended.is_none() { &storm.advice } else { "" }, steps::STEP_MAX)),
            ("left_out", story::left_out(alert, alert.storms.len()).unwrap_or_default()),
        ];
        let ends_at = ended.unwrap_or_else(|| alert.at.plus(self.resolve_after));
        Postable {
            labels: present(labels),
            annotations: present(annotations),
            starts_at: storm.onset,
            // Alertmanager refuses what ends before it began, as clocks of two machines have it.
            ends_at: ends_at.max(storm.onset),
        }
    }

    fn without_storm(&self, alert: &Alert, severity: Severity) -> Postable {
        let labels = [
            ("alertname", name(alert.kind).to_owned()),
            ("severity", severity.as_str().to_owned()),
            ("conversation", label(&alert.conversation)),
        ];
        let lines = alert.lines.iter().map(|line| text::short(line, story::LINE_MAX)).filter(|line| !line.is_empty());
        let annotations = [
            ("summary", story::title(alert)),
            ("description", lines.take(20).collect::<Vec<_>>().join("\n")),
            ("advice", text::short(&alert.next_step, steps::STEP_MAX)),
        ];
        let ends_at = if is_over(alert) { alert.at } else { alert.at.plus(self.resolve_after) };
        Postable { labels: present(labels), annotations: present(annotations), starts_at: alert.at, ends_at }
    }
}

/// What is over is over with every severity that it may have fired with: the alert that says so has one of its own.
/// Alertmanager says nothing of an end whose beginning it was not told.
fn severities(alert: &Alert, is_over: bool) -> impl Iterator<Item = Severity> + use<> {
    let own = alert.severity;
    Severity::ALL.iter().copied().filter(move |severity| is_over || *severity == own)
}

/// When the storm ended, as far as Alertmanager is concerned.
fn ended(alert: &Alert, storm: &AlertStorm) -> Option<Timestamp> {
    storm.ended.or_else(|| alert.ends.then_some(alert.at))
}

fn is_over(alert: &Alert) -> bool {
    alert.ends || alert.kind == AlertKind::Recovered
}

/// The name of what has no storm. What begins and what ends have the same one.
fn name(kind: AlertKind) -> &'static str {
    match kind {
        AlertKind::Gap => "SquallGap",
        AlertKind::Trouble | AlertKind::Recovered => "SquallTrouble",
        AlertKind::Digest => "SquallDigest",
        AlertKind::Summary => "SquallSummary",
        AlertKind::Drill => "SquallDrill",
        AlertKind::Onset
        | AlertKind::Baseline
        | AlertKind::CauseChanged
        | AlertKind::Escalation
        | AlertKind::Quarantine
        | AlertKind::Release
        | AlertKind::Repeat
        | AlertKind::Subsided => "SquallNotice",
    }
}

fn label(value: &str) -> String {
    text::short(value, LABEL_MAX)
}

/// Alertmanager takes an empty label for one that is not there.
fn present<const N: usize>(pairs: [(&'static str, String); N]) -> BTreeMap<&'static str, String> {
    pairs.into_iter().filter(|(_, value)| !value.is_empty()).collect()
}
