//! The one list of cases: what storms, is held, is tried, was let go. Pure: it is told the time.
//!
//! The detector says what fails, the responder what is held. Neither knows the whole of a service's life: a held service
//! fails no more, and is not over; each failed attempt looks like the beginning of another storm, and is none. A
//! [`Situation`] takes both in, as [`Input`], and keeps one [`Case`] for each subject, in one [`Phase`]. The difference
//! that an input makes is a [`Transition`]: alerts, the journal and the lines of `squall watch` hear transitions and
//! nothing else. The page, the metrics and the API read the cases as they are.
//!
//! A transition costs as much as one case, however many there are.

mod step;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    Case, CaseKey, FOUND_AGAIN_WITHIN, HoldChange, Labels, Phase, Refusal, Response, Storm, Subject, SubjectKind,
    Timestamp, Transition, key_of, on_clock,
};

/// What a situation is made of.
#[derive(Clone, Debug)]
pub enum Input {
    /// A storm as it is now: it began, or its cause changed.
    Storm(Arc<Storm>),
    /// A storm that has subsided: nothing failed for the hold-down, or its subject was removed.
    Calm(Arc<Storm>),
    /// A change of what is held.
    Hold(HoldChange),
    /// A proposal to hold a subject was refused.
    Refused {
        /// What storms.
        subject: Subject,
        /// Why it is not held.
        refusal: Refusal,
        /// The response that it would have been.
        response: Response,
    },
}

impl Input {
    /// What it is about.
    pub fn subject(&self) -> &Subject {
        match self {
            Self::Storm(storm) | Self::Calm(storm) => &storm.subject,
            Self::Hold(change) => change.subject(),
            Self::Refused { subject, .. } => subject,
        }
    }
}

/// The one list of cases. See the module. It holds as many as the detector and the responder hold subjects; both have
/// a cap.
#[derive(Debug)]
pub struct Situation {
    cases: BTreeMap<CaseKey, Arc<Case>>,
    /// Those of them that were let go: each storms again, or is over, when its hold-down has passed.
    let_go: BTreeSet<CaseKey>,
    transitions: VecDeque<Transition>,
    /// The storms that went on when the process before this one ended. One that is found again is the same case.
    recalled: BTreeMap<CaseKey, Arc<Storm>>,
    recalled_until: Option<Timestamp>,
    /// Some of them were not found again.
    has_lapsed: bool,
    /// How long a subject that was let go has to do without a failure.
    hold_down: Duration,
}

impl Situation {
    /// A situation without a case. `hold_down` is how long a subject that was let go has to do without a failure until
    /// its case is over: the detector's own.
    pub const fn new(hold_down: Duration) -> Self {
        Self {
            cases: BTreeMap::new(),
            let_go: BTreeSet::new(),
            transitions: VecDeque::new(),
            recalled: BTreeMap::new(),
            recalled_until: None,
            has_lapsed: false,
            hold_down,
        }
    }

    /// Takes what the journal says of storms that had not ended.
    pub fn recall(&mut self, storms: impl IntoIterator<Item = Storm>) {
        self.recalled.extend(storms.into_iter().map(|storm| (key_of(&storm.subject), Arc::new(storm))));
    }

    /// Everything was listed for the first time at `now`: recalled storms that go on are found soon.
    pub fn listed(&mut self, now: Timestamp) {
        self.recalled_until = Some(now.plus(FOUND_AGAIN_WITHIN));
    }

    /// The ids of the storms that may be found again.
    pub fn recalled(&self) -> impl Iterator<Item = &str> {
        self.recalled.values().map(|storm| &*storm.id)
    }

    /// Whether storms were given up since this was asked last, because they were not found again.
    pub fn take_lapse(&mut self) -> bool {
        std::mem::take(&mut self.has_lapsed)
    }

    /// Drops the services that are held, without a transition: this node cannot see them any more.
    pub fn forget_held_services(&mut self) {
        self.cases.retain(|key, case| key.0 != SubjectKind::SwarmService || !case.phase.is_held());
    }

    /// A storm as its case tells it, whether that has begun or is recalled.
    pub fn told(&self, storm: Storm) -> Storm {
        let key = key_of(&storm.subject);
        match (self.cases.get(&key), self.recalled.get(&key)) {
            (Some(case), _) => case.told(storm),
            (None, Some(known)) => storm.part_of(&known.id, known.onset),
            (None, None) => storm,
        }
    }

    /// Takes what was found at `now`; `labels` are those of its service.
    pub fn take(&mut self, now: Timestamp, input: Input, labels: &Labels) {
        let key = self.find(input.subject());
        let before = self.cases.get(&key).cloned();
        let begins = before.is_none() && matches!(input, Input::Storm(_) | Input::Hold(HoldChange::Held(_)));
        let recalled = if begins { self.recalled.remove(&key) } else { None };
        let Some(after) = step::next(before.as_deref(), recalled, now, input, labels) else { return };
        self.put(now, key, before, after);
    }

    /// Takes a storm's figures as they are now. The phase does not depend on them, and neither does a transition.
    pub fn refresh(&mut self, storm: Storm, labels: Option<&Labels>) -> Option<Arc<Case>> {
        let case = self.cases.get_mut(&key_of(&storm.subject)).filter(|case| !case.phase.is_held())?;
        let changed = Arc::make_mut(case);
        changed.storm = Arc::new(storm.since(changed.storm.onset));
        if let Some(labels) = labels.filter(|labels| **labels != changed.labels) {
            changed.labels.clone_from(labels);
        }
        Some(Arc::clone(case))
    }

    /// Lets time pass: of what was let go, that which has not failed since is over, and the rest storms again.
    pub fn advance(&mut self, now: Timestamp) {
        if self.recalled_until.is_some_and(|until| now >= until) {
            self.has_lapsed = !self.recalled.is_empty();
            self.recalled.clear();
            self.recalled_until = None;
        }
        let is_due = |key: &&CaseKey| self.cases.get(*key).is_none_or(|case| now.since(case.since) >= self.hold_down);
        let due: Vec<CaseKey> = self.let_go.iter().filter(is_due).cloned().collect();
        for key in due {
            self.let_go.remove(&key);
            if let Some(before) = self.cases.get(&key).cloned() {
                let phase = if before.storm.ended.is_some() { Phase::Over } else { Phase::Storming };
                let after = Case { phase, since: now, hold: None, ..(*before).clone() };
                self.put(now, key, Some(before), after);
            }
        }
    }

    /// When [`advance`](Self::advance) has something to do, if nothing is taken until then.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        let since = self.let_go.iter().filter_map(|key| Some(self.cases.get(key)?.since));
        since.min().map(|since| since.plus(self.hold_down))
    }

    /// Takes out the transitions since the last time, oldest first; what the iterator is not asked for stays.
    pub fn drain(&mut self) -> impl Iterator<Item = Transition> + '_ {
        std::iter::from_fn(|| self.transitions.pop_front())
    }

    /// The cases, none of which is over, by kind and name.
    pub fn cases(&self) -> impl Iterator<Item = &Arc<Case>> {
        self.cases.values()
    }

    /// A subject that was known by its id when its case began has a name by now: its case goes along.
    fn find(&mut self, subject: &Subject) -> CaseKey {
        let key = key_of(subject);
        if subject.id != subject.name && !self.cases.contains_key(&key) {
            let by_id = (subject.kind, subject.id.clone());
            if let Some(mut case) = self.cases.remove(&by_id) {
                Arc::make_mut(&mut Arc::make_mut(&mut case).storm).subject = subject.clone();
                self.cases.insert(key.clone(), case);
                if self.let_go.remove(&by_id) {
                    self.let_go.insert(key.clone());
                }
            }
        }
        key
    }

    fn put(&mut self, now: Timestamp, key: CaseKey, before: Option<Arc<Case>>, after: Case) {
        let Some(step) = step::difference(before.as_deref(), &after) else { return };
        step::assert_drawn(before.as_deref(), &after);
        let case = Arc::new(after);
        self.let_go.remove(&key);
        match case.phase {
            Phase::Over => drop(self.cases.remove(&key)),
            phase => {
                if phase == Phase::LetGo {
                    self.let_go.insert(key.clone());
                }
                self.cases.insert(key, Arc::clone(&case));
            }
        }
        self.transitions.push_back(Transition { at: now, before, case, step });
    }
}

on_clock!(Situation { cases, transitions, recalled, recalled_until } rest {
    let_go, hold_down, has_lapsed,
});
