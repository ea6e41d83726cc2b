//! What a subject has asked of a registry, as small as it can be kept: there may be 100,000 of them.

use std::time::Duration;

use crate::model::{Requests, Spend, Timestamp, on_clock};

/// How far apart two marks are at least. What was asked within this before a first failure belongs to it: its own
/// pull, and those of the replicas that were made with it.
const MARK_EVERY: Duration = Duration::from_secs(60);

/// Sums: pulls, requests by kind, and by what they rest on. Each stays at its highest when it is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sum([u32; 9]);

impl Sum {
    fn of(spend: &Spend) -> [u64; 9] {
        let kinds = spend.kinds;
        [
            spend.pulls,
            kinds.checks,
            kinds.tokens,
            kinds.manifest_heads,
            kinds.manifest_gets,
            kinds.blobs,
            spend.measured,
            spend.derived,
            spend.assumed,
        ]
    }

    pub(super) fn add(&mut self, spend: &Spend) {
        for (sum, more) in self.0.iter_mut().zip(Self::of(spend)) {
            *sum = sum.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        }
    }

    /// Adds what another sum has.
    pub(super) fn join(&mut self, other: Self) {
        for (sum, more) in self.0.iter_mut().zip(other.0) {
            *sum = sum.saturating_add(more);
        }
    }

    /// What has come since it was `base`.
    pub(super) fn since(self, base: Self) -> Spend {
        let mut new = [0; 9];
        for (index, sum) in self.0.iter().enumerate() {
            new[index] = u64::from(sum.saturating_sub(base.0[index]));
        }
        let [pulls, checks, tokens, manifest_heads, manifest_gets, blobs, measured, derived, assumed] = new;
        let kinds = Requests { checks, tokens, manifest_heads, manifest_gets, blobs };
        Spend { pulls, requests: kinds.all(), kinds, measured, derived, assumed, requests_per_min: 0.0 }
    }
}

/// All that a subject has asked, and what that was a while ago.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) total: Sum,
    /// What it was before a request of at least so long ago: where a run of failures begins to count.
    pub(super) mark: Sum,
    marked: Timestamp,
}

on_clock!(Spent { marked } rest { total, mark });

impl Default for Spent {
    fn default() -> Self {
        Self { total: Sum::default(), mark: Sum::default(), marked: Timestamp::from_nanos(i64::MIN) }
    }
}

impl Spent {
    pub(super) fn is_nothing(&self) -> bool {
        self.total == Sum::default()
    }

    pub(super) fn add(&mut self, at: Timestamp, spend: &Spend) {
        if at.since(self.marked) > MARK_EVERY {
            (self.mark, self.marked) = (self.total, at);
        }
        self.total.add(spend);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Basis;

    #[test]
    fn what_was_asked_just_before_belongs_to_a_run_and_what_was_long_before_does_not() {
        let once = Spend::of(Requests { checks: 1, manifest_heads: 1, ..Requests::default() }, 0, Basis::Measured);
        let mut spent = Spent::default();
        let base = |secs: i64, spent: &mut Spent| {
            spent.add(Timestamp::from_secs(secs), &once);
            spent.total.since(spent.mark).requests
        };
        assert_eq!(base(0, &mut spent), 2);
        assert_eq!(base(1, &mut spent), 4, "a replica made with it");
        assert_eq!(base(300, &mut spent), 2);
        assert_eq!(spent.total.since(Sum::default()).requests, 6);
    }

    #[test]
    fn a_sum_stays_at_its_highest() {
        let much = Spend::of(Requests { checks: u64::MAX, ..Requests::default() }, 0, Basis::Derived);
        let mut spent = Spent::default();
        spent.add(Timestamp::from_secs(0), &much);
        spent.add(Timestamp::from_secs(1), &much);
        assert_eq!(spent.total.since(Sum::default()).kinds.checks, u64::from(u32::MAX));
    }
}
