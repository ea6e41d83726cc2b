use tokio::time::Instant;

use crate::model::Timestamp;

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

/// Tells the daemon's time: what it writes is on its clock, not on ours.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DaemonClock {
    offset_nanos: i64,
}

impl DaemonClock {
    /// Sets it by what the daemon said its time was (`SystemTime` of `/info`) between two moments of ours.
    pub(super) fn set(&mut self, said: &str, before: Timestamp, after: Timestamp) {
        let Ok(said) = Timestamp::parse(said) else { return };
        let middle = before.plus(after.since(before) / 2);
        self.offset_nanos = said.as_nanos().saturating_sub(middle.as_nanos());
    }

    /// The daemon's time now.
    pub(super) fn now(self) -> Timestamp {
        Timestamp::from_nanos(wall_clock().as_nanos().saturating_add(self.offset_nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_tells_the_daemons_time() {
        let mut clock = DaemonClock::default();
        let (before, after) = (Timestamp::from_secs(100), Timestamp::from_secs(102));
        clock.set("1970-01-01T01:01:41+01:00", before, after);
        assert_eq!(clock.offset_nanos, 0);
        clock.set("1970-01-01T00:03:11Z", before, after);
        assert_eq!(clock.offset_nanos, 90_000_000_000);
        clock.set("no time", before, after);
        assert_eq!(clock.offset_nanos, 90_000_000_000);
    }
}
