//! Cases that are told together, from the first message to the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::group::families;
use super::words;
use super::{Settings, id_of, severity_of};
use crate::model::{
    ALERT_STORMS_KNOWN_MAX, Alert, AlertKind, AlertStorm, Case, CaseKey, Labels, Phase, Step, SubjectKind, Timestamp,
    on_clock,
};
use crate::notify::news::Heard;
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

/// One case within a conversation.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Member {
    case: Arc<Case>,
    changes: BTreeSet<Change>,
    /// This process has heard of it.
    #[serde(skip)]
    is_heard: bool,
}

impl Member {
    fn is_over(&self) -> bool {
        self.case.phase == Phase::Over
    }

    /// As an alert tells it, under the case's own id whatever storms were part of it. It ends when the case is over.
    fn alert_storm(&self) -> AlertStorm {
        let storm = AlertStorm::new(&self.case.storm, self.case.answer());
        AlertStorm { id: self.case.id.clone(), ended: storm.ended.filter(|_| self.is_over()), ..storm }
    }

    fn is_held(&self) -> bool {
        self.case.phase.is_held()
    }

    /// Notes a step that it took, if it is news for somebody who heard of it before; whether it is.
    fn note(&mut self, step: Step, is_told: bool) -> bool {
        let change = match step {
            Step::Began | Step::Resumed => Change::Begun,
            // A cause that was found before the first message is no news.
            Step::CauseChanged if is_told && !self.changes.contains(&Change::Begun) => Change::CauseChanged,
            Step::Held => Change::Quarantine,
            Step::LetGo => Change::Release,
            Step::Over => Change::Ended,
            // A watched attempt that fails is no news each time: the message that repeats tells how many did.
            Step::CauseChanged | Step::Tried | Step::AttemptFailed | Step::Returning | Step::Updated => return false,
        };
        self.changes.insert(change);
        change != Change::Ended
    }
}

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Conversation {
    /// That of the case in it that began first, until the first message; then it stays. So it is the same on every
    /// manager, in whatever order each saw the cases begin.
    pub(super) id: String,
    first: Timestamp,
    #[serde(with = "as_list")]
    members: BTreeMap<CaseKey, Member>,
    /// What the cases share.
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

on_clock!(Member { case } rest { changes, is_heard });
// The end of a silence is the wall clock's.
on_clock!(Conversation { first, members, newest_onset, changed, last } rest {
    id, families, is_baseline, messages, repeats, failed_told, held_back, is_done,
});

impl Conversation {
    /// A conversation that begins with this case; [`hear`](Self::hear) takes it in.
    pub(super) fn new(now: Timestamp, case: &Case, is_baseline: bool) -> Self {
        Self {
            id: case.id.clone(),
            first: case.storm.onset,
            members: BTreeMap::new(),
            families: BTreeSet::new(),
            newest_onset: case.storm.onset,
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

    /// Whether a case that begins is told with these.
    pub(super) fn takes(&self, case: &Case, is_baseline: bool, wait: Duration) -> bool {
        if self.is_done || self.held_back.is_some() {
            return false;
        }
        let onset = case.storm.onset;
        let is_near = onset.since(self.newest_onset) <= wait && self.newest_onset.since(onset) <= wait;
        is_near
            || (is_baseline && self.is_baseline)
            || families(case).iter().any(|family| self.families.contains(family))
    }

    /// Takes a case of its own as it is now.
    pub(super) fn hear(&mut self, now: Timestamp, heard: Heard) {
        let Heard { case, steps } = heard;
        self.families.extend(families(&case));
        self.newest_onset = self.newest_onset.max(case.storm.onset);
        let is_told = self.messages > 0;
        let key = case.key();
        let known = self.members.remove(&key);
        let is_new = known.as_ref().is_none_or(Member::is_over);
        let told = known.as_ref().filter(|known| is_told && !known.is_over());
        let case = told.map_or_else(|| Arc::clone(&case), |known| as_told(&known.case, &case));
        let mut member = Member { changes: known.map(|one| one.changes).unwrap_or_default(), is_heard: true, case };
        let mut is_news = false;
        if is_new && !member.is_over() {
            member.changes.remove(&Change::Ended);
            is_news |= member.note(Step::Began, is_told);
        }
        for step in steps.into_iter().filter(|step| *step != Step::Began) {
            is_news |= member.note(step, is_told);
        }
        if is_news {
            self.changed.get_or_insert(now);
        }
        self.members.insert(key, member);
        if self.messages == 0 {
            // A case may have another id by now: the one that is written on its service.
            let cases = self.members.values().map(|member| (member.case.storm.onset, &member.case.id));
            if let Some((first, id)) = cases.min().map(|(first, id)| (first, id.clone())) {
                (self.first, self.id) = (first, id);
            }
        }
        self.note_end(now);
    }

    /// A case of it is known by another name.
    pub(super) fn rename(&mut self, from: &CaseKey, to: CaseKey) {
        if let Some(member) = self.members.remove(from) {
            self.members.insert(to, member);
        }
    }

    /// Drops its cases of a kind; whether any are left.
    pub(super) fn forget(&mut self, kind: SubjectKind) -> bool {
        self.members.retain(|key, _| key.0 != kind);
        !self.members.is_empty()
    }

    /// What of it this process has not heard of is over.
    pub(super) fn end_missing(&mut self, now: Timestamp) {
        for member in self.members.values_mut().filter(|member| !member.is_heard && !member.is_over()) {
            let case = Arc::make_mut(&mut member.case);
            (case.phase, case.since, case.hold) = (Phase::Over, now, None);
            Arc::make_mut(&mut case.storm).ended.get_or_insert(now);
            member.changes.insert(Change::Ended);
        }
        self.note_end(now);
    }

    /// Whether it has failed ten times as often as when it was told last.
    pub(super) fn escalates(&self) -> bool {
        let is_loose = self.ongoing().any(|member| !member.is_held());
        self.messages > 0 && is_loose && self.failed() >= self.failed_told.max(1).saturating_mul(ESCALATION)
    }

    /// That is news.
    pub(super) fn escalate(&mut self, now: Timestamp) {
        for member in self.members.values_mut().filter(|member| !member.is_over() && !member.is_held()) {
            member.changes.insert(Change::Escalated);
        }
        self.changed.get_or_insert(now);
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
                let is_loose = self.ongoing().any(|member| !member.is_held());
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
        let Some(kind) = self.kind() else {
            self.changed = None;
            return None;
        };
        let mut members: Vec<&Member> = self.members.values().filter(|member| is_told_by(kind, member)).collect();
        members.sort_by(|a, b| b.case.storm.failed.cmp(&a.case.storm.failed).then_with(|| a.case.id.cmp(&b.case.id)));
        let spends = members.iter().any(|member| member.case.storm.pulls);
        let storms: Vec<AlertStorm> =
            members.iter().take(ALERT_STORMS_KNOWN_MAX).map(|member| member.alert_storm()).collect();
        let next_step = match kind {
            AlertKind::Subsided | AlertKind::Release => String::new(),
            _ => members.first().map(|member| member.case.storm.advice.clone()).unwrap_or_default(),
        };
        let all: Vec<&Case> = members.iter().map(|member| &*member.case).collect();
        let alert = Alert {
            id: self.message_id(kind),
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

    /// The same for each process that tells the same. Two may have counted another number of messages before the end.
    fn message_id(&self, kind: AlertKind) -> String {
        let number = self.messages.to_string();
        match kind {
            AlertKind::Subsided => id_of(&[&self.id, "over"]),
            // An onset may be told once more as what stormed at the start.
            AlertKind::Onset | AlertKind::Baseline => id_of(&[&self.id, &number]),
            kind => id_of(&[&self.id, &number, kind.as_str()]),
        }
    }

    /// What the message is about; `None` if all that changed is no news any more.
    fn kind(&self) -> Option<AlertKind> {
        if self.is_over() {
            return Some(AlertKind::Subsided);
        }
        if self.messages == 0 {
            // A person holds a service that nobody was told of.
            let is_by_hand = |member: &Member| member.is_held() && member.case.storm.attempts == 0;
            return Some(match () {
                () if self.is_baseline => AlertKind::Baseline,
                () if self.ongoing().all(is_by_hand) => AlertKind::Quarantine,
                () => AlertKind::Onset,
            });
        }
        if self.changed.is_none() {
            return Some(AlertKind::Repeat);
        }
        let changes = self.ongoing().flat_map(|member| member.changes.iter().map(move |change| (member, *change)));
        // A quarantine that has ended since is told as its end.
        let changes = changes.filter(|(member, change)| *change != Change::Quarantine || member.is_held());
        changes.map(|(_, change)| change).min().and_then(|change| match change {
            Change::Begun => Some(AlertKind::Onset),
            Change::Escalated => Some(AlertKind::Escalation),
            Change::CauseChanged => Some(AlertKind::CauseChanged),
            Change::Quarantine => Some(AlertKind::Quarantine),
            Change::Release => Some(AlertKind::Release),
            Change::Ended => None,
        })
    }

    /// Holds it back until a silence has ended.
    pub(super) fn hold_back(&mut self, name: String, until: Timestamp) {
        self.held_back = Some((name, until));
    }

    /// Ends the wait for a silence, so that it is asked again whether one holds it back.
    pub(super) fn wait_no_longer(&mut self, now: Timestamp) {
        if let Some((_, until)) = &mut self.held_back {
            *until = now.min(*until);
        }
    }

    /// The silence that has held it back.
    pub(super) fn held_back_by(&self) -> Option<String> {
        self.held_back.as_ref().map(|(name, _)| name.clone())
    }

    /// The members that a silence is about now: by its name and end. Those of no silence are not among them.
    pub(super) fn silenced(&self, silences: &[Silence], now: Timestamp) -> BTreeMap<(String, Timestamp), Vec<CaseKey>> {
        let mut silenced: BTreeMap<_, Vec<CaseKey>> = BTreeMap::new();
        let active: Vec<(&Silence, Timestamp)> =
            silences.iter().filter_map(|silence| Some((silence, silence.end(now)?))).collect();
        for (key, member) in &self.members {
            let Case { storm, labels, .. } = &*member.case;
            let fits =
                |silence: &&(&Silence, Timestamp)| silence.0.filter.fits(&storm.subject.name, labels, storm.cause);
            if let Some((silence, end)) = active.iter().find(fits) {
                silenced.entry((silence.name.clone(), *end)).or_default().push(key.clone());
            }
        }
        silenced
    }

    /// Takes some members out, into a conversation of their own.
    pub(super) fn split(&mut self, name: &str, keys: &[CaseKey]) -> Self {
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

    pub(super) fn keys(&self) -> impl Iterator<Item = CaseKey> + '_ {
        self.members.keys().cloned()
    }

    /// The cases that go on and that somebody has heard of.
    pub(super) fn told_storms(&self) -> impl Iterator<Item = AlertStorm> + '_ {
        let is_told = self.messages > 0 && !self.is_done && self.held_back.is_none();
        let told = self.members.values().filter(move |member| is_told && !member.is_over());
        // A case that this process has not heard of may be over.
        let heard = told.filter(|member| member.is_heard);
        heard.filter(|member| !member.changes.contains(&Change::Begun)).map(|member| member.alert_storm())
    }

    /// The labels of those that have any.
    pub(super) fn labels(&self) -> impl Iterator<Item = (String, Labels)> + '_ {
        let labelled = self.members.values().filter(|member| !member.case.labels.is_empty());
        labelled.map(|member| (member.case.subject().id.clone(), member.case.labels.clone()))
    }

    pub(super) fn has_all(&self, keys: &[CaseKey]) -> bool {
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
        self.members.values().filter(|member| !member.is_over())
    }

    fn is_over(&self) -> bool {
        self.ongoing().next().is_none()
    }

    fn failed(&self) -> u64 {
        self.members.values().map(|member| member.case.storm.failed).sum()
    }

    /// The end of some is no news while others go on.
    fn note_end(&mut self, now: Timestamp) {
        if self.is_over() && !self.is_done {
            self.changed.get_or_insert(now);
        }
    }
}

/// A case as it is now, under the id and with the onset that it was told with first.
fn as_told(known: &Case, now: &Arc<Case>) -> Arc<Case> {
    if known.id == now.id && known.storm.onset >= now.storm.onset {
        return Arc::clone(now);
    }
    let storm = Arc::new(known.told((*now.storm).clone()));
    Arc::new(Case { id: known.id.clone(), storm, ..(**now).clone() })
}

fn is_told_by(kind: AlertKind, member: &Member) -> bool {
    let has = |change| member.changes.contains(&change);
    let is_named = match kind {
        AlertKind::Onset | AlertKind::Baseline => has(Change::Begun),
        AlertKind::CauseChanged => has(Change::CauseChanged),
        AlertKind::Quarantine => member.is_held() && (has(Change::Quarantine) || has(Change::Begun)),
        AlertKind::Release => has(Change::Release),
        _ => true,
    };
    is_named && (kind == AlertKind::Subsided || !member.is_over())
}

/// A map as a list of its values: JSON has no keys but texts.
mod as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{CaseKey, Member};

    pub(super) fn serialize<S: Serializer>(
        members: &BTreeMap<CaseKey, Member>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(members.values())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<CaseKey, Member>, D::Error> {
        let members = Vec::<Member>::deserialize(deserializer)?;
        Ok(members.into_iter().map(|member| (member.case.key(), member)).collect())
    }
}
