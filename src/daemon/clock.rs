use std::time::Duration;

use tokio::time::Instant;

use crate::model::{ClockStep, Timestamp};

/// What is off by no more is a slow answer, or a clock that is being led.
const STEP_MIN: Duration = Duration::from_secs(2);
/// What the daemon says is off by no more where it is slow to say it.
const EVENT_OFF: Duration = Duration::from_secs(30);
/// How often an event may make one ask what the daemon's time is: those of a Swarm's leader are on the leader's clock.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// This machine's time.
pub fn wall_clock() -> Timestamp {
    let nanos = jiff::Timestamp::now().as_nanosecond();
    Timestamp::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
}

/// Waits until a moment; for ever where there is none.
pub async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// This machine's clock, beside one that nobody steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct WallClock {
    wall: Timestamp,
    at: Instant,
}

impl WallClock {
    pub(super) fn now() -> Self {
        Self { wall: wall_clock(), at: Instant::now() }
    }

    /// Whether it was stepped since it was asked last, and how.
    pub(super) fn step(&mut self) -> Option<ClockStep> {
        let now = Self::now();
        let step = ClockStep { expected: self.wall.plus(now.at - self.at), said: now.wall };
        let is_step = is_far(step, STEP_MIN);
        *self = now;
        is_step.then_some(step)
    }
}

fn is_far(step: ClockStep, limit: Duration) -> bool {
    u128::from(step.by_nanos().unsigned_abs()) > limit.as_nanos()
}

/// Tells the daemon's time: what it writes is on its clock, not on ours. Between two answers of it the time goes on by
/// a clock that nobody steps: ours may be set while the daemon's is not.
#[derive(Clone, Copy, Debug)]
pub(super) struct DaemonClock {
    said: Timestamp,
    at: Instant,
    /// The daemon has been asked.
    is_set: bool,
    ours: WallClock,
    /// When it was doubted last.
    doubted: Option<Instant>,
}

impl Default for DaemonClock {
    fn default() -> Self {
        let ours = WallClock::now();
        Self { said: ours.wall, at: ours.at, is_set: false, ours, doubted: None }
    }
}

impl DaemonClock {
    /// Sets it by what the daemon said its time was (`SystemTime` of `/info`) between two moments. How it was stepped,
    /// where it was.
    pub(super) fn set(&mut self, said: &str, before: Instant, after: Instant) -> Option<ClockStep> {
        let said = Timestamp::parse(said).ok()?;
        let asked = after - before;
        let (said, at) = (said.plus(asked / 2), after);
        let step = ClockStep { expected: self.said.plus(at - self.at), said };
        let is_step = self.is_set && is_far(step, STEP_MIN + asked);
        (self.said, self.at, self.is_set) = (said, at, true);
        is_step.then_some(step)
    }

    /// The daemon's time now.
    pub(super) fn now(self) -> Timestamp {
        self.said.plus(self.at.elapsed())
    }

    /// Whether the daemon is to be asked for its time: ours was stepped, as its may have been.
    pub(super) fn is_in_doubt(&mut self) -> bool {
        self.ours.step().is_some()
    }

    /// The same, by an event of the daemon's.
    pub(super) fn is_doubted_by(&mut self, at: Timestamp) -> bool {
        let is_off = is_far(ClockStep { expected: self.now(), said: at }, EVENT_OFF);
        if !is_off || self.doubted.is_some_and(|doubted| doubted.elapsed() < ASK_EVERY) {
            return false;
        }
        self.doubted = Some(Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_the_daemons_time_and_whether_that_was_stepped() {
        let mut clock = DaemonClock::default();
        let after = Instant::now();
        let before = after - Duration::from_secs(2);
        let off = |clock: DaemonClock, secs| clock.said.since(Timestamp::from_secs(secs));
        assert_eq!(clock.set("1970-01-01T01:01:41+01:00", before, after), None, "there was none before it");
        assert_eq!(off(clock, 102), Duration::ZERO);
        assert_eq!(clock.set("1970-01-01T00:01:44Z", before, after), None, "a slow answer");
        let step = clock.set("1970-01-01T01:01:44Z", before, after);
        let (expected, said) = (Timestamp::from_secs(105), Timestamp::from_secs(3705));
        assert_eq!(step, Some(ClockStep { expected, said }));
        assert_eq!(clock.set("no time", before, after), None);
        assert_eq!(off(clock, 3705), Duration::ZERO);
    }

    #[test]
    fn an_event_of_another_hour_puts_it_in_doubt_once() {
        let mut clock = DaemonClock::default();
        let now = clock.now();
        assert!(!clock.is_doubted_by(now.minus(Duration::from_secs(5))));
        assert!(clock.is_doubted_by(now.minus(Duration::from_secs(3600))));
        assert!(!clock.is_doubted_by(now.plus(Duration::from_secs(3600))), "not at each event");
    }
}
