//! Notices on the desktop of whoever runs `squall watch` on a machine of their own.

use std::time::Duration;

use notify_rust::{Notification, Urgency};

use super::send::Answer;
use crate::model::{Alert, Severity};

/// How long the session bus may take: one that hangs answers never.
const LIMIT: Duration = Duration::from_secs(2);
/// How many lines a notice has.
const LINES_MAX: usize = 5;

/// Shows an alert. A machine without a session bus refuses it, which is said once.
pub(super) async fn show(alert: &Alert) -> Answer {
    let storms = alert.storms.iter().map(|storm| format!("{}: {}, {}", storm.subject.name, storm.cause, storm.cost));
    let lines: Vec<String> = alert.lines.iter().cloned().chain(storms).take(LINES_MAX).collect();
    let urgency = match alert.severity {
        Severity::Info => Urgency::Low,
        Severity::Warning => Urgency::Normal,
        Severity::Critical => Urgency::Critical,
    };
    let mut notice = Notification::new();
    // The body may be markup to the server; the summary never is.
    notice.appname("squall").summary(&alert.title).body(&escaped(&lines.join("\n"))).urgency(urgency);
    match tokio::time::timeout(LIMIT, notice.show_async()).await {
        Ok(Ok(_)) => Answer::Taken(String::new()),
        Ok(Err(error)) => Answer::Refused(format!("no desktop takes notices here: {error}")),
        Err(_) => Answer::Refused("the desktop's session bus does not answer within 2 s".to_owned()),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
