//! Tells the service manager that started squall, where one did, how it goes: systemd's notifications.
//!
//! That it lives is told by the loop itself, at its turns: from a task beside it a loop that hangs would look alive.
//! Without `NOTIFY_SOCKET` nothing is told.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::model::Status;

/// How long the start may go on after each report that Docker is away: the unit's TimeoutStartSec, 15 min.
const START_MICROS: u32 = 900_000_000;

/// What the loop itself tells.
#[derive(Debug)]
pub(super) struct Supervisor {
    /// Half of the time after which the service manager takes the loop for dead, as it asks for; none where it waits
    /// for no sign of life.
    beat_every: Option<Duration>,
    beat_at: Option<Instant>,
    is_ready: bool,
}

impl Supervisor {
    /// The one that the environment names.
    pub(super) fn of_environment() -> Self {
        let beat_every = sd_notify::watchdog_enabled().map(|patience| patience / 2);
        Self { beat_every, beat_at: None, is_ready: false }
    }

    /// Docker is away: the start takes longer.
    pub(super) fn wait(&mut self, why: &str) {
        tell(&NotifyState::ExtendTimeoutUsec(START_MICROS));
        tell(&NotifyState::Status(&format!("not ready: {}", one_line(why))));
    }

    /// The first look has ended. It need not have gone well: to be started anew, as one that does not get ready is,
    /// would not mend Docker.
    pub(super) fn ready(&mut self) {
        if !self.is_ready {
            self.is_ready = true;
            tell(&NotifyState::Ready);
        }
    }

    /// The loop has turned over.
    pub(super) fn turn(&mut self) {
        if self.is_due(Instant::now()) {
            tell(&NotifyState::Watchdog);
        }
    }

    /// Whether a sign of life is to be given; it is taken for given.
    fn is_due(&mut self, now: Instant) -> bool {
        let Some(every) = self.beat_every else { return false };
        let is_due = self.beat_at.is_none_or(|at| at <= now);
        if is_due {
            self.beat_at = Some(now + every);
        }
        is_due
    }

    /// When the loop is to turn over at the latest.
    pub(super) const fn next(&self) -> Option<Instant> {
        self.beat_at
    }
}

/// Tells what there is in a sentence, for as long as it is polled: when it changes.
pub async fn describe(mut shown: watch::Receiver<Arc<Status>>) {
    let mut said = String::new();
    while shown.changed().await.is_ok() {
        let sentence = sentence(&shown.borrow_and_update());
        if sentence != said {
            tell(&NotifyState::Status(&sentence));
            said = sentence;
        }
    }
}

/// Tells that squall ends.
pub fn stopping() {
    tell(&NotifyState::Stopping);
}

fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::debug!(%error, "the service manager does not listen");
    }
}

/// One line, as `systemctl status` shows it.
fn sentence(status: &Status) -> String {
    let storms = status.storms.len() as u64 + status.storms_left_out;
    let plural = if storms == 1 { "" } else { "s" };
    let held = status.quarantines.iter().filter(|one| one.phase != "let-go").count();
    let mut sentence = format!("{storms} storm{plural}, {} calm; {held} held", status.calm);
    let failed = status.health.checks.iter().find(|check| !check.is_ok);
    if let Some(check) = failed {
        sentence.push_str(&format!("; {}: {}", check.name, one_line(&check.detail)));
    }
    sentence
}

fn one_line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Check;

    #[test]
    fn a_sign_of_life_is_given_at_once_and_then_no_oftener_than_asked_for() {
        let every = Duration::from_secs(1);
        let mut supervisor = Supervisor { beat_every: Some(every), beat_at: None, is_ready: false };
        let start = Instant::now();
        assert!(supervisor.is_due(start));
        assert!(!supervisor.is_due(start + every - Duration::from_nanos(1)));
        assert_eq!(supervisor.next(), Some(start + every));
        assert!(supervisor.is_due(start + every * 7 / 2));
        // What was missed is not made up for.
        assert_eq!(supervisor.next(), Some(start + every * 9 / 2));
        supervisor.beat_every = None;
        assert!(!supervisor.is_due(start + every * 100));
    }

    #[test]
    fn the_sentence_is_one_line_and_names_what_fails() {
        let mut status = Status { calm: 41, storms_left_out: 2, ..Status::default() };
        assert_eq!(sentence(&status), "2 storms, 41 calm; 0 held");
        let detail = "gone\nREADY=1".to_owned();
        let check = Check { name: "events".to_owned(), is_ok: false, detail, age_secs: None };
        status.health.checks.push(check);
        status.storms_left_out = 1;
        assert_eq!(sentence(&status), "1 storm, 41 calm; 0 held; events: gone READY=1");
    }
}
