//! What a session has counted: for metrics, and for the history of a day.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::clock::wall_clock;
use crate::model::{AttemptCount, Cause, ClockStep, Gap, HistoryBucket, OnClock, Skipped, Timestamp};

/// How long a bucket of the history is, and how many there are: a day.
const BUCKET: Duration = Duration::from_secs(900);
const BUCKETS: usize = 96;
/// The bounds of the sweeps' histogram, in seconds: a sweep of 5,000 services takes half of one.
const SWEEP_BOUNDS: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0];

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Storms that were detected, by their cause.
    pub(super) storms: BTreeMap<Cause, u64>,
    pub(super) attempts: u64,
    pub(super) failed: u64,
    pub(super) gaps: u64,
    pub(super) sweeps: u64,
    pub(super) sweep_secs_sum: f64,
    sweep_counts: [u64; SWEEP_BOUNDS.len()],
    /// How long after its time the last event came.
    pub(super) event_lag: Option<Duration>,
    history: VecDeque<HistoryBucket>,
    pub(super) observations: u64,
    pub(super) skipped: Skipped,
    /// The time of the first observation.
    pub(super) from: Option<Timestamp>,
    /// On this machine's clock.
    pub(super) started: Timestamp,
}

impl Tally {
    pub(super) fn new() -> Self {
        let storms = Cause::ALL.iter().map(|cause| (*cause, 0)).collect();
        Self { storms, started: wall_clock(), ..Self::default() }
    }

    pub(super) fn storm(&mut self, cause: Cause) {
        *self.storms.entry(cause).or_default() += 1;
    }

    pub(super) fn attempts(&mut self, counts: &[AttemptCount]) {
        for count in counts {
            self.attempts += count.attempts;
            self.failed += count.failed;
            self.past(count.minute, count.attempts, count.failed);
        }
    }

    /// What an earlier process has counted: it is history, and none of this one's counts.
    pub(super) fn past(&mut self, minute: Timestamp, attempts: u64, failed: u64) {
        if let Some(bucket) = self.bucket(minute) {
            bucket.attempts += attempts;
            bucket.failed += failed;
        }
    }

    pub(super) fn gap(&mut self, gap: &Gap) {
        self.gaps += 1;
        let mut at = gap.from;
        // A gap of more than a day has all buckets.
        for _ in 0..=BUCKETS {
            if let Some(bucket) = self.bucket(at) {
                bucket.has_gap = true;
            }
            at = start_of(at).plus(BUCKET);
            if at > gap.to {
                break;
            }
        }
    }

    pub(super) fn sweep(&mut self, took: Duration) {
        let secs = took.as_secs_f64();
        self.sweeps += 1;
        self.sweep_secs_sum += secs;
        let counts = SWEEP_BOUNDS.iter().zip(&mut self.sweep_counts);
        counts.filter(|(bound, _)| secs <= **bound).for_each(|(_, count)| *count += 1);
    }

    /// How many sweeps took at most as long as each bound.
    pub(super) fn sweep_secs(&self) -> Vec<(f64, u64)> {
        SWEEP_BOUNDS.into_iter().zip(self.sweep_counts).collect()
    }

    /// The last 24 h, those buckets too in which nothing was.
    pub(super) fn history(&self, now: Timestamp) -> Vec<HistoryBucket> {
        let mut at = start_of(now.minus(BUCKET.saturating_mul(u32::try_from(BUCKETS - 1).unwrap_or(0))));
        let known: BTreeMap<Timestamp, &HistoryBucket> =
            self.history.iter().map(|bucket| (bucket.at, bucket)).collect();
        let mut history = Vec::with_capacity(BUCKETS);
        for _ in 0..BUCKETS {
            let empty = || HistoryBucket { at, ..HistoryBucket::default() };
            history.push(known.get(&at).map_or_else(empty, |bucket| (*bucket).clone()));
            at = at.plus(BUCKET);
        }
        history
    }

    /// The bucket of a moment; none for one that is older than all that are kept.
    fn bucket(&mut self, at: Timestamp) -> Option<&mut HistoryBucket> {
        let at = start_of(at);
        let place = match self.history.binary_search_by_key(&at, |bucket| bucket.at) {
            Ok(place) => place,
            Err(0) if self.history.len() >= BUCKETS => return None,
            Err(place) => {
                self.history.insert(place, HistoryBucket { at, ..HistoryBucket::default() });
                if self.history.len() > BUCKETS {
                    self.history.pop_front();
                    place - 1
                } else {
                    place
                }
            }
        };
        self.history.get_mut(place)
    }
}

impl OnClock for Tally {
    fn step(&mut self, step: ClockStep) {
        let Self {
            storms: _,
            attempts: _,
            failed: _,
            gaps: _,
            sweeps: _,
            sweep_secs_sum: _,
            sweep_counts: _,
            event_lag: _,
            history,
            observations: _,
            skipped: _,
            from,
            started: _,
        } = self;
        from.step(step);
        // Of a clock that was set back there may be a quarter of an hour twice.
        for HistoryBucket { at, attempts, failed, has_gap } in std::mem::take(history) {
            if let Some(bucket) = self.bucket(step.carry(at)) {
                bucket.attempts += attempts;
                bucket.failed += failed;
                bucket.has_gap |= has_gap;
            }
        }
    }
}

fn start_of(at: Timestamp) -> Timestamp {
    let bucket = i64::try_from(BUCKET.as_nanos()).unwrap_or(i64::MAX);
    Timestamp::from_nanos(at.as_nanos().div_euclid(bucket).saturating_mul(bucket))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    #[test]
    fn a_day_has_its_buckets_whatever_comes_late() {
        let mut tally = Tally::new();
        let now = at("2026-11-21T12:07:00Z");
        tally.past(at("2026-11-21T12:01:00Z"), 5, 3);
        tally.past(at("2026-11-20T12:14:00Z"), 1, 1);
        tally.past(at("2026-11-21T11:59:00Z"), 7, 7);
        tally.gap(&Gap {
            from: at("2026-11-21T11:50:00Z"),
            to: at("2026-11-21T12:00:30Z"),
            why: String::new(),
            open: false,
        });
        let history = tally.history(now);
        assert_eq!(history.len(), BUCKETS);
        assert_eq!(
            history[95],
            HistoryBucket { at: at("2026-11-21T12:00:00Z"), attempts: 5, failed: 3, has_gap: true }
        );
        assert_eq!((history[94].failed, history[94].has_gap), (7, true));
        assert_eq!(history[0].at, at("2026-11-20T12:15:00Z"), "a day ago and older is not shown");
        assert_eq!(history[0].failed, 0);
    }

    #[test]
    fn the_quarters_of_an_hour_move_with_a_clock_that_is_set_back() {
        let mut tally = Tally::new();
        tally.past(at("2026-11-21T11:01:00Z"), 1, 1);
        tally.past(at("2026-11-21T12:01:00Z"), 5, 3);
        let (expected, said) = (at("2026-11-21T12:10:00Z"), at("2026-11-21T11:10:00Z"));
        tally.step(ClockStep { expected, said });
        let history = tally.history(said);
        assert_eq!((history[95].attempts, history[95].at), (5, at("2026-11-21T11:00:00Z")));
        assert_eq!((history[91].attempts, history[91].at), (1, at("2026-11-21T10:00:00Z")));
    }

    #[test]
    fn more_than_a_day_is_forgotten() {
        let mut tally = Tally::new();
        for minute in 0..10_000 {
            tally.past(Timestamp::from_secs(minute * 60), 1, 0);
        }
        assert_eq!(tally.history.len(), BUCKETS);
        tally.past(Timestamp::from_secs(0), 1, 1);
        assert!(tally.history.iter().all(|bucket| bucket.failed == 0));
    }
}
