//! Who wants which image, whose pulls are heard, and what was asked in each minute.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use crate::budget::Pulled;
use crate::model::{Basis, Cause, ImageRef, Spend, SpendCount, Subject, Timestamp, fnv_64};

/// How long a pull waits for the service that wants its image: a listing of services comes within seconds.
const EARLY_FOR: Duration = Duration::from_secs(30);
/// How many pulls wait so; of more the oldest are nobody's.
const EARLY_MAX: usize = 4096;
/// How many images of nodes are known; what is beyond it is not known to be there.
const IMAGES_MAX: usize = 100_000;
/// How many counts of a minute wait to be drained; more are dropped and counted.
const COUNTS_MAX: usize = 100_000;
/// A task is made some moments before its node asks for its image.
const PREPARES_WITHIN: Duration = Duration::from_secs(5);

/// See the module. Subjects and nodes are the detector's numbers.
#[derive(Debug, Default)]
pub(super) struct Account {
    wanted: HashMap<ImageKey, Vec<u32>, foldhash::fast::RandomState>,
    origins: BTreeMap<u16, Origin>,
    images: BTreeSet<(u16, ImageKey)>,
    early: VecDeque<EarlyPull>,
    counts: BTreeMap<CountKey, Spend>,
    pub(super) counts_dropped: u64,
}

/// What is known of an origin.
#[derive(Clone, Debug, Default)]
struct Origin {
    /// As its files, or its daemon, are called.
    name: Box<str>,
    /// Its node; 0 where that is not known.
    node: u32,
    /// The first pull that it told of: from then on it tells of every one.
    hears_pulls_since: Option<Timestamp>,
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
    pub(super) node: u32,
    pub(super) pulled: Pulled,
    pub(super) basis: Basis,
    /// Why the pull failed, where it did.
    pub(super) cause: Option<Cause>,
}

/// What was asked, when, by which node, and what that rests on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) at: Timestamp,
    pub(super) node: u32,
    pub(super) spend: Spend,
}

/// Where a count belongs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CountKey {
    pub(super) minute: Timestamp,
    pub(super) subject: Subject,
    pub(super) registry: String,
    pub(super) node: String,
    pub(super) deployed: Timestamp,
}

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
    pub(super) fn want(&mut self, subject: u32, old: ImageKey, new: ImageKey) {
        if let Some(subjects) = self.wanted.get_mut(&old) {
            subjects.retain(|known| *known != subject);
            if subjects.is_empty() {
                self.wanted.remove(&old);
            }
        }
        if new != ImageKey::default() {
            self.wanted.entry(new).or_default().push(subject);
        }
    }

    /// The subjects that want an image.
    pub(super) fn who_wants(&self, image: ImageKey) -> &[u32] {
        self.wanted.get(&image).map_or(&[], Vec::as_slice)
    }

    /// An origin is this node's.
    pub(super) fn place(&mut self, origin: u16, node: u32) {
        self.origins.entry(origin).or_default().node = node;
    }

    /// An origin is called so.
    pub(super) fn name(&mut self, origin: u16, name: &str) {
        self.origins.entry(origin).or_default().name = name.into();
    }

    /// The origin that is called so and whose node is not known.
    pub(super) fn unplaced(&self, name: &str) -> Option<u16> {
        let mut origins = self.origins.iter();
        origins.find(|(_, origin)| origin.node == 0 && *origin.name == *name).map(|(number, _)| *number)
    }

    /// The node of an origin; 0 where it is not known.
    pub(super) fn node_of(&self, origin: u16) -> u32 {
        self.origins.get(&origin).map_or(0, |origin| origin.node)
    }

    /// Whether the pulls of an attempt that was made then on a node were told by themselves.
    pub(super) fn is_heard(&self, node: u32, created: Timestamp) -> bool {
        let mut origins = self.origins.values();
        let since = origins.find(|origin| origin.node == node && node != 0).and_then(|origin| origin.hears_pulls_since);
        since.is_some_and(|since| created.plus(PREPARES_WITHIN) >= since)
    }

    /// An origin told of a pull. Returns whether the image was fetched, as far as it is known what its node had.
    pub(super) fn pulled(&mut self, origin: u16, at: Timestamp, image: &ImageRef<'_>) -> bool {
        let state = self.origins.entry(origin).or_default();
        state.hears_pulls_since = Some(state.hears_pulls_since.map_or(at, |since| since.min(at)));
        let is_listed = state.has_images;
        let is_content_there =
            image.digest.is_some_and(|digest| self.images.contains(&(origin, ImageKey::of_content(digest))));
        let is_new = self.add_image(origin, image);
        is_listed && is_new && !is_content_there
    }

    /// The images of an origin's node are listed from now on.
    pub(super) fn begin_images(&mut self, origin: u16) {
        self.images.retain(|(of, _)| *of != origin);
        self.origins.entry(origin).or_default().has_images = true;
    }

    /// Whether a node whose images are known lacks this one.
    pub(super) fn is_lacking(&self, image: ImageKey) -> bool {
        let listed = self.origins.iter().filter(|(_, origin)| origin.has_images);
        listed.into_iter().any(|(number, _)| !self.images.contains(&(*number, image)))
    }

    /// A node has this image; returns whether that is news.
    pub(super) fn add_image(&mut self, origin: u16, image: &ImageRef<'_>) -> bool {
        if self.images.len() >= IMAGES_MAX {
            return false;
        }
        if let Some(digest) = image.digest {
            self.images.insert((origin, ImageKey::of_content(digest)));
        }
        self.images.insert((origin, ImageKey::of(image)))
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
        *self.counts.entry(key).or_default() += *spend;
    }

    /// Takes out what was counted.
    pub(super) fn drain(&mut self) -> Vec<SpendCount> {
        let counts = std::mem::take(&mut self.counts).into_iter();
        let count = |(key, spend): (CountKey, Spend)| {
            let CountKey { minute, subject, registry, node, deployed } = key;
            SpendCount { minute, subject, registry, node, deployed, spend }
        };
        counts.map(count).collect()
    }
}
