//! What is too old, or too much, is deleted: a little at a time, so that no write waits long for it.

use std::time::Duration;

use rusqlite::{Connection, Transaction, TransactionBehavior, named_params};

use super::disk::Disk;
use super::entry::Settings;
use super::write::SEEN_SLACK_NANOS;
use crate::model::{Pace, Timestamp};

/// How often there is a step, by the times of the entries.
const EVERY: Duration = Duration::from_secs(60);
/// How many rows a step deletes, on top of as many as were written since the last.
const ROWS_PER_STEP: u64 = 1000;
/// How many rows a transaction deletes.
const ROWS_PER_COMMIT: u64 = 1000;
/// A step comes early after that many rows, which is when the entries' times stand still.
const ROWS_BEFORE_STEP: u64 = 10_000;
/// How many free pages a step gives back to the file system: 4 MiB.
const PAGES_PER_STEP: u32 = 1000;
/// What a restart may ask for: it stays whatever the size.
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Below this there is hardly room for the tables and the log.
const BYTES_MIN: u64 = 1 << 20;

/// What goes, table by table, in this order. `:before` is the bound; of what a restart may ask for, `:aged` is the
/// bound of age, and what came after `:day` is not touched.
const ROWS: [&str; 8] = [
    "DELETE FROM spends WHERE (minute, subject, registry, node, deployed) IN
        (SELECT minute, subject, registry, node, deployed FROM spends
        WHERE minute < :before ORDER BY minute LIMIT :limit)",
    "DELETE FROM attempts WHERE (minute, subject) IN
        (SELECT minute, subject FROM attempts WHERE minute < :before ORDER BY minute LIMIT :limit)",
    "DELETE FROM readings WHERE (at, registry) IN
        (SELECT at, registry FROM readings WHERE at < :before ORDER BY at LIMIT :limit)",
    "DELETE FROM evidence WHERE (decision, place) IN
        (SELECT e.decision, e.place FROM decisions AS d JOIN evidence AS e ON e.decision = d.key
        WHERE d.at < :before AND (d.refusal IS NOT NULL OR (d.settled IS NOT NULL AND d.at < :day) OR d.at < :aged)
        ORDER BY d.at LIMIT :limit)",
    "DELETE FROM decisions WHERE key IN
        (SELECT key FROM decisions AS d
        WHERE at < :before AND (refusal IS NOT NULL OR (settled IS NOT NULL AND at < :day) OR at < :aged)
            AND NOT EXISTS (SELECT 1 FROM evidence AS e WHERE e.decision = d.key)
        ORDER BY at LIMIT :limit)",
    "DELETE FROM storms WHERE run IN
        (SELECT run FROM storms WHERE ended < :before ORDER BY ended LIMIT :limit)",
    "DELETE FROM gaps WHERE key IN (SELECT key FROM gaps WHERE ended < :before ORDER BY ended LIMIT :limit)",
    "DELETE FROM let_goes WHERE key IN
        (SELECT key FROM let_goes WHERE at < min(:before, :day) ORDER BY at LIMIT :limit)",
];

/// Subjects that nothing speaks of any more; only once all that is older has gone, so that one look at when a subject
/// was last seen tells it of the tables with a time.
const SUBJECTS: &str = "
    DELETE FROM subjects WHERE key IN
        (SELECT key FROM subjects AS s WHERE seen < :aged
            AND NOT EXISTS (SELECT 1 FROM holds AS h WHERE h.subject = s.key)
            AND NOT EXISTS (SELECT 1 FROM storms AS t WHERE t.subject = s.key)
        LIMIT :limit)";

/// How much is kept, and when it was last looked at.
#[derive(Debug)]
pub(super) struct Pruning {
    keep: Duration,
    bytes_max: u64,
    pace: Pace,
    now: Timestamp,
    last: Option<Timestamp>,
    written: u64,
}

struct Bounds {
    before: i64,
    aged: i64,
    day: i64,
}

impl Pruning {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            keep: settings.keep.max(DAY),
            bytes_max: settings.bytes_max.max(BYTES_MIN),
            pace: Pace::default(),
            now: Timestamp::from_nanos(i64::MIN),
            last: None,
            written: 0,
        }
    }

    /// Takes the time of an entry; returns the newest time. One that is far ahead of the others is not believed: it
    /// would delete everything.
    pub(super) fn see(&mut self, at: Option<Timestamp>) -> Timestamp {
        if let Some(at) = at {
            self.now = self.pace.see(at);
        }
        self.now
    }

    /// The newest time.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Takes note that so many rows were written.
    pub(super) fn wrote(&mut self, rows: u64) {
        self.written = self.written.saturating_add(rows);
    }

    /// Deletes, if it is time, what is too old, then what is too much; returns how many rows.
    ///
    /// A step deletes at least as many rows as were written since the last, or the file would grow without end.
    pub(super) fn step(&mut self, disk: &Disk) -> rusqlite::Result<u64> {
        let is_due = self.last.is_none_or(|last| self.now.since(last) >= EVERY) || self.written >= ROWS_BEFORE_STEP;
        if !is_due || self.written == 0 {
            return Ok(0);
        }
        let budget = ROWS_PER_STEP.saturating_add(self.written);
        self.last = Some(self.now);
        self.written = 0;
        let deleted = self.by_age(&disk.connection, budget)?;
        let deleted = deleted + self.by_size(disk, budget.saturating_sub(deleted))?;
        if deleted > 0 {
            disk.connection.execute_batch(&format!("PRAGMA incremental_vacuum({PAGES_PER_STEP})"))?;
        }
        Ok(deleted)
    }

    fn bounds(&self) -> Bounds {
        let aged = self.now.minus(self.keep).as_nanos();
        Bounds { before: aged, aged, day: self.now.minus(DAY).as_nanos() }
    }

    fn by_age(&self, connection: &Connection, budget: u64) -> rusqlite::Result<u64> {
        let bounds = self.bounds();
        let mut left = budget;
        for sql in ROWS {
            loop {
                let limit = left.min(ROWS_PER_COMMIT);
                let deleted = delete(connection, sql, &bounds, limit)?;
                left = left.saturating_sub(deleted);
                if left == 0 {
                    return Ok(budget);
                }
                if deleted < limit {
                    break;
                }
            }
        }
        let limit = i64::try_from(left.min(ROWS_PER_COMMIT)).unwrap_or(i64::MAX);
        let aged = bounds.aged.saturating_sub(SEEN_SLACK_NANOS);
        let subjects = connection.execute(SUBJECTS, named_params! { ":aged": aged, ":limit": limit })?;
        Ok(budget - left + subjects as u64)
    }

    fn by_size(&self, disk: &Disk, budget: u64) -> rusqlite::Result<u64> {
        if disk.bytes()? <= self.bytes_max {
            return Ok(0);
        }
        // The log counts, and what it holds may be in the file already.
        disk.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        let bounds = Bounds { before: i64::MAX, ..self.bounds() };
        let mut left = budget;
        for sql in ROWS {
            loop {
                if left == 0 || disk.bytes()? <= self.bytes_max {
                    return Ok(budget - left);
                }
                let limit = left.min(ROWS_PER_COMMIT);
                let deleted = delete(&disk.connection, sql, &bounds, limit)?;
                left = left.saturating_sub(deleted);
                if deleted < limit {
                    break;
                }
            }
        }
        Ok(budget - left)
    }
}

fn delete(connection: &Connection, sql: &str, bounds: &Bounds, limit: u64) -> rusqlite::Result<u64> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut statement = transaction.prepare(sql)?;
    // A statement names the bounds that it needs.
    for (name, value) in [(":before", bounds.before), (":aged", bounds.aged), (":day", bounds.day), (":limit", limit)] {
        if let Some(place) = statement.parameter_index(name)? {
            statement.raw_bind_parameter(place, value)?;
        }
    }
    let deleted = statement.raw_execute()? as u64;
    drop(statement);
    transaction.commit()?;
    Ok(deleted)
}
