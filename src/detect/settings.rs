//! What the detector goes by.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::budget::Registries;

/// What the detector goes by. The defaults are argued where they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many failures of a subject are allowed at once; the next one is a storm, if one slot has failed three times
    /// in a row. Default 5: Swarm itself gives a
    /// node less weight after 5 failures, and a service that waits for another at start seldom needs more.
    pub failures: NonZeroU32,
    /// The period in which one more failure is allowed. Default 30 s: Swarm's default delay of 5 s loops six times
    /// as fast.
    pub per: Duration,
    /// The same for the slow quota, which counts each slot by itself, so that a large service whose replicas fail
    /// now and then is not taken for a loop. Default 5, as `failures`: a slow loop is a storm at its sixth failure too.
    pub slow_failures: NonZeroU32,
    /// Default 1 h: a loop of one failure in 10 minutes is found at its sixth, after 50 minutes, and what fails no more
    /// than once an hour never is one.
    pub slow_per: Duration,
    /// The least time without failure until a storm has subsided; it is three loop periods where that is more.
    /// Default 60 s: three periods of a loop of a second are 3 s, and an attempt that waits for its network, for which
    /// it has 30 s (moby's `controller.go: Prepare`), is not the end of it.
    pub hold_down_min: Duration,
    /// How long a task may be pending. Default 2 min: a node that restarts is back by then.
    pub pending_after: Duration,
    /// How long a task may be preparing. Default 5 min: a large image over a slow line takes that.
    pub hanging_after: Duration,
    /// How long after its end an attempt is judged, in event time, so that facts of several origins and out of order
    /// meet. Default 2 s: for recordings. A live daemon takes less, because it is told late facts too.
    pub slack: Duration,
    /// How many subjects are kept; beyond it the calm ones unseen for longest are forgotten, and counted. Default
    /// 100,000, at less than 2 kB each.
    pub subjects_max: usize,
    /// Whether attempts, and what they ask of registries, are counted by minute, for a journal. Default no.
    pub by_minute: bool,
    /// What registries want before they answer, by which attempts are priced.
    pub registries: Registries,
}

impl Default for Settings {
    fn default() -> Self {
        const FIVE: NonZeroU32 = NonZeroU32::new(5).expect("five is not zero");
        Self {
            failures: FIVE,
            per: Duration::from_secs(30),
            slow_failures: FIVE,
            slow_per: Duration::from_secs(3600),
            hold_down_min: Duration::from_secs(60),
            pending_after: Duration::from_secs(120),
            hanging_after: Duration::from_secs(300),
            slack: Duration::from_secs(2),
            subjects_max: 100_000,
            by_minute: false,
            registries: Registries::default(),
        }
    }
}
