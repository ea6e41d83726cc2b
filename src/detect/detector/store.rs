//! Finds, makes and forgets subjects, attempts, containers and nodes, each within its bound.

use std::time::Duration;

use super::Detector;
use super::parts::Left;
use crate::detect::arena::{AttemptId, ContainerId, Handle, NodeId, SubjectId};
use crate::detect::attempt::{Attempt, Attempts};
use crate::detect::container::PlainContainer;
use crate::detect::key::{Key, Slot};
use crate::detect::node::Node;
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
    pub(super) fn new_container(&mut self, key: Key, owner: &Owner<'_>, image: &str, at: Timestamp) -> ContainerId {
        if self.containers.len() >= CONTAINERS_MAX {
            self.forget_containers();
        }
        let Subject { kind, id, stack, .. } = owner.subject();
        let subject = self.subject_index_of(kind, &id, at);
        self.set_image(subject, image);
        if let Some(subject) = self.subjects.get_mut(subject) {
            subject.containers += 1;
            if subject.subject.stack.is_none() {
                subject.subject.stack = stack;
            }
        }
        self.containers.insert(PlainContainer::new(key, subject, kind == SubjectKind::EcsFamily, at))
    }

    pub(super) fn new_attempt(
        &mut self,
        key: Key,
        subject: SubjectId,
        slot: Slot,
        node: NodeId,
        created: Timestamp,
    ) -> AttemptId {
        while self.attempts.len() >= OPEN_MAX {
            self.forget_open_attempt();
        }
        let attempt = Attempt { key, subject, slot, node, created, ..Attempt::default() };
        let index = self.attempts.insert(attempt);
        let is_of_heard_node = self.books.account.is_placed(node);
        if let Some(subject) = self.subjects.get_mut(subject) {
            subject.pulls_lacking += i64::from(is_of_heard_node);
            subject.open.push(index);
            if let Some(storm) = subject.storm_mut() {
                storm.count_attempt(created);
            }
        }
        self.oldest.open.push_back(self.attempts.handle(index));
        if self.oldest.open.len() > 2 * OPEN_MAX {
            self.oldest.open.retain(|handle| is_open(&self.attempts, *handle));
        }
        index
    }

    pub(super) fn service(&mut self, id: &str, at: Timestamp) -> SubjectId {
        self.subject_index_of(SubjectKind::SwarmService, id, at)
    }

    pub(super) fn subject_index_of(&mut self, kind: SubjectKind, id: &str, at: Timestamp) -> SubjectId {
        let key = Key::new(id);
        if let Some(index) = self.subjects.find((kind, key)) {
            if let Some(subject) = self.subjects.get_mut(index) {
                subject.last_seen = subject.last_seen.max(at);
            }
            return index;
        }
        if self.subjects.len() >= self.settings.subjects_max {
            self.forget_subjects();
        }
        let subject = Subject { kind, name: id.to_owned(), id: id.to_owned(), stack: None };
        let mut state = SubjectState::new(subject, key, at);
        if let Some((subject, image)) = self.books.account.recall(key).filter(|(subject, _)| subject.kind == kind) {
            (state.subject, state.image, state.is_image_new) = (subject, image, true);
        }
        let index = self.subjects.insert(state);
        self.follow_image(index);
        index
    }

    /// A service has this name. Where another has had it, that one was removed and this is its successor: Swarm has one
    /// service of a name. Returns the subject that it is from now on.
    pub(super) fn name_service(&mut self, index: SubjectId, name: &str, stack: Option<&str>) -> SubjectId {
        let mut index = index;
        if !name.is_empty() && self.subjects.get(index).is_some_and(|state| state.subject.name != name) {
            let hash = fnv_64([name.as_bytes()]);
            let known = self.names.get(&hash).copied();
            let known = known.filter(|known| self.subjects.get(*known).is_some_and(|state| state.subject.name == name));
            if known.is_some() {
                // Under the name that it had: the storm of that name is another.
                self.end_storm(index);
            }
            let Some(state) = self.subjects.get_mut(index) else { return index };
            let before = fnv_64([std::mem::replace(&mut state.subject.name, name.to_owned()).as_bytes()]);
            if self.names.get(&before) == Some(&index) {
                self.names.remove(&before);
            }
            match known {
                Some(known) => {
                    self.join(known, index);
                    index = known;
                }
                None => {
                    self.names.insert(hash, index);
                }
            }
        }
        if let Some(stack) = stack
            && let Some(state) = self.subjects.get_mut(index)
            && state.subject.stack.as_deref() != Some(stack)
        {
            state.subject.stack = Some(stack.to_owned());
        }
        index
    }

    /// Two services of one name: one was removed, and the other came after it. What is known by either id is one
    /// subject's. What is heard of the new one before the known one was deployed is the past of that name, as a daemon
    /// remembers it for squall's start.
    fn join(&mut self, known: SubjectId, new: SubjectId) {
        let is_past = self
            .subjects
            .get(new)
            .zip(self.subjects.get(known))
            .is_some_and(|(new, known)| new.listed < known.listed && new.last_seen < known.deployed);
        let never = Timestamp::from_nanos(i64::MIN);
        let was_listed = |state: &SubjectState| state.listed > never;
        if self.listing.services > never && !is_past && !self.subjects.get(known).is_some_and(was_listed) {
            // It was gone before squall started: its failures prove nothing against the one that is there.
            self.end_storm(known);
            if let Some(state) = self.subjects.get_mut(known) {
                state.begin_account(state.last_seen, &self.quotas);
            }
        }
        self.resolve_counts(new);
        let Some(later) = self.subjects.remove(new) else { return };
        self.resolve_minutes(new, &later.subject);
        self.books.account.want(new, later.image_key, Default::default());
        self.books.incidents.forget(new);
        self.subjects.add_key((later.subject.kind, later.key), known);
        for attempt in later.open.iter().chain(&later.settled) {
            self.attempts[*attempt].subject = known;
        }
        let Some(state) = self.subjects.get_mut(known) else { return };
        let former = state.subject.id.clone();
        let forgotten = if is_past {
            // Attempts of the one before prove nothing against this one.
            state.begin_account(state.deployed, &self.quotas);
            state.take_in(later.key, &later, FORMER_MAX)
        } else {
            for (cause, text) in later.failing.iter().flat_map(|failing| &failing.details) {
                state.say(&self.quotas, *cause, text);
            }
            state.succeeded_by(&later, FORMER_MAX)
        };
        if let Some(key) = forgotten {
            self.subjects.remove_key((later.subject.kind, key), known);
        }
        if !is_past {
            self.announce_move(known, former);
            self.set_image(known, &later.image);
            for failure in later.failing.into_iter().flat_map(|failing| failing.recent) {
                self.fail(known, failure);
            }
        }
    }

    pub(super) fn set_image(&mut self, index: SubjectId, image: &str) {
        if let Some(state) = self.subjects.get_mut(index)
            && !image.is_empty()
            && *state.image != *image
        {
            state.image = image.into();
            state.is_image_new = true;
            self.follow_image(index);
        }
    }

    pub(in crate::detect) fn node(&mut self, id: &str) -> NodeId {
        let key = Key::new(id);
        match self.nodes.find(key) {
            Some(index) => index,
            None if self.nodes.len() > NODES_MAX => NodeId::NONE,
            None => self.nodes.insert(Node { key, id: id.into(), ..Node::default() }),
        }
    }

    /// Forgets the calm subjects that have not been seen for longest, a part of them at once.
    pub(super) fn forget_subjects(&mut self) {
        let mut calm: Vec<(Timestamp, Key, SubjectId)> = self
            .subjects
            .iter()
            .filter(|(_, subject)| subject.storm().is_none())
            .map(|(index, subject)| (subject.last_seen, subject.key, index))
            .collect();
        let part = (self.settings.subjects_max / FORGET_PART).clamp(1, calm.len().max(1));
        if part < calm.len() {
            calm.select_nth_unstable(part);
        }
        for (_, _, index) in calm.into_iter().take(part) {
            self.drop_subject(index);
            self.counters.subjects_forgotten += 1;
        }
        let is_left = |container: &PlainContainer| self.subjects.get(container.subject).is_none();
        let left: Vec<ContainerId> =
            self.containers.iter().filter(|(_, container)| is_left(container)).map(|(index, _)| index).collect();
        for index in left {
            self.drop_container(index);
        }
    }

    pub(super) fn drop_subject(&mut self, index: SubjectId) {
        self.resolve_counts(index);
        let Some(state) = self.subjects.remove(index) else { return };
        self.resolve_minutes(index, &state.subject);
        let hash = fnv_64([state.subject.name.as_bytes()]);
        if self.names.get(&hash) == Some(&index) {
            self.names.remove(&hash);
        }
        self.books.account.want(index, state.image_key, Default::default());
        self.books.incidents.forget(index);
        if state.subject.kind == SubjectKind::SwarmService && !state.image.is_empty() {
            self.books.account.lose(self.clock.now, state.key, state.subject.clone(), state.image.clone());
        }
        for attempt in state.open.iter().chain(&state.settled) {
            self.free_attempt(*attempt);
        }
        self.said.found.retain(|entry| entry.1 != state.subject.id);
    }

    pub(super) fn free_attempt(&mut self, index: AttemptId) {
        self.attempts.remove(index);
        self.waiting.remove(&index);
    }

    pub(super) fn forget_settled_attempt(&mut self) {
        let Some(handle) = self.oldest.settled.pop_front() else { return };
        let Some(&Attempt { subject, version, .. }) = self.attempts.at(handle) else { return };
        let index = handle.id;
        if let Some(state) = self.subjects.get_mut(subject) {
            state.forgotten_version = state.forgotten_version.max(version);
            if state.settled.front() == Some(&index) {
                state.settled.pop_front();
            } else {
                state.settled.retain(|settled| *settled != index);
            }
        }
        self.free_attempt(index);
    }

    pub(super) fn forget_open_attempt(&mut self) {
        let Some(handle) = self.oldest.open.pop_front() else { return };
        if is_open(&self.attempts, handle) {
            self.drop_open_attempt(handle.id);
            self.counters.attempts_forgotten += 1;
        }
    }

    pub(super) fn drop_open_attempt(&mut self, index: AttemptId) {
        let subject = self.attempts[index].subject;
        if let Some(state) = self.subjects.get_mut(subject) {
            state.open.retain(|open| *open != index);
        }
        self.free_attempt(index);
    }

    pub(super) fn forget_containers(&mut self) {
        let mut seen: Vec<(Timestamp, Key, ContainerId)> =
            self.containers.iter().map(|(index, container)| (container.last_seen, container.key, index)).collect();
        let part = CONTAINERS_MAX / FORGET_PART;
        if part < seen.len() {
            seen.select_nth_unstable(part);
        }
        for (_, _, index) in seen.into_iter().take(part) {
            self.drop_container(index);
            self.counters.containers_forgotten += 1;
        }
    }

    pub(super) fn drop_container(&mut self, index: ContainerId) {
        if let Some(container) = self.containers.remove(index) {
            self.leave(container.subject, container.last_seen);
        }
    }

    /// One of a subject's containers is gone.
    fn leave(&mut self, index: SubjectId, at: Timestamp) {
        let Some(subject) = self.subjects.get_mut(index) else { return };
        subject.containers = subject.containers.saturating_sub(1);
        if subject.has_left() {
            self.remember_left(0, (at, self.subjects.handle(index)));
        }
    }

    fn remember_left(&mut self, stage: usize, left: Left) {
        self.oldest.left[stage].push_back(left);
        if self.oldest.left[stage].len() > LEFT_MAX {
            self.forget_first_left(stage);
        }
    }

    /// Forgets the containers that were removed long enough ago.
    pub(super) fn forget_left(&mut self, now: Timestamp) {
        // By then the slow quota has forgotten its failures too.
        let long = LEFT_FOR.max(self.settings.slow_per.saturating_mul(self.settings.slow_failures.get()));
        for (stage, lasts) in [LEFT_FOR, long].into_iter().enumerate() {
            while self.oldest.left[stage].front().is_some_and(|(at, ..)| at.plus(lasts) <= now) {
                self.forget_first_left(stage);
            }
        }
    }

    fn forget_first_left(&mut self, stage: usize) {
        let Some(left) = self.oldest.left[stage].pop_front() else { return };
        let (at, handle) = left;
        // It may have come back.
        let is_gone = |subject: &&SubjectState| subject.has_left() && subject.last_seen <= at;
        let Some(subject) = self.subjects.at(handle).filter(is_gone) else { return };
        if stage > 0 || subject.is_blank() {
            self.drop_subject(handle.id);
        } else {
            self.remember_left(1, left);
        }
    }
}

fn is_open(attempts: &Attempts, handle: Handle<AttemptId>) -> bool {
    attempts.at(handle).is_some_and(|attempt| attempt.outcome.is_none())
}
