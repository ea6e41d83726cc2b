//! When alerts become too many to be read one by one.

use std::collections::VecDeque;
use std::time::Duration;

use crate::model::{Timestamp, on_clock};

/// Counts the alerts of the last while; above a number, those that follow are gathered into one.
#[derive(Debug)]
pub(super) struct Digest {
    over: usize,
    per: Duration,
    /// When the last alerts were told; at most one more than `over` of them matter.
    told: VecDeque<Timestamp>,
    /// Until when alerts are gathered.
    until: Option<Timestamp>,
}

impl Digest {
    /// More than `over` alerts within `per` become one.
    pub(super) const fn new(over: usize, per: Duration) -> Self {
        Self { over, per, told: VecDeque::new(), until: None }
    }

    /// Goes by other limits from now on.
    pub(super) const fn set_limits(&mut self, over: usize, per: Duration) {
        (self.over, self.per) = (over, per);
    }

    /// Whether alerts are gathered now.
    pub(super) fn gathers(&mut self, now: Timestamp) -> bool {
        let per = self.per;
        self.told.retain(|at| now.since(*at) < per);
        self.until = self.until.filter(|at| now < *at);
        self.until.is_some()
    }

    /// Whether as many were told as a person reads one by one.
    pub(super) fn is_full(&self) -> bool {
        self.told.len() >= self.over
    }

    /// An alert was told.
    pub(super) fn count(&mut self, now: Timestamp) {
        self.told.push_back(now);
    }

    /// A digest is told now; what follows is gathered for the next one.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.until = Some(now.plus(self.per));
    }

    /// Until when alerts are gathered.
    pub(super) const fn until(&self) -> Option<Timestamp> {
        self.until
    }
}

on_clock!(Digest { told, until } rest { over, per });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_gathered_from_the_one_after_the_limit_until_the_time_is_over() {
        let mut digest = Digest::new(2, Duration::from_secs(300));
        let at = Timestamp::from_secs;
        assert!(!digest.gathers(at(0)) && !digest.is_full());
        (0..2).for_each(|_| digest.count(at(0)));
        assert!(digest.is_full());
        digest.begin(at(10));
        assert_eq!(digest.until(), Some(at(310)));
        assert!(digest.gathers(at(309)));
        assert!(!digest.gathers(at(310)) && !digest.is_full(), "both are forgotten");
    }
}
