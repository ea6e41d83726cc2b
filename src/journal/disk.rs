//! The file: opened, checked, brought up to date, and set aside where it is damaged.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::FILE;
use super::schema::{self, Kind};
use super::trouble::{Trouble, words};

/// How long a lock of another process is waited for: its writes take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before a lock is asked for again.
const LOCK_PAUSE: Duration = Duration::from_millis(20);
/// How many files that were set aside may be there: a disk that damages each new file must not be filled with them.
const ASIDE_MAX: usize = 5;
/// How long the write-ahead log may stay: what SQLite lets it grow to before it is copied back.
const LOG_BYTES_MAX: u64 = 4 << 20;
/// SQLite's default since 3.12.
const PAGE_BYTES: u64 = 4096;

/// The file, open for writing.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) connection: Connection,
    dir: PathBuf,
    identity: Identity,
}

/// Tells a file from another one of the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity(u64, u64);

/// Why the file cannot be written.
enum Refusal {
    Damaged,
    /// For a reason that may pass, or one that is not ours to mend.
    Unusable(String),
}

impl Disk {
    /// Opens the file, or makes it. One that is damaged, as `condemned` was found to be, is set aside and told.
    ///
    /// # Errors
    /// What was tried on what, and why it failed.
    pub(super) fn open(
        dir: &Path,
        bytes_max: u64,
        mut condemned: Option<Identity>,
    ) -> (Option<PathBuf>, Result<Self, String>) {
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(dir) {
            return (None, Err(format!("cannot make {}: {error}", dir.display())));
        }
        // Held to the end: two processes that start together neither both make the file nor both set it aside.
        let _lock = match lock(dir) {
            Ok(lock) => lock,
            Err(why) => return (None, Err(why)),
        };
        let path = dir.join(FILE);
        let mut aside = None;
        for _ in 0..2 {
            if condemned.is_some() && condemned == identity(&path) {
                match set_aside(dir) {
                    Ok(to) => aside = Some(to),
                    Err(why) => return (aside, Err(why)),
                }
            }
            match Self::open_as_it_is(dir, &path, bytes_max) {
                Ok(disk) => return (aside, Ok(disk)),
                Err(Refusal::Unusable(why)) => return (aside, Err(why)),
                Err(Refusal::Damaged) => condemned = identity(&path),
            }
        }
        (aside, Err(format!("{} is damaged as soon as it is made", path.display())))
    }

    fn open_as_it_is(dir: &Path, path: &Path, bytes_max: u64) -> Result<Self, Refusal> {
        create(path)?;
        let identity = identity(path).ok_or_else(|| Refusal::Unusable(format!("{} is gone", path.display())))?;
        let failed = |error: rusqlite::Error| match Trouble::of(&error) {
            Trouble::Damage => Refusal::Damaged,
            _ => Refusal::Unusable(format!("cannot write {}: {}", path.display(), words(&error))),
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags).map_err(failed)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
        // Closing would write back the log, into a file that may be damaged or another's, and remove the log by name.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(failed)?;
        let kind = schema::kind(&connection).map_err(failed)?;
        match kind {
            Kind::Newer(found) => {
                return Err(Refusal::Unusable(format!(
                    "{} has the format {found} of a newer squall; this one writes {}",
                    path.display(),
                    schema::version()
                )));
            }
            Kind::Foreign => return Err(Refusal::Unusable(format!("{} is not a journal of squall", path.display()))),
            // Before the first page is written: it cannot be changed later.
            Kind::Empty => connection.pragma_update(None, "auto_vacuum", "INCREMENTAL").map_err(failed)?,
            Kind::Known => check(&connection).map_err(failed)?,
        }
        if connection.is_readonly("main").map_err(failed)? {
            return Err(Refusal::Unusable(format!("cannot write {}: it is read-only", path.display())));
        }
        prepare(&mut connection, bytes_max).map_err(failed)?;
        Ok(Self { connection, dir: dir.to_owned(), identity })
    }

    /// Which file it is.
    pub(super) fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether its name still leads to it: another process may have set it aside, a person may have deleted it.
    pub(super) fn is_current(&self) -> bool {
        identity(&self.dir.join(FILE)) == Some(self.identity)
    }

    /// How many bytes the file and its log use, without the pages that are free.
    pub(super) fn bytes(&self) -> rusqlite::Result<u64> {
        let number = |name: &str| self.connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let pages = number("page_count")?.saturating_sub(number("freelist_count")?);
        let log = fs::metadata(self.dir.join(format!("{FILE}-wal"))).map_or(0, |log| log.len());
        let bytes = u64::try_from(pages.saturating_mul(number("page_size")?)).unwrap_or(0);
        Ok(bytes.saturating_add(log))
    }

    /// Writes the log back into the file and closes both.
    pub(super) fn close(self) {
        if self.is_current() {
            // Another process may hold the log: then it writes back.
            let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false);
        }
    }
}

/// The lock of a directory; a file system without locks gives none, which is no reason to keep no journal.
fn lock(dir: &Path) -> Result<Option<File>, String> {
    let lock = File::open(dir).map_err(|error| format!("cannot read {}: {error}", dir.display()))?;
    let begun = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => return Ok(Some(lock)),
            Err(TryLockError::Error(_)) => return Ok(None),
            Err(TryLockError::WouldBlock) if begun.elapsed() < BUSY_TIMEOUT => thread::sleep(LOCK_PAUSE),
            Err(TryLockError::WouldBlock) => {
                return Err(format!("another process is opening the journal in {}", dir.display()));
            }
        }
    }
}

/// Makes the file where it is missing. One that is there is not opened: closing it would drop the locks that SQLite
/// holds on it elsewhere in this process.
fn create(path: &Path) -> Result<(), Refusal> {
    match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(Refusal::Unusable(format!("cannot make {}: {error}", path.display()))),
    }
    // SQLite would delete the log of an empty file, which is what is left of it.
    let length = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    if length(path) == 0 && length(&beside(path, "-wal")) > 0 {
        return Err(Refusal::Damaged);
    }
    Ok(())
}

fn check(connection: &Connection) -> rusqlite::Result<()> {
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        return Ok(());
    }
    Err(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(verdict)))
}

fn prepare(connection: &mut Connection, bytes_max: u64) -> rusqlite::Result<()> {
    let log_bytes = LOG_BYTES_MAX.min(bytes_max / 8);
    // Rows are written once and seldom read: 512 KiB of pages do as well as SQLite's 2 MB.
    connection.execute_batch("PRAGMA cache_size = -512")?;
    let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))?;
    if mode != "wal" {
        let error = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CANTOPEN);
        return Err(rusqlite::Error::SqliteFailure(error, Some(format!("its log stays in mode {mode}"))));
    }
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "journal_size_limit", i64::try_from(log_bytes).unwrap_or(i64::MAX))?;
    connection.pragma_update(None, "wal_autocheckpoint", i64::try_from(log_bytes / PAGE_BYTES).unwrap_or(1))?;
    schema::migrate(connection)
}

/// Renames the file and what SQLite keeps beside it; returns the new name. Never over another file.
fn set_aside(dir: &Path) -> Result<PathBuf, String> {
    let path = dir.join(FILE);
    let names = fs::read_dir(dir).map_err(|error| format!("cannot list {}: {error}", dir.display()))?;
    let prefix = format!("{FILE}.damaged-");
    let is_aside = |name: &str| name.starts_with(&prefix) && !name.ends_with("-wal") && !name.ends_with("-shm");
    let there = names.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_aside)).count();
    if there >= ASIDE_MAX {
        return Err(format!(
            "{} is damaged, and {there} damaged files are there already: remove {prefix}* when they are not needed",
            path.display()
        ));
    }
    let stamp = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    let taken = |to: &Path| ["", "-wal", "-shm"].iter().any(|end| beside(to, end).symlink_metadata().is_ok());
    let to = (0..=ASIDE_MAX)
        .map(|number| match number {
            0 => beside(&path, &format!(".damaged-{stamp}")),
            number => beside(&path, &format!(".damaged-{stamp}.{number}")),
        })
        .find(|to| !taken(to))
        .ok_or_else(|| format!("{} is damaged, and no name is free to set it aside", path.display()))?;
    // The file last: while it is there, its log is not taken for that of a new one.
    for end in ["-wal", "-shm", ""] {
        match fs::rename(beside(&path, end), beside(&to, end)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(format!("{} is damaged and cannot be renamed: {error}", path.display()));
            }
            _ => {}
        }
    }
    Ok(to)
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    PathBuf::from(name)
}

fn identity(path: &Path) -> Option<Identity> {
    fs::metadata(path).ok().map(|file| Identity(file.dev(), file.ino()))
}
