//! The forecast against simulated registries: windows that roll, others that spend, and the moment when it really ends.

use std::time::Duration;

use proptest::prelude::*;
use squall::budget::{Outlook, exhaustion};
use squall::model::{Budget, Exhaustion, Timestamp};

const WINDOW_SECS: u64 = 21_600;

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_795_248_000).plus(Duration::from_secs(secs))
}

/// A registry whose window rolls: the times of all pulls that it counts.
struct Registry {
    limit: usize,
    pulls: Vec<Timestamp>,
}

impl Registry {
    fn remaining(&self, now: Timestamp) -> i64 {
        let window = Duration::from_secs(WINDOW_SECS);
        let counted = self.pulls.iter().filter(|when| **when <= now && when.plus(window) > now).count();
        i64::try_from(self.limit).expect("small") - i64::try_from(counted).expect("small")
    }

    /// When nothing is left, where `every` one more is pulled from `now` on.
    fn runs_out(mut self, now: Timestamp, every: Duration) -> Option<Timestamp> {
        let mut when = now;
        for _ in 0..200_000 {
            if self.remaining(when) <= 0 {
                return Some(when);
            }
            when = when.plus(every);
            if when.since(now) > Duration::from_secs(2 * WINDOW_SECS) {
                return None;
            }
            self.pulls.push(when);
        }
        None
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn the_truth_is_within_the_forecast(
        own in prop::collection::vec(0..WINDOW_SECS * 2, 0..120),
        others in prop::collection::vec(0..WINDOW_SECS, 0..80),
        limit in 10_usize..200,
        every_secs in 5_u64..1200,
    ) {
        // The present is two windows after the beginning; others have pulled within the last.
        let now = at(2 * WINDOW_SECS);
        let mut own: Vec<Timestamp> = own.into_iter().map(at).collect();
        own.sort_unstable();
        let pulls = own.iter().copied().chain(others.iter().map(|secs| at(WINDOW_SECS + 1 + secs.min(&(WINDOW_SECS - 2)))));
        let registry = Registry { limit, pulls: pulls.collect() };
        let budget = Budget {
            limit: i64::try_from(limit).expect("small"),
            remaining: registry.remaining(now),
            window_secs: Some(WINDOW_SECS),
        };
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let pace = 60.0 / every_secs as f64;
        let spent: Vec<(Timestamp, u64)> = own.iter().map(|when| (*when, 1)).collect();
        let forecast = exhaustion(&Outlook { budget, at: now, spent: &spent, pace: pace..=pace });
        let every = Duration::from_secs(every_secs);
        // One pull is what a steady pace and single pulls differ by, each way.
        let (early, late) = (every * 2, every * 2);
        match (forecast, registry.runs_out(now, every)) {
            (Exhaustion::Now, truth) => prop_assert_eq!(truth, Some(now)),
            (Exhaustion::Never, truth) => prop_assert_eq!(truth, None),
            (Exhaustion::Between { from, to }, Some(truth)) => {
                let tenth = truth.since(now) / 10;
                prop_assert!(from <= truth.plus(late.max(tenth)), "{from} is later than the truth, {truth}");
                prop_assert!(to.is_none_or(|to| to.plus(early) >= truth), "{to:?} is earlier than the truth, {truth}");
            }
            // What others spent came back in time.
            (Exhaustion::Between { to, .. }, None) => prop_assert!(to.is_none_or(|to| to.since(now) > Duration::from_secs(WINDOW_SECS) - every * 2)),
        }
    }
}

#[test]
fn a_window_that_gives_back_as_much_never_runs_out() {
    let budget = Budget { limit: 100, remaining: 60, window_secs: Some(WINDOW_SECS) };
    let pace = |per_min: f64| exhaustion(&Outlook { budget, at: at(0), spent: &[], pace: per_min..=per_min });
    assert_eq!(pace(0.0), Exhaustion::Never);
    assert_eq!(pace(0.1), Exhaustion::Never, "36 in a window");
    let Exhaustion::Between { from, to } = pace(0.2) else { panic!("72 in a window of which 60 are left") };
    assert_eq!((from, to), (at(300 * 60), None), "what others spent may come back first");
    assert!(matches!(pace(60.0), Exhaustion::Between { to: Some(_), .. }));
    assert_eq!(pace(f64::NAN), Exhaustion::Never);
}

#[test]
fn without_a_window_nothing_comes_back() {
    let budget = Budget { limit: 100, remaining: 30, window_secs: None };
    let forecast = exhaustion(&Outlook { budget, at: at(0), spent: &[], pace: 1.0..=3.0 });
    assert_eq!(forecast, Exhaustion::Between { from: at(600), to: Some(at(6000)) });
    let spent = Budget { remaining: -2, ..budget };
    assert_eq!(exhaustion(&Outlook { budget: spent, at: at(0), spent: &[], pace: 0.0..=0.0 }), Exhaustion::Now);
}
