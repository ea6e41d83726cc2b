//! Storms that are told together, from their first message to their last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::words;
use super::{Key, Settings, id_of, key_of, severity_of};
use crate::model::{ALERT_STORMS_KNOWN_MAX, Alert, AlertKind, AlertStorm, Cause, ClockStep, StormState, Timestamp};
use crate::notify::news::{Labels, Told};
use crate::notify::silence::Silence;

/// How often the distance between two messages doubles: from 1 min to 16.
const SPACING_DOUBLINGS: u32 = 4;
/// It is told again when it has failed so many times as often.
const ESCALATION: u64 = 10;

/// What has changed since the last message, those first that say most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Change {
    Begun,
    Escalated,
    CauseChanged,
    Quarantine,
    Release,
    Ended,
}

/// One subject's storm within a conversation.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Member {
    told: Told,
    /// What squall did about it.
    answer: String,
    is_over: bool,
    /// squall holds it, as far as was told.
    is_held: bool,
    changes: BTreeSet<Change>,
    /// The number of the list that it was found in last, or during which it began; 0 where this process has not
    /// found it.
    #[serde(skip)]
    seen: u64,
}

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Conversation {
    pub(super) id: String,
    /// By kind and id of the subject, as text.
    #[serde(with = "as_list")]
    members: BTreeMap<Key, Member>,
    /// What the storms share: a registry and a cause, or a node.
    families: BTreeSet<(String, String)>,
    newest_onset: Timestamp,
    is_baseline: bool,
    /// The first change that was not told.
    changed: Option<Timestamp>,
    last: Option<Timestamp>,
    messages: u32,
    repeats: u32,
    failed_told: u64,
    /// The silence that holds it back, and until when.
    held_back: Option<(String, Timestamp)>,
    is_done: bool,
}

impl Conversation {
    pub(super) fn new(now: Timestamp, told: &Told, is_baseline: bool) -> Self {
        // The hour keeps a later episode apart, as the number of episodes begins anew with the process.
        let hour = told.storm.onset.as_nanos() / 3_600_000_000_000;
        Self {
            id: id_of(&[&told.storm.id, &hour.to_string()]),
            members: BTreeMap::new(),
            families: BTreeSet::new(),
            newest_onset: told.storm.onset,
            is_baseline,
            changed: Some(now),
            last: None,
            messages: 0,
            repeats: 0,
            failed_told: 0,
            held_back: None,
            is_done: false,
        }
    }

    /// See [`Desk::step_clock`](super::Desk::step_clock). The end of a silence is the wall clock's.
    pub(super) fn step_clock(&mut self, step: ClockStep) {
        let own = [&mut self.newest_onset].into_iter().chain(&mut self.changed).chain(&mut self.last);
        own.for_each(|at| *at = step.carry(*at));
    }

    /// Whether a storm that begins is told with these.
    pub(super) fn takes(&self, told: &Told, is_baseline: bool, wait: Duration) -> bool {
        if self.is_done || self.held_back.is_some() {
            return false;
        }
        let onset = told.storm.onset;
        let is_near = onset.since(self.newest_onset) <= wait && self.newest_onset.since(onset) <= wait;
        is_near
            || (is_baseline && self.is_baseline)
            || families(told).iter().any(|family| self.families.contains(family))
    }

    pub(super) fn begin(&mut self, now: Timestamp, told: Told, list: u64) {
        self.families.extend(families(&told));
        self.newest_onset = self.newest_onset.max(told.storm.onset);
        let is_held = told.storm.state == StormState::Quarantined;
        let known = self.members.get(&key_of(&told)).filter(|member| !member.is_over);
        let (answer, mut changes) = known.map(|m| (m.answer.clone(), m.changes.clone())).unwrap_or_default();
        if known.is_none() {
            changes.insert(Change::Begun);
            changes.remove(&Change::Ended);
            self.changed.get_or_insert(now);
        }
        let member = Member { answer, is_over: false, is_held, changes, seen: list, told };
        self.members.insert(key_of(&member.told), member);
    }

    pub(super) fn cause_changed(&mut self, now: Timestamp, told: Told, from: Cause) {
        self.families.extend(families(&told));
        let Some(member) = self.members.get_mut(&key_of(&told)) else { return };
        // A cause that was found before the first message is no news.
        if !member.changes.contains(&Change::Begun) && from != told.storm.cause {
            member.changes.insert(Change::CauseChanged);
            self.changed.get_or_insert(now);
        }
        member.told = told;
    }

    pub(super) fn end(&mut self, now: Timestamp, told: Told) {
        let Some(member) = self.members.get_mut(&key_of(&told)) else { return };
        member.told = told;
        member.is_over = true;
        member.changes.insert(Change::Ended);
        self.note_end(now);
    }

    /// Takes one of its storms as it is now, from the list of all.
    pub(super) fn see(&mut self, now: Timestamp, told: Told, list: u64) {
        let Some(member) = self.members.get_mut(&key_of(&told)) else { return };
        member.seen = list;
        if member.is_over {
            member.is_over = false;
            member.changes.remove(&Change::Ended);
            member.changes.insert(Change::Begun);
            self.changed.get_or_insert(now);
        }
        member.told = told;
    }

    /// What of it was in no part of the list is over, once that is known for sure.
    pub(super) fn end_list(&mut self, now: Timestamp, list: u64, is_settled: bool, wait: Duration) {
        for member in self.members.values_mut() {
            // It may have begun after its part of the list was made.
            let is_gone = member.seen != list && now.since(member.told.storm.detected) > wait;
            if is_gone && !member.is_over && (is_settled || member.seen > 0) {
                member.is_over = true;
                Arc::make_mut(&mut member.told.storm).ended.get_or_insert(now);
                member.changes.insert(Change::Ended);
            }
        }
        self.note_end(now);
        let failed = self.failed();
        let is_loose = self.ongoing().any(|member| !member.is_held);
        if self.messages > 0 && is_loose && failed >= self.failed_told.max(1).saturating_mul(ESCALATION) {
            for member in self.members.values_mut().filter(|member| !member.is_over && !member.is_held) {
                member.changes.insert(Change::Escalated);
            }
            self.changed.get_or_insert(now);
        }
    }

    /// Keeps what squall did about a storm; a change is told.
    pub(super) fn answer(&mut self, key: &Key, answer: String, change: Option<(Timestamp, Change)>) {
        let Some(member) = self.members.get_mut(key) else { return };
        member.answer = answer;
        let Some((now, change)) = change else { return };
        let is_held = change == Change::Quarantine;
        // A watched attempt that fails is no news each time.
        if member.is_held != is_held {
            member.is_held = is_held;
            member.changes.insert(change);
            self.changed.get_or_insert(now);
        }
    }

    /// When it is told next.
    pub(super) fn due(&self, settings: &Settings) -> Option<Timestamp> {
        if self.is_done {
            return None;
        }
        if let Some((_, until)) = self.held_back {
            return Some(until);
        }
        match (self.changed, self.last) {
            (Some(changed), None) => Some(changed.plus(settings.wait)),
            (Some(changed), Some(last)) => {
                let doublings = self.messages.saturating_sub(1).min(SPACING_DOUBLINGS);
                let spacing = if self.is_over() { settings.wait } else { settings.spacing * 2_u32.pow(doublings) };
                Some(changed.plus(settings.wait).max(last.plus(spacing)))
            }
            (None, Some(last)) => {
                let grown = settings.repeat_min.saturating_mul(2_u32.saturating_pow(self.repeats));
                let is_loose = self.ongoing().any(|member| !member.is_held);
                Some(last.plus(if is_loose { grown.min(settings.repeat_max) } else { settings.repeat_max }))
            }
            (None, None) => None,
        }
    }

    /// The message that is due. `None` where there is nothing to tell after all.
    pub(super) fn tell(&mut self, now: Timestamp, settings: &Settings) -> Option<Alert> {
        let is_over = self.is_over();
        self.is_done = is_over;
        if is_over && self.messages == 0 && self.held_back.is_none() {
            // It is over before anybody has heard of it.
            return None;
        }
        self.held_back = None;
        let kind = self.kind();
        let mut members: Vec<&Member> = self.members.values().filter(|member| is_told_by(kind, member)).collect();
        members.sort_by(|a, b| {
            b.told.storm.failed.cmp(&a.told.storm.failed).then_with(|| a.told.storm.id.cmp(&b.told.storm.id))
        });
        let spends = members.iter().any(|member| member.told.storm.pulls);
        let storms: Vec<AlertStorm> = members
            .iter()
            .take(ALERT_STORMS_KNOWN_MAX)
            .map(|member| AlertStorm::new(&member.told.storm, member.answer.clone()))
            .collect();
        let next_step = match kind {
            AlertKind::Subsided | AlertKind::Release => String::new(),
            _ => members.first().map(|member| member.told.storm.advice.clone()).unwrap_or_default(),
        };
        let all: Vec<&Told> = members.iter().map(|member| &member.told).collect();
        let alert = Alert {
            // Not its kind: what was told as an onset may be told once more as what stormed at the start.
            id: id_of(&[&self.id, &self.messages.to_string()]),
            conversation: self.id.clone(),
            kind,
            severity: severity_of(kind, spends),
            at: now,
            node: settings.node.clone(),
            title: words::title(kind, &all, now),
            lines: Vec::new(),
            storms_left_out: u64::try_from(members.len().saturating_sub(storms.len())).unwrap_or(0),
            storms,
            next_step,
            ends: is_over,
            part_of: None,
        };
        self.repeats = if kind == AlertKind::Repeat { self.repeats.saturating_add(1) } else { self.repeats };
        self.messages = self.messages.saturating_add(1);
        self.failed_told = self.failed();
        (self.changed, self.last) = (None, Some(now));
        self.members.values_mut().for_each(|member| member.changes.clear());
        Some(alert)
    }

    fn kind(&self) -> AlertKind {
        if self.is_over() {
            return AlertKind::Subsided;
        }
        if self.messages == 0 {
            return if self.is_baseline { AlertKind::Baseline } else { AlertKind::Onset };
        }
        match self.members.values().flat_map(|member| &member.changes).min() {
            Some(Change::Begun) => AlertKind::Onset,
            Some(Change::Escalated) => AlertKind::Escalation,
            Some(Change::CauseChanged) => AlertKind::CauseChanged,
            Some(Change::Quarantine) => AlertKind::Quarantine,
            Some(Change::Release | Change::Ended) => AlertKind::Release,
            None => AlertKind::Repeat,
        }
    }

    /// Holds it back until a silence has ended.
    pub(super) fn hold_back(&mut self, name: String, until: Timestamp) {
        self.held_back = Some((name, until));
    }

    /// The silence that has held it back.
    pub(super) fn held_back_by(&self) -> Option<String> {
        self.held_back.as_ref().map(|(name, _)| name.clone())
    }

    /// The members that a silence is about now: by its name and end. Those of no silence are not among them.
    pub(super) fn silenced(&self, silences: &[Silence], now: Timestamp) -> BTreeMap<(String, Timestamp), Vec<Key>> {
        let mut silenced: BTreeMap<_, Vec<Key>> = BTreeMap::new();
        let active: Vec<(&Silence, Timestamp)> =
            silences.iter().filter_map(|silence| Some((silence, silence.end(now)?))).collect();
        for (key, member) in &self.members {
            let storm = &member.told.storm;
            let fits = |silence: &&(&Silence, Timestamp)| {
                silence.0.filter.fits(&storm.subject.name, &member.told.labels, storm.cause)
            };
            if let Some((silence, end)) = active.iter().find(fits) {
                silenced.entry((silence.name.clone(), *end)).or_default().push(key.clone());
            }
        }
        silenced
    }

    /// Takes some members out, into a conversation of their own.
    pub(super) fn split(&mut self, name: &str, keys: &[Key]) -> Self {
        let mut apart = self.clone();
        apart.id = id_of(&[&self.id, name]);
        apart.members.retain(|key, _| keys.contains(key));
        self.members.retain(|key, _| !keys.contains(key));
        if self.members.values().all(|member| member.changes.is_empty()) {
            self.changed = None;
        }
        apart
    }

    /// Takes in what was taken out of the same conversation later.
    pub(super) fn absorb(&mut self, part: Self) {
        self.members.extend(part.members);
        self.families.extend(part.families);
        self.changed = self.changed.or(part.changed);
        self.held_back = part.held_back;
        self.is_done = false;
    }

    pub(super) fn keys(&self) -> impl Iterator<Item = Key> + '_ {
        self.members.keys().cloned()
    }

    /// What storms now, where somebody has heard of it.
    pub(super) fn told_storms(&self) -> impl Iterator<Item = AlertStorm> + '_ {
        let is_told = self.messages > 0 && !self.is_done && self.held_back.is_none();
        let told = self.members.values().filter(move |member| is_told && !member.is_over);
        told.filter(|member| !member.changes.contains(&Change::Begun))
            .map(|member| AlertStorm::new(&member.told.storm, member.answer.clone()))
    }

    /// The labels of those that have any.
    pub(super) fn labels(&self) -> impl Iterator<Item = (String, Labels)> + '_ {
        let labelled = self.members.values().filter(|member| !member.told.labels.is_empty());
        labelled.map(|member| (member.told.storm.subject.id.clone(), member.told.labels.clone()))
    }

    pub(super) fn has_all(&self, keys: &[Key]) -> bool {
        keys.len() == self.members.len()
    }

    /// Whether anybody has heard of it.
    pub(super) const fn is_told(&self) -> bool {
        self.messages > 0 && !self.is_done
    }

    pub(super) const fn is_done(&self) -> bool {
        self.is_done
    }

    /// When it was told or changed last.
    pub(super) fn touched(&self) -> Timestamp {
        self.changed.max(self.last).unwrap_or_default()
    }

    fn ongoing(&self) -> impl Iterator<Item = &Member> {
        self.members.values().filter(|member| !member.is_over)
    }

    fn is_over(&self) -> bool {
        self.ongoing().next().is_none()
    }

    fn failed(&self) -> u64 {
        self.members.values().map(|member| member.told.storm.failed).sum()
    }

    /// The end of some is no news while others go on.
    fn note_end(&mut self, now: Timestamp) {
        if self.is_over() && !self.is_done {
            self.changed.get_or_insert(now);
        }
    }
}

/// What a storm shares with others that have the same reason.
fn families(told: &Told) -> Vec<(String, String)> {
    let storm = &told.storm;
    match storm.cause {
        // A node that is down explains all that ran on it.
        Cause::NodeDown => storm.nodes.iter().map(|node| ("node-down".to_owned(), node.clone())).collect(),
        // What several say of one registry at a time has one reason.
        cause if cause.is_of_registry() => vec![("registry".to_owned(), storm.registry.clone())],
        cause if !storm.registry.is_empty() => vec![(cause.as_str().to_owned(), storm.registry.clone())],
        _ => Vec::new(),
    }
}

fn is_told_by(kind: AlertKind, member: &Member) -> bool {
    let has = |change| member.changes.contains(&change);
    match kind {
        AlertKind::Onset | AlertKind::Baseline => has(Change::Begun),
        AlertKind::CauseChanged => has(Change::CauseChanged),
        AlertKind::Quarantine => has(Change::Quarantine),
        AlertKind::Release => has(Change::Release) || has(Change::Ended),
        AlertKind::Subsided => true,
        _ => !member.is_over,
    }
}

/// A map as a list of its values: JSON has no keys but texts.
mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{Key, Member, key_of};

    pub(super) fn serialize<S: Serializer>(members: &BTreeMap<Key, Member>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(members.values())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Key, Member>, D::Error> {
        let members = Vec::<Member>::deserialize(deserializer)?;
        Ok(members.into_iter().map(|member| (key_of(&member.told), member)).collect())
    }
}
