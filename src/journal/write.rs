//! Entries to rows.

use std::collections::BTreeMap;

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::entry::{Change, Entry};
use crate::model::{
    AttemptCount, BudgetReading, Decision, Gap, LetGo, Settlement, SpendCount, Storm, StormState, Subject, TaskRecord,
    Timestamp,
};

/// How long a text may be. The engine's own words come to some hundreds of bytes.
const TEXT_MAX_BYTES: usize = 4096;
/// How many tasks a decision keeps as evidence: five of each slot of forty replicas.
const EVIDENCE_MAX: usize = 200;
/// How stale the time may be at which a subject was last seen: without it each count of a minute would be two writes.
pub(super) const SEEN_SLACK_NANOS: i64 = 3_600_000_000_000;

/// Writes changes, all or none; returns how many rows. `now` is the newest time that is known.
pub(super) fn commit<'a>(
    connection: &Connection,
    changes: impl Iterator<Item = &'a Change>,
    now: Timestamp,
) -> rusqlite::Result<u64> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let mut rows = Rows { connection: &transaction, now, subjects: BTreeMap::new(), written: 0 };
    for change in changes {
        rows.write(change)?;
    }
    let written = rows.written;
    transaction.commit()?;
    Ok(written)
}

struct Rows<'c> {
    connection: &'c Connection,
    now: Timestamp,
    /// The keys of the subjects of this transaction.
    subjects: BTreeMap<(&'static str, String), (i64, i64)>,
    written: u64,
}

impl Rows<'_> {
    fn write(&mut self, change: &Change) -> rusqlite::Result<()> {
        match change {
            Change::EndStorms { except, at } => self.end_storms(except, *at),
            Change::Entry(entry) => match entry {
                Entry::Storm(storm) => self.storm(storm),
                Entry::Decision { decision, evidence } => self.decision(decision, evidence),
                Entry::Settlement(settlement) => self.settlement(settlement),
                Entry::LetGo(let_go) => self.let_go(let_go),
                Entry::Gap { origin, gap } => self.gap(origin, gap),
                Entry::Attempts(counts) => self.attempts(counts),
                Entry::Spends(counts) => self.spends(counts),
                Entry::Reading(reading) => self.reading(reading),
                Entry::Hold { subject, mark } => self.hold(subject, mark.as_deref()),
            },
        }
    }

    fn execute(&mut self, sql: &str, values: impl rusqlite::Params) -> rusqlite::Result<()> {
        self.written += self.connection.execute(sql, values)? as u64;
        Ok(())
    }

    /// The subject's key. Its words are the newest that were told, but an id does not replace a name.
    fn subject(&mut self, subject: &Subject, at: Timestamp) -> rusqlite::Result<i64> {
        let (kind, id, at) = (subject.kind.as_str(), cut(&subject.id), at.as_nanos());
        let cached = self.subjects.get(&(kind, id.to_owned())).copied();
        if let Some((key, seen)) = cached
            && at.saturating_sub(seen) <= SEEN_SLACK_NANOS
        {
            return Ok(key);
        }
        let (name, stack) = (cut(&subject.name), subject.stack.as_deref().map(cut));
        let found = self
            .connection
            .query_row("SELECT key, name, stack, seen FROM subjects WHERE kind = ?1 AND id = ?2", (kind, id), |row| {
                let name: String = row.get(1)?;
                let stack: Option<String> = row.get(2)?;
                Ok((row.get::<_, i64>(0)?, name, stack, row.get::<_, i64>(3)?))
            })
            .optional()?;
        let (key, seen) = match found {
            None => {
                self.execute(
                    "INSERT INTO subjects (kind, id, name, stack, seen) VALUES (?1, ?2, ?3, ?4, ?5)",
                    (kind, id, name, stack, at),
                )?;
                (self.connection.last_insert_rowid(), at)
            }
            Some((key, old_name, old_stack, old_seen)) => {
                let name = if name == id { old_name.clone() } else { name.to_owned() };
                let stack = stack.map(str::to_owned).or_else(|| old_stack.clone());
                let is_stale = at.saturating_sub(old_seen) > SEEN_SLACK_NANOS;
                let seen = if is_stale { at } else { old_seen };
                if is_stale || name != old_name || stack != old_stack {
                    self.execute(
                        "UPDATE subjects SET name = ?2, stack = ?3, seen = ?4 WHERE key = ?1",
                        (key, name, stack, seen),
                    )?;
                }
                (key, seen)
            }
        };
        self.subjects.insert((kind, id.to_owned()), (key, seen));
        Ok(key)
    }

    /// A storm is the newest run of its id when that run goes on, or ended no earlier than this one began.
    ///
    /// A process that was started again sees less of a storm than the one before: the earliest onset and the largest
    /// counts stay, and the causes that go with them.
    fn storm(&mut self, storm: &Storm) -> rusqlite::Result<()> {
        let subject = self.subject(&storm.subject, storm.onset.max(storm.detected).max(self.now))?;
        let id = cut(&storm.id);
        let end = storm.ended.unwrap_or(storm.detected).max(storm.onset).as_nanos();
        let ended = (storm.state == StormState::Subsided).then_some(end);
        let causes: BTreeMap<&str, u64> = storm.causes.iter().map(|(cause, count)| (cause.as_str(), count)).collect();
        let nodes: Vec<&str> = storm.nodes.iter().map(|node| cut(node)).collect();
        // SQLite makes NULL of what is no number.
        let pace = if storm.attempts_per_min.is_finite() { storm.attempts_per_min } else { 0.0 };
        let newest = self
            .connection
            .query_row("SELECT run, ended FROM storms WHERE id = ?1 ORDER BY run DESC LIMIT 1", [id], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?))
            })
            .optional()?;
        let run = newest.filter(|(_, ended)| ended.is_none_or(|ended| storm.onset.as_nanos() <= ended));
        let run = run.map(|(run, _)| run);
        let sql = "
            INSERT INTO storms (run, id, subject, cause, causes, detail, onset, detected, ended,
                detected_after_failures, attempts, failed, attempts_per_min, image, registry, pinned, pulls, nodes,
                advice)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)
            ON CONFLICT (run) DO UPDATE SET
                subject = excluded.subject, cause = excluded.cause,
                causes = CASE WHEN excluded.failed >= failed THEN excluded.causes ELSE causes END,
                detail = excluded.detail, onset = min(onset, excluded.onset), ended = excluded.ended,
                attempts = max(attempts, excluded.attempts), failed = max(failed, excluded.failed),
                attempts_per_min = excluded.attempts_per_min, image = excluded.image, registry = excluded.registry,
                pinned = excluded.pinned, pulls = excluded.pulls, nodes = excluded.nodes, advice = excluded.advice";
        self.execute(
            sql,
            params![
                run,
                id,
                subject,
                storm.cause.as_str(),
                json(&causes),
                cut(&storm.detail),
                storm.onset.as_nanos(),
                storm.detected.as_nanos(),
                ended,
                stored(storm.detected_after_failures),
                stored(storm.attempts),
                stored(storm.failed),
                pace,
                cut(&storm.image),
                cut(&storm.registry),
                storm.pinned,
                storm.pulls,
                json(&nodes),
                cut(&storm.advice),
            ],
        )
    }

    fn end_storms(&mut self, except: &[String], at: Timestamp) -> rusqlite::Result<()> {
        let except: Vec<&str> = except.iter().map(|id| cut(id)).collect();
        self.execute(
            "UPDATE storms SET ended = max(?1, onset, detected)
             WHERE ended IS NULL AND id NOT IN (SELECT value FROM json_each(?2))",
            (at.as_nanos(), json(&except)),
        )
    }

    fn decision(&mut self, decision: &Decision, evidence: &[TaskRecord]) -> rusqlite::Result<()> {
        let subject = self.subject(&decision.subject, decision.at)?;
        let is_new = self.connection.execute(
            "INSERT INTO decisions (id, at, subject, storm, cause, failed, author, action, response, instead_of, refusal)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11) ON CONFLICT (id) DO NOTHING",
            params![
                cut(&decision.id),
                decision.at.as_nanos(),
                subject,
                cut(&decision.storm),
                decision.cause.as_str(),
                stored(decision.failed),
                decision.by.as_str(),
                decision.action.as_str(),
                decision.response.as_str(),
                decision.instead_of.map(|response| response.as_str()),
                decision.refusal.map(|refusal| refusal.as_str()),
            ],
        )? > 0;
        if !is_new {
            return Ok(());
        }
        self.written += 1;
        let key = self.connection.last_insert_rowid();
        let mut insert = self.connection.prepare(
            "INSERT INTO evidence (decision, place, task, slot, node, created, state, exit_code, error)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        )?;
        for (place, task) in (0_i64..).zip(evidence.iter().take(EVIDENCE_MAX)) {
            self.written += insert.execute(params![
                key,
                place,
                cut(&task.id),
                stored(task.slot),
                cut(&task.node_id),
                task.created.as_nanos(),
                cut(&task.state),
                task.exit_code,
                cut(&task.error),
            ])? as u64;
        }
        Ok(())
    }

    fn settlement(&mut self, settlement: &Settlement) -> rusqlite::Result<()> {
        self.execute(
            "UPDATE decisions SET settled = ?2, outcome = ?3, settlement = ?4 WHERE id = ?1",
            (cut(&settlement.decision), settlement.at.as_nanos(), settlement.outcome.as_str(), cut(&settlement.detail)),
        )
    }

    fn let_go(&mut self, let_go: &LetGo) -> rusqlite::Result<()> {
        let subject = self.subject(&let_go.subject, let_go.at)?;
        self.execute(
            "INSERT INTO let_goes (at, subject, storm, template, why) VALUES (?1, ?2, ?3, ?4, ?5)",
            (let_go.at.as_nanos(), subject, cut(&let_go.storm), cut(&let_go.template), cut(&let_go.why)),
        )
    }

    fn gap(&mut self, origin: &str, gap: &Gap) -> rusqlite::Result<()> {
        self.execute(
            "INSERT INTO gaps (origin, began, ended, why) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (origin, began) DO UPDATE SET ended = max(ended, excluded.ended), why = excluded.why",
            (cut(origin), gap.from.as_nanos(), gap.to.as_nanos(), cut(&gap.why)),
        )
    }

    fn attempts(&mut self, counts: &[AttemptCount]) -> rusqlite::Result<()> {
        let connection = self.connection;
        let mut add = connection.prepare(
            "INSERT INTO attempts (minute, subject, attempts, failed) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (minute, subject) DO UPDATE SET
                attempts = attempts + excluded.attempts, failed = failed + excluded.failed",
        )?;
        for count in counts {
            let subject = self.subject(&count.subject, count.minute)?;
            self.written +=
                add.execute((count.minute.as_nanos(), subject, stored(count.attempts), stored(count.failed)))? as u64;
        }
        Ok(())
    }

    fn spends(&mut self, counts: &[SpendCount]) -> rusqlite::Result<()> {
        let connection = self.connection;
        let mut add = connection.prepare(
            "INSERT INTO spends (minute, subject, registry, node, deployed, pulls, checks, tokens, manifest_heads,
                manifest_gets, blobs, measured, derived, assumed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
             ON CONFLICT (minute, subject, registry, node, deployed) DO UPDATE SET
                pulls = pulls + excluded.pulls, checks = checks + excluded.checks, tokens = tokens + excluded.tokens,
                manifest_heads = manifest_heads + excluded.manifest_heads,
                manifest_gets = manifest_gets + excluded.manifest_gets, blobs = blobs + excluded.blobs,
                measured = measured + excluded.measured, derived = derived + excluded.derived,
                assumed = assumed + excluded.assumed",
        )?;
        for count in counts {
            let subject = self.subject(&count.subject, count.minute)?;
            let spend = count.spend;
            self.written += add.execute(params![
                count.minute.as_nanos(),
                subject,
                cut(&count.registry),
                cut(&count.node),
                count.deployed.as_nanos(),
                stored(spend.pulls),
                stored(spend.kinds.checks),
                stored(spend.kinds.tokens),
                stored(spend.kinds.manifest_heads),
                stored(spend.kinds.manifest_gets),
                stored(spend.kinds.blobs),
                stored(spend.measured),
                stored(spend.derived),
                stored(spend.assumed),
            ])? as u64;
        }
        Ok(())
    }

    fn reading(&mut self, reading: &BudgetReading) -> rusqlite::Result<()> {
        self.execute(
            "INSERT OR REPLACE INTO readings (at, registry, reading) VALUES (?1, ?2, ?3)",
            (reading.at.as_nanos(), cut(&reading.registry), json(reading)),
        )
    }

    fn hold(&mut self, subject: &Subject, mark: Option<&str>) -> rusqlite::Result<()> {
        let subject = self.subject(subject, self.now)?;
        match mark {
            // Whole: the beginning of a mark is no mark.
            Some(mark) => self.execute(
                "INSERT INTO holds (subject, mark) VALUES (?1, ?2)
                 ON CONFLICT (subject) DO UPDATE SET mark = excluded.mark",
                (subject, mark),
            ),
            None => self.execute("DELETE FROM holds WHERE subject = ?1", [subject]),
        }
    }
}

/// Only the beginning of a text that is longer than is sane.
fn cut(text: &str) -> &str {
    let end = (0..=text.len().min(TEXT_MAX_BYTES)).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or(0)]
}

/// SQLite's integers are signed. Half of the range holds every sum of two counts.
fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX).min(i64::MAX / 2)
}

fn json<T: serde::Serialize>(value: &T) -> String {
    serde_json::to_string(value).expect("texts and numbers are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = format!("x{}", "é".repeat(TEXT_MAX_BYTES));
        assert_eq!(cut(&long).len(), TEXT_MAX_BYTES - 1);
    }
}
