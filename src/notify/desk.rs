//! What is told, and when: news in, alerts out, on the time of the calls.
//!
//! Each case goes through stages, each in a file of its own:
//!
//! 1. *group*: cases that begin together, or fail at one registry or node alike, are one [`Conversation`];
//! 2. *silence*: a silence holds back those that it is about, and sums them up at its end;
//! 3. *space*: the first message waits a moment for others, later ones keep a growing distance, and the last one says
//!    that all of it is over;
//! 4. *digest*: more messages than a person reads one by one become one ([`Digest`]);
//! 5. *remember*: [`Memory`] goes to the next process, so that a restart neither repeats nor forgets.
//!
//! A node that does not lead its Swarm goes the same way and keeps what it would have said for a minute: if the leader
//! dies with it, the next one says it, under the same id.

mod conversation;
mod digest;
mod group;
mod pressing;
mod words;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use conversation::Conversation;
use digest::Digest;
use pressing::Pressing;

use super::news::{Heard, News};
use super::silence::Silence;
use crate::model::{
    ALERT_STORMS_KNOWN_MAX, Alert, AlertKind, AlertStorm, Case, CaseKey, FOUND_AGAIN_WITHIN, Labels, Severity,
    SubjectKind, Timestamp, fnv_64, on_clock,
};

/// How many conversations go on; of more those that were changed first are forgotten.
const CONVERSATIONS_MAX: usize = 1000;
/// How long a node keeps what it would have said, had it led: a new leader is elected within 15 s, and lists its Swarm
/// some seconds later.
const UNSAID_FOR: Duration = Duration::from_secs(60);
/// How many alerts of that time are kept.
const UNSAID_MAX: usize = 100;
/// A storm that is found within this time after the start, and began before it, is told as one that was there.
const BASELINE_FOR: Duration = Duration::from_secs(30);

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
    #[serde(default)]
    unsaid: VecDeque<Alert>,
}

/// What is told, and when. See the module.
#[derive(Debug)]
pub struct Desk {
    settings: Settings,
    started: Timestamp,
    /// When everything was listed for the first time; cases that an earlier process told are looked for from then on.
    listed: Option<Timestamp>,
    leads: bool,
    sees_services: bool,
    /// Shared with the task that writes them down.
    conversations: BTreeMap<u64, Arc<Conversation>>,
    /// The conversation of each case.
    by_case: BTreeMap<CaseKey, u64>,
    next_number: u64,
    /// What is told besides cases.
    pressing: Pressing,
    digest: Digest,
    /// What was not said because another node leads.
    unsaid: VecDeque<Alert>,
    /// Conversations that were forgotten for want of room.
    forgotten: u64,
    /// Its memory is another since that was asked last.
    is_changed: bool,
}

impl Desk {
    /// A desk that has told what this memory says.
    pub fn new(settings: Settings, now: Timestamp, memory: Memory) -> Self {
        let mut desk = Self {
            digest: Digest::new(settings.digest_over, settings.digest_per),
            settings,
            started: now,
            listed: None,
            leads: false,
            sees_services: true,
            conversations: BTreeMap::new(),
            by_case: BTreeMap::new(),
            next_number: 0,
            pressing: memory.pressing,
            unsaid: memory.unsaid,
            forgotten: 0,
            is_changed: false,
        };
        memory.conversations.into_iter().for_each(|conversation| {
            let _ = desk.add(conversation);
        });
        desk
    }

    /// Goes by other settings from now on. What a silence holds back is told, unless one of the new ones holds it back.
    pub fn set_settings(&mut self, now: Timestamp, settings: Settings) {
        self.digest.set_limits(settings.digest_over, settings.digest_per);
        self.settings = settings;
        let held_back = self.conversations.values_mut().filter(|conversation| conversation.held_back_by().is_some());
        held_back.for_each(|conversation| Arc::make_mut(conversation).wait_no_longer(now));
    }

    /// What has been told so far.
    pub fn memory(&self) -> Memory {
        let told = self.conversations.values().filter(|conversation| conversation.is_told());
        Memory { conversations: told.cloned().collect(), pressing: self.pressing.clone(), unsaid: self.unsaid.clone() }
    }

    /// Whether its memory is another than when this was asked last: also a desk that does not lead tells, and its node may
    /// lead after a restart.
    pub fn take_change(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// How many conversations were forgotten for want of room.
    pub const fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// The cases that go on and have been told, as one alert, for receivers that take a case for over if they do not
    /// hear of it. `None` if there are none, or another node leads.
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
            News::SeesServices(sees) => {
                self.sees_services = sees;
                if !sees {
                    self.forget_services();
                }
            }
            News::Listed => self.listed = self.listed.or(Some(now)),
            News::Cases(cases) => {
                cases.into_iter().for_each(|heard| self.hear_case(now, heard));
                self.conversations.values_mut().for_each(|conversation| {
                    if conversation.escalates() {
                        Arc::make_mut(conversation).escalate(now);
                    }
                });
            }
            News::Gap(gap) => self.pressing.gap(now, gap),
            News::Trouble { part, why } => self.pressing.trouble(now, part, why),
            News::Recovered(part) => self.pressing.recovered(now, part),
        }
    }

    /// What is to be told now.
    pub fn tell(&mut self, now: Timestamp) -> Vec<Alert> {
        self.miss(now);
        let mut alerts = self.pressing.tell(now, &self.settings, self.leads);
        let mut unled = Vec::new();
        let gathers = self.digest.gathers(now);
        let mut digested = Vec::new();
        let due = self.conversations.iter().filter(|(_, one)| self.due(one).is_some_and(|at| at <= now));
        let due: Vec<u64> = due.map(|(number, _)| *number).collect();
        let mut silenced: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for number in due {
            if self.silence(number, now) {
                continue;
            }
            let Some(conversation) = self.conversations.get_mut(&number).map(Arc::make_mut) else { continue };
            if let Some(name) = conversation.held_back_by() {
                silenced.entry(name).or_default().push(number);
                continue;
            }
            if !self.leads {
                unled.extend(conversation.tell(now, &self.settings));
            } else if gathers || self.digest.is_full() {
                digested.push(number);
            } else if let Some(alert) = conversation.tell(now, &self.settings) {
                alerts.push(alert);
                self.digest.count(now);
            }
        }
        for (name, numbers) in silenced {
            let summary = self.gather(now, &numbers, AlertKind::Summary, &name);
            if self.leads { alerts.extend(summary) } else { unled.extend(summary) }
        }
        if !digested.is_empty() && !gathers {
            // The first digest says at once that there is more; the next ones come at a distance.
            self.digest.begin(now);
            alerts.extend(self.gather(now, &digested, AlertKind::Digest, ""));
        }
        self.is_changed |= !alerts.is_empty() || !unled.is_empty();
        self.unsaid.retain(|alert| now.since(alert.at) < UNSAID_FOR);
        self.unsaid.extend(unled);
        if self.leads && self.unsaid.len() > self.settings.digest_over {
            // A node that takes over says what it has not said in one message.
            let (parts, unsaid): (Vec<Alert>, _) = self.unsaid.drain(..).partition(|alert| alert.part_of.is_some());
            self.digest.count(now);
            alerts.extend(words::gathered(now, &self.settings.node, unsaid, AlertKind::Digest, ""));
            alerts.extend(parts);
        } else if self.leads {
            alerts.extend(self.unsaid.drain(..));
        }
        let over = self.unsaid.len().saturating_sub(UNSAID_MAX);
        self.unsaid.drain(..over);
        self.is_changed |= !alerts.is_empty();
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
        let conversations = match self.digest.until().filter(|_| self.leads) {
            Some(at) => conversations.map(|next| next.max(at)),
            None => conversations,
        };
        let missed = self.listed.map(|listed| listed.plus(FOUND_AGAIN_WITHIN));
        conversations.into_iter().chain(self.pressing.next_deadline(&self.settings)).chain(missed).min()
    }

    /// Takes one case as it is now. A case that begins joins the conversation that it belongs to.
    fn hear_case(&mut self, now: Timestamp, heard: Heard) {
        if !self.sees_services && heard.case.subject().kind == SubjectKind::SwarmService {
            return;
        }
        let key = self.find(&heard.case);
        let known = self.by_case.get(&key).copied().filter(|number| self.conversations.contains_key(number));
        let number = match known {
            Some(number) => number,
            // It is over before anybody heard of it.
            None if heard.case.phase == crate::model::Phase::Over => return,
            None => self.group(now, &heard.case),
        };
        if let Some(conversation) = self.conversations.get_mut(&number).map(Arc::make_mut) {
            conversation.hear(now, heard);
        }
        self.by_case.insert(key, number);
    }

    /// The conversation that a case which begins is told in.
    fn group(&mut self, now: Timestamp, case: &Case) -> u64 {
        let is_baseline = now.since(self.started) < BASELINE_FOR && case.storm.onset < self.started;
        let fits = |one: &Arc<Conversation>| one.takes(case, is_baseline, self.settings.wait);
        let joined = self.conversations.iter().find(|(_, one)| fits(one)).map(|(number, _)| *number);
        joined.unwrap_or_else(|| {
            self.make_room();
            self.add(Arc::new(Conversation::new(now, case, is_baseline)))
        })
    }

    /// A subject that was known by its id when its case began has a name by now.
    fn find(&mut self, case: &Case) -> CaseKey {
        let key = case.key();
        let by_id = (key.0, case.subject().id.clone());
        if key != by_id
            && !self.by_case.contains_key(&key)
            && let Some(number) = self.by_case.remove(&by_id)
        {
            if let Some(conversation) = self.conversations.get_mut(&number) {
                Arc::make_mut(conversation).rename(&by_id, key.clone());
            }
            self.by_case.insert(key.clone(), number);
        }
        key
    }

    /// What an earlier process told, and this one has not found though everything was listed long ago, is over.
    fn miss(&mut self, now: Timestamp) {
        if self.listed.is_none_or(|listed| now.since(listed) < FOUND_AGAIN_WITHIN) {
            return;
        }
        // Once a process.
        self.listed = None;
        self.pressing.settle(now);
        self.conversations.values_mut().for_each(|conversation| Arc::make_mut(conversation).end_missing(now));
    }

    /// Holds back what of a conversation is silenced; `true`: all of it is.
    fn silence(&mut self, number: u64, now: Timestamp) -> bool {
        let Some(conversation) = self.conversations.get_mut(&number).map(Arc::make_mut) else { return true };
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
            apart.push(part);
        }
        for part in apart {
            // What was taken out before waits for the same silence.
            match self.conversations.iter_mut().find(|(_, one)| one.id == part.id) {
                Some((number, earlier)) => {
                    self.by_case.extend(part.keys().map(|key| (key, *number)));
                    Arc::make_mut(earlier).absorb(part);
                }
                None => {
                    let _ = self.add(Arc::new(part));
                }
            }
        }
        // What is left may have nothing to tell yet.
        is_whole || self.conversations.get(&number).and_then(|left| self.due(left)).is_none_or(|at| at > now)
    }

    fn due(&self, conversation: &Conversation) -> Option<Timestamp> {
        conversation.due(&self.settings)
    }

    /// Several conversations in one alert.
    fn gather(&mut self, now: Timestamp, numbers: &[u64], kind: AlertKind, of: &str) -> Vec<Alert> {
        let mut parts = Vec::new();
        for number in numbers {
            let conversation = self.conversations.get_mut(number).map(Arc::make_mut);
            parts.extend(conversation.and_then(|conversation| conversation.tell(now, &self.settings)));
        }
        self.digest.count(now);
        words::gathered(now, &self.settings.node, parts, kind, of)
    }

    fn add(&mut self, conversation: Arc<Conversation>) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.by_case.extend(conversation.keys().map(|key| (key, number)));
        self.conversations.insert(number, conversation);
        number
    }

    fn make_room(&mut self) {
        if self.conversations.len() < CONVERSATIONS_MAX {
            return;
        }
        let oldest = self.conversations.iter().min_by_key(|(_, one)| one.touched()).map(|(number, _)| *number);
        if let Some(oldest) = oldest {
            self.conversations.remove(&oldest);
            self.by_case.retain(|_, number| *number != oldest);
            self.forgotten += 1;
        }
    }

    /// Drops the cases of services without a word.
    fn forget_services(&mut self) {
        self.conversations.retain(|_, conversation| Arc::make_mut(conversation).forget(SubjectKind::SwarmService));
        self.by_case.retain(|key, _| key.0 != SubjectKind::SwarmService);
        let is_service = |storm: &AlertStorm| storm.subject.kind == SubjectKind::SwarmService;
        self.unsaid.retain(|alert| !alert.storms.iter().any(is_service));
        self.is_changed = true;
    }

    fn forget_ended(&mut self) {
        let before = self.conversations.len();
        self.conversations.retain(|_, conversation| !conversation.is_done());
        if self.conversations.len() != before {
            let conversations = &self.conversations;
            self.by_case.retain(|_, number| conversations.contains_key(number));
        }
    }
}

// The clock is this machine's: nothing is told an hour too soon or too late because it was stepped.
on_clock!(Desk { started, listed, conversations, pressing, digest, unsaid } rest {
    settings, leads, sees_services, by_case, next_number, forgotten, is_changed,
});

/// Sixteen hex digits.
fn id_of(parts: &[&str]) -> String {
    format!("{:016x}", fnv_64(parts.iter().map(|part| part.as_bytes())))
}

/// How bad an alert is for a person who looks at the whole of it.
fn severity_of(kind: AlertKind, spends: bool) -> Severity {
    match kind {
        AlertKind::Subsided | AlertKind::Release | AlertKind::Recovered | AlertKind::Drill => Severity::Info,
        AlertKind::Trouble => Severity::Critical,
        AlertKind::Quarantine | AlertKind::Gap | AlertKind::Summary => Severity::Warning,
        _ if spends => Severity::Critical,
        _ => Severity::Warning,
    }
}
