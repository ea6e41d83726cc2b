//! What is held, what storms, and which services want a look.

mod containers;
mod decide;
mod schedule;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::budget::Budget;
use super::container::StopMark;
use super::mark::{Mark, Phase};
use super::permit::Permit;
use super::settings::Settings;
use crate::model::{
    Action, Author, ClockStep, Decision, HoldChange, HoldEnd, LetGo, Notice, OnClock, Outcome, Quarantine, Refusal,
    Response, ServiceFact, Storm, Subject, SubjectKind, TaskFact, Timestamp, on_clock,
};

/// How many subjects are remembered that are not to be held for a while; of more those whose time ends first go.
const HANDS_OFF_MAX: usize = 10_000;
/// How far a clock may go back before it is taken for set back.
const CLOCK_STEP: Duration = Duration::from_secs(2);
/// How long after a look that failed the next one is.
const AFTER_A_FAILED_LOOK: Duration = Duration::from_secs(5);
/// How many services are named to be looked at, at once.
const LOOKS_MAX: usize = 64;

/// The policy and the breaker. See the module.
#[derive(Debug)]
pub struct Responder {
    settings: Settings,
    budget: Budget,
    /// What storms, by service id.
    storms: BTreeMap<String, Wait>,
    /// What is held, by service id.
    held: BTreeMap<String, Holding>,
    /// By service id: when squall let go of a mark that may still be there.
    let_go: BTreeMap<String, Timestamp>,
    /// By service id: not to be held again before.
    hands_off: BTreeMap<String, HandsOff>,
    /// What was said last about a service, so that it is said once.
    said: BTreeMap<String, (Action, Response, Option<Refusal>, String)>,
    /// The storms of containers that are not answered yet, and what of them is stopped.
    container_storms: BTreeMap<String, Wait>,
    stopped: BTreeMap<String, (Subject, StopMark)>,
    /// Those of them that are stopped in part only.
    unfinished: BTreeSet<String>,
    /// Services for which an action was paid that was not done.
    credits: BTreeSet<String>,
    services: u64,
    leads: bool,
    listing: Listing,
    counters: Counters,
    /// What of the holds has changed, for the situation. Drained after each look; at most one entry a look.
    changes: Vec<HoldChange>,
    /// The time of the last call that asks what is due.
    latest: Timestamp,
}

/// A storm that is not answered yet.
#[derive(Debug)]
struct Wait {
    /// As it was told last; shared with the situation.
    storm: Arc<Storm>,
    /// When the service is worth a look.
    next: Timestamp,
    /// The `Version.Index` of the last look.
    version: u64,
    /// How many changes of it in a row did not come off.
    failures: u32,
    /// When squall let go of it or gave it back: what failed before is answered.
    answered: Option<Timestamp>,
}

impl Wait {
    fn new(storm: &Arc<Storm>, next: Timestamp) -> Self {
        Self { storm: Arc::clone(storm), next, version: 0, failures: 0, answered: None }
    }
}

/// A held service.
#[derive(Debug)]
struct Holding {
    mark: Mark,
    subject: Subject,
    version: u64,
    /// When the service is worth a look; far away where only a change of it is.
    next: Timestamp,
    /// Since when all that is wanted runs.
    running_since: Option<Timestamp>,
    /// The end of the watched attempt under way is paid for.
    is_paid: bool,
    /// Somebody changed it: squall has let go, and does nothing until its labels are gone or are others.
    is_let_go: bool,
    failures: u32,
    /// By how much the daemon's clock was stepped since the mark was written.
    stepped_nanos: i64,
    /// The service was seen to be as the mark says, and the situation was told.
    is_said: bool,
}

impl Holding {
    /// When the try is due that is written on the service, on the clock as it is now.
    fn until(&self) -> Option<Timestamp> {
        let nanos = self.mark.until?.as_nanos().saturating_add(self.stepped_nanos);
        Some(Timestamp::from_nanos(nanos))
    }
}

#[derive(Debug)]
struct HandsOff {
    /// Of this template; every one where it is not known.
    template: Option<String>,
    until: Timestamp,
}

/// The listing under way.
#[derive(Debug, Default)]
struct Listing {
    services: u64,
    marked: BTreeSet<String>,
}

/// A held service, for whoever shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The service.
    pub subject: Subject,
    /// Its quarantine.
    pub mark: Mark,
    /// Somebody changed it since: squall has let go.
    pub is_let_go: bool,
}

/// How often what was decided, over closed sets; all are there from the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Permits given, by action.
    pub permitted: BTreeMap<Action, u64>,
    /// Refusals, by reason. One that is repeated for the same service and storm counts once.
    pub refused: BTreeMap<Refusal, u64>,
    /// Permits that were used, by how that ended.
    pub settled: BTreeMap<Outcome, u64>,
    /// How often somebody else changed what was held.
    pub let_go: u64,
}

/// What was read of a service at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Look<'a> {
    /// `GET /services/{id}`.
    pub service: &'a Value,
    /// Its tasks.
    pub tasks: &'a [TaskFact<'a>],
}

/// What a look led to.
#[derive(Debug)]
pub enum Verdict {
    /// Nothing is to be done or said.
    Nothing,
    /// Somebody changed what was held.
    LetGo(LetGo),
    /// What was held is gone.
    Gone(Subject),
    /// A refusal.
    Refused {
        /// The decision.
        decision: Decision,
        /// It has not been said before for this service and storm.
        is_news: bool,
    },
    /// A change that may be made.
    Permitted(Box<Permit>),
}

impl Responder {
    /// A responder that has seen nothing.
    pub fn new(settings: Settings) -> Self {
        Self {
            budget: Budget::new(settings.actions_per_hour),
            settings,
            storms: BTreeMap::new(),
            held: BTreeMap::new(),
            let_go: BTreeMap::new(),
            latest: Timestamp::from_nanos(i64::MIN),
            hands_off: BTreeMap::new(),
            said: BTreeMap::new(),
            container_storms: BTreeMap::new(),
            stopped: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            credits: BTreeSet::new(),
            services: 0,
            leads: false,
            listing: Listing::default(),
            counters: Counters::default(),
            changes: Vec::new(),
        }
    }

    /// Takes what a journal of this manager remembers: what was done within the last hour spends the budget, and what
    /// was let go or undone is left alone until the cool-down has passed.
    pub fn remember(&mut self, now: Timestamp, done: &[Decision], let_goes: &[LetGo]) {
        for decision in done.iter().filter(|decision| decision.by == Author::Breaker) {
            if now.since(decision.at) < Duration::from_secs(3600) {
                self.budget.take(decision.at);
            }
            if decision.action == Action::Quarantine {
                let key = match decision.subject.kind {
                    SubjectKind::SwarmService => decision.subject.id.clone(),
                    _ => containers::key(&decision.subject),
                };
                self.leave_alone(&key, None, decision.at);
            }
        }
        for let_go in let_goes {
            self.remember_let_go(&let_go.subject.id, let_go.at);
            if now.since(let_go.at) > self.settings.cool_down {
                continue;
            }
            self.leave_alone(&let_go.subject.id, Some(let_go.template.clone()), let_go.at);
        }
    }

    /// Goes by other settings from now on, and looks again at everything that waits. The hour's actions that were spent stay
    /// spent, unless their number is another one.
    pub fn set_settings(&mut self, now: Timestamp, settings: Settings) {
        if settings.actions_per_hour != self.settings.actions_per_hour {
            self.budget = Budget::new(settings.actions_per_hour);
        }
        self.settings = settings;
        let waits = self.storms.values_mut().chain(self.container_storms.values_mut());
        waits.for_each(|wait| wait.next = wait.next.min(now));
        self.held.values_mut().filter(|held| !held.is_let_go).for_each(|held| held.next = held.next.min(now));
    }

    /// Forgets which services are held: this node is no manager any more. It learns it anew from their labels.
    pub fn forget_held_services(&mut self) {
        self.held.clear();
        self.listing = Listing::default();
        self.changes.retain(|change| change.subject().kind != SubjectKind::SwarmService);
    }

    /// Takes what the detector says.
    pub fn take(&mut self, now: Timestamp, notice: &Notice) {
        match notice {
            Notice::Onset(storm) | Notice::CauseChanged { storm, .. } => {
                let (storms, key) = match storm.subject.kind {
                    SubjectKind::SwarmService => (&mut self.storms, storm.subject.id.clone()),
                    _ => (&mut self.container_storms, containers::key(&storm.subject)),
                };
                if storm.cause.is_of_registry() {
                    self.held.values_mut().filter(|held| held.mark.cause.is_of_registry()).for_each(|held| {
                        held.next = held.next.min(now);
                    });
                }
                match storms.get_mut(&key) {
                    // Its cause has changed: the response may be another.
                    Some(wait) => (wait.storm, wait.next) = (Arc::clone(storm), now),
                    None => {
                        storms.insert(key, Wait::new(storm, now));
                    }
                }
            }
            Notice::Moved { storm, from } => {
                self.storms.remove(from);
                self.credits.remove(from);
                self.said.remove(from);
                // Failures of the service before it was made again prove nothing against it.
                let wait = Wait { answered: Some(now), ..Wait::new(storm, now) };
                self.storms.insert(storm.subject.id.clone(), wait);
            }
            Notice::Subsided(storm) if storm.subject.kind != SubjectKind::SwarmService => {
                let key = containers::key(&storm.subject);
                self.container_storms.remove(&key);
                self.credits.remove(&key);
                self.said.remove(&storm.subject.id);
            }
            Notice::Subsided(storm) => {
                self.storms.remove(&storm.subject.id);
                self.credits.remove(&storm.subject.id);
                if !self.held.contains_key(&storm.subject.id) {
                    self.said.remove(&storm.subject.id);
                }
            }
            Notice::Found(_) => {}
        }
    }

    /// A listing of all services begins.
    pub fn begin_listing(&mut self) {
        self.listing = Listing::default();
    }

    /// Takes one service of a listing.
    pub fn see(&mut self, now: Timestamp, service: &ServiceFact<'_>) {
        self.listing.services += 1;
        let labels = service.labels.iter().map(|(name, value)| (&**name, &**value));
        let is_marked = labels.clone().any(|(name, _)| super::mark::is_mark(name));
        if is_marked {
            self.listing.marked.insert(service.id.to_string());
        }
        match self.held.get_mut(&*service.id) {
            Some(held) if held.version != service.version => held.next = held.next.min(now),
            Some(_) => {}
            None => {
                if let Ok(Some(mark)) = Mark::read(labels) {
                    let subject = Subject {
                        kind: SubjectKind::SwarmService,
                        name: service.name.to_string(),
                        id: service.id.to_string(),
                        stack: service.stack.as_ref().map(ToString::to_string),
                    };
                    self.hold(now, subject, mark, 0);
                }
            }
        }
        if let Some(wait) = self.storms.get_mut(&*service.id)
            && wait.version != service.version
        {
            wait.next = wait.next.min(now);
        }
    }

    /// The listing is complete: held services that it did not have are gone.
    pub fn end_listing(&mut self, now: Timestamp) {
        let listing = std::mem::take(&mut self.listing);
        self.services = listing.services;
        for (id, held) in &mut self.held {
            if !listing.marked.contains(id) {
                // Its labels are gone, or it is.
                held.next = held.next.min(now);
            }
        }
    }

    /// The services that want a look now, those first that have waited longest.
    pub fn due(&mut self, now: Timestamp) -> Vec<String> {
        self.follow_the_clock(now);
        let storms = self.storms.iter().filter(|(id, _)| !self.is_holding(id)).map(|(id, wait)| (wait.next, id));
        let held = self.held.iter().map(|(id, held)| (held.next, id));
        let mut due: Vec<(Timestamp, &String)> = storms.chain(held).filter(|(next, _)| *next <= now).collect();
        due.sort_unstable();
        due.dedup_by_key(|(_, id)| *id);
        due.into_iter().take(LOOKS_MAX).map(|(_, id)| id.clone()).collect()
    }

    /// A clock that was set back must not make everything wait for as long: what waits is looked at, and the hour's
    /// actions are counted anew.
    fn follow_the_clock(&mut self, now: Timestamp) {
        let is_back = self.latest.since(now) > CLOCK_STEP && self.latest > now;
        self.latest = now;
        if !is_back {
            return;
        }
        let waits = self.storms.values_mut().chain(self.container_storms.values_mut()).map(|wait| &mut wait.next);
        waits.filter(|next| **next < NEVER).for_each(|next| *next = (*next).min(now));
        for held in self.held.values_mut() {
            held.running_since = None;
            held.next = if held.next < NEVER { held.next.min(now) } else { NEVER };
        }
        let until = now.plus(self.settings.cool_down);
        self.hands_off.values_mut().for_each(|off| off.until = off.until.min(until));
        self.budget = Budget::new(self.settings.actions_per_hour);
    }

    /// When the next service wants a look.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let storms = self.storms.iter().filter(|(id, _)| !self.is_holding(id)).map(|(_, wait)| wait.next);
        let containers = self.container_storms.values().map(|wait| wait.next);
        storms.chain(self.held.values().map(|held| held.next)).chain(containers).min().filter(|next| *next < NEVER)
    }

    /// Since when a storm's failures are not answered yet, where squall has held the subject meanwhile.
    pub fn answered(&self, kind: SubjectKind, id: &str) -> Option<Timestamp> {
        match kind {
            SubjectKind::SwarmService => self.storms.get(id)?.answered,
            kind => self.container_storms.get(&containers::key_of(kind, id))?.answered,
        }
    }

    /// Whether anything storms or is held, so that it matters who leads.
    pub fn is_busy(&self) -> bool {
        !self.storms.is_empty() || self.held.values().any(|held| !held.is_let_go)
    }

    /// A look that did not come off: the service is looked at again, not at once.
    pub fn put_off(&mut self, now: Timestamp, id: &str) {
        let next = now.plus(AFTER_A_FAILED_LOOK);
        if let Some(wait) = self.storms.get_mut(id) {
            wait.next = next;
        }
        if let Some(held) = self.held.get_mut(id) {
            held.next = next;
        }
    }

    /// The same for the containers of a subject.
    pub fn put_off_containers(&mut self, now: Timestamp, subject: &Subject) {
        if let Some(wait) = self.container_storms.get_mut(&containers::key(subject)) {
            wait.next = now.plus(AFTER_A_FAILED_LOOK);
        }
    }

    /// What is held.
    pub fn held(&self) -> impl Iterator<Item = Held> + '_ {
        self.held.values().map(|held| Held {
            subject: held.subject.clone(),
            mark: held.mark.clone(),
            is_let_go: held.is_let_go,
        })
    }

    /// Takes out what of the holds has changed since the last time.
    pub fn drain_changes(&mut self) -> Vec<HoldChange> {
        std::mem::take(&mut self.changes)
    }

    /// Whether a watched attempt of a service is under way, so that its tasks are worth a close look.
    pub fn is_watched(&self, id: &str) -> bool {
        self.held.get(id).is_some_and(|held| held.mark.phase != Phase::Held)
    }

    /// Whether permits are given at all.
    pub const fn acts(&self) -> bool {
        self.settings.act
    }

    /// How often what was decided.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Tells the situation how a service is held.
    /// `image` is that of the service, if it was read.
    fn say_held(&mut self, id: &str, image: &str) {
        if let Some(held) = self.held.get_mut(id) {
            held.is_said = true;
            let quarantine = Quarantine { image: image.to_owned(), ..held.mark.quarantine(held.subject.clone()) };
            self.changes.push(HoldChange::Held(Box::new(quarantine)));
        }
    }

    fn say_ended(&mut self, subject: Subject, end: HoldEnd) {
        self.changes.push(HoldChange::Ended(subject, end));
    }

    fn is_holding(&self, id: &str) -> bool {
        self.held.get(id).is_some_and(|held| !held.is_let_go)
    }

    fn hold(&mut self, now: Timestamp, subject: Subject, mark: Mark, version: u64) {
        let id = subject.id.clone();
        // Whoever began the attempt has paid for its end; who takes it over pays again, if there is enough.
        let is_paid = mark.phase != Phase::Held && self.budget.take(now);
        let next = now;
        let holding = Holding {
            mark,
            subject,
            version,
            next,
            running_since: None,
            is_paid,
            is_let_go: false,
            failures: 0,
            stepped_nanos: 0,
            is_said: false,
        };
        self.held.insert(id, holding);
    }

    fn leave_alone(&mut self, id: &str, template: Option<String>, since: Timestamp) {
        let until = since.plus(self.settings.cool_down);
        // Of two reasons to leave it alone the one that lasts longer holds.
        if self.hands_off.get(id).is_some_and(|off| off.until > until) {
            return;
        }
        self.hands_off.insert(id.to_owned(), HandsOff { template, until });
        if self.hands_off.len() > HANDS_OFF_MAX
            && let Some(first) = self.hands_off.iter().min_by_key(|(_, off)| off.until).map(|(id, _)| id.clone())
        {
            self.hands_off.remove(&first);
        }
    }
}

// Nothing comes an hour too soon or too late because the daemon's clock was stepped.
on_clock!(Responder { budget, storms, held, let_go, hands_off, container_storms, latest, changes } rest {
    settings, said, stopped, unfinished, credits, services, leads, listing, counters,
});
// The times of the storm are not used.
on_clock!(Wait { next, answered } rest { storm, version, failures });
on_clock!(HandsOff { until } rest { template });

impl OnClock for Holding {
    fn step(&mut self, step: ClockStep) {
        let Self {
            // The service's labels have it as it is.
            mark: _,
            subject: _,
            version: _,
            next,
            running_since,
            is_paid: _,
            is_let_go: _,
            failures: _,
            stepped_nanos,
            is_said: _,
        } = self;
        next.step(step);
        running_since.step(step);
        *stepped_nanos = stepped_nanos.saturating_add(step.by_nanos());
    }
}

/// A look that nothing but a change of the service leads to.
const NEVER: Timestamp = Timestamp::from_nanos(i64::MAX);

impl Default for Counters {
    fn default() -> Self {
        Self {
            permitted: Action::ALL.iter().map(|action| (*action, 0)).collect(),
            refused: Refusal::ALL.iter().map(|refusal| (*refusal, 0)).collect(),
            settled: Outcome::ALL.iter().map(|outcome| (*outcome, 0)).collect(),
            let_go: 0,
        }
    }
}
