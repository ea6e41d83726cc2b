//! What is kept of a subject's failures: the last of them, by slot and in order, and what the quotas make of them.

use std::collections::VecDeque;
use std::time::Duration;

use super::key::Slot;
use super::quota::{Limiter, Quotas};
use super::run::{Change, Episode, Failure, Run};
use crate::model::{Cause, CauseCounts, Timestamp, on_clock};

/// How many of the last failures are kept: enough to judge them again when an earlier one comes late.
const RECENT_MAX: usize = 16;
/// How many slots of one subject are told apart; beyond it the one that failed longest ago is forgotten.
const SLOTS_MAX: usize = 1024;
/// How often one slot fails in a row until a loop of several slots is one: a start-up that waits for something makes each
/// of them fail once or twice.
const KEEPS_FAILING: u32 = 3;

/// What is kept of a subject that has failed.
#[derive(Debug)]
pub(super) struct Failing {
    pub(super) limiter: Limiter,
    pub(super) slots: Vec<SlotState>,
    pub(super) recent: VecDeque<Failure>,
    pub(super) last: Timestamp,
    pub(super) fast: Run,
    pub(super) slow: Run,
    /// The last words of each cause.
    pub(super) details: Vec<(Cause, Box<str>)>,
    pub(super) storm: Option<Episode>,
    /// The account: attempts made up to then were made from another specification, and prove nothing.
    pub(super) account: Timestamp,
    /// When the last storm that is over failed last: its failures prove nothing more.
    pub(super) over: Timestamp,
}

/// What is kept of one slot that has failed.
#[derive(Debug)]
pub(super) struct SlotState {
    pub(super) slot: Slot,
    pub(super) last: Timestamp,
    /// Mean time between its failures, later ones weighing more; zero while there was only one.
    pub(super) period: Duration,
    /// Failures since the specification last changed.
    pub(super) failures: u32,
    /// Failures in a row: since the specification last changed, and without a long time between them.
    pub(super) in_a_row: u32,
    pub(super) limiter: Limiter,
}

on_clock!(Failing { slots, recent, last, fast, slow, storm, account, over } rest { limiter, details });
on_clock!(SlotState { last } rest { slot, period, failures, in_a_row, limiter });

impl Failing {
    pub(super) fn new(quotas: &Quotas, account: Timestamp) -> Self {
        Self {
            limiter: quotas.fast_limiter(),
            // Most have one slot and one cause, and room for more would be three times as much.
            slots: Vec::with_capacity(1),
            recent: VecDeque::new(),
            last: Timestamp::from_nanos(i64::MIN),
            fast: Run::default(),
            slow: Run::default(),
            details: Vec::with_capacity(1),
            storm: None,
            account,
            over: Timestamp::from_nanos(i64::MIN),
        }
    }

    /// A new account begins: only attempts made after `account` count from now on. A storm goes on until its hold-down
    /// has passed.
    pub(super) fn begin_account(&mut self, account: Timestamp, quotas: &Quotas) {
        self.account = account;
        self.judge_again(quotas);
        for slot in &mut self.slots {
            slot.count_again(&self.recent, account, quotas);
            let left = self.recent.iter().filter(|failure| failure.slot == slot.slot && failure.created > account);
            slot.in_a_row = slot.in_a_row.min(u32::try_from(left.count()).unwrap_or(u32::MAX));
            slot.failures = slot.failures.min(slot.in_a_row);
        }
        for run in [&mut self.fast, &mut self.slow] {
            if run.first_created <= account {
                *run = Run::default();
            }
        }
    }

    /// Counts its last failures again after a step of the clock: a limiter takes nothing back, and cannot be carried over.
    pub(super) fn count_again(&mut self, quotas: &Quotas) {
        // What came since the step may stand behind what was before it.
        self.recent.make_contiguous().sort_by_key(|failure| failure.at);
        self.judge_again(quotas);
        for slot in &mut self.slots {
            slot.count_again(&self.recent, self.account, quotas);
        }
    }

    pub(super) fn detail(&self, cause: Cause) -> &str {
        self.details.iter().find(|entry| entry.0 == cause).map_or("", |entry| &entry.1)
    }

    /// Why a pull failed, in the words of the log; those of another node where this one's says only that it did.
    pub(super) fn pull_failure(&self, cause: Cause) -> Option<(Cause, &str)> {
        let is_it = |known: Cause| match cause {
            Cause::PullFailed => known.is_pull() && known != Cause::PullFailed,
            cause => known == cause,
        };
        self.details.iter().find(|entry| is_it(entry.0)).map(|entry| (entry.0, &*entry.1))
    }

    /// Failures a minute, over the last ones.
    pub(super) fn rate_per_min(&self) -> f64 {
        let (Some(first), Some(last)) = (self.recent.front(), self.recent.back()) else { return 0.0 };
        let span = last.at.since(first.at).as_secs_f64();
        if span <= 0.0 { 0.0 } else { (self.recent.len() - 1) as f64 * 60.0 / span }
    }

    /// The loop period: of the slots that failed within the last failures, the longest.
    pub(super) fn period(&self) -> Duration {
        let is_recent = |slot: &&SlotState| self.recent.iter().any(|failure| failure.slot == slot.slot);
        self.slots.iter().filter(is_recent).map(|slot| slot.period).max().unwrap_or_default()
    }

    pub(super) fn slot(&mut self, slot: Slot, quotas: &Quotas) -> &mut SlotState {
        let index = match self.slots.iter().position(|known| known.slot == slot) {
            Some(index) => index,
            None => {
                if self.slots.len() >= SLOTS_MAX
                    && let Some(oldest) = (0..self.slots.len()).min_by_key(|index| self.slots[*index].last)
                {
                    self.slots.swap_remove(oldest);
                }
                if self.slots.is_empty() {
                    // Most have one.
                    self.slots.reserve_exact(1);
                }
                let limiter = quotas.slow_limiter();
                let last = Timestamp::from_nanos(i64::MIN);
                self.slots.push(SlotState { slot, last, period: Duration::ZERO, failures: 0, in_a_row: 0, limiter });
                self.slots.len() - 1
            }
        };
        &mut self.slots[index]
    }

    /// Whether one of so many slots keeps failing, however the failures are spread over them: more of them failed in a
    /// row, none longer than `hold_down_min` before `at`, than could be without it.
    pub(super) fn one_keeps_failing(&self, replicas: u32, at: Timestamp, hold_down_min: Duration) -> bool {
        let fails = || self.slots.iter().filter(|slot| at.since(slot.last) < hold_down_min);
        // After it was scaled down, more slots have failed than there are.
        let known = fails().filter(|slot| slot.slot != Slot::default()).count() as u64;
        let in_a_row: u64 = fails().map(|slot| u64::from(slot.in_a_row)).sum();
        in_a_row > u64::from(KEEPS_FAILING - 1) * u64::from(replicas).max(known)
    }

    /// One of those that were counted without a slot has one.
    pub(super) fn uncount_slotless(&mut self, quotas: &Quotas) {
        let Some(place) = self.slots.iter().position(|known| known.slot == Slot::default()) else { return };
        if !self.recent.iter().any(|failure| failure.slot == Slot::default()) {
            self.slots.swap_remove(place);
            return;
        }
        let slotless = &mut self.slots[place];
        slotless.failures = slotless.failures.saturating_sub(1);
        slotless.in_a_row = slotless.in_a_row.saturating_sub(1);
        slotless.count_again(&self.recent, self.account, quotas);
    }

    /// Puts a failure in its place among the last ones.
    pub(super) fn remember(&mut self, failure: Failure) {
        let later = self.recent.iter().rev().take_while(|known| known.at > failure.at).count();
        if self.recent.len() >= RECENT_MAX {
            if later == self.recent.len() {
                return;
            }
            // Before it is put in: room for one more would be room for twice as many.
            self.recent.pop_front();
        }
        self.recent.insert(self.recent.len() - later, failure);
    }

    /// Judges the last failures again, in order, because one came late.
    pub(super) fn judge_again(&mut self, quotas: &Quotas) -> bool {
        self.limiter = quotas.fast_limiter();
        let (limiter, account) = (&self.limiter, self.account);
        let counted = self.recent.iter().filter(|failure| failure.is_short_lived() && failure.created > account);
        // Each is counted, also after the first that trips.
        counted.filter(|failure| quotas.trips(limiter, failure.at)).count() > 0
    }

    pub(super) fn cause_change(&mut self) -> Change {
        let Some(storm) = &mut self.storm else { return Change::None };
        let mut counts = CauseCounts::default();
        for failure in &self.recent {
            counts.add(failure.cause);
        }
        let (Some((to, share)), from) = (counts.top_with_count(), storm.said) else { return Change::None };
        // Three quarters of the last failures: two causes that take turns are no change.
        if to == from || share * 4 < self.recent.len() as u64 * 3 {
            return Change::None;
        }
        storm.said = to;
        Change::Cause { from, to }
    }
}

impl SlotState {
    /// Counts a failure; returns how many the slot has had since the specification changed. One that comes after
    /// `hold_down_min` or three periods, whichever is longer, is the first in a row: by then a storm would be over.
    pub(super) fn count(&mut self, failure: &Failure, hold_down_min: Duration, quotas: &Quotas) -> u64 {
        let spacing = failure.at.since(self.last);
        let has_last = self.last > Timestamp::from_nanos(i64::MIN);
        if has_last && spacing >= hold_down_min.max(self.period * 3) {
            self.in_a_row = 0;
            if !self.period.is_zero() {
                self.limiter = quotas.slow_limiter();
            }
        }
        if has_last && !spacing.is_zero() {
            self.period = if self.period.is_zero() { spacing } else { (self.period * 3 + spacing) / 4 };
        }
        self.last = self.last.max(failure.at);
        self.failures = self.failures.saturating_add(1);
        self.in_a_row = self.in_a_row.saturating_add(1);
        u64::from(self.failures)
    }

    /// Whether it fails again and again.
    pub(super) fn keeps_failing(&self) -> bool {
        self.in_a_row >= KEEPS_FAILING
    }

    /// Gives it a limiter that has counted the last failures that are its: one takes nothing back, and cannot be carried
    /// over a step of the clock.
    fn count_again(&mut self, recent: &VecDeque<Failure>, account: Timestamp, quotas: &Quotas) {
        self.limiter = quotas.slow_limiter();
        let counts = |failure: &&Failure| failure.slot == self.slot && !failure.exit_zero && failure.created > account;
        for failure in recent.iter().filter(counts) {
            quotas.trips(&self.limiter, failure.at);
        }
    }
}
