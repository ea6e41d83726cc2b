//! Things by number. Each kind has numbers of a type of its own, so that none is taken for another's.

use std::hash::{BuildHasher as _, Hash};
use std::ops::{Index, IndexMut};

use hashbrown::HashTable;

use crate::model::{ClockStep, OnClock};

/// A number of one kind of thing.
pub(super) trait Id: Copy + Eq {
    fn new(place: usize) -> Self;
    fn place(self) -> usize;
}

macro_rules! ids {
    ($($(#[$doc:meta])* $visible:vis $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $visible struct $name(u32);

        impl Id for $name {
            fn new(place: usize) -> Self {
                // Every arena has a cap far below the range.
                Self(u32::try_from(place).unwrap_or(u32::MAX))
            }

            fn place(self) -> usize {
                self.0 as usize
            }
        }
    )*};
}

ids! {
    /// The detector's number of a subject, for as long as it is known.
    pub SubjectId;
    pub(super) AttemptId;
    pub(super) ContainerId;
    pub(super) NodeId;
}

impl NodeId {
    pub(super) const NONE: Self = Self(0);

    pub(super) fn is_known(self) -> bool {
        self != Self::NONE
    }
}

/// A number that finds nothing once the thing that had it is gone, although another may have it by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Handle<I> {
    pub(super) id: I,
    generation: u32,
}

/// A thing that keys find too.
pub(super) trait Keyed {
    type Key: Copy + Eq + Hash;

    fn keys(&self) -> impl Iterator<Item = Self::Key>;
}

/// Implements `Keyed` for a thing with one key, in its field `key`.
macro_rules! keyed {
    ($name:ident) => {
        impl $crate::detect::arena::Keyed for $name {
            type Key = Key;

            fn keys(&self) -> impl Iterator<Item = Self::Key> {
                std::iter::once(self.key)
            }
        }
    };
}
pub(super) use keyed;

/// All things of a kind. A number that is left is given again.
#[derive(Debug, Default)]
pub(super) struct Arena<I, T: Keyed> {
    things: Vec<Option<T>>,
    generations: Vec<u32>,
    free: Vec<I>,
    /// By the hash of each key; the key itself is in the thing, as it is most of what an entry would need.
    by_key: HashTable<(u32, I)>,
    hasher: foldhash::fast::RandomState,
}

impl<I: Id, T: Keyed> Arena<I, T> {
    pub(super) fn insert(&mut self, thing: T) -> I {
        let id = self.free.pop().unwrap_or_else(|| {
            if self.things.len() == self.things.capacity() {
                // By an eighth: this is most of what a detector holds, and doubled it would stand half empty.
                self.things.reserve_exact(self.things.len() / 8 + 64);
            }
            self.things.push(None);
            self.generations.push(0);
            I::new(self.things.len() - 1)
        });
        for key in thing.keys() {
            self.add_key(key, id);
        }
        self.things[id.place()] = Some(thing);
        id
    }

    pub(super) fn remove(&mut self, id: I) -> Option<T> {
        let thing = self.things.get_mut(id.place())?.take()?;
        for key in thing.keys() {
            self.remove_key(key, id);
        }
        self.generations[id.place()] = self.generations[id.place()].wrapping_add(1);
        self.free.push(id);
        Some(thing)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.things.len() - self.free.len()
    }

    pub(super) fn find(&self, key: T::Key) -> Option<I> {
        let hash = self.hash(key);
        let has_key = |id: I| self.get(id).is_some_and(|thing| thing.keys().any(|known| known == key));
        self.by_key.find(spread(hash), |entry| entry.0 == hash && has_key(entry.1)).map(|entry| entry.1)
    }

    /// A thing has one more key.
    pub(super) fn add_key(&mut self, key: T::Key, id: I) {
        if let Some(known) = self.find(key) {
            self.remove_key(key, known);
        }
        let hash = self.hash(key);
        self.by_key.insert_unique(spread(hash), (hash, id), |entry| spread(entry.0));
    }

    /// A thing has one key fewer.
    pub(super) fn remove_key(&mut self, key: T::Key, id: I) {
        let hash = self.hash(key);
        if let Ok(entry) = self.by_key.find_entry(spread(hash), |entry| *entry == (hash, id)) {
            entry.remove();
        }
    }

    fn hash(&self, key: T::Key) -> u32 {
        let [a, b, c, d, ..] = self.hasher.hash_one(key).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    pub(super) fn get(&self, id: I) -> Option<&T> {
        self.things.get(id.place())?.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: I) -> Option<&mut T> {
        self.things.get_mut(id.place())?.as_mut()
    }

    pub(super) fn handle(&self, id: I) -> Handle<I> {
        Handle { id, generation: self.generations[id.place()] }
    }

    /// The thing that the handle was made for, if it is still there.
    pub(super) fn at(&self, handle: Handle<I>) -> Option<&T> {
        self.get(handle.id).filter(|_| self.generations[handle.id.place()] == handle.generation)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (I, &T)> {
        self.things.iter().enumerate().filter_map(|(place, thing)| Some((I::new(place), thing.as_ref()?)))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut T)> {
        self.things.iter_mut().enumerate().filter_map(|(place, thing)| Some((I::new(place), thing.as_mut()?)))
    }

    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.things.iter().flatten()
    }
}

/// The bits of a hash that the table goes by are its first and its last ones.
const fn spread(hash: u32) -> u64 {
    (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl<I: Id, T: Keyed> Index<I> for Arena<I, T> {
    type Output = T;

    fn index(&self, id: I) -> &T {
        self.get(id).expect("its number was forgotten with the thing")
    }
}

impl<I: Id, T: Keyed> IndexMut<I> for Arena<I, T> {
    fn index_mut(&mut self, id: I) -> &mut T {
        self.get_mut(id).expect("its number was forgotten with the thing")
    }
}

impl<I, T: Keyed + OnClock> OnClock for Arena<I, T> {
    fn step(&mut self, step: ClockStep) {
        self.things.step(step);
    }
}
