//! The state from which a session answers storms.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::said::Said;
use crate::detect::SubjectId;
use crate::journal::Journal;
use crate::model::{Decision, SubjectKind, Timestamp, on_clock};
use crate::respond::{Responder, Settings};

/// How often it is asked who leads, while anything storms or is held: a new leader goes on within one poll.
const LEADER_EVERY: Duration = Duration::from_secs(1);
/// The same while nothing does: it matters for who is told of a gap.
const LEADER_EVERY_AT_REST: Duration = Duration::from_secs(30);
/// How far back the journal is asked what was done.
const DONE_SINCE: Duration = Duration::from_secs(3600);
/// How far back it is asked what was let go: the labels of such a service stay on it.
const LET_GO_SINCE: Duration = Duration::from_secs(30 * 86_400);
/// How often the attempts of each minute go to the journal, with the storms as they are by then.
pub(super) const MINUTES_EVERY: Duration = Duration::from_secs(10);

/// See the module.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) responder: Responder,
    pub(super) journal: Journal,
    /// Permitted decisions whose outcome is not known.
    pub(super) unsettled: Vec<Decision>,
    /// When their outcomes are looked for next.
    pub(super) unsettled_at: Instant,
    /// When the Swarm was asked last who leads, if it was.
    pub(super) leader_asked: Option<Instant>,
    pub(super) leads: bool,
    /// The nodes that may be given tasks, and when they were listed.
    pub(super) nodes: Vec<String>,
    pub(super) nodes_at: Option<Instant>,
    pub(super) minutes_at: Instant,
    /// The storms that went to the journal last.
    pub(super) storms_after: Option<SubjectId>,
    /// Some that have begun are not in the journal yet.
    pub(super) is_behind: bool,
    /// When stopped containers are looked at next.
    pub(super) stopped_at: Instant,
    /// Why the journal is in memory, as it was said last.
    pub(super) no_journal: Option<String>,
    /// How the last action on a subject failed, so that it is said once.
    pub(super) failing: BTreeMap<(SubjectKind, String), String>,
    /// Messages that the loop says in its next turn.
    pub(super) to_say: Vec<Said>,
}

impl Response {
    /// Begins with what the journal remembers.
    pub(super) async fn new(settings: Settings, journal: Journal, now: Timestamp) -> Self {
        let mut responder = Responder::new(settings);
        let since = now.minus(DONE_SINCE);
        let done: Vec<Decision> = journal.done_since(since).await.into_iter().map(|(decision, _)| decision).collect();
        let let_goes = journal.let_goes_since(now.minus(LET_GO_SINCE)).await;
        responder.remember(now, &done, &let_goes);
        responder.remember_stopped(journal.holds().await);
        let unsettled = journal.unsettled().await;
        Self {
            responder,
            journal,
            unsettled,
            unsettled_at: Instant::now(),
            leader_asked: None,
            leads: false,
            nodes: Vec::new(),
            nodes_at: None,
            minutes_at: Instant::now() + MINUTES_EVERY,
            storms_after: None,
            is_behind: false,
            stopped_at: Instant::now(),
            no_journal: None,
            failing: BTreeMap::new(),
            to_say: Vec::new(),
        }
    }

    /// When there is something to do.
    pub(super) fn next(&self, now: Timestamp) -> Option<Instant> {
        let deadline = self.responder.next_deadline().map(|at| Instant::now() + at.since(now));
        let leader = Some(self.leader_at().unwrap_or_else(Instant::now));
        let stopped = (!self.responder.stopped().is_empty()).then_some(self.stopped_at);
        // Even if nothing storms or is held any more.
        let unsettled = (!self.unsettled.is_empty()).then_some(self.unsettled_at);
        deadline.into_iter().chain(leader).chain(stopped).chain(unsettled).min()
    }

    /// Whether this node leads its Swarm; `None` while nobody has asked.
    pub(super) fn leads(&self) -> Option<bool> {
        self.leader_asked.map(|_| self.leads)
    }

    /// When it is asked next who leads; `None`: at once.
    pub(super) fn leader_at(&self) -> Option<Instant> {
        let every = if self.responder.is_busy() { LEADER_EVERY } else { LEADER_EVERY_AT_REST };
        self.leader_asked.map(|asked| asked + every)
    }
}

// A decision that is not settled is known by its time, as the service's labels have it.
on_clock!(Response { responder } rest {
    journal, unsettled, unsettled_at, leader_asked, leads, nodes, nodes_at, minutes_at, storms_after, is_behind,
    stopped_at, no_journal, failing, to_say,
});
