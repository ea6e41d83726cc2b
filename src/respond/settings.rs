//! What the policy goes by.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::model::{Response, matches_pattern};

/// What the policy goes by. The defaults are argued where they stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether permits are given at all. Default no: squall observes, and says what it would have done.
    pub act: bool,
    /// Whose storms may be acted on. Default those that are opted in.
    pub enforce: Enforce,
    /// The response to the storm of a service whose labels name none. Default to observe.
    pub response: Response,
    /// Names of services that are opted in; `*` stands for any text. Default none.
    pub allow: Vec<String>,
    /// The least failed attempts of a storm, 1 to 16. Default 6: what the detector's quota trips at.
    pub min_failures: u64,
    /// The least age of a storm. Default 3 s: six replicas that fail once together at their first start are no loop
    /// yet; with Swarm's least sensible delay of 1 s each has had three more attempts by then.
    pub min_age: Duration,
    /// Actions an hour over all services, all of it as burst. Default 60: the thirty services of a storm that spends
    /// an address can be stopped at once, twice.
    pub actions_per_hour: NonZeroU32,
    /// The time between two quarantines of one service, and after somebody else undid one. Default 5 min: time
    /// enough for whoever undid it to see it fail.
    pub cool_down: Duration,
    /// The share of the services that may be held by what a person has to undo. Default 30 %: beyond it, the fault is
    /// not theirs.
    pub held_share_pct: u64,
    /// So many may be held whatever their share. Default 3: in a small Swarm 30 % would be none.
    pub held_min: u64,
    /// Whether healthy replicas may be taken away with those that loop. Default no: a service with one that works still
    /// serves, and a breaker that stops it makes the outage itself.
    pub allow_healthy: bool,
    /// The first delay of the back-off; it doubles at each failed try. Default 10 s, as CrashLoopBackOff.
    pub backoff_min: Duration,
    /// The longest delay. Default 30 min: ten times less than a pull quota's window of 6 h allows an address.
    pub backoff_max: Duration,
    /// How long a watched attempt has to run; three loop periods where that is more. Default 60 s, as the detector's
    /// hold-down: what ran so long without failing is no storm any more.
    pub stable_for: Duration,
}

/// Whose storms may be acted on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Enforce {
    /// Services with a label `squall.response`, and those of the allow-list.
    #[default]
    OptedIn,
    /// Every service.
    All,
}

impl Default for Settings {
    fn default() -> Self {
        const SIXTY: NonZeroU32 = NonZeroU32::new(60).expect("sixty is not zero");
        Self {
            act: false,
            enforce: Enforce::OptedIn,
            response: Response::Observe,
            allow: Vec::new(),
            min_failures: 6,
            min_age: Duration::from_secs(3),
            actions_per_hour: SIXTY,
            cool_down: Duration::from_secs(300),
            held_share_pct: 30,
            held_min: 3,
            allow_healthy: false,
            backoff_min: Duration::from_secs(10),
            backoff_max: Duration::from_secs(1800),
            stable_for: Duration::from_secs(60),
        }
    }
}

impl Settings {
    /// Whether the allow-list has a name.
    pub(super) fn allows(&self, name: &str) -> bool {
        self.allow.iter().any(|pattern| matches_pattern(pattern, name))
    }

    /// How long a subject is held before the try after `tries` failed ones: doubled each time, and up to a tenth more,
    /// by `salt`, so that services that tripped together are not tried together.
    pub(super) fn delay(&self, tries: u32, salt: u64) -> Duration {
        let delay = self.backoff_min.saturating_mul(2_u32.saturating_pow(tries)).min(self.backoff_max);
        let tenths_of_percent = u32::try_from(salt % 101).unwrap_or(0);
        delay.saturating_add(delay / 1000 * tenths_of_percent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_to_its_limit() {
        let settings = Settings::default();
        let secs: Vec<u64> = (0..10).map(|tries| settings.delay(tries, 0).as_secs()).collect();
        assert_eq!(secs, [10, 20, 40, 80, 160, 320, 640, 1280, 1800, 1800]);
        assert_eq!(settings.delay(0, 100), Duration::from_secs(11));
        assert_eq!(settings.delay(u32::MAX, 100), Duration::from_secs(1980));
    }
}
