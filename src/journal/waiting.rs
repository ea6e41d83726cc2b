//! What waits in memory for a disk that cannot be written.

use std::collections::{BTreeMap, VecDeque};

use super::entry::{Change, Entry};
use crate::model::{Decision, LetGo, Outcome, Settlement, Subject, Timestamp};

/// How many entries wait; above it the oldest are dropped, and history before what a restart needs.
pub const WAITING_MAX: usize = 10_000;
/// How many bytes they may hold.
const WAITING_BYTES_MAX: usize = 32 << 20;

/// Entries in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    changes: VecDeque<(Change, usize)>,
    bytes: usize,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Takes one more; returns how many had to go for it.
    pub(super) fn push(&mut self, change: Change) -> u64 {
        let bytes = change.bytes();
        self.bytes += bytes;
        self.changes.push_back((change, bytes));
        let mut dropped = 0;
        while self.changes.len() > 1 && (self.changes.len() > WAITING_MAX || self.bytes > WAITING_BYTES_MAX) {
            let at = self.changes.iter().position(|(change, _)| !change.is_state()).unwrap_or(0);
            let gone = self.changes.remove(at).map_or(0, |(_, bytes)| bytes);
            self.bytes -= gone;
            dropped += 1;
        }
        dropped
    }

    /// The oldest.
    pub(super) fn front(&self, count: usize) -> impl Iterator<Item = &Change> {
        self.changes.iter().take(count).map(|(change, _)| change)
    }

    /// They are written, or never will be.
    pub(super) fn forget_front(&mut self, count: usize) {
        let gone: usize = self.changes.drain(..count.min(self.changes.len())).map(|(_, bytes)| bytes).sum();
        self.bytes -= gone;
    }

    /// What is not settled, of what the disk says and of what waits.
    pub(super) fn unsettled(&self, mut on_disk: Vec<Decision>) -> Vec<Decision> {
        for entry in self.entries() {
            match entry {
                Entry::Decision { decision, .. }
                    if decision.refusal.is_none() && on_disk.iter().all(|known| known.id != decision.id) =>
                {
                    on_disk.push(decision.clone());
                }
                Entry::Settlement(settlement) => on_disk.retain(|decision| decision.id != settlement.decision),
                _ => {}
            }
        }
        on_disk
    }

    /// What was done since then. `find` looks on the disk for a decision.
    pub(super) fn done_since(
        &self,
        since: Timestamp,
        mut on_disk: Vec<(Decision, Settlement)>,
        mut find: impl FnMut(&str) -> Option<Decision>,
    ) -> Vec<(Decision, Settlement)> {
        for entry in self.entries() {
            let Entry::Settlement(settlement) = entry else { continue };
            on_disk.retain(|(decision, _)| decision.id != settlement.decision);
            if settlement.outcome != Outcome::Done || settlement.at < since {
                continue;
            }
            let waits = self.entries().find_map(|entry| match entry {
                Entry::Decision { decision, .. } if decision.id == settlement.decision => Some(decision.clone()),
                _ => None,
            });
            let decision = waits.or_else(|| find(&settlement.decision));
            on_disk.extend(decision.map(|decision| (decision, settlement.clone())));
        }
        on_disk
    }

    /// What was let go since then.
    pub(super) fn let_goes_since(&self, since: Timestamp, mut on_disk: Vec<LetGo>) -> Vec<LetGo> {
        on_disk.extend(self.entries().filter_map(|entry| match entry {
            Entry::LetGo(let_go) if let_go.at >= since => Some(let_go.clone()),
            _ => None,
        }));
        on_disk
    }

    /// What is held.
    pub(super) fn holds(&self, on_disk: Vec<(Subject, String)>) -> Vec<(Subject, String)> {
        let key = |subject: &Subject| (subject.kind, subject.id.clone());
        let mut holds: BTreeMap<_, _> = on_disk.into_iter().map(|hold| (key(&hold.0), hold)).collect();
        for entry in self.entries() {
            match entry {
                Entry::Hold { subject, mark: Some(mark) } => {
                    holds.insert(key(subject), (subject.clone(), mark.clone()));
                }
                Entry::Hold { subject, mark: None } => {
                    holds.remove(&key(subject));
                }
                _ => {}
            }
        }
        holds.into_values().collect()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.changes.iter().filter_map(|(change, _)| match change {
            Change::Entry(entry) => Some(entry),
            Change::EndStorms { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{AttemptCount, Gap, SubjectKind};

    fn gap(number: usize, why: &str) -> Change {
        let gap = Gap { from: Timestamp::from_secs(0), to: Timestamp::from_secs(1), why: why.to_owned(), open: false };
        Change::Entry(Entry::Gap { origin: number.to_string(), gap })
    }

    fn hold(name: &str, mark: Option<&str>) -> Change {
        let subject = Subject { kind: SubjectKind::Container, name: name.to_owned(), id: name.to_owned(), stack: None };
        Change::Entry(Entry::Hold { subject, mark: mark.map(str::to_owned) })
    }

    #[test]
    fn history_is_dropped_before_what_a_restart_needs() {
        let mut waiting = Waiting::default();
        assert_eq!(waiting.push(hold("db", Some("m"))), 0);
        let dropped: u64 = (0..WAITING_MAX + 4).map(|number| waiting.push(gap(number, ""))).sum();
        assert_eq!((dropped, waiting.len()), (5, WAITING_MAX));
        assert_eq!(waiting.holds(Vec::new()).len(), 1);
        assert_eq!(waiting.front(2).nth(1), Some(&gap(5, "")), "the oldest went");
        waiting.forget_front(1);
        assert_eq!(waiting.holds(Vec::new()).len(), 0);
    }

    #[test]
    fn a_few_large_entries_are_too_many_also() {
        let mut waiting = Waiting::default();
        let text = "x".repeat(WAITING_BYTES_MAX / 4);
        let dropped: u64 = (0..6).map(|number| waiting.push(gap(number, &text))).sum();
        assert_eq!((dropped, waiting.len()), (3, 3));
        waiting.forget_front(9);
        assert_eq!((waiting.bytes, waiting.is_empty()), (0, true));
    }

    #[test]
    fn what_is_taken_back_is_held_no_longer() {
        let mut waiting = Waiting::default();
        for change in [hold("a", Some("1")), hold("b", Some("2")), hold("a", None), hold("c", None)] {
            waiting.push(change);
        }
        let on_disk = [hold("c", None), hold("d", None)].map(|change| match change {
            Change::Entry(Entry::Hold { subject, .. }) => (subject, "old".to_owned()),
            other => panic!("{other:?}"),
        });
        let held = waiting.holds(on_disk.to_vec());
        let held: Vec<(&str, &str)> = held.iter().map(|(subject, mark)| (&*subject.name, &**mark)).collect();
        assert_eq!(held, [("b", "2"), ("d", "old")]);
        let counts = Entry::Attempts(vec![AttemptCount {
            minute: Timestamp::from_secs(60),
            subject: on_disk[0].0.clone(),
            attempts: 1,
            failed: 1,
        }]);
        assert!(!Change::Entry(counts).is_state());
    }
}
