//! What is done about storms: looks at the services that want it, decides, journals, acts, journals again.
//!
//! Decide → journal → act → journal the settlement. A process that dies in between leaves a decision without a
//! settlement; the service's labels tell what became of it.

use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::listing::Past;
use super::response::Response;
use super::{Role, Said, Session, State};
use crate::daemon::objects::{containers_of, node_of, record_of, task_of};
use crate::daemon::tally::Tally;
use crate::detect::Detector;
use crate::docker::{self, Actuated};
use crate::journal::Entry;
use crate::model::{Decision, NodeFact, Outcome, Settlement, Subject, SubjectKind, TaskFact, Timestamp};
use crate::respond::{Look, Permit, Responder, Scene, Verdict, View};
use crate::situation::Input;

/// How old the list of nodes may be that a global service is brought back on.
const NODES_FRESH: Duration = Duration::from_secs(5);
/// How many decisions without a known settlement are remembered; the oldest go first.
const UNSETTLED_MAX: usize = 1000;
/// How long after it could not be found out how they ended it is tried again.
const UNSETTLED_EVERY: Duration = Duration::from_secs(5);
/// How often it is seen whether somebody has started again what is stopped.
const STOPPED_EVERY: Duration = Duration::from_secs(10);
/// How many counts go at a time, and how many storms: turn by turn, as their onset and end go at once.
pub(super) const COUNTS_MAX: usize = 250;
pub(super) const STORMS_MAX: usize = 100;
/// How soon the next counts follow.
pub(super) const PARTS_EVERY: Duration = Duration::from_millis(50);
/// How long an entry is waited for before what it is about goes on.
const JOURNAL_LIMIT: Duration = Duration::from_secs(2);

impl State {
    /// What is so around a subject now.
    fn scene(&self, kind: SubjectKind, id: &str) -> Scene {
        let gap_end = self.sight.gap_end;
        let since = gap_end.unwrap_or(Timestamp::from_secs(0));
        let response = self.response.as_ref();
        Scene {
            leads: response.is_some_and(|response| response.leads),
            is_blind: self.sight.is_blind(),
            gap_end,
            failures_since_gap: self.detector.failures_since(kind, id, since),
            failures_since_hold: response
                .and_then(|response| response.responder.answered(kind, id))
                .map(|since| self.detector.failures_since(kind, id, since)),
            storm: self.detector.storm(kind, id),
            has_journal: response.is_some_and(|response| response.journal.trouble().is_none()),
            nodes: response.map(|response| response.nodes.clone()).unwrap_or_default(),
        }
    }
}

/// Takes a part of what was counted to the journal; returns whether there is more.
pub(super) fn keep_counts(detector: &mut Detector, response: &mut Response, tally: &mut Tally) -> bool {
    let spends = detector.drain_spend(COUNTS_MAX);
    let minutes = detector.drain_minutes(COUNTS_MAX);
    let is_more = spends.len() >= COUNTS_MAX || minutes.len() >= COUNTS_MAX;
    tally.attempts(&minutes);
    if !spends.is_empty() {
        response.journal.note(Entry::Spends(spends));
    }
    if !minutes.is_empty() {
        response.journal.note(Entry::Attempts(minutes));
    }
    is_more
}

impl Session {
    /// Takes to the journal what was counted since it was last taken there: the process ends.
    pub fn keep_counts(&self) {
        let mut state = self.state();
        if let State { detector, response: Some(response), tally, .. } = &mut *state {
            detector.settle_pulls();
            while keep_counts(detector, response, tally) {}
        }
    }

    /// Looks at the services that want it, and does what is permitted.
    pub(super) async fn respond(&self) -> Result<(), docker::Error> {
        let leads = self.ask_who_leads().await?;
        if self.state().listing.past != Past::Known {
            return Ok(());
        }
        self.settle_what_is_not().await?;
        self.refresh_nodes().await?;
        let due = {
            let mut state = self.state();
            let now = state.clock.now();
            let is_manager = state.role == Role::Manager;
            match &mut state.response {
                Some(response) => {
                    response.responder.lead(now, leads);
                    let mut due = response.responder.due(now);
                    if !is_manager {
                        // It was one: services cannot be looked at until it is one again.
                        due.drain(..).for_each(|id| response.responder.put_off(now, &id));
                    }
                    due
                }
                None => return Ok(()),
            }
        };
        let mut result = Ok(());
        for id in due {
            if let Err(error) = self.look_at(&id).await {
                self.tell(|responder, now| responder.put_off(now, &id));
                let ails_all = error.is_transient();
                result = Err(error);
                if ails_all {
                    // What ails the daemon ails every look; this one comes last the next time.
                    return result;
                }
            }
        }
        for subject in self.due_containers() {
            if let Err(error) = self.look_at_containers(&subject).await {
                self.tell(|responder, now| responder.put_off_containers(now, &subject));
                result = Err(error);
            }
        }
        result
    }

    fn tell(&self, tell: impl FnOnce(&mut Responder, Timestamp)) {
        let mut state = self.state();
        let now = state.clock.now();
        if let Some(response) = &mut state.response {
            tell(&mut response.responder, now);
        }
    }

    /// The container subjects that want a look: those that storm, and now and then what is stopped.
    fn due_containers(&self) -> Vec<Subject> {
        let mut state = self.state();
        let now = state.clock.now();
        let Some(response) = &mut state.response else { return Vec::new() };
        let mut due = response.responder.due_containers(now);
        if response.stopped_at <= Instant::now() {
            response.stopped_at = Instant::now() + STOPPED_EVERY;
            due.extend(response.responder.stopped());
        }
        due
    }

    async fn ask_who_leads(&self) -> Result<bool, docker::Error> {
        let (is_fresh, known, info) = {
            let state = self.state();
            let Some(response) = &state.response else { return Ok(false) };
            (response.leader_at().is_some_and(|at| Instant::now() < at), response.leads, state.info.clone())
        };
        if is_fresh {
            return Ok(known);
        }
        let answer = match self.role() {
            Role::Manager => self.client.is_leader(&info).await,
            Role::Worker | Role::Plain => Ok(false),
        };
        let mut state = self.state();
        let now = state.clock.now();
        if let Some(response) = &mut state.response {
            response.leader_asked = Some(Instant::now());
            response.leads = *answer.as_ref().unwrap_or(&false);
            if answer.is_err() {
                response.responder.lead(now, false);
            }
        }
        answer
    }

    /// Finds out how permitted changes ended, whose answer was lost or whose process died.
    async fn settle_what_is_not(&self) -> Result<(), docker::Error> {
        let unsettled = match &mut self.state().response {
            Some(response) if response.unsettled_at <= Instant::now() => std::mem::take(&mut response.unsettled),
            _ => return Ok(()),
        };
        let is_manager = self.role() == Role::Manager;
        for (at, decision) in unsettled.iter().enumerate() {
            if decision.subject.kind == SubjectKind::SwarmService && !is_manager {
                continue;
            }
            let result = match decision.subject.kind {
                SubjectKind::SwarmService => self.settle_service(decision).await,
                _ => self.settle_stop(decision).await,
            };
            if let Err(error) = result {
                if let Some(response) = &mut self.state().response {
                    response.unsettled.extend_from_slice(&unsettled[at..]);
                    response.unsettled_at = Instant::now() + UNSETTLED_EVERY;
                }
                return if error.is_transient() { Err(error) } else { Ok(()) };
            }
        }
        Ok(())
    }

    async fn settle_service(&self, decision: &Decision) -> Result<(), docker::Error> {
        let view = match self.client.service(&decision.subject.id).await {
            Ok(service) => View::read(&service),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let outcome = Responder::outcome_of(decision, view.as_ref());
        self.tell(|responder, now| responder.found(now, decision, outcome));
        self.settle(decision, outcome, "found in the service's labels", true).await;
        Ok(())
    }

    async fn settle_stop(&self, decision: &Decision) -> Result<(), docker::Error> {
        let containers = containers_of(&self.client, &decision.subject).await?;
        let outcome = match &mut self.state().response {
            Some(Response { responder, .. }) => responder.outcome_of_stop(&decision.subject, &containers),
            None => return Ok(()),
        };
        self.forget_hold(&decision.subject).await;
        self.settle(decision, outcome, "found in the containers", true).await;
        Ok(())
    }

    /// Takes back in the journal that a subject is held, where nothing of it is stopped.
    async fn forget_hold(&self, subject: &Subject) {
        let is_stopped = self.state().response.as_ref().is_some_and(|response| response.responder.is_stopped(subject));
        if !is_stopped {
            self.journal(Entry::Hold { subject: subject.clone(), mark: None }).await;
        }
    }

    /// Where a global service may be brought back.
    async fn refresh_nodes(&self) -> Result<(), docker::Error> {
        let is_manager = self.role() == Role::Manager;
        let is_wanted = match &self.state().response {
            Some(response) if is_manager => {
                let is_old = response.nodes_at.is_none_or(|at| at.elapsed() > NODES_FRESH);
                is_old && response.responder.held().any(|held| held.mark.is_by_placement())
            }
            _ => false,
        };
        if !is_wanted {
            return Ok(());
        }
        let mut nodes = Vec::new();
        self.client
            .nodes(&mut |object| {
                if let Some(NodeFact { id, is_active: true, .. }) = node_of(object) {
                    nodes.push(id.into_owned());
                }
            })
            .await?;
        nodes.sort_unstable();
        if let Some(response) = &mut self.state().response {
            (response.nodes, response.nodes_at) = (nodes, Some(Instant::now()));
        }
        Ok(())
    }

    async fn look_at(&self, id: &str) -> Result<(), docker::Error> {
        let service = match self.client.service(id).await {
            Ok(service) => service,
            Err(error) if error.is_not_found() => {
                if let Some(response) = &mut self.state().response {
                    response.responder.forget(id);
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let mut tasks = Vec::new();
        self.client
            .tasks(&[id], &mut |object| {
                self.take_object(object);
                tasks.extend(task_of(object));
            })
            .await?;
        let verdict = self.decide(id, &service, &tasks);
        self.follow(verdict, &tasks).await
    }

    /// Does, journals and says what a look led to.
    async fn follow(&self, verdict: Verdict, tasks: &[TaskFact<'_>]) -> Result<(), docker::Error> {
        match verdict {
            Verdict::Permitted(permit) => self.act(&permit, tasks).await?,
            Verdict::Refused { decision, is_news: true } => {
                self.journal(Entry::Decision { decision: decision.clone(), evidence: Vec::new() }).await;
                if let Decision { subject, refusal: Some(refusal), response, .. } = decision.clone() {
                    let mut state = self.state();
                    let now = state.clock.now();
                    state.see(now, Input::Refused { subject, refusal, response });
                }
                self.say_later(Said::Decided(decision));
            }
            Verdict::LetGo(let_go) => {
                if let_go.subject.kind != SubjectKind::SwarmService {
                    self.journal(Entry::Hold { subject: let_go.subject.clone(), mark: None }).await;
                }
                self.journal(Entry::LetGo(let_go)).await;
            }
            Verdict::Gone(subject) => {
                self.journal(Entry::Hold { subject, mark: None }).await;
            }
            Verdict::Refused { .. } | Verdict::Nothing => {}
        }
        Ok(())
    }

    /// Looks at a subject whose containers the engine starts again, or that squall has stopped.
    async fn look_at_containers(&self, subject: &Subject) -> Result<(), docker::Error> {
        let containers = containers_of(&self.client, subject).await?;
        let verdict = {
            let mut state = self.state();
            let now = state.clock.now();
            state.detector.advance(now);
            let scene = state.scene(subject.kind, &subject.id);
            let Some(response) = state.response.as_mut() else { return Ok(()) };
            response.responder.decide_containers(now, subject, &containers, &scene)
        };
        self.follow(verdict, &[]).await
    }

    fn decide(&self, id: &str, service: &Value, tasks: &[TaskFact<'_>]) -> Verdict {
        let mut state = self.state();
        let now = state.clock.now();
        state.detector.advance(now);
        let scene = state.scene(SubjectKind::SwarmService, id);
        let Some(response) = state.response.as_mut() else { return Verdict::Nothing };
        response.responder.decide(now, Look { service, tasks }, &scene)
    }

    async fn act(&self, permit: &Permit, tasks: &[TaskFact<'_>]) -> Result<(), docker::Error> {
        let decision = permit.decision();
        let evidence = tasks.iter().map(record_of).collect();
        self.journal(Entry::Decision { decision: decision.clone(), evidence }).await;
        // Before anything is stopped: how to undo it is written nowhere else.
        let is_kept = match permit.stop_mark() {
            Some(mark) => {
                self.journal(Entry::Hold { subject: decision.subject.clone(), mark: Some(mark.write()) }).await
            }
            None => true,
        };
        let not_done = |why: &str| (Outcome::NotDone, why.to_owned(), None);
        // The journal may have taken a while.
        let is_seen = self.state().sight.has_lasted_since(decision.at);
        let (outcome, detail, error) = match (is_kept, is_seen) {
            (false, _) => not_done("the journal could not be written"),
            (true, false) => not_done("events or listings were lost after it was decided"),
            (true, true) => match self.client.actuate(permit).await {
                Ok(Actuated::Done) => (Outcome::Done, String::new(), None),
                Ok(Actuated::Raced) => (Outcome::Raced, "somebody changed it in between".to_owned(), None),
                Err(error) => (Outcome::Failed, error.to_string(), Some(error)),
            },
        };
        let is_news = self.is_news(decision, outcome, &detail);
        if is_news {
            self.say_later(Said::Decided(decision.clone()));
        }
        // Of containers each step may be repeated, and is.
        let is_unknown = permit.stop_mark().is_none() && error.as_ref().is_some_and(docker::Error::is_transient);
        {
            let mut state = self.state();
            let now = state.clock.now();
            state.listing.under_way.changed.insert(decision.subject.id.clone());
            if let Some(response) = &mut state.response {
                response.responder.settle(now, permit, outcome);
                if is_unknown {
                    if response.unsettled.len() >= UNSETTLED_MAX {
                        response.unsettled.remove(0);
                    }
                    response.unsettled.push(decision.clone());
                }
            }
        }
        if outcome == Outcome::NotDone && permit.stop_mark().is_some() {
            self.forget_hold(&decision.subject).await;
        }
        if !is_unknown {
            self.settle(decision, outcome, &detail, is_news).await;
        }
        // What Docker refuses is settled, said, and tried again as that asks for: the daemon is not to blame.
        error.filter(docker::Error::is_transient).map_or(Ok(()), Err)
    }

    /// Whether this end of an action is another than that of the one before it.
    fn is_news(&self, decision: &Decision, outcome: Outcome, detail: &str) -> bool {
        let mut state = self.state();
        let Some(response) = &mut state.response else { return true };
        let key = (decision.subject.kind, decision.subject.id.clone());
        if outcome != Outcome::Failed {
            response.failing.remove(&key);
            return true;
        }
        if response.failing.len() >= UNSETTLED_MAX && !response.failing.contains_key(&key) {
            return true;
        }
        response.failing.insert(key, detail.to_owned()).as_deref() != Some(detail)
    }

    async fn settle(&self, decision: &Decision, outcome: Outcome, detail: &str, is_news: bool) {
        let at = self.state().clock.now();
        let settlement = Settlement { decision: decision.id.clone(), at, outcome, detail: detail.to_owned() };
        self.journal(Entry::Settlement(settlement.clone())).await;
        if is_news {
            self.say_later(Said::Settled(decision.clone(), settlement));
        }
    }

    /// Writes an entry down before anything goes on. Returns whether it is on disk: a journal in memory is said, and is
    /// no reason to stop, as a quarantine's state is in the service's labels.
    async fn journal(&self, entry: Entry) -> bool {
        let journal = self.state().response.as_ref().map(|response| response.journal.clone());
        match journal {
            // A disk that hangs is no reason to let a storm go on: the entry is kept as soon as it can be.
            Some(journal) => tokio::time::timeout(JOURNAL_LIMIT, journal.record(entry)).await.unwrap_or(false),
            None => false,
        }
    }

    /// Ends in the journal the storms that an earlier process left and that do not go on.
    pub(super) async fn close_old_storms(&self) {
        let (journal, ids, now) = {
            let state = self.state();
            let Some(response) = &state.response else { return };
            let held = response.responder.held().map(|held| held.mark.storm);
            let found = state.detector.ongoing().map(|storm| state.situation.told(storm).id);
            let others = state.situation.recalled().map(str::to_owned);
            let cases = state.situation.cases().map(|case| case.id.clone());
            let ids: Vec<String> = found.chain(held).chain(others).chain(cases).collect();
            (response.journal.clone(), ids, state.clock.now())
        };
        journal.close_storms_not_in(&ids, now).await;
    }

    pub(super) fn say_later(&self, said: Said) {
        if let Some(response) = &mut self.state().response {
            response.to_say.push(said);
        }
    }

    /// What is to be said since the last time, and how the journal is where that changed.
    pub(super) fn said_meanwhile(&self) -> Vec<Said> {
        let mut state = self.state();
        let Some(response) = &mut state.response else { return Vec::new() };
        let mut said = std::mem::take(&mut response.to_say);
        let why = response.journal.trouble();
        if why != response.no_journal {
            said.push(why.clone().map_or(Said::JournalBack, Said::NoJournal));
            response.no_journal = why;
        }
        said
    }
}
