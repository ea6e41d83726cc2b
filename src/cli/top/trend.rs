//! How the pace of each storm went over the last minutes, as far as the view has seen it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::model::{Status, Timestamp};

/// How long one sample stands for.
const SAMPLE: Duration = Duration::from_secs(10);
/// How many samples are kept of a storm: five minutes.
pub(super) const SAMPLES_MAX: usize = 30;
/// How many samples the bars in a row take together: eight bars are four minutes.
const SAMPLES_OF_BAR: usize = 3;

/// The failed tries a minute of each storm that the status has; of at most as many as that.
#[derive(Debug, Default)]
pub(super) struct Trends {
    of: BTreeMap<String, VecDeque<f64>>,
    sampled: Option<Timestamp>,
}

impl Trends {
    /// Takes a sample where it is time for one, and forgets what is no more.
    pub(super) fn take(&mut self, status: &Status) {
        let is_new = self.sampled.is_none_or(|at| status.at.since(at) >= SAMPLE || status.at < at);
        let mut before = std::mem::take(&mut self.of);
        for storm in &status.storms {
            let mut samples = before.remove(&storm.id).unwrap_or_default();
            match samples.back_mut() {
                Some(last) if !is_new => *last = last.max(storm.attempts_per_min),
                _ => samples.push_back(storm.attempts_per_min),
            }
            if samples.len() > SAMPLES_MAX {
                samples.pop_front();
            }
            self.of.insert(storm.id.clone(), samples);
        }
        if is_new {
            self.sampled = Some(status.at);
        }
    }

    /// The last of them in so few bars, the newest last.
    pub(super) fn bars(&self, storm: &str, bars: usize) -> Vec<Option<f64>> {
        let samples = self.samples(storm, bars * SAMPLES_OF_BAR);
        samples.chunks(SAMPLES_OF_BAR).map(|part| part.iter().flatten().copied().reduce(f64::max)).collect()
    }

    /// The last so many samples, the newest last.
    pub(super) fn samples(&self, storm: &str, count: usize) -> Vec<Option<f64>> {
        let mut samples = vec![None; count];
        let seen = self.of.get(storm).into_iter().flat_map(|samples| samples.iter().rev());
        for (at, sample) in samples.iter_mut().rev().zip(seen) {
            *at = Some(*sample);
        }
        samples
    }
}
