//! Ids of a fixed size, so that an attempt costs no allocation.

use super::arena::{AttemptId, ContainerId, Handle, SubjectId};
use crate::model::{Timestamp, fnv_64};

/// An id: a Swarm id (25 characters) or any text up to 31 bytes as it is, a container id (64 hex digits) as its 32
/// bytes, any longer text as its FNV-1a hash of 128 bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Key([u8; 32]);

impl Key {
    pub(super) fn new(id: &str) -> Self {
        let bytes = id.as_bytes();
        let mut key = [0; 32];
        if bytes.len() < 32 {
            key[..bytes.len()].copy_from_slice(bytes);
        } else if let Some(hex) = from_hex(bytes) {
            key = hex;
        } else {
            key[..16].copy_from_slice(&fnv_128(bytes).to_be_bytes());
            key[31] = 0xff;
        }
        Self(key)
    }
}

fn from_hex(bytes: &[u8]) -> Option<[u8; 32]> {
    let digits: &[u8; 64] = bytes.try_into().ok()?;
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
    }
    Some(key)
}

const fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

fn fnv_128(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0x6c62_272e_07bb_0142_62b8_2175_6295_c58d, |hash, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b)
    })
}

/// Marks a slot that is a node.
const NODE_BIT: u64 = 1 << 63;

/// A slot of a service: its number, or for a global service its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Slot(u64);

impl Slot {
    /// The slot of a task: `Slot`, or where that is 0 the node.
    pub(super) fn of_task(slot: u64, node_id: &str) -> Self {
        if slot > 0 { Self(slot) } else { Self::of_node(node_id) }
    }

    /// The slot in a task's name: `service.slot.task` or `service.node.task`; a service's name may hold dots.
    pub(super) fn of_task_name(name: &str) -> Self {
        match name.rsplit('.').nth(1) {
            Some(part) => part.parse().map_or_else(|_| Self::of_node(part), Self),
            None => Self(0),
        }
    }

    /// Its number; `None` where it has none: a node, or a slot that is not known.
    pub(super) fn number(self) -> Option<u64> {
        (self.0 > 0 && self.0 < NODE_BIT).then_some(self.0)
    }

    fn of_node(node_id: &str) -> Self {
        if node_id.is_empty() { Self(0) } else { Self(fnv_64([node_id.as_bytes()]) | NODE_BIT) }
    }
}

/// When something falls due; ties are told apart by the key, so that the order is the same in every run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    pub(super) at: Timestamp,
    pub(super) key: Key,
    pub(super) what: DueWhat,
}

/// What falls due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DueWhat {
    /// A Swarm attempt that has ended is judged.
    Attempt(Handle<AttemptId>),
    /// What happened to a container that an engine restarts is judged.
    Container(Handle<ContainerId>),
    /// A service that was removed is done with, after the last of its attempts.
    Removal(SubjectId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_ids_apart() {
        let ids = [
            "",
            "a",
            "4f3jujwf9psjz6npxsq36v4px",
            &"ab".repeat(32),
            &"AB".repeat(32),
            &"x".repeat(40),
            &"x".repeat(41),
        ];
        for (index, a) in ids.iter().enumerate() {
            for b in &ids[index + 1..] {
                assert_ne!(Key::new(a), Key::new(b), "{a} {b}");
            }
        }
    }

    #[test]
    fn a_slot_is_the_same_by_task_and_by_name() {
        assert_eq!(Slot::of_task(3, "node"), Slot::of_task_name("a.b.3.4f3jujwf9psjz6npxsq36v4px"));
        assert_eq!(Slot::of_task(0, "rrao0w"), Slot::of_task_name("web.rrao0w.4f3jujwf9psjz6npxsq36v4px"));
        assert_ne!(Slot::of_task(0, "rrao0w"), Slot::of_task(0, "l3xp4l"));
    }
}
