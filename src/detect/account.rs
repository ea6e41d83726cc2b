//! Who wants which image, whose pulls are heard, and what was asked in each minute.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::arena::{NodeId, SubjectId};
use super::key::Key;
use super::spent::Sum;
use crate::budget::Pulled;
use crate::model::{
    Basis, Cause, ClockStep, ImageRef, OnClock, Spend, SpendCount, Subject, Timestamp, fnv_64, on_clock, step_keys,
};

/// How long a pull waits for the service that wants its image: a listing of services comes within seconds.
const EARLY_FOR: Duration = Duration::from_secs(30);
/// How many pulls wait so; of more the oldest are nobody's.
const EARLY_MAX: usize = 4096;
/// How many images of nodes are known; what is beyond it is not known to be there.
const IMAGES_MAX: usize = 100_000;
/// How many services that are gone are remembered: their last tasks end within seconds.
const GONE_MAX: usize = 256;
/// How long after its end a pull may be a service's: dockerd cannot take one back that has its answer.
const GONE_FOR: Duration = Duration::from_secs(30);
/// Pulls of one image that end within this began before the first of them had ended: each fetches by itself.
const PULLS_TOGETHER: Duration = Duration::from_secs(1);
/// How many pulls are remembered as told: a daemon remembers 256 events.
const TOLD_MAX: usize = 4096;
/// How many counts of a minute wait to be drained; more are dropped and counted.
const COUNTS_MAX: usize = 100_000;
/// A task is made some moments before its node asks for its image.
const PREPARES_WITHIN: Duration = Duration::from_secs(5);

/// See the module. Subjects and nodes are the detector's numbers.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Who wants which image.
    wanted: BTreeSet<(ImageKey, SubjectId)>,
    origins: BTreeMap<u16, Origin>,
    /// What is on a node, by origin, and since when; a listing does not tell since when.
    images: BTreeMap<(u16, ImageKey), Timestamp>,
    /// The last pulls that were told: two files, or a replay and a stream, may tell of one twice.
    told: BTreeSet<(Timestamp, u16, ImageKey)>,
    /// The names of listed images, by the image's id.
    names: BTreeMap<(u16, Key), Vec<ImageKey>>,
    /// Services that are gone, of which a task may still be heard.
    gone: VecDeque<Gone>,
    early: VecDeque<EarlyPull>,
    counts: BTreeMap<CountKey, Sum>,
    /// What nobody wants, by registry, minute and node.
    nobodys: BTreeMap<NobodysKey, Sum>,
    /// Counts of subjects that are gone.
    resolved: Vec<SpendCount>,
    pub(super) counts_dropped: u64,
}

/// A service that is gone.
#[derive(Debug)]
struct Gone {
    key: Key,
    at: Timestamp,
    subject: Subject,
    image: Box<str>,
}

/// What is known of an origin.
#[derive(Clone, Debug, Default)]
struct Origin {
    /// As its files, or its daemon, are called.
    name: Box<str>,
    /// Its node, if that is known.
    node: NodeId,
    /// Its first event.
    began: Option<Timestamp>,
    /// It tells of pulls: then it has told of every one since it began.
    tells_pulls: bool,
    /// The images of its node were listed.
    has_images: bool,
}

/// A pull of an image that no subject was known to want.
#[derive(Clone, Debug)]
pub(super) struct EarlyPull {
    pub(super) image: ImageKey,
    pub(super) registry: Box<str>,
    pub(super) asked: Asked,
}

/// What an attempt asked whose image is not known yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unpriced {
    pub(super) at: Timestamp,
    pub(super) node: NodeId,
    pub(super) pulled: Pulled,
    pub(super) basis: Basis,
    /// Why the pull failed, where it did.
    pub(super) cause: Option<Cause>,
}

/// What was asked, when, by which node, and what that rests on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) at: Timestamp,
    pub(super) node: NodeId,
    pub(super) spend: Spend,
}

/// Where a count belongs: the subject, the minute, the node and the deployment. Small, as each subject that storms has
/// one; what it means is told when it is taken out.
pub(super) type CountKey = (SubjectId, Timestamp, NodeId, Timestamp);

/// The same of what nobody wants: the registry, the minute and the node.
pub(super) type NobodysKey = (Box<str>, Timestamp, NodeId);

/// What is pulled: a repository's digest or tag, by its hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct ImageKey(u64);

impl ImageKey {
    /// Of a reference: an event names it in its familiar form, a specification as it was written.
    pub(super) fn of(image: &ImageRef<'_>) -> Self {
        let (mark, what) = match (image.digest, image.tag) {
            (Some(digest), _) => ("@", digest),
            (None, Some(tag)) => (":", tag),
            (None, None) => (":", "latest"),
        };
        Self(fnv_64([image.registry.as_bytes(), b"/", image.repository.as_bytes(), mark.as_bytes(), what.as_bytes()]))
    }

    /// Of content, in whatever repository: its manifest is asked for once.
    fn of_content(digest: &str) -> Self {
        Self(fnv_64([b"@".as_slice(), digest.as_bytes()]))
    }
}

impl Account {
    /// A subject wants `new` from now on, and no longer `old`.
    pub(super) fn want(&mut self, subject: SubjectId, old: ImageKey, new: ImageKey) {
        self.wanted.remove(&(old, subject));
        if new != ImageKey::default() {
            self.wanted.insert((new, subject));
        }
    }

    /// The subjects that want an image.
    pub(super) fn who_wants(&self, image: ImageKey) -> impl Iterator<Item = SubjectId> + '_ {
        self.wanted
            .range((image, SubjectId::default())..)
            .take_while(move |(of, _)| *of == image)
            .map(|(_, subject)| *subject)
    }

    /// An origin is this node's.
    pub(super) fn place(&mut self, origin: u16, node: NodeId) {
        self.origins.entry(origin).or_default().node = node;
    }

    /// Whether a node has an origin of its own, which may tell of its pulls.
    pub(super) fn is_placed(&self, node: NodeId) -> bool {
        node.is_known() && self.origins.values().any(|origin| origin.node == node)
    }

    /// An origin is called so.
    pub(super) fn name(&mut self, origin: u16, name: &str) {
        self.origins.entry(origin).or_default().name = name.into();
    }

    /// The origin that is called so and whose node is not known.
    pub(super) fn unplaced(&self, name: &str) -> Option<u16> {
        let mut origins = self.origins.iter();
        origins.find(|(_, origin)| !origin.node.is_known() && *origin.name == *name).map(|(number, _)| *number)
    }

    /// The node of an origin, if it is known.
    pub(super) fn node_of(&self, origin: u16) -> NodeId {
        self.origins.get(&origin).map(|origin| origin.node).unwrap_or_default()
    }

    /// Whether the pulls of an attempt that was made then on a node were told by themselves.
    pub(super) fn is_heard(&self, node: NodeId, created: Timestamp) -> bool {
        let mut of_node =
            self.origins.values().filter(|origin| origin.node == node && node.is_known() && origin.tells_pulls);
        of_node.any(|origin| origin.began.is_some_and(|began| created.plus(PREPARES_WITHIN) >= began))
    }

    /// An origin told of something.
    pub(super) fn heard(&mut self, origin: u16, at: Timestamp) {
        let state = self.origins.entry(origin).or_default();
        state.began = Some(state.began.map_or(at, |began| began.min(at)));
    }

    /// Whether a pull was not told before.
    pub(super) fn is_news(&mut self, at: Timestamp, origin: u16, image: ImageKey) -> bool {
        let is_news = self.told.insert((at, origin, image));
        if self.told.len() > TOLD_MAX {
            self.told.pop_first();
        }
        is_news
    }

    /// An origin told of a pull. Returns whether the image was fetched, as far as it is known what its node had.
    pub(super) fn pulled(&mut self, origin: u16, at: Timestamp, image: &ImageRef<'_>) -> bool {
        let state = self.origins.entry(origin).or_default();
        state.tells_pulls = true;
        let is_listed = state.has_images;
        let content = image.digest.map(ImageKey::of_content);
        let is_there = |key| self.images.get(&(origin, key)).is_some_and(|since| at.since(*since) > PULLS_TOGETHER);
        let was_there = [Some(ImageKey::of(image)), content].into_iter().flatten().any(is_there);
        self.add_image(origin, image, at);
        is_listed && !was_there
    }

    /// The images of an origin's node are told that it had when the listing began; what was pulled since stays.
    pub(super) fn begin_images(&mut self, origin: u16, began: Timestamp) {
        self.images.retain(|(of, _), since| *of != origin || *since >= began);
        self.names.retain(|(of, _), _| *of != origin);
        self.has_images(origin);
    }

    /// Whether a node whose images are known, and that counts, lacks this one.
    pub(super) fn is_lacking(&self, image: ImageKey, counts: impl Fn(NodeId) -> bool) -> bool {
        let listed = self.origins.iter().filter(|(_, origin)| origin.has_images && counts(origin.node));
        listed.into_iter().any(|(number, _)| !self.images.contains_key(&(*number, image)))
    }

    /// The images of an origin's node are told.
    pub(super) fn has_images(&mut self, origin: u16) {
        self.origins.entry(origin).or_default().has_images = true;
    }

    /// A node has this image, since then at the latest.
    pub(super) fn add_image(&mut self, origin: u16, image: &ImageRef<'_>, since: Timestamp) {
        if self.images.len() >= IMAGES_MAX {
            return;
        }
        for key in [Some(ImageKey::of(image)), image.digest.map(ImageKey::of_content)].into_iter().flatten() {
            self.images.entry((origin, key)).or_insert(since);
        }
    }

    /// A listed image has this name, and this id.
    pub(super) fn identify(&mut self, origin: u16, id: &str, image: &ImageRef<'_>) {
        if self.names.len() < IMAGES_MAX {
            self.names.entry((origin, Key::new(id))).or_default().push(ImageKey::of(image));
        }
    }

    /// An image is gone, or one of its names: none of them is relied on till the next listing.
    pub(super) fn lose_image(&mut self, origin: u16, id: &str) {
        for name in self.names.remove(&(origin, Key::new(id))).into_iter().flatten() {
            self.images.remove(&(origin, name));
        }
    }

    /// A service is gone, as was seen at `at`.
    pub(super) fn lose(&mut self, at: Timestamp, key: Key, subject: Subject, image: Box<str>) {
        self.gone.push_back(Gone { key, at, subject, image });
        if self.gone.len() > GONE_MAX {
            self.gone.pop_front();
        }
    }

    /// What a service was that is gone, and heard of again.
    pub(super) fn recall(&mut self, key: Key) -> Option<(Subject, Box<str>)> {
        let place = self.gone.iter().position(|gone| gone.key == key)?;
        self.gone.remove(place).map(|gone| (gone.subject, gone.image))
    }

    /// The service that wanted an image when it was pulled, or just before, and is gone.
    pub(super) fn who_wanted(&self, image: ImageKey, at: Timestamp) -> Option<Subject> {
        let wanted = |gone: &&Gone| {
            at <= gone.at.plus(GONE_FOR) && ImageRef::parse(&gone.image).is_ok_and(|of| ImageKey::of(&of) == image)
        };
        self.gone.iter().rfind(wanted).map(|gone| gone.subject.clone())
    }

    /// Keeps a pull that nobody is known to want; returns the one that there is no more room for.
    pub(super) fn keep(&mut self, pull: EarlyPull) -> Option<EarlyPull> {
        self.early.push_back(pull);
        if self.early.len() > EARLY_MAX { self.early.pop_front() } else { None }
    }

    /// Takes out the pulls of an image that waited for somebody who wants it.
    pub(super) fn take_early(&mut self, image: ImageKey) -> Vec<EarlyPull> {
        if self.early.is_empty() {
            return Vec::new();
        }
        let (taken, left) =
            std::mem::take(&mut self.early).into_iter().partition(|pull: &EarlyPull| pull.image == image);
        self.early = left;
        Vec::from(taken)
    }

    /// Takes out the pulls that nobody has wanted for long enough; all of them at the end.
    pub(super) fn take_unwanted(&mut self, now: Option<Timestamp>) -> Vec<EarlyPull> {
        let is_old = |pull: &EarlyPull| now.is_none_or(|now| now.since(pull.asked.at) > EARLY_FOR);
        let old = self.early.iter().take_while(|pull| is_old(pull)).count();
        self.early.drain(..old).collect()
    }

    /// Counts in a minute.
    pub(super) fn count(&mut self, key: CountKey, spend: &Spend) {
        if self.counts.len() >= COUNTS_MAX && !self.counts.contains_key(&key) {
            self.counts_dropped += 1;
            return;
        }
        self.counts.entry(key).or_default().add(spend);
    }

    /// Counts in a minute what nobody wants.
    pub(super) fn count_nobodys(&mut self, registry: &str, minute: Timestamp, node: NodeId, spend: &Spend) {
        if self.nobodys.len() >= COUNTS_MAX {
            self.counts_dropped += 1;
            return;
        }
        self.nobodys.entry((registry.into(), minute, node)).or_default().add(spend);
    }

    /// Takes out the counts of a subject that goes.
    pub(super) fn counts_of(&mut self, subject: SubjectId) -> Vec<(CountKey, Spend)> {
        let least = Timestamp::from_nanos(i64::MIN);
        let of: Vec<CountKey> = self
            .counts
            .range((subject, least, NodeId::NONE, least)..)
            .map(|(key, _)| *key)
            .take_while(|key| key.0 == subject)
            .collect();
        of.into_iter().filter_map(|key| Some((key, self.counts.remove(&key)?.since(Sum::default())))).collect()
    }

    /// Keeps what a subject that is gone has asked.
    pub(super) fn resolve(&mut self, count: SpendCount) {
        if self.resolved.len() < COUNTS_MAX {
            self.resolved.push(count);
        } else {
            self.counts_dropped += 1;
        }
    }

    /// Takes out one count, of a subject that is there.
    pub(super) fn next_count(&mut self) -> Option<(CountKey, Spend)> {
        self.counts.pop_first().map(|(key, sum)| (key, sum.since(Sum::default())))
    }

    /// Takes out one count of what nobody wants: registry, minute, node.
    pub(super) fn next_of_nobody(&mut self) -> Option<(NobodysKey, Spend)> {
        self.nobodys.pop_first().map(|(key, sum)| (key, sum.since(Sum::default())))
    }

    /// Takes out one count of a subject that is gone.
    pub(super) fn next_resolved(&mut self) -> Option<SpendCount> {
        self.resolved.pop()
    }
}

impl OnClock for Account {
    fn step(&mut self, step: ClockStep) {
        let Self {
            wanted: _,
            origins,
            images,
            told,
            names: _,
            gone,
            early,
            counts,
            nobodys,
            resolved,
            counts_dropped: _,
        } = self;
        origins.step(step);
        images.step(step);
        *told = std::mem::take(told).into_iter().map(|(at, origin, image)| (step.carry(at), origin, image)).collect();
        gone.step(step);
        early.step(step);
        let carry = |(_, minute, _, deployed): &mut CountKey| {
            *minute = step.carry_minute(*minute);
            deployed.step(step);
        };
        step_keys(counts, carry, Sum::join);
        step_keys(nobodys, |(_, minute, _)| *minute = step.carry_minute(*minute), Sum::join);
        resolved.step(step);
    }
}

on_clock!(Gone { at } rest { key, subject, image });
on_clock!(Origin { began } rest { name, node, tells_pulls, has_images });
on_clock!(EarlyPull { asked } rest { image, registry });
on_clock!(Unpriced { at } rest { node, pulled, basis, cause });
on_clock!(Asked { at } rest { node, spend });
