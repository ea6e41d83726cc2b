//! A manager's squall on virtual time: detector, responder, situation and desk, put together as the daemon does it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use squall::detect::Detector;
use squall::model::{
    Action, Alert, CaseKey, Decision, Fact, HoldChange, HoldEnd, Labels, LetGo, Notice, Observation, Phase, Storm,
    Timestamp, Transition,
};
use squall::notify::{Desk, Heard, Memory, News};
use squall::respond::{Responder, Settings};
use squall::situation::{Input, Situation};

use super::receivers::Receivers;
use super::swarm::Service;

/// How often the figures of what storms reach the desk.
const FIGURES_EVERY: Duration = Duration::from_secs(30);
/// How often what goes on reaches receivers that take it for over otherwise.
const REFRESH_EVERY: Duration = Duration::from_secs(60);
/// How long after its end an attempt is judged, as the daemon has it.
const SLACK: Duration = Duration::from_millis(300);
/// How far back a process that begins asks the journal.
const JOURNAL_SINCE: Duration = Duration::from_secs(3600);

/// A manager's squall.
pub struct Manager {
    pub detector: Detector,
    pub responder: Responder,
    pub situation: Situation,
    pub desk: Desk,
    /// The conversations of its desk as they are on disk: those that it told, or would have told if it had led.
    memory: Memory,
    figures_at: Timestamp,
    refresh_at: Timestamp,
    pub is_alive: bool,
    pub born: Timestamp,
    pub blind_until: Option<Timestamp>,
    pub gap_end: Option<Timestamp>,
    /// The highest task version seen, by service.
    pub seen: Vec<u64>,
    /// Services with tasks that have changed.
    pub dirty: BTreeSet<usize>,
    pub listed_version: u64,
    pub listed_at: Timestamp,
    pub wake_at: Timestamp,
    /// The entries of its journal.
    pub done: Vec<Decision>,
    pub let_goes: Vec<LetGo>,
    storms: BTreeMap<CaseKey, Storm>,
    /// A decision of which it does not have the settlement.
    pub unsettled: Option<Decision>,
    /// The most that its budget can have left, in actions.
    pub tokens: f64,
    pub tokens_at: Timestamp,
    /// Services with a watched attempt whose end it has paid for.
    pub prepaid: BTreeSet<usize>,
    pub refused_for_budget: Timestamp,
}

impl Manager {
    pub fn new(now: Timestamp, services: usize, settings: &Settings) -> Self {
        let detector = squall::detect::Settings { slack: SLACK, ..squall::detect::Settings::default() };
        Self {
            situation: Situation::new(detector.hold_down_min),
            desk: Desk::new(squall::notify::Settings::default(), now, Memory::default()),
            memory: Memory::default(),
            figures_at: now,
            refresh_at: now.plus(REFRESH_EVERY),
            detector: Detector::new(detector),
            responder: Responder::new(settings.clone()),
            is_alive: true,
            born: now,
            blind_until: None,
            gap_end: None,
            seen: vec![0; services],
            dirty: (0..services).collect(),
            listed_version: u64::MAX,
            listed_at: Timestamp::from_secs(0),
            wake_at: Timestamp::from_nanos(i64::MAX),
            done: Vec::new(),
            let_goes: Vec::new(),
            storms: BTreeMap::new(),
            unsettled: None,
            tokens: 60.0,
            tokens_at: now,
            prepaid: BTreeSet::new(),
            refused_for_budget: Timestamp::from_secs(0),
        }
    }

    /// Hands what has changed of a service's tasks to the detector.
    pub fn feed(&mut self, at: usize, service: &Service) {
        let seen = self.seen[at];
        for task in service.tasks.iter().filter(|task| task.version > seen) {
            let fact = Fact::Task(Box::new(service.task_fact(task)));
            self.detector.take(&Observation { at: task.status_at, origin: 0, fact });
            self.seen[at] = self.seen[at].max(task.version);
        }
    }

    /// The process that follows on this one: it has what was on disk.
    pub fn restarted(&self, now: Timestamp, settings: &Settings) -> Self {
        let mut new = Self::new(now, self.seen.len(), settings);
        (new.done, new.let_goes) = (self.done.clone(), self.let_goes.clone());
        let recent = |at: Timestamp| at >= now.minus(JOURNAL_SINCE);
        let done: Vec<Decision> = new.done.iter().filter(|decision| recent(decision.at)).cloned().collect();
        let let_goes: Vec<LetGo> = new.let_goes.iter().filter(|let_go| recent(let_go.at)).cloned().collect();
        new.responder.remember(now, &done, &let_goes);
        // By way of the disk: a process does not know what the one before it has heard.
        let text = serde_json::to_string(&self.memory).expect("JSON");
        new.memory = serde_json::from_str(&text).expect("what was told");
        new.desk = Desk::new(squall::notify::Settings::default(), now, new.memory.clone());
        new.unsettled.clone_from(&self.unsettled);
        new.storms.clone_from(&self.storms);
        new.situation.recall(self.storms.values().cloned());
        new.situation.listed(now);
        new
    }

    /// Takes what the detector and the responder have found into the situation, as `Session::note` does.
    pub fn see(&mut self, now: Timestamp, notices: Vec<Notice>) {
        for notice in notices {
            self.responder.take(now, &notice);
            match notice {
                Notice::Onset(storm) | Notice::CauseChanged { storm, .. } | Notice::Moved { storm, .. } => {
                    self.put(now, Input::Storm(storm));
                }
                Notice::Subsided(storm) => self.put(now, Input::Calm(storm)),
                Notice::Found(_) => {}
            }
        }
        for change in self.responder.drain_changes() {
            let ended = match &change {
                HoldChange::Ended(subject, end) => Some((subject.clone(), end.clone())),
                HoldChange::Held(_) => None,
            };
            self.put(now, Input::Hold(change));
            match ended {
                Some((subject, HoldEnd::LetGo(_))) => {
                    let storm = self.detector.storm(subject.kind, &subject.id);
                    storm.into_iter().for_each(|storm| self.put(now, Input::Storm(storm.into())));
                }
                Some((subject, HoldEnd::Returned | HoldEnd::Gone)) => self.detector.end(subject.kind, &subject.id),
                None => {}
            }
        }
        self.situation.advance(now);
    }

    pub fn put(&mut self, now: Timestamp, input: Input) {
        self.situation.take(now, input, &Labels::new());
    }

    /// The alerts that the desk makes of it, and the steps that it heard.
    pub fn tell(&mut self, now: Timestamp) -> (Vec<Alert>, Vec<Transition>) {
        let steps: Vec<Transition> = self.situation.drain().collect();
        for Transition { case, .. } in &steps {
            match case.phase {
                Phase::Over => drop(self.storms.remove(&case.key())),
                _ if case.storm.failed > 0 => drop(self.storms.insert(case.key(), case.told((*case.storm).clone()))),
                _ => {}
            }
        }
        let heard = |one: &Transition| Heard { case: one.case.clone(), steps: BTreeSet::from([one.step]) };
        let mut heard: Vec<Heard> = steps.iter().map(heard).collect();
        if self.figures_at <= now {
            self.figures_at = now.plus(FIGURES_EVERY);
            let fresh = self.detector.ongoing().filter_map(|storm| self.situation.refresh(storm, None));
            heard.extend(fresh.map(|case| Heard { case, steps: BTreeSet::new() }));
        }
        if !heard.is_empty() {
            self.desk.hear(now, News::Cases(heard));
        }
        let alerts = self.desk.tell(now);
        if self.desk.take_change() {
            self.memory = self.desk.memory();
        }
        (alerts, steps)
    }

    /// Tells receivers each minute of the cases that go on, if they would take them for over otherwise; returns when it
    /// does so next.
    pub fn refresh(&mut self, now: Timestamp, receivers: &mut Receivers) -> Option<Timestamp> {
        if self.refresh_at <= now {
            self.refresh_at = now.plus(REFRESH_EVERY);
            self.desk.refresh(now).iter().for_each(|alert| receivers.refresh(now, alert));
        }
        Some(self.refresh_at)
    }

    pub fn is_blind(&self, now: Timestamp) -> bool {
        self.blind_until.is_some_and(|until| now < until)
    }

    /// Spends what an action costs; whether there can have been so much.
    pub fn spend(&mut self, now: Timestamp, at: usize, action: Action) -> bool {
        let cost = match action {
            // With its end.
            Action::Probe if self.prepaid.contains(&at) => 0.0,
            Action::Probe => 2.0,
            Action::Raise => 1.0,
            Action::Quarantine | Action::Release => f64::from(u8::from(!self.prepaid.remove(&at))),
        };
        if action == Action::Probe {
            self.prepaid.insert(at);
        }
        self.tokens = (self.tokens + now.since(self.tokens_at).as_secs_f64() / 60.0).min(60.0) - cost;
        self.tokens_at = now;
        self.tokens > -1e-6
    }
}
