//! Finds, makes and forgets subjects, attempts, containers and nodes, each within its bound.

use std::time::Duration;

use super::{Detector, Left, NodeName};
use crate::detect::attempt::Attempt;
use crate::detect::container::PlainContainer;
use crate::detect::key::{Key, Slot};
use crate::detect::subject::SubjectState;
use crate::model::{Owner, Subject, SubjectKind, Timestamp, fnv_64};

/// How many attempts of all subjects may be under way; the oldest goes first.
const OPEN_MAX: usize = 400_000;
/// How many containers that engines restart are kept; when there are more, those not seen for longest go first.
const CONTAINERS_MAX: usize = 100_000;
/// How many nodes are told apart; of more the names are not kept.
const NODES_MAX: usize = 20_000;
/// How long after its removal a container's name is remembered: time for a second one of that name, and for what comes
/// late. What has failed, or asked a registry, is remembered till its quota is whole again.
const LEFT_FOR: Duration = Duration::from_secs(600);
/// How many of them wait to be forgotten; of more the first is forgotten at once.
const LEFT_MAX: usize = 100_000;
/// Which part of the subjects is looked at for forgetting at once: so that the search costs little for each.
const FORGET_PART: usize = 16;
/// How many former ids of a service are known: what is told of them comes within minutes.
pub(in crate::detect) const FORMER_MAX: usize = 8;

impl Detector {
    pub(in crate::detect) fn new_container(&mut self, key: Key, owner: &Owner<'_>, image: &str, at: Timestamp) -> u32 {
        if self.container_index.len() >= CONTAINERS_MAX {
            self.forget_containers();
        }
        let Subject { kind, id, stack, .. } = owner.subject();
        let subject = self.subject_index_of(kind, &id, at);
        self.set_image(subject, image);
        if let Some(subject) = self.subject_mut(subject) {
            subject.containers += 1;
            if subject.subject.stack.is_none() {
                subject.subject.stack = stack;
            }
        }
        self.generation += 1;
        let container = PlainContainer::new(key, subject, self.generation, kind == SubjectKind::EcsFamily, at);
        let index = match self.free_containers.pop() {
            Some(index) => index,
            None => {
                self.containers.push(None);
                last_index(&self.containers)
            }
        };
        self.containers[index as usize] = Some(container);
        self.container_index.insert(key, index);
        index
    }

    pub(in crate::detect) fn new_attempt(
        &mut self,
        key: Key,
        subject: u32,
        slot: Slot,
        node: u32,
        created: Timestamp,
    ) -> u32 {
        while self.attempt_index.len() >= OPEN_MAX {
            self.forget_open_attempt();
        }
        let attempt = Attempt { key, subject, slot, node, created, ..Attempt::default() };
        let index = match self.free_attempts.pop() {
            Some(index) => {
                self.attempts[index as usize] = attempt;
                index
            }
            None => {
                grow(&mut self.attempts);
                self.attempts.push(attempt);
                self.attempt_generations.push(0);
                last_index(&self.attempts)
            }
        };
        self.attempt_index.insert(key, index);
        let is_of_heard_node = self.account.is_placed(node);
        if let Some(subject) = self.subject_mut(subject) {
            subject.pulls_lacking += i64::from(is_of_heard_node);
            subject.open.push(index);
            if let Some(storm) = subject.storm_mut() {
                storm.count_attempt(created);
            }
        }
        self.open.push_back((index, self.attempt_generations[index as usize]));
        if self.open.len() > 2 * OPEN_MAX {
            self.forget_closed();
        }
        index
    }

    pub(in crate::detect) fn subject(&self, index: u32) -> Option<&SubjectState> {
        self.subjects.get(index as usize)?.as_ref()
    }

    pub(in crate::detect) fn subject_mut(&mut self, index: u32) -> Option<&mut SubjectState> {
        self.subjects.get_mut(index as usize)?.as_mut()
    }

    pub(in crate::detect) fn service(&mut self, id: &str, at: Timestamp) -> u32 {
        self.subject_index_of(SubjectKind::SwarmService, id, at)
    }

    pub(in crate::detect) fn subject_index_of(&mut self, kind: SubjectKind, id: &str, at: Timestamp) -> u32 {
        let key = Key::new(id);
        if let Some(index) = self.subject_index.get(&(kind, key)) {
            let index = *index;
            if let Some(subject) = self.subject_mut(index) {
                subject.last_seen = subject.last_seen.max(at);
            }
            return index;
        }
        if self.subject_index.len() >= self.settings.subjects_max {
            self.forget_subjects();
        }
        let subject = Subject { kind, name: id.to_owned(), id: id.to_owned(), stack: None };
        let mut state = SubjectState::new(subject, key, at);
        if let Some((subject, image)) = self.account.recall(key).filter(|(subject, _)| subject.kind == kind) {
            (state.subject, state.image, state.is_image_new) = (subject, image, true);
        }
        let index = match self.free_subjects.pop() {
            Some(index) => index,
            None => {
                grow(&mut self.subjects);
                self.subjects.push(None);
                last_index(&self.subjects)
            }
        };
        self.subjects[index as usize] = Some(state);
        self.subject_index.insert((kind, key), index);
        self.follow_image(index);
        index
    }

    /// A service has this name. Where another has had it, that one was removed and this is its successor: Swarm has one
    /// service of a name. Returns the subject that it is from now on.
    pub(in crate::detect) fn name_service(&mut self, index: u32, name: &str, stack: Option<&str>) -> u32 {
        let mut index = index;
        if !name.is_empty() && self.subject(index).is_some_and(|state| state.subject.name != name) {
            let hash = fnv_64([name.as_bytes()]);
            let known = self.name_index.get(&hash).copied();
            let known = known.filter(|known| self.subject(*known).is_some_and(|state| state.subject.name == name));
            if known.is_some() {
                // Under the name that it had: the storm of that name is another.
                self.end_storm(index);
            }
            let Some(state) = self.subject_mut(index) else { return index };
            let before = fnv_64([std::mem::replace(&mut state.subject.name, name.to_owned()).as_bytes()]);
            if self.name_index.get(&before) == Some(&index) {
                self.name_index.remove(&before);
            }
            match known {
                Some(known) => {
                    self.join(known, index);
                    index = known;
                }
                None => {
                    self.name_index.insert(hash, index);
                }
            }
        }
        if let Some(stack) = stack
            && let Some(state) = self.subject_mut(index)
            && state.subject.stack.as_deref() != Some(stack)
        {
            state.subject.stack = Some(stack.to_owned());
        }
        index
    }

    /// Two services of one name: one was removed, and the other came after it. What is known by either id is one
    /// subject's. What is heard of the new one before the known one was deployed is the past of that name, as a daemon
    /// remembers it for squall's start.
    fn join(&mut self, known: u32, new: u32) {
        let is_past = self
            .subject(new)
            .zip(self.subject(known))
            .is_some_and(|(new, known)| new.listed < known.listed && new.last_seen < known.deployed);
        let never = Timestamp::from_nanos(i64::MIN);
        let was_listed = |state: &SubjectState| state.listed > never;
        if self.listing > never && !is_past && !self.subject(known).is_some_and(was_listed) {
            // It was gone before squall started: its failures prove nothing against the one that is there.
            self.end_storm(known);
            let quotas = &self.quotas;
            if let Some(state) = self.subjects.get_mut(known as usize).and_then(Option::as_mut) {
                let seen = state.last_seen;
                state.begin_account(seen, quotas);
            }
        }
        self.resolve_counts(new);
        let Some(later) = self.subjects[new as usize].take() else { return };
        self.resolve_minutes(new, &later.subject);
        self.account.want(new, later.image_key, Default::default());
        self.incidents.forget(new);
        self.free_subjects.push(new);
        self.subject_index.insert((later.subject.kind, later.key), known);
        for attempt in later.open.iter().chain(&later.settled) {
            self.attempts[*attempt as usize].subject = known;
        }
        let Some(state) = self.subjects.get_mut(known as usize).and_then(Option::as_mut) else { return };
        let former = state.subject.id.clone();
        let forgotten =
            if is_past { state.preceded_by(&later, FORMER_MAX) } else { state.succeeded_by(&later, FORMER_MAX) };
        if let Some(key) = forgotten {
            self.subject_index.remove(&(later.subject.kind, key));
        }
        if is_past {
            let quotas = &self.quotas;
            if let Some(state) = self.subjects.get_mut(known as usize).and_then(Option::as_mut) {
                // Attempts of the one before prove nothing against this one.
                let deployed = state.deployed;
                state.begin_account(deployed, quotas);
            }
            return;
        }
        let failing = later.failing;
        for (cause, text) in failing.iter().flat_map(|failing| &failing.details) {
            state.say(&self.quotas, *cause, text);
        }
        self.announce_move(known, former);
        self.set_image(known, &later.image);
        let Some(failing) = failing else { return };
        for failure in failing.recent {
            self.fail(known, failure);
        }
    }

    pub(in crate::detect) fn set_image(&mut self, index: u32, image: &str) {
        if let Some(state) = self.subject_mut(index)
            && !image.is_empty()
            && *state.image != *image
        {
            state.image = image.into();
            state.is_image_new = true;
            self.follow_image(index);
        }
    }

    pub(in crate::detect) fn node(&mut self, id: &str) -> u32 {
        if id.is_empty() {
            return 0;
        }
        let key = Key::new(id);
        if let Some(index) = self.node_index.get(&key) {
            return *index;
        }
        if self.nodes.len() > NODES_MAX {
            return 0;
        }
        self.nodes.push(NodeName { id: id.into(), ..NodeName::default() });
        let index = last_index(&self.nodes);
        self.node_index.insert(key, index);
        index
    }

    /// Forgets the calm subjects that have not been seen for longest, a part of them at once.
    pub(in crate::detect) fn forget_subjects(&mut self) {
        let mut calm: Vec<(Timestamp, Key, u32)> = self
            .subjects
            .iter()
            .enumerate()
            .filter_map(|(index, subject)| {
                let subject = subject.as_ref().filter(|subject| subject.storm().is_none())?;
                Some((subject.last_seen, subject.key, u32::try_from(index).ok()?))
            })
            .collect();
        let part = (self.settings.subjects_max / FORGET_PART).clamp(1, calm.len().max(1));
        if part < calm.len() {
            calm.select_nth_unstable(part);
        }
        for (_, _, index) in calm.into_iter().take(part) {
            self.drop_subject(index);
            self.counters.subjects_forgotten += 1;
        }
        for index in 0..self.containers.len() {
            let subject = self.containers[index].as_ref().map(|container| container.subject);
            if subject.is_some_and(|subject| self.subject(subject).is_none()) {
                self.drop_container(u32::try_from(index).unwrap_or(u32::MAX));
            }
        }
    }

    pub(in crate::detect) fn drop_subject(&mut self, index: u32) {
        self.resolve_counts(index);
        let Some(state) = self.subjects[index as usize].take() else { return };
        self.resolve_minutes(index, &state.subject);
        for key in state.former.iter().chain([&state.key]) {
            self.subject_index.remove(&(state.subject.kind, *key));
        }
        let hash = fnv_64([state.subject.name.as_bytes()]);
        if self.name_index.get(&hash) == Some(&index) {
            self.name_index.remove(&hash);
        }
        self.account.want(index, state.image_key, Default::default());
        self.incidents.forget(index);
        if state.subject.kind == SubjectKind::SwarmService && !state.image.is_empty() {
            self.account.lose(self.now, state.key, state.subject.clone(), state.image.clone());
        }
        for attempt in state.open.iter().chain(&state.settled) {
            self.free_attempt(*attempt);
        }
        self.found.retain(|entry| entry.1 != state.subject.id);
        self.free_subjects.push(index);
    }

    pub(in crate::detect) fn free_attempt(&mut self, index: u32) {
        let key = self.attempts[index as usize].key;
        self.attempt_index.remove(&key);
        self.attempt_generations[index as usize] = self.attempt_generations[index as usize].wrapping_add(1);
        self.waiting.remove(&index);
        self.free_attempts.push(index);
    }

    pub(in crate::detect) fn forget_settled_attempt(&mut self) {
        let Some((index, generation)) = self.settled.pop_front() else { return };
        if self.attempt_generations[index as usize] != generation {
            return;
        }
        let (subject, version) = (self.attempts[index as usize].subject, self.attempts[index as usize].version);
        if let Some(state) = self.subject_mut(subject) {
            state.forgotten_version = state.forgotten_version.max(version);
            if state.settled.front() == Some(&index) {
                state.settled.pop_front();
            } else {
                state.settled.retain(|settled| *settled != index);
            }
        }
        self.free_attempt(index);
    }

    pub(in crate::detect) fn forget_open_attempt(&mut self) {
        let Some((index, generation)) = self.open.pop_front() else { return };
        if self.attempt_generations[index as usize] != generation || self.attempts[index as usize].outcome.is_some() {
            return;
        }
        self.drop_open_attempt(index);
        self.counters.attempts_forgotten += 1;
    }

    pub(in crate::detect) fn drop_open_attempt(&mut self, index: u32) {
        let subject = self.attempts[index as usize].subject;
        if let Some(state) = self.subject_mut(subject) {
            state.open.retain(|open| *open != index);
        }
        self.free_attempt(index);
    }

    /// Takes those out of the order of open attempts that are open no more.
    pub(in crate::detect) fn forget_closed(&mut self) {
        let (generations, attempts) = (&self.attempt_generations, &self.attempts);
        self.open.retain(|(index, generation)| {
            generations[*index as usize] == *generation && attempts[*index as usize].outcome.is_none()
        });
    }

    pub(in crate::detect) fn forget_containers(&mut self) {
        let mut seen: Vec<(Timestamp, Key, u32)> = self
            .containers
            .iter()
            .enumerate()
            .filter_map(|(index, c)| Some((c.as_ref()?.last_seen, c.as_ref()?.key, u32::try_from(index).ok()?)))
            .collect();
        let part = CONTAINERS_MAX / FORGET_PART;
        if part < seen.len() {
            seen.select_nth_unstable(part);
        }
        for (_, _, index) in seen.into_iter().take(part) {
            self.drop_container(index);
            self.counters.containers_forgotten += 1;
        }
    }

    pub(in crate::detect) fn drop_container(&mut self, index: u32) {
        if let Some(container) = self.containers[index as usize].take() {
            self.container_index.remove(&container.key);
            self.free_containers.push(index);
            self.leave(container.subject, container.last_seen);
        }
    }

    /// One of a subject's containers is gone.
    fn leave(&mut self, index: u32, at: Timestamp) {
        let Some(subject) = self.subject_mut(index) else { return };
        subject.containers = subject.containers.saturating_sub(1);
        if subject.has_left() {
            let left = (at, index, subject.key);
            self.remember_left(0, left);
        }
    }

    fn remember_left(&mut self, stage: usize, left: Left) {
        self.left[stage].push_back(left);
        if self.left[stage].len() > LEFT_MAX {
            self.forget_first_left(stage);
        }
    }

    /// Forgets the containers that were removed long enough ago.
    pub(in crate::detect) fn forget_left(&mut self, now: Timestamp) {
        // By then the slow quota has forgotten its failures too.
        let long = LEFT_FOR.max(self.settings.slow_per.saturating_mul(self.settings.slow_failures.get()));
        for (stage, lasts) in [LEFT_FOR, long].into_iter().enumerate() {
            while self.left[stage].front().is_some_and(|(at, ..)| at.plus(lasts) <= now) {
                self.forget_first_left(stage);
            }
        }
    }

    fn forget_first_left(&mut self, stage: usize) {
        let Some(left) = self.left[stage].pop_front() else { return };
        let (at, index, key) = left;
        // Its number may be another's by now, or it may have come back.
        let is_gone = |subject: &&SubjectState| subject.key == key && subject.has_left() && subject.last_seen <= at;
        let Some(subject) = self.subject(index).filter(is_gone) else { return };
        if stage > 0 || subject.is_blank() {
            self.drop_subject(index);
        } else {
            self.remember_left(1, left);
        }
    }
}

/// Makes room by an eighth: these are most of what a detector holds, and doubled they would stand half empty.
fn grow<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact(list.len() / 8 + 64);
    }
}

/// The index of a list's last entry. Every list here has a cap far below the range.
fn last_index<T>(list: &[T]) -> u32 {
    u32::try_from(list.len().saturating_sub(1)).unwrap_or(u32::MAX)
}
