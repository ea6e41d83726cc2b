use std::time::Duration;

use cronexpr::{Crontab, MakeTimestamp};

use super::filter::Filter;
use crate::model::Timestamp;

/// The longest span of a window: what has to be quiet for longer is no maintenance.
const WINDOW_MAX: Duration = Duration::from_secs(7 * 86_400);

/// How many spans that overlap are looked at as one.
const MERGED_MAX: usize = 100;

/// A time in which storms are not told: a silence, or a maintenance window that comes again.
#[derive(Clone, Debug)]
pub struct Silence {
    /// Its name, for the summary at its end.
    pub name: String,
    /// Whose storms.
    pub filter: Filter,
    /// When.
    pub when: When,
}

/// When a silence is.
#[derive(Clone, Debug)]
pub enum When {
    /// Once.
    Between {
        /// Its first moment.
        from: Timestamp,
        /// The first moment after it.
        to: Timestamp,
    },
    /// Again and again.
    Window(Window),
}

/// A span that begins at each time of a cron expression.
#[derive(Clone, Debug)]
pub struct Window {
    crontab: Box<Crontab>,
    span: Duration,
}

/// Why there is no such window.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// The expression is none.
    #[error("`{text}` is no cron expression of five fields and a time zone, as `0 2 * * SUN Europe/Berlin`: {why}")]
    Cron {
        /// What was written.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// The span is not between 1 min and 7 days.
    #[error("a window lasts from 1m to 168h")]
    Span,
}

impl Window {
    /// A window that begins at each time of `cron`, in this time zone, and lasts for `span`.
    ///
    /// # Errors
    /// When the expression or the time zone is none, or the span is out of range.
    pub fn new(cron: &str, time_zone: &str, span: Duration) -> Result<Self, WindowError> {
        if span < Duration::from_secs(60) || span > WINDOW_MAX {
            return Err(WindowError::Span);
        }
        let text = format!("{cron} {time_zone}");
        match cronexpr::parse_crontab(&text) {
            Ok(crontab) => Ok(Self { crontab: Box::new(crontab), span }),
            Err(error) => Err(WindowError::Cron { text, why: error.to_string() }),
        }
    }

    /// The end of the span that this moment is in. Where a span begins before the last one has ended, they are one.
    fn end(&self, now: Timestamp) -> Option<Timestamp> {
        // The first beginning after one span ago: if that is not in the future, its span is not over.
        let mut begin = self.next(now.minus(self.span))?;
        if begin > now {
            return None;
        }
        // Of a window that never ends the end is some way off, and asked for again then.
        for _ in 0..MERGED_MAX {
            match self.next(begin) {
                Some(next) if next <= begin.plus(self.span) => begin = next,
                _ => break,
            }
        }
        Some(begin.plus(self.span))
    }

    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = MakeTimestamp::from_nanosecond(i128::from(after.as_nanos())).ok()?;
        let next = self.crontab.find_next(after).ok()?;
        i64::try_from(next.timestamp().as_nanosecond()).ok().map(Timestamp::from_nanos)
    }
}

impl Silence {
    /// The end of it, where this moment is within.
    pub fn end(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.when {
            When::Between { from, to } => (*from <= now && now < *to).then_some(*to),
            When::Window(window) => window.end(now),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        Timestamp::parse(text).expect("a time")
    }

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_window_follows_its_time_zone_over_a_change_of_the_clock() {
        let window = Window::new("30 1 * * *", "Europe/Berlin", HOUR).expect("a window");
        // Summer: 01:30 is 23:30 UTC; winter: 00:30 UTC.
        assert_eq!(window.end(at("2026-07-01T23:45:00Z")), Some(at("2026-07-02T00:30:00Z")));
        assert_eq!(window.end(at("2026-07-02T00:30:00Z")), None);
        assert_eq!(window.end(at("2026-12-01T00:29:59Z")), None);
        assert_eq!(window.end(at("2026-12-01T00:30:00Z")), Some(at("2026-12-01T01:30:00Z")));
    }

    #[test]
    fn windows_that_overlap_are_one() {
        let window = Window::new("0,30 2 * * *", "UTC", HOUR).expect("a window");
        assert_eq!(window.end(at("2026-12-01T02:10:00Z")), Some(at("2026-12-01T03:30:00Z")));
        assert_eq!(window.end(at("2026-12-01T02:40:00Z")), Some(at("2026-12-01T03:30:00Z")));
        assert_eq!(window.end(at("2026-12-01T03:30:00Z")), None);
    }

    #[test]
    fn what_is_no_window_is_named() {
        for (cron, zone, span, words) in [
            ("61 * * * *", "UTC", HOUR, "61"),
            ("0 2 * * *", "Mars/Olympus", HOUR, "Mars/Olympus"),
            ("hello", "UTC", HOUR, "hello"),
            ("0 2 * * *", "UTC", Duration::ZERO, "1m"),
        ] {
            let error = Window::new(cron, zone, span).expect_err(cron).to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn a_silence_is_from_its_first_moment_to_before_its_end() {
        let (from, to) = (at("2026-12-01T02:00:00Z"), at("2026-12-01T03:00:00Z"));
        let silence = Silence { name: "move".to_owned(), filter: Filter::default(), when: When::Between { from, to } };
        assert_eq!(silence.end(from), Some(to));
        assert_eq!(silence.end(to), None);
    }
}
