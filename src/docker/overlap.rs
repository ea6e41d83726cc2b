//! Recognises events that came before, and paces reconnecting: the two small state machines under `follow`.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use serde_json::Value;

/// Events remembered. The daemon's ring replays at most 256; four times that leaves room for live events that came
/// between, and for the doubled ones at the seam of replay and live stream.
const REMEMBERED: usize = 1024;

/// What identifies an event, as far as the daemon gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    /// By the clock of the daemon, or of the swarm's leader for swarm events.
    pub(crate) time_nanos: i64,
    /// Whether this daemon itself made the event: its times are in the order of its ring.
    pub(crate) is_local: bool,
    hash: u64,
}

impl Identity {
    /// Reads it from an event; None when it has no time, so that nothing can be said of it.
    pub(crate) fn of(event: &[u8]) -> Option<Self> {
        let event: Value = serde_json::from_slice(event).ok()?;
        let time_nanos = event["timeNano"].as_i64().filter(|nanos| *nanos > 0)?;
        // DefaultHasher::new has fixed keys. A collision needs the same nanosecond too: it will not happen.
        let mut hasher = DefaultHasher::new();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (time_nanos, text(&event["Type"]), text(&event["Action"]), text(&event["Actor"]["ID"])).hash(&mut hasher);
        let is_local = event["scope"].as_str() != Some("swarm");
        Some(Self { time_nanos, is_local, hash: hasher.finish() })
    }
}

/// The events seen last.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// By hash: which event it was, counted from the first.
    known: HashMap<u64, u64>,
    order: VecDeque<u64>,
    seen: u64,
    last_local: Option<i64>,
    last_swarm: Option<i64>,
}

impl Memory {
    /// How many events were remembered so far: a mark for [`Memory::knew`].
    pub(crate) fn seen(&self) -> u64 {
        self.seen
    }

    pub(crate) fn knows(&self, identity: Identity) -> bool {
        self.known.contains_key(&identity.hash)
    }

    /// Whether the event was known already when `seen` was the mark.
    pub(crate) fn knew(&self, identity: Identity, mark: u64) -> bool {
        self.known.get(&identity.hash).is_some_and(|number| *number < mark)
    }

    pub(crate) fn remember(&mut self, identity: Identity) {
        let last = if identity.is_local { &mut self.last_local } else { &mut self.last_swarm };
        *last = Some(identity.time_nanos);
        if self.knows(identity) {
            return;
        }
        self.known.insert(identity.hash, self.seen);
        self.seen += 1;
        self.order.push_back(identity.hash);
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// The time of the event that arrived last. The daemon's own, if there is one: a swarm event has the leader's
    /// clock, and one from its future would make the daemon replay nothing.
    pub(crate) fn last_nanos(&self) -> Option<i64> {
        self.last_local.or(self.last_swarm)
    }
}

/// Growing, jittered pauses between attempts to reconnect.
#[derive(Debug)]
pub(crate) struct Backoff {
    shortest: Duration,
    longest: Duration,
    next: Duration,
    /// Of xorshift64; never zero.
    random: u64,
}

impl Backoff {
    pub(crate) fn new(shortest: Duration, longest: Duration, seed: u64) -> Self {
        // An odd multiplier spreads small seeds over all bits.
        let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self { shortest, longest, next: shortest, random }
    }

    /// The next pause: doubling, of which half is random, so that the managers of a swarm do not come back as one.
    pub(crate) fn pause(&mut self) -> Duration {
        let whole = self.next.min(self.longest);
        self.next = whole.saturating_mul(2).min(self.longest);
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let thousandths = u32::try_from(self.random >> 32 & 0x3ff).unwrap_or(0).min(1000);
        whole / 2 + whole / 2 * thousandths / 1000
    }

    pub(crate) fn reset(&mut self) {
        self.next = self.shortest;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test panics on a surprise")]

    use super::*;

    fn event(nanos: i64, scope: &str) -> Identity {
        let text = format!(
            r#"{{"Type":"container","Action":"die","scope":"{scope}","timeNano":{nanos},"Actor":{{"ID":"a"}}}}"#
        );
        Identity::of(text.as_bytes()).unwrap()
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let mut memory = Memory::default();
        for nanos in 1..=5000 {
            memory.remember(event(nanos, "local"));
        }
        assert_eq!((memory.known.len(), memory.order.len()), (REMEMBERED, REMEMBERED));
        assert!(memory.knows(event(5000, "local")) && !memory.knows(event(1, "local")));
    }

    #[test]
    fn what_came_after_a_mark_was_not_known_at_it() {
        let mut memory = Memory::default();
        memory.remember(event(1, "local"));
        let mark = memory.seen();
        memory.remember(event(2, "local"));
        assert!(memory.knew(event(1, "local"), mark));
        assert!(!memory.knew(event(2, "local"), mark) && memory.knows(event(2, "local")));
    }

    #[test]
    fn a_leader_with_a_fast_clock_does_not_move_the_place_to_resume_at() {
        let mut memory = Memory::default();
        memory.remember(event(9_000, "swarm"));
        assert_eq!(memory.last_nanos(), Some(9_000));
        memory.remember(event(100, "local"));
        memory.remember(event(9_001, "swarm"));
        assert_eq!(memory.last_nanos(), Some(100));
    }

    #[test]
    fn an_object_without_a_time_has_no_identity() {
        for odd in ["{}", r#"{"timeNano":"x"}"#, r#"{"timeNano":0}"#, "not json"] {
            assert_eq!(Identity::of(odd.as_bytes()), None, "{odd}");
        }
        assert!(Identity::of(br#"{"timeNano":5,"Actor":[],"Type":7}"#).is_some());
    }

    #[test]
    fn pauses_grow_to_the_longest_and_stay_above_half() {
        let (shortest, longest) = (Duration::from_millis(100), Duration::from_secs(30));
        let mut backoff = Backoff::new(shortest, longest, 7);
        let pauses: Vec<Duration> = (0..12).map(|_| backoff.pause()).collect();
        for (tries, pause) in (0_u32..).zip(&pauses) {
            let whole = (shortest * 2_u32.pow(tries)).min(longest);
            assert!(*pause >= whole / 2 && *pause <= whole, "{tries}: {pause:?}");
        }
        let mut other = Backoff::new(shortest, longest, 8);
        assert_ne!(pauses, (0..12).map(|_| other.pause()).collect::<Vec<_>>());
        backoff.reset();
        assert!(backoff.pause() <= shortest);
    }
}
