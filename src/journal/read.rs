//! Rows to the words of the model. A word that this version does not know is a later version's: a cause becomes
//! [`Cause::Unknown`], and a row whose other words are not known, or not text, is left out and counted.

use std::cell::Cell;
use std::collections::BTreeMap;

use rusqlite::{Connection, Params, Row};
use serde::Serialize;

use crate::model::{
    Action, Author, BudgetReading, Cause, CauseCounts, Decision, Gap, LetGo, Outcome, Refusal, Requests, Response,
    Settlement, Span, Spend, SpendCount, Storm, StormState, Subject, SubjectKind, TaskRecord, Timestamp,
};

const MINUTE_NANOS: i64 = 60_000_000_000;

const DECISIONS: &str = "
    SELECT d.id AS decision, d.at, d.storm, d.cause, d.failed, d.author, d.action, d.response, d.instead_of, d.refusal,
        d.settled, d.outcome, d.settlement, s.kind, s.id, s.name, s.stack
    FROM decisions AS d JOIN subjects AS s ON s.key = d.subject";

/// One storm of the past.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StormHistory {
    /// [`Storm::id`](crate::model::Storm::id). Two of one id are told apart by onset.
    pub id: String,
    /// What stormed.
    pub subject: Subject,
    /// Whether it went on when it was last written.
    pub state: StormState,
    /// The cause of most failures.
    pub cause: Cause,
    /// How many failures each cause has.
    pub causes: BTreeMap<Cause, u64>,
    /// The engine's own words about the last failure of that cause.
    pub detail: String,
    /// When the first failed attempt failed.
    pub onset: Timestamp,
    /// When it was detected first.
    pub detected: Timestamp,
    /// When it ended; null while it goes on.
    pub ended: Option<Timestamp>,
    /// How many failures it took to detect it.
    pub detected_after_failures: u64,
    /// Attempts that were seen; a lower bound.
    pub attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Failed attempts a minute, over the last ones that were seen.
    pub attempts_per_min: f64,
    /// The image reference; empty where none was seen.
    pub image: String,
    /// The registry of that image.
    pub registry: String,
    /// Whether the reference has a digest.
    pub pinned: bool,
    /// Whether attempts reach the registry.
    pub pulls: bool,
    /// The nodes that attempts failed on.
    pub nodes: Vec<String>,
    /// The next step that was advised.
    pub advice: String,
}

/// The journal does not keep every field: the others are left empty.
impl From<StormHistory> for Storm {
    fn from(known: StormHistory) -> Self {
        let mut causes = CauseCounts::default();
        known.causes.iter().for_each(|(cause, failed)| causes.add_many(*cause, *failed));
        Self {
            id: known.id,
            subject: known.subject,
            state: known.state,
            cause: known.cause,
            causes,
            detail: known.detail,
            onset: known.onset,
            exact: false,
            updated: None,
            detected: known.detected,
            ended: known.ended,
            detected_after_failures: known.detected_after_failures,
            attempts: known.attempts,
            failed: known.failed,
            attempts_per_min: known.attempts_per_min,
            image: known.image,
            registry: known.registry,
            pinned: known.pinned,
            pulls: known.pulls,
            nodes: known.nodes,
            slots: Vec::new(),
            replicas: None,
            spend: None,
            advice: known.advice,
        }
    }
}

/// A connection to read through.
#[derive(Clone, Copy)]
pub(super) struct Reader<'c> {
    pub(super) connection: &'c Connection,
    /// Counts the rows that were left out.
    pub(super) unread: &'c Cell<u64>,
}

impl Reader<'_> {
    /// Decisions of a span, by time.
    pub(super) fn decisions(&self, span: Span) -> rusqlite::Result<Vec<(Decision, Option<Settlement>)>> {
        let sql = format!("{DECISIONS} WHERE d.at BETWEEN ?1 AND ?2 ORDER BY d.at, d.key");
        self.rows(&sql, (span.from.as_nanos(), span.to.as_nanos()), settled_decision)
    }

    /// Permitted, and not settled, by time.
    pub(super) fn unsettled(&self) -> rusqlite::Result<Vec<Decision>> {
        let sql = format!("{DECISIONS} WHERE d.refusal IS NULL AND d.settled IS NULL ORDER BY d.at, d.key");
        self.rows(&sql, [], decision)
    }

    /// Decisions that were done since then, by the time of their settlement.
    pub(super) fn done_since(&self, since: Timestamp) -> rusqlite::Result<Vec<(Decision, Settlement)>> {
        let sql = format!("{DECISIONS} WHERE d.settled >= ?1 AND d.outcome = ?2 ORDER BY d.settled, d.key");
        let done = self.rows(&sql, (since.as_nanos(), Outcome::Done.as_str()), settled_decision)?;
        Ok(done.into_iter().filter_map(|(decision, settlement)| Some((decision, settlement?))).collect())
    }

    /// One decision.
    pub(super) fn decision(&self, id: &str) -> rusqlite::Result<Option<Decision>> {
        Ok(self.rows(&format!("{DECISIONS} WHERE d.id = ?1"), [id], decision)?.pop())
    }

    /// What a decision rests on.
    pub(super) fn evidence(&self, decision: &str) -> rusqlite::Result<Vec<TaskRecord>> {
        let sql = "
            SELECT e.task, e.slot, e.node, e.created, e.state, e.exit_code, e.error
            FROM evidence AS e JOIN decisions AS d ON d.key = e.decision WHERE d.id = ?1 ORDER BY e.place";
        self.rows(sql, [decision], |row| {
            Ok(Some(TaskRecord {
                id: row.get("task")?,
                slot: count(row, "slot")?,
                node_id: row.get("node")?,
                created: time(row, "created")?,
                state: row.get("state")?,
                exit_code: row.get("exit_code")?,
                error: row.get("error")?,
            }))
        })
    }

    /// What was let go since then, by time.
    pub(super) fn let_goes_since(&self, since: Timestamp) -> rusqlite::Result<Vec<LetGo>> {
        let sql = "
            SELECT l.at, l.storm, l.template, l.why, s.kind, s.id, s.name, s.stack
            FROM let_goes AS l JOIN subjects AS s ON s.key = l.subject WHERE l.at >= ?1 ORDER BY l.at, l.key";
        self.rows(sql, [since.as_nanos()], |row| {
            let Some(subject) = subject(row)? else { return Ok(None) };
            let (storm, template, why) = (row.get("storm")?, row.get("template")?, row.get("why")?);
            Ok(Some(LetGo { at: time(row, "at")?, subject, storm, template, why }))
        })
    }

    /// Of each minute since then the attempts that ended, and those of them that failed.
    pub(super) fn attempts_since(&self, since: Timestamp) -> rusqlite::Result<Vec<(Timestamp, u64, u64)>> {
        let sql = "
            SELECT minute, sum(attempts) AS attempts, sum(failed) AS failed
            FROM attempts WHERE minute >= ?1 GROUP BY minute ORDER BY minute";
        self.rows(sql, [since.as_nanos()], |row| {
            Ok(Some((time(row, "minute")?, count(row, "attempts")?, count(row, "failed")?)))
        })
    }

    /// What is held, by subject.
    pub(super) fn holds(&self) -> rusqlite::Result<Vec<(Subject, String)>> {
        let sql = "
            SELECT h.mark, s.kind, s.id, s.name, s.stack FROM holds AS h JOIN subjects AS s ON s.key = h.subject
            ORDER BY s.kind, s.name, s.id";
        self.rows(sql, [], |row| {
            let mark = row.get("mark")?;
            Ok(subject(row)?.map(|subject| (subject, mark)))
        })
    }

    /// The gaps that touch a span, by their beginning.
    pub(super) fn gaps(&self, span: Span) -> rusqlite::Result<Vec<(String, Gap)>> {
        let sql = "
            SELECT origin, began, ended, why FROM gaps WHERE ended >= ?1 AND began <= ?2 ORDER BY began, origin";
        self.rows(sql, (span.from.as_nanos(), span.to.as_nanos()), |row| {
            let gap = Gap { from: time(row, "began")?, to: time(row, "ended")?, why: row.get("why")?, open: false };
            Ok(Some((row.get("origin")?, gap)))
        })
    }

    /// The storms that touch a span, by onset.
    pub(super) fn storms(&self, span: Span) -> rusqlite::Result<Vec<StormHistory>> {
        let sql = "
            SELECT t.id AS storm, t.cause, t.causes, t.detail, t.onset, t.detected, t.ended, t.detected_after_failures,
                t.attempts, t.failed, t.attempts_per_min, t.image, t.registry, t.pinned, t.pulls, t.nodes, t.advice,
                s.kind, s.id, s.name, s.stack
            FROM storms AS t JOIN subjects AS s ON s.key = t.subject
            WHERE t.onset <= ?2 AND (t.ended IS NULL OR t.ended >= ?1) ORDER BY t.onset, t.run";
        self.rows(sql, (span.from.as_nanos(), span.to.as_nanos()), storm)
    }

    /// What was asked of registries in the minutes that touch a span: one row for each subject, registry, node and
    /// deployment, its `minute` the first of them.
    pub(super) fn spends(&self, span: Span) -> rusqlite::Result<Vec<SpendCount>> {
        let sql = "
            SELECT a.minute, a.registry, a.node, a.deployed, a.pulls, a.checks, a.tokens, a.manifest_heads,
                a.manifest_gets, a.blobs, a.measured, a.derived, a.assumed, s.kind, s.id, s.name, s.stack
            FROM (SELECT min(minute) AS minute, subject, registry, node, deployed, sum(pulls) AS pulls,
                    sum(checks) AS checks, sum(tokens) AS tokens, sum(manifest_heads) AS manifest_heads,
                    sum(manifest_gets) AS manifest_gets, sum(blobs) AS blobs, sum(measured) AS measured,
                    sum(derived) AS derived, sum(assumed) AS assumed
                FROM spends WHERE minute > ?1 AND minute <= ?2 GROUP BY subject, registry, node, deployed) AS a
            JOIN subjects AS s ON s.key = a.subject";
        self.rows(sql, (span.from.as_nanos().saturating_sub(MINUTE_NANOS), span.to.as_nanos()), |row| {
            let Some(subject) = subject(row)? else { return Ok(None) };
            let kinds = Requests {
                checks: count(row, "checks")?,
                tokens: count(row, "tokens")?,
                manifest_heads: count(row, "manifest_heads")?,
                manifest_gets: count(row, "manifest_gets")?,
                blobs: count(row, "blobs")?,
            };
            let spend = Spend {
                pulls: count(row, "pulls")?,
                requests: kinds.all(),
                kinds,
                measured: count(row, "measured")?,
                derived: count(row, "derived")?,
                assumed: count(row, "assumed")?,
                requests_per_min: 0.0,
            };
            let (minute, deployed) = (time(row, "minute")?, time(row, "deployed")?);
            Ok(Some(SpendCount {
                minute,
                subject,
                registry: row.get("registry")?,
                node: row.get("node")?,
                deployed,
                spend,
            }))
        })
    }

    /// What registry was asked how much in each minute since then: the minute, the registry, pulls, requests.
    pub(super) fn pulls_since(&self, since: Timestamp) -> rusqlite::Result<Vec<(Timestamp, String, u64, u64)>> {
        let sql = "
            SELECT minute, registry, sum(pulls) AS pulls,
                sum(checks + tokens + manifest_heads + manifest_gets + blobs) AS requests
            FROM spends WHERE minute >= ?1 GROUP BY minute, registry ORDER BY minute, registry";
        self.rows(sql, [since.as_nanos()], |row| {
            Ok(Some((time(row, "minute")?, row.get("registry")?, count(row, "pulls")?, count(row, "requests")?)))
        })
    }

    /// What registries said of their budgets in a span, by time.
    pub(super) fn readings(&self, span: Span) -> rusqlite::Result<Vec<BudgetReading>> {
        let sql = "SELECT reading FROM readings WHERE at BETWEEN ?1 AND ?2 ORDER BY at, registry";
        self.rows(sql, (span.from.as_nanos(), span.to.as_nanos()), |row| {
            let text: String = row.get("reading")?;
            Ok(serde_json::from_str(&text).ok())
        })
    }

    /// Attempts and failures of each subject in the minutes that touch a span.
    pub(super) fn attempts(&self, span: Span) -> rusqlite::Result<Vec<(Subject, u64, u64)>> {
        let sql = "
            SELECT a.attempts, a.failed, s.kind, s.id, s.name, s.stack
            FROM (SELECT subject, sum(attempts) AS attempts, sum(failed) AS failed
                FROM attempts WHERE minute > ?1 AND minute <= ?2 GROUP BY subject) AS a
            JOIN subjects AS s ON s.key = a.subject";
        self.rows(sql, (span.from.as_nanos().saturating_sub(MINUTE_NANOS), span.to.as_nanos()), |row| {
            let Some(subject) = subject(row)? else { return Ok(None) };
            Ok(Some((subject, count(row, "attempts")?, count(row, "failed")?)))
        })
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: impl Params,
        read: impl Fn(&Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> rusqlite::Result<Vec<T>> {
        let mut statement = self.connection.prepare(sql)?;
        let mut rows = statement.query(values)?;
        let mut found = Vec::new();
        while let Some(row) = rows.next()? {
            match read(row) {
                Ok(Some(value)) => found.push(value),
                // SQLite gave the row, and a value of it is none: a text whose bytes were damaged.
                Err(error) if error.sqlite_error_code().is_some() => return Err(error),
                Ok(None) | Err(_) => self.unread.set(self.unread.get() + 1),
            }
        }
        Ok(found)
    }
}

fn settled_decision(row: &Row<'_>) -> rusqlite::Result<Option<(Decision, Option<Settlement>)>> {
    let Some(decision) = decision(row)? else { return Ok(None) };
    let Some(at) = row.get::<_, Option<i64>>("settled")?.map(Timestamp::from_nanos) else {
        return Ok(Some((decision, None)));
    };
    let Some(outcome) = Outcome::from_word(&text(row, "outcome")?) else { return Ok(None) };
    let settlement = Settlement { decision: decision.id.clone(), at, outcome, detail: text(row, "settlement")? };
    Ok(Some((decision, Some(settlement))))
}

fn decision(row: &Row<'_>) -> rusqlite::Result<Option<Decision>> {
    let Some(subject) = subject(row)? else { return Ok(None) };
    let (Some(by), Some(action), Some(response)) = (
        Author::from_word(&text(row, "author")?),
        Action::from_word(&text(row, "action")?),
        Response::from_word(&text(row, "response")?),
    ) else {
        return Ok(None);
    };
    let (Some(instead_of), Some(refusal)) =
        (optional(row.get("instead_of")?, Response::from_word), optional(row.get("refusal")?, Refusal::from_word))
    else {
        return Ok(None);
    };
    Ok(Some(Decision {
        id: row.get("decision")?,
        at: time(row, "at")?,
        subject,
        storm: row.get("storm")?,
        cause: cause(&text(row, "cause")?),
        failed: count(row, "failed")?,
        by,
        action,
        response,
        instead_of,
        refusal,
    }))
}

fn storm(row: &Row<'_>) -> rusqlite::Result<Option<StormHistory>> {
    let Some(subject) = subject(row)? else { return Ok(None) };
    let ended = row.get::<_, Option<i64>>("ended")?.map(Timestamp::from_nanos);
    let mut causes = BTreeMap::new();
    let words: BTreeMap<String, u64> = serde_json::from_str(&text(row, "causes")?).unwrap_or_default();
    for (word, failed) in words {
        *causes.entry(cause(&word)).or_default() += failed;
    }
    Ok(Some(StormHistory {
        id: row.get("storm")?,
        subject,
        state: if ended.is_some() { StormState::Subsided } else { StormState::Ongoing },
        cause: cause(&text(row, "cause")?),
        causes,
        detail: row.get("detail")?,
        onset: time(row, "onset")?,
        detected: time(row, "detected")?,
        ended,
        detected_after_failures: count(row, "detected_after_failures")?,
        attempts: count(row, "attempts")?,
        failed: count(row, "failed")?,
        attempts_per_min: row.get("attempts_per_min")?,
        image: row.get("image")?,
        registry: row.get("registry")?,
        pinned: row.get("pinned")?,
        pulls: row.get("pulls")?,
        nodes: serde_json::from_str(&text(row, "nodes")?).unwrap_or_default(),
        advice: row.get("advice")?,
    }))
}

fn subject(row: &Row<'_>) -> rusqlite::Result<Option<Subject>> {
    const KINDS: [SubjectKind; 4] =
        [SubjectKind::SwarmService, SubjectKind::ComposeService, SubjectKind::Container, SubjectKind::EcsFamily];
    let word = text(row, "kind")?;
    let Some(kind) = KINDS.into_iter().find(|kind| kind.as_str() == word) else { return Ok(None) };
    Ok(Some(Subject { kind, name: row.get("name")?, id: row.get("id")?, stack: row.get("stack")? }))
}

fn cause(word: &str) -> Cause {
    Cause::from_word(word).unwrap_or(Cause::Unknown)
}

/// `None`: there is a word, and it is not known.
fn optional<T>(word: Option<String>, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    word.map_or(Some(None), |word| read(&word).map(Some))
}

fn text(row: &Row<'_>, name: &str) -> rusqlite::Result<String> {
    row.get(name)
}

fn time(row: &Row<'_>, name: &str) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp::from_nanos(row.get(name)?))
}

fn count(row: &Row<'_>, name: &str) -> rusqlite::Result<u64> {
    Ok(u64::try_from(row.get::<_, i64>(name)?).unwrap_or(0))
}
