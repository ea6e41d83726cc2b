use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags};
use serde::Serialize;

use super::FILE;
use super::read::{Reader, StormHistory};
use super::schema::{self, Kind};
use super::trouble::{Trouble, words};
use crate::model::{
    Action, BudgetReading, Cause, Decision, Gap, Outcome, Settlement, Span, SpendCount, Subject, TaskRecord, Timestamp,
};

/// How long a lock of a writer's is waited for. Readers and writers of a WAL hinder each other only while one of them
/// opens or closes the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Reads the journal's file, also beside a squall that writes it, and never changes it.
#[derive(Debug)]
pub struct History {
    connection: Connection,
    path: PathBuf,
    unread: Cell<u64>,
    /// An older squall writes it, or did: it has none.
    has_spends: bool,
}

/// Why there is no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// No squall has kept a journal there.
    #[error("there is no journal at {}", path.display())]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// A newer squall wrote it.
    #[error("{} has the format {found} of a newer squall; this one reads up to {known}", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that this squall knows.
        known: i64,
    },
    /// Another program wrote it.
    #[error("{} is not a journal of squall", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// It is no database, or a damaged one. A squall that writes sets it aside when it is started.
    #[error("{} is damaged: {}", path.display(), words(source))]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The directory cannot be written, which reading may need while a write-ahead log is there.
    #[error(
        "cannot read {} with its write-ahead log where nothing can be written ({}): copy the two files elsewhere, or \
         read as the user who writes them", path.display(), words(source)
    )]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// It cannot be read: permissions, a lock, the disk.
    #[error("cannot read {}: {}", path.display(), words(source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
}

/// What one subject did in a span.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceHistory {
    /// The subject.
    pub subject: Subject,
    /// How many storms touch the span.
    pub storms: u64,
    /// Attempts that ended in the span; where no minute was counted, those of its storms as a whole.
    pub attempts: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Whether the two are from counts by the minute.
    pub by_minute: bool,
    /// The onset of its first storm.
    pub first_storm: Option<Timestamp>,
    /// The onset of its last storm.
    pub last_storm: Option<Timestamp>,
    /// The cause of most failures of its storms.
    pub cause: Option<Cause>,
    /// How many actions of each kind were decided in the span and done.
    pub done: BTreeMap<Action, u64>,
    /// How many proposals were refused.
    pub refusals: u64,
}

impl History {
    /// Opens the journal in a state directory.
    ///
    /// # Errors
    /// When there is none, when it is damaged, a newer squall's or another program's, or cannot be read.
    pub fn open(dir: &Path) -> Result<Self, HistoryError> {
        let path = dir.join(FILE);
        // SQLite says no more than that it cannot open a file.
        if fs::metadata(&path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Err(HistoryError::Absent { path });
        }
        let (connection, kind) = match connect(&path, "mode=ro") {
            Err(source) if is_unwritable(&source) => {
                let log = dir.join(format!("{FILE}-wal"));
                // Without a log nobody writes, and the file by itself is whole.
                if fs::metadata(log).is_ok_and(|log| log.len() > 0) {
                    return Err(HistoryError::Unwritable { path, source });
                }
                connect(&path, "mode=ro&immutable=1")
            }
            result => result,
        }
        .map_err(|source| failure(&path, source))?;
        match kind {
            Kind::Known => {
                let has_spends = schema::has_spends(&connection).map_err(|source| failure(&path, source))?;
                Ok(Self { connection, path, unread: Cell::new(0), has_spends })
            }
            Kind::Empty => Err(HistoryError::Absent { path }),
            Kind::Newer(found) => Err(HistoryError::Newer { path, found, known: schema::version() }),
            Kind::Foreign => Err(HistoryError::Foreign { path }),
        }
    }

    /// What each subject did in a span: most failures first.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn services(&self, span: Span) -> Result<Vec<ServiceHistory>, HistoryError> {
        let reader = self.reader();
        let parts = || Ok((reader.attempts(span)?, reader.storms(span)?, reader.decisions(span)?));
        let (attempts, storms, decisions) = self.told(parts())?;
        Ok(services(attempts, storms, &decisions))
    }

    /// The storms that touch a span, by onset.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn storms(&self, span: Span) -> Result<Vec<StormHistory>, HistoryError> {
        self.told(self.reader().storms(span))
    }

    /// What was asked of registries in a span: one entry for each subject, registry, node and deployment, its `minute`
    /// the first of them.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn spends(&self, span: Span) -> Result<Vec<SpendCount>, HistoryError> {
        if !self.has_spends {
            return Ok(Vec::new());
        }
        self.told(self.reader().spends(span))
    }

    /// What each registry was asked in each minute since then: the minute, the registry, pulls, requests.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn pulls_since(&self, since: Timestamp) -> Result<Vec<(Timestamp, String, u64, u64)>, HistoryError> {
        if !self.has_spends {
            return Ok(Vec::new());
        }
        self.told(self.reader().pulls_since(since))
    }

    /// What registries said of their budgets in a span, by time.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn readings(&self, span: Span) -> Result<Vec<BudgetReading>, HistoryError> {
        if !self.has_spends {
            return Ok(Vec::new());
        }
        self.told(self.reader().readings(span))
    }

    /// The decisions of a span, by time, and how each ended, where it did.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn decisions(&self, span: Span) -> Result<Vec<(Decision, Option<Settlement>)>, HistoryError> {
        self.told(self.reader().decisions(span))
    }

    /// What a decision rests on.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn evidence(&self, decision: &str) -> Result<Vec<TaskRecord>, HistoryError> {
        self.told(self.reader().evidence(decision))
    }

    /// The gaps that touch a span, with their origins, by their beginning.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn gaps(&self, span: Span) -> Result<Vec<(String, Gap)>, HistoryError> {
        self.told(self.reader().gaps(span))
    }

    /// What is held and has no label to say so, and the mark of each.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn holds(&self) -> Result<Vec<(Subject, String)>, HistoryError> {
        self.told(self.reader().holds())
    }

    /// How many rows were left out so far: they have a word that this version does not know, or a damaged one.
    pub fn unread(&self) -> u64 {
        self.unread.get()
    }

    pub(super) fn reader(&self) -> Reader<'_> {
        Reader { connection: &self.connection, unread: &self.unread }
    }

    fn told<T>(&self, result: rusqlite::Result<T>) -> Result<T, HistoryError> {
        result.map_err(|source| failure(&self.path, source))
    }
}

fn connect(path: &Path, how: &str) -> rusqlite::Result<(Connection, Kind)> {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        // Of a URI, `?`, `#` and `%` are not the path's; a path need not be text.
        let _ = match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                write!(uri, "{}", char::from(*byte))
            }
            other => write!(uri, "%{other:02X}"),
        };
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(format!("{uri}?{how}"), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    let kind = schema::kind(&connection)?;
    Ok((connection, kind))
}

/// Whether SQLite may have wanted to make the files beside the database, and could not: in a directory that cannot be
/// written, on a full disk.
fn is_unwritable(error: &rusqlite::Error) -> bool {
    use ErrorCode::{CannotOpen, DiskFull, ReadOnly, SystemIoFailure};
    matches!(error.sqlite_error_code(), Some(CannotOpen | DiskFull | ReadOnly | SystemIoFailure))
}

fn failure(path: &Path, source: rusqlite::Error) -> HistoryError {
    let path = path.to_owned();
    match Trouble::of(&source) {
        Trouble::Damage | Trouble::Entry => HistoryError::Damaged { path, source },
        Trouble::Disk => HistoryError::Unreadable { path, source },
    }
}

fn services(
    attempts: Vec<(Subject, u64, u64)>,
    storms: Vec<StormHistory>,
    decisions: &[(Decision, Option<Settlement>)],
) -> Vec<ServiceHistory> {
    let mut found: BTreeMap<Subject, (ServiceHistory, BTreeMap<Cause, u64>)> = BTreeMap::new();
    let empty = |subject: &Subject| ServiceHistory {
        subject: subject.clone(),
        storms: 0,
        attempts: 0,
        failed: 0,
        by_minute: false,
        first_storm: None,
        last_storm: None,
        cause: None,
        done: BTreeMap::new(),
        refusals: 0,
    };
    for (subject, attempts, failed) in attempts {
        let (service, _) = found.entry(subject.clone()).or_insert_with(|| (empty(&subject), BTreeMap::new()));
        (service.attempts, service.failed, service.by_minute) = (attempts, failed, true);
    }
    for storm in storms {
        let (service, causes) =
            found.entry(storm.subject.clone()).or_insert_with(|| (empty(&storm.subject), BTreeMap::new()));
        service.storms += 1;
        service.first_storm = service.first_storm.or(Some(storm.onset));
        service.last_storm = Some(storm.onset);
        if !service.by_minute {
            service.attempts = service.attempts.saturating_add(storm.attempts);
            service.failed = service.failed.saturating_add(storm.failed);
        }
        for (cause, failed) in storm.causes {
            let sum = causes.entry(cause).or_insert(0_u64);
            *sum = sum.saturating_add(failed);
        }
    }
    for (decision, settlement) in decisions {
        let (service, _) =
            found.entry(decision.subject.clone()).or_insert_with(|| (empty(&decision.subject), BTreeMap::new()));
        service.refusals += u64::from(decision.refusal.is_some());
        if settlement.as_ref().is_some_and(|settlement| settlement.outcome == Outcome::Done) {
            *service.done.entry(decision.action).or_default() += 1;
        }
    }
    let top = |causes: BTreeMap<Cause, u64>| {
        causes.into_iter().max_by(|a, b| a.1.cmp(&b.1).then(b.0.cmp(&a.0))).map(|entry| entry.0)
    };
    let mut services: Vec<ServiceHistory> =
        found.into_values().map(|(service, causes)| ServiceHistory { cause: top(causes), ..service }).collect();
    services.sort_by(|a, b| b.failed.cmp(&a.failed).then_with(|| a.subject.cmp(&b.subject)));
    services
}
