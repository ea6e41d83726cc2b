//! What is told, and when: news in, alerts out, on the time of the calls.
//!
//! Storms that begin together, or fail at one registry or node alike, are one conversation: its first message waits a
//! moment for the others, later ones keep a growing distance, and its last one says that it is over. A node that does
//! not lead its Swarm goes the same way and keeps what it would have said for a minute: if the leader dies with it,
//! the next one says it, under the same id.

mod conversation;
mod pressing;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use conversation::{Change, Conversation};
use pressing::Pressing;

use super::news::{Labels, News, Told};
use super::silence::Silence;
use crate::model::{
    ALERT_STORMS_KNOWN_MAX, Action, Alert, AlertKind, AlertStorm, ClockStep, Decision, LetGo, Outcome, Refusal,
    Settlement, Severity, SubjectKind, Timestamp, fnv_64,
};

/// How many conversations go on; of more those that were changed first are forgotten.
const CONVERSATIONS_MAX: usize = 1000;
/// How long a node keeps what it would have said, had it led: a new leader is elected within 15 s, and has its first
/// list of storms some seconds later.
const UNSAID_FOR: Duration = Duration::from_secs(60);
/// How many alerts of that time are kept.
const UNSAID_MAX: usize = 100;
/// What is found storming so long after the start stormed before it.
const BASELINE_FOR: Duration = Duration::from_secs(30);
/// How long after the start it takes until a storm that is not found any more is over: as long as the longest that a
/// storm with a loop period of 40 s needs to be found again.
const RESUME_FOR: Duration = Duration::from_secs(120);

/// What the desk goes by. The defaults are argued where they stand.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of this node.
    pub node: String,
    /// How long the first message of a conversation waits for others. Default 15 s: thirty services that lose one
    /// mount are found within ten.
    pub wait: Duration,
    /// The least time between two messages of a conversation; it doubles with each, up to sixteen times. Default 1 min:
    /// one in which something changes all the time is told at most seven times in its first hour, three of them in the
    /// first four minutes, and at its end.
    pub spacing: Duration,
    /// When it is said first that something still storms; it doubles each time. Default 1 h: whoever heard of it has
    /// had the time to mend it, and what nobody mends is said again four times in its first day.
    pub repeat_min: Duration,
    /// The longest of these times, and that of what is held. Default 24 h: who is on duty that day hears of it once.
    pub repeat_max: Duration,
    /// More alerts than this within [`Settings::digest_per`] become one. Default 10: two a minute are what a person
    /// still reads one by one, and a receiver with the default `per_min` takes them all at once.
    pub digest_over: usize,
    /// Default 5 min: while an outage spreads there is one message in that time, and no news waits longer for it.
    pub digest_per: Duration,
    /// How long a trouble of squall's own has to last. Default 1 min: an election of Swarm's takes 15 s.
    pub trouble_after: Duration,
    /// When what is not told.
    pub silences: Vec<Silence>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            node: String::new(),
            wait: Duration::from_secs(15),
            spacing: Duration::from_secs(60),
            repeat_min: Duration::from_secs(3600),
            repeat_max: Duration::from_secs(86_400),
            digest_over: 10,
            digest_per: Duration::from_secs(300),
            trouble_after: Duration::from_secs(60),
            silences: Vec::new(),
        }
    }
}

/// What a desk has told, for the desk of the next process.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    conversations: Vec<Arc<Conversation>>,
    pressing: Pressing,
}

/// What is told, and when. See the module.
#[derive(Debug)]
pub struct Desk {
    settings: Settings,
    started: Timestamp,
    leads: bool,
    /// Shared with who writes them down.
    conversations: BTreeMap<String, Arc<Conversation>>,
    /// The conversation of each subject that storms.
    by_subject: BTreeMap<Key, String>,
    /// What is told besides storms.
    pressing: Pressing,
    /// When the last alerts were told; as many as make a digest.
    told: VecDeque<Timestamp>,
    /// Until when alerts are gathered for a digest.
    digest_at: Option<Timestamp>,
    /// What was not said because another node leads.
    unsaid: VecDeque<Alert>,
    /// Conversations that were forgotten for want of room.
    forgotten: u64,
    /// The number of the list of all that storms which is being heard.
    list: u64,
}

/// What a storm is known by: its subject, which survives a restart of squall.
type Key = (SubjectKind, String);

impl Desk {
    /// A desk that has told what this memory says.
    pub fn new(settings: Settings, now: Timestamp, memory: Memory) -> Self {
        let mut desk = Self {
            settings,
            started: now,
            leads: false,
            conversations: BTreeMap::new(),
            by_subject: BTreeMap::new(),
            pressing: memory.pressing,
            told: VecDeque::new(),
            digest_at: None,
            unsaid: VecDeque::new(),
            forgotten: 0,
            list: 1,
        };
        for conversation in memory.conversations {
            for key in conversation.keys() {
                desk.by_subject.insert(key, conversation.id.clone());
            }
            desk.conversations.insert(conversation.id.clone(), conversation);
        }
        desk
    }

    /// What has been told so far.
    pub fn memory(&self) -> Memory {
        let told = self.conversations.values().filter(|conversation| conversation.is_told());
        Memory { conversations: told.cloned().collect(), pressing: self.pressing.clone() }
    }

    /// How many conversations were forgotten for want of room.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// What storms and has been told, as one alert, for whoever takes it for over when he does not hear of it. `None`
    /// where nothing does, or another node leads.
    pub fn refresh(&self, now: Timestamp) -> Option<Alert> {
        let told = self.conversations.values().flat_map(|conversation| conversation.told_storms());
        let storms: Vec<AlertStorm> = told.take(ALERT_STORMS_KNOWN_MAX).collect();
        let severity = storms.iter().map(|storm| storm.severity).max()?;
        self.leads.then(|| Alert {
            id: "refresh".to_owned(),
            conversation: "refresh".to_owned(),
            kind: AlertKind::Repeat,
            severity,
            at: now,
            node: self.settings.node.clone(),
            title: String::new(),
            lines: Vec::new(),
            storms,
            storms_left_out: 0,
            next_step: String::new(),
            ends: false,
            part_of: None,
        })
    }

    /// The labels of all that may be told of, by the subject's id.
    pub fn labels(&self) -> BTreeMap<String, Labels> {
        self.conversations.values().flat_map(|conversation| conversation.labels()).collect()
    }

    /// Hears something.
    pub fn hear(&mut self, now: Timestamp, news: News) {
        match news {
            News::Leads(leads) => self.leads = leads,
            News::Onset(told) => self.begin(now, told),
            News::CauseChanged { told, from, .. } => {
                if let Some(conversation) = self.conversation_of(&told) {
                    conversation.cause_changed(now, told, from);
                }
            }
            News::Subsided(told) => {
                if let Some(conversation) = self.conversation_of(&told) {
                    conversation.end(now, told);
                }
            }
            News::Storms { storms, is_last } => self.see(now, storms, is_last),
            News::Decided(decision) => self.decided(&decision),
            News::Settled(decision, settlement) => self.settled(now, &decision, &settlement),
            News::LetGo(let_go) => self.let_go(now, &let_go),
            News::Gap(gap) => self.pressing.gap(now, gap),
            News::Trouble { part, why } => self.pressing.trouble(now, part, why),
            News::Recovered(part) => self.pressing.recovered(now, part),
        }
    }

    /// This machine's clock was stepped: nothing is told an hour too soon or too late for that.
    pub fn step_clock(&mut self, step: ClockStep) {
        let carry = |at: &mut Timestamp| *at = step.carry(*at);
        carry(&mut self.started);
        self.told.iter_mut().chain(&mut self.digest_at).for_each(carry);
        self.unsaid.iter_mut().for_each(|alert| alert.at = step.carry(alert.at));
        self.conversations.values_mut().for_each(|conversation| Arc::make_mut(conversation).step_clock(step));
        self.pressing.step_clock(step);
    }

    /// What is to be told now.
    pub fn tell(&mut self, now: Timestamp) -> Vec<Alert> {
        let mut alerts = self.pressing.tell(now, &self.settings, self.leads);
        let mut unled = Vec::new();
        self.told.retain(|at| now.since(*at) < self.settings.digest_per);
        self.digest_at = self.digest_at.filter(|at| now < *at);
        let gathers = self.digest_at.is_some();
        let mut digested = Vec::new();
        let due = self.conversations.values().filter(|conversation| self.due(conversation).is_some_and(|at| at <= now));
        let ids: Vec<String> = due.map(|conversation| conversation.id.clone()).collect();
        let mut silenced: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for id in ids {
            if self.silence(&id, now) {
                continue;
            }
            let Some(conversation) = self.conversations.get_mut(&id).map(Arc::make_mut) else { continue };
            if let Some(name) = conversation.held_back_by() {
                silenced.entry(name).or_default().push(id);
                continue;
            }
            if !self.leads {
                unled.extend(conversation.tell(now, &self.settings));
            } else if gathers || self.told.len() >= self.settings.digest_over {
                digested.push(id);
            } else if let Some(alert) = conversation.tell(now, &self.settings) {
                alerts.push(alert);
                self.count(now);
            }
        }
        for (name, ids) in silenced {
            let summary = self.gather(now, &ids, AlertKind::Summary, &name);
            if self.leads { alerts.extend(summary) } else { unled.extend(summary) }
        }
        if !digested.is_empty() && !gathers {
            // The first digest says at once that there is more; the next ones come at a distance.
            self.digest_at = Some(now.plus(self.settings.digest_per));
            alerts.extend(self.gather(now, &digested, AlertKind::Digest, ""));
        }
        self.unsaid.retain(|alert| now.since(alert.at) < UNSAID_FOR);
        self.unsaid.extend(unled);
        if self.leads && self.unsaid.len() > self.settings.digest_over {
            // Whoever takes over says what he has not said in one message.
            let (parts, unsaid): (Vec<Alert>, _) = self.unsaid.drain(..).partition(|alert| alert.part_of.is_some());
            self.count(now);
            alerts.extend(words::gathered(now, &self.settings.node, unsaid, AlertKind::Digest, ""));
            alerts.extend(parts);
        } else if self.leads {
            alerts.extend(self.unsaid.drain(..));
        }
        let over = self.unsaid.len().saturating_sub(UNSAID_MAX);
        self.unsaid.drain(..over);
        self.forget_ended();
        alerts
    }

    /// Whether there is something to tell now.
    pub fn is_due(&self, now: Timestamp) -> bool {
        (self.leads && !self.unsaid.is_empty()) || self.next_deadline().is_some_and(|at| at <= now)
    }

    /// When there is something to tell next.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let conversations = self.conversations.values().filter_map(|conversation| self.due(conversation)).min();
        // While a digest is gathered nothing is told before it.
        let conversations = match self.digest_at.filter(|_| self.leads) {
            Some(at) => conversations.map(|next| next.max(at)),
            None => conversations,
        };
        conversations.into_iter().chain(self.pressing.next_deadline(&self.settings)).min()
    }

    /// Holds back what of a conversation is silenced; `true`: all of it is.
    fn silence(&mut self, id: &str, now: Timestamp) -> bool {
        let Some(conversation) = self.conversations.get_mut(id).map(Arc::make_mut) else { return true };
        let mut apart = Vec::new();
        let mut is_whole = false;
        for ((name, until), keys) in conversation.silenced(&self.settings.silences, now) {
            if conversation.has_all(&keys) {
                // What other silences hold back has gone its own way by now.
                conversation.hold_back(name, until);
                is_whole = true;
                continue;
            }
            let mut part = conversation.split(&name, &keys);
            part.hold_back(name, until);
            apart.push((part, keys));
        }
        for (part, keys) in apart {
            self.by_subject.extend(keys.into_iter().map(|key| (key, part.id.clone())));
            match self.conversations.get_mut(&part.id).map(Arc::make_mut) {
                // What was taken out before waits for the same silence.
                Some(earlier) => earlier.absorb(part),
                None => drop(self.conversations.insert(part.id.clone(), Arc::new(part))),
            }
        }
        // What is left may have nothing to tell yet.
        is_whole || self.conversations.get(id).and_then(|left| self.due(left)).is_none_or(|at| at > now)
    }

    fn due(&self, conversation: &Conversation) -> Option<Timestamp> {
        conversation.due(&self.settings)
    }

    fn count(&mut self, now: Timestamp) {
        self.told.push_back(now);
    }

    /// Several conversations in one alert.
    fn gather(&mut self, now: Timestamp, ids: &[String], kind: AlertKind, of: &str) -> Vec<Alert> {
        let mut parts = Vec::new();
        for id in ids {
            parts.extend(
                self.conversations
                    .get_mut(id)
                    .map(Arc::make_mut)
                    .and_then(|conversation| conversation.tell(now, &self.settings)),
            );
        }
        self.count(now);
        words::gathered(now, &self.settings.node, parts, kind, of)
    }

    fn begin(&mut self, now: Timestamp, told: Told) {
        let key = key_of(&told);
        let is_baseline = now.since(self.started) < BASELINE_FOR && told.storm.onset < self.started;
        let known = self.by_subject.get(&key).filter(|id| self.conversations.contains_key(*id));
        let joined = known.cloned().or_else(|| {
            let fits = |conversation: &&Arc<Conversation>| conversation.takes(&told, is_baseline, self.settings.wait);
            self.conversations.values().find(fits).map(|conversation| conversation.id.clone())
        });
        let id = joined.unwrap_or_else(|| {
            self.make_room();
            let conversation = Conversation::new(now, &told, is_baseline);
            let id = conversation.id.clone();
            self.conversations.insert(id.clone(), Arc::new(conversation));
            id
        });
        if let Some(conversation) = self.conversations.get_mut(&id).map(Arc::make_mut) {
            conversation.begin(now, told, self.list);
        }
        self.by_subject.insert(key, id);
    }

    /// The list of all that storms heals what the queue has dropped.
    fn see(&mut self, now: Timestamp, storms: Vec<Told>, is_last: bool) {
        for told in storms {
            let id = self.by_subject.get(&key_of(&told));
            match id.and_then(|id| self.conversations.get_mut(id).map(Arc::make_mut)) {
                Some(conversation) => conversation.see(now, told, self.list),
                None => self.begin(now, told),
            }
        }
        if !is_last {
            return;
        }
        let is_settled = now.since(self.started) >= RESUME_FOR;
        if is_settled {
            self.pressing.settle(now);
        }
        for conversation in self.conversations.values_mut().map(Arc::make_mut) {
            conversation.end_list(now, self.list, is_settled, self.settings.wait);
        }
        self.list += 1;
    }

    fn decided(&mut self, decision: &Decision) {
        let Some(refusal) = decision.refusal else { return };
        let answer = match refusal {
            Refusal::NotEnforced => format!("squall would have held it ({})", decision.response),
            Refusal::Observe | Refusal::NotOptedIn | Refusal::Ignored | Refusal::NotLeader => return,
            other => format!("squall does not hold it: {other}"),
        };
        let key = (decision.subject.kind, decision.subject.id.clone());
        if let Some(conversation) =
            self.by_subject.get(&key).and_then(|id| self.conversations.get_mut(id).map(Arc::make_mut))
        {
            conversation.answer(&key, answer, None);
        }
    }

    fn settled(&mut self, now: Timestamp, decision: &Decision, settlement: &Settlement) {
        if settlement.outcome != Outcome::Done {
            return;
        }
        let (answer, change) = match decision.action {
            Action::Quarantine => (format!("squall holds it ({})", decision.response), Some(Change::Quarantine)),
            Action::Probe => ("squall tries one attempt and watches it".to_owned(), None),
            Action::Raise => ("squall brings it back step by step".to_owned(), None),
            Action::Release => ("squall has given it back as it was".to_owned(), Some(Change::Release)),
        };
        let key = (decision.subject.kind, decision.subject.id.clone());
        match self.by_subject.get(&key).and_then(|id| self.conversations.get_mut(id).map(Arc::make_mut)) {
            Some(conversation) => conversation.answer(&key, answer, change.map(|change| (now, change))),
            None => {
                if let Some(change) = change {
                    self.pressing.note(now, change, format!("{}: {answer}", decision.subject.name));
                }
            }
        }
    }

    fn let_go(&mut self, now: Timestamp, let_go: &LetGo) {
        let answer = format!("squall has let go of it: {}", let_go.why);
        let key = (let_go.subject.kind, let_go.subject.id.clone());
        match self.by_subject.get(&key).and_then(|id| self.conversations.get_mut(id).map(Arc::make_mut)) {
            Some(conversation) => conversation.answer(&key, answer, Some((now, Change::Release))),
            None => self.pressing.note(now, Change::Release, format!("{}: {answer}", let_go.subject.name)),
        }
    }

    fn conversation_of(&mut self, told: &Told) -> Option<&mut Conversation> {
        self.by_subject.get(&key_of(told)).and_then(|id| self.conversations.get_mut(id).map(Arc::make_mut))
    }

    fn make_room(&mut self) {
        if self.conversations.len() < CONVERSATIONS_MAX {
            return;
        }
        let oldest =
            self.conversations.values().min_by_key(|conversation| conversation.touched()).map(|c| c.id.clone());
        if let Some(id) = oldest {
            self.conversations.remove(&id);
            self.by_subject.retain(|_, of| *of != id);
            self.forgotten += 1;
        }
    }

    fn forget_ended(&mut self) {
        let before = self.conversations.len();
        self.conversations.retain(|_, conversation| !conversation.is_done());
        if self.conversations.len() != before {
            let conversations = &self.conversations;
            self.by_subject.retain(|_, id| conversations.contains_key(id));
        }
    }
}

fn key_of(told: &Told) -> Key {
    (told.storm.subject.kind, told.storm.subject.id.clone())
}

/// Sixteen hex digits.
fn id_of(parts: &[&str]) -> String {
    format!("{:016x}", fnv_64(parts.iter().map(|part| part.as_bytes())))
}

/// What a person who looks at the whole of it would say.
fn severity_of(kind: AlertKind, spends: bool) -> Severity {
    match kind {
        AlertKind::Subsided | AlertKind::Release | AlertKind::Recovered | AlertKind::Drill => Severity::Info,
        AlertKind::Trouble => Severity::Critical,
        AlertKind::Quarantine | AlertKind::Gap | AlertKind::Summary => Severity::Warning,
        _ if spends => Severity::Critical,
        _ => Severity::Warning,
    }
}
