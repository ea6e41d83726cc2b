use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A moment on the clock of whoever said it: nanoseconds since 1970-01-01T00:00:00Z.
///
/// Docker's `timeNano`, SwarmKit's `CreatedAt` and dockerd's `time=` all carry nanoseconds; the range is the years
/// 1678 to 2261. There is no `now`: a time comes with the observation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// Why a text is no [`Timestamp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a time as RFC 3339 writes it")]
pub struct TimestampError;

impl Timestamp {
    /// The moment `nanos` nanoseconds after 1970.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// The moment `secs` seconds after 1970; the ends of the range at an overflow.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// Nanoseconds since 1970.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Reads RFC 3339 as Docker and SwarmKit write it.
    ///
    /// # Errors
    /// When the text is anything else. Go's zero time (year 1) is an error too: it means "not set".
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let parsed: jiff::Timestamp = text.parse().map_err(|_| TimestampError)?;
        i64::try_from(parsed.as_nanosecond()).map(Self).map_err(|_| TimestampError)
    }

    /// How long after `earlier` this is; zero when it is not after it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// This moment and `span` more.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)))
    }

    /// The first moment of its minute.
    #[must_use]
    pub const fn minute(self) -> Self {
        const MINUTE_NANOS: i64 = 60_000_000_000;
        Self(self.0.div_euclid(MINUTE_NANOS).saturating_mul(MINUTE_NANOS))
    }

    /// This moment and `span` less.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// A clock was stepped: somebody has set it, or the machine has slept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockStep {
    /// What it would say if it had not been.
    pub expected: Timestamp,
    /// What it says.
    pub said: Timestamp,
}

/// How long before it is noticed a clock may have been stepped: a listing of everything asks for the time, and so does an
/// event that is dated otherwise. What was told within this before the time that it says now was told since.
const NOTICED_WITHIN: Duration = Duration::from_secs(300);
/// How far a clock that was stepped goes on while it is asked.
const ASKED_WITHIN: Duration = Duration::from_secs(2);

impl ClockStep {
    /// A time that the clock told before it was stepped, as it would tell it now. What lies just before the time that it
    /// says now, and nearer to that than to the time that was expected, was told since. The ends of the range and 1970
    /// stand for no time.
    pub fn carry(self, at: Timestamp) -> Timestamp {
        let off = |from: Timestamp| at.0.saturating_sub(from.0).unsigned_abs();
        let is_no_time = matches!(at.0, i64::MIN | 0 | i64::MAX);
        let is_of_late = self.said.minus(NOTICED_WITHIN) <= at && at <= self.said.plus(ASKED_WITHIN);
        if is_no_time || (is_of_late && off(self.said) < off(self.expected)) {
            return at;
        }
        Timestamp(at.0.saturating_add(self.by_nanos()))
    }

    /// The same of the first moment of a minute, which stays one.
    pub fn carry_minute(self, minute: Timestamp) -> Timestamp {
        self.carry(minute).minute()
    }

    /// By how much it was stepped: ahead, or where it is negative back.
    pub fn by_nanos(self) -> i64 {
        self.said.0.saturating_sub(self.expected.0)
    }
}

/// Keeps times of a clock that may be stepped. A structure lists all of its fields (`on_clock!`), so that none that is
/// added can be forgotten.
pub trait OnClock {
    /// The clock was stepped: what it told before is carried to the clock as it is now.
    fn step(&mut self, step: ClockStep);
}

impl OnClock for Timestamp {
    fn step(&mut self, step: ClockStep) {
        *self = step.carry(*self);
    }
}

impl<T: OnClock> OnClock for Option<T> {
    fn step(&mut self, step: ClockStep) {
        self.iter_mut().for_each(|entry| entry.step(step));
    }
}

impl<T: OnClock> OnClock for Vec<T> {
    fn step(&mut self, step: ClockStep) {
        self.iter_mut().for_each(|entry| entry.step(step));
    }
}

impl<T: OnClock> OnClock for VecDeque<T> {
    fn step(&mut self, step: ClockStep) {
        self.iter_mut().for_each(|entry| entry.step(step));
    }
}

impl<T: OnClock, const N: usize> OnClock for [T; N] {
    fn step(&mut self, step: ClockStep) {
        self.iter_mut().for_each(|entry| entry.step(step));
    }
}

/// What was at a time.
impl<T> OnClock for (Timestamp, T) {
    fn step(&mut self, step: ClockStep) {
        self.0.step(step);
    }
}

impl<K, T: OnClock> OnClock for BTreeMap<K, T> {
    fn step(&mut self, step: ClockStep) {
        self.values_mut().for_each(|entry| entry.step(step));
    }
}

impl<T: OnClock + ?Sized> OnClock for Box<T> {
    fn step(&mut self, step: ClockStep) {
        (**self).step(step);
    }
}

impl<T: OnClock + Clone> OnClock for Arc<T> {
    fn step(&mut self, step: ClockStep) {
        Self::make_mut(self).step(step);
    }
}

/// Carries a map whose keys have times in them; `merge` puts together what comes to one key.
pub fn step_keys<K: Ord, V>(map: &mut BTreeMap<K, V>, mut carry: impl FnMut(&mut K), merge: impl Fn(&mut V, V)) {
    for (mut key, value) in std::mem::take(map) {
        carry(&mut key);
        match map.entry(key) {
            std::collections::btree_map::Entry::Vacant(entry) => drop(entry.insert(value)),
            std::collections::btree_map::Entry::Occupied(mut entry) => merge(entry.get_mut(), value),
        }
    }
}

/// Implements [`OnClock`] for a structure: its fields that keep times, and after `rest` all others. It does not compile
/// while a field is in neither list.
macro_rules! on_clock {
    ($name:ty { $($time:ident),* $(,)? } rest { $($other:ident),* $(,)? }) => {
        impl $crate::model::OnClock for $name {
            fn step(&mut self, step: $crate::model::ClockStep) {
                let Self { $($time,)* $($other: _,)* } = self;
                $($crate::model::OnClock::step($time, step);)*
            }
        }
    };
}
pub(crate) use on_clock;

/// A span for people, in at most seven characters up to 9,999 days: `45 s`, `23 min`, `5 h`, `3 d`. Of two units the
/// smaller, until it says little.
pub fn span_in_words(span: Duration) -> String {
    match span.as_secs() {
        secs @ 0..120 => format!("{secs} s"),
        secs @ 120..7200 => format!("{} min", secs / 60),
        secs @ 7200..172_800 => format!("{} h", secs / 3600),
        secs => format!("{} d", secs / 86_400),
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(time) => time.fmt(f),
            Err(_) => write!(f, "{}ns", self.0),
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The latest time that a stream has come to. One time that is far ahead of the others is a broken clock's or a
/// damaged line's; two that agree are the end of a quiet span.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    now: Timestamp,
    far: Option<Timestamp>,
}

impl Pace {
    /// How far ahead a time may be without another that agrees.
    const AHEAD: Duration = Duration::from_secs(3600);

    /// Takes the time of the next observation; returns the time that the stream has come to.
    pub fn see(&mut self, at: Timestamp) -> Timestamp {
        let agrees = |far: Timestamp| at.since(far) < Self::AHEAD && far.since(at) < Self::AHEAD;
        if self.now == Self::default().now || at.since(self.now) <= Self::AHEAD || self.far.is_some_and(agrees) {
            self.far = None;
            self.now = self.now.max(at);
        } else {
            self.far = Some(at);
        }
        self.now
    }
}

on_clock!(Pace { now, far } rest {});

impl Default for Pace {
    fn default() -> Self {
        Self { now: Timestamp::from_nanos(i64::MIN), far: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_nanoseconds() {
        let text = "2026-11-20T20:21:26.219223295Z";
        let time = Timestamp::parse(text).expect("a time");
        assert_eq!(time.to_string(), text);
        assert_eq!(time.as_nanos() % 1_000_000_000, 219_223_295);
        assert_eq!(Timestamp::parse("2026-11-20T21:21:26.219223295+01:00"), Ok(time));
    }

    #[test]
    fn a_span_is_in_the_smaller_unit_until_it_says_little() {
        let words = [0, 119, 120, 7199, 7200, 172_799, 172_800].map(|secs| span_in_words(Duration::from_secs(secs)));
        assert_eq!(words, ["0 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"].map(str::to_owned));
    }

    #[test]
    fn what_is_not_set_is_no_time() {
        assert_eq!(Timestamp::parse("0001-01-01T00:00:00Z"), Err(TimestampError));
        assert_eq!(Timestamp::parse("yesterday"), Err(TimestampError));
    }

    #[test]
    fn one_time_far_ahead_is_not_believed_two_are() {
        let mut pace = Pace::default();
        let see = |pace: &mut Pace, secs| pace.see(Timestamp::from_secs(secs)).as_nanos() / 1_000_000_000;
        assert_eq!(see(&mut pace, 100), 100);
        assert_eq!(see(&mut pace, 9_000_000), 100);
        assert_eq!(see(&mut pace, 101), 101);
        assert_eq!(see(&mut pace, 20_000), 101);
        assert_eq!(see(&mut pace, 20_001), 20_001);
        assert_eq!(see(&mut pace, 20_000), 20_001);
    }

    #[test]
    fn what_a_clock_told_before_its_step_is_carried_over_and_what_it_told_since_is_not() {
        let secs = Timestamp::from_secs;
        let back = ClockStep { expected: secs(10_000), said: secs(6400) };
        assert_eq!([9_990, 10_001, 6401].map(|at| back.carry(secs(at))), [6390, 6401, 6401].map(secs));
        let ahead = ClockStep { expected: secs(10_000), said: secs(13_600) };
        assert_eq!([10, 9_990, 13_601].map(|at| ahead.carry(secs(at))), [3610, 13_590, 13_601].map(secs));
        for never in [i64::MIN, 0, i64::MAX].map(Timestamp::from_nanos) {
            assert_eq!((ahead.carry(never), back.carry(never)), (never, never));
        }
    }

    #[test]
    fn nothing_that_a_clock_told_is_in_the_future_of_one_that_was_set_back() {
        let secs = Timestamp::from_secs;
        let back = ClockStep { expected: secs(10_000), said: secs(6400) };
        let told = [5, 5000, 6410, 7000, 8000, 8300, 9990];
        assert_eq!(told.map(|at| back.carry(secs(at))), told.map(|at| secs(at - 3600)));
    }

    #[test]
    fn arithmetic_saturates() {
        let end = Timestamp::from_nanos(i64::MAX);
        assert_eq!(end.plus(Duration::MAX), end);
        assert_eq!(Timestamp::from_secs(5).since(Timestamp::from_secs(9)), Duration::ZERO);
    }
}
