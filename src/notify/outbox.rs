//! What has not been taken yet, on disk: a file for each alert and receiver, written before the first try and removed
//! after the receiver has taken it. A process that dies in between tries it again, under the same id.
//!
//! Files, and no database: a person can read, move and delete them, and one that is damaged harms no other.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, IntoInnerError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::desk::Memory;
use crate::model::{Alert, Timestamp};

/// How many dead letters are kept of each receiver; the oldest go first.
const DEAD_MAX: usize = 200;
/// How large a file may be that is read: an alert of 20 storms is some 30 KiB, the memory of the desk grows with what
/// storms.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// What the desk has told.
const MEMORY: &str = "told.json";

/// An alert on its way to one receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    /// The receiver's name in the configuration.
    pub receiver: String,
    /// What it is told.
    pub alert: Alert,
    /// Since when it waits.
    pub since: Timestamp,
    /// How often it was tried.
    pub tries: u32,
    /// Why the last try failed; empty before the first.
    pub trouble: String,
}

/// Where deliveries wait. See the module.
#[derive(Debug)]
pub struct Outbox {
    dir: PathBuf,
    /// Held as long as the process lives: two of them would send everything twice.
    _lock: File,
}

/// Why the disk cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot {what} {}: {source}", path.display())]
pub struct OutboxError {
    what: &'static str,
    path: PathBuf,
    source: io::Error,
}

/// What an outbox holds.
#[derive(Debug, Default)]
pub struct Content {
    /// What waits, by age.
    pub waiting: Vec<Delivery>,
    /// What was refused for good, by age.
    pub dead: Vec<Delivery>,
    /// How many files could not be read; each is left where it is, as `*.damaged`.
    pub damaged: u64,
}

impl Outbox {
    /// Opens the outbox in this directory, or makes it.
    ///
    /// # Errors
    /// When it cannot be made or written, or another process has it.
    pub fn open(dir: &Path) -> Result<Self, OutboxError> {
        for part in ["waiting", "dead"] {
            let path = dir.join(part);
            let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|source| OutboxError { what: "make", path, source })?;
        }
        let path = dir.join("lock");
        let failed = |what| {
            let path = path.clone();
            move |source| OutboxError { what, path, source }
        };
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = open.map_err(failed("write"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(failed("have")(io::Error::other("another squall has it")));
            }
            Err(TryLockError::Error(error)) => return Err(failed("lock")(error)),
        }
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// What is in the outbox of this directory; nothing where there is none.
    pub fn read(dir: &Path) -> Content {
        let mut content = Content::default();
        for (part, list) in [("waiting", &mut content.waiting), ("dead", &mut content.dead)] {
            for path in files(&dir.join(part)) {
                match read::<Delivery>(&path) {
                    Some(delivery) => list.push(delivery),
                    None => content.damaged += 1,
                }
            }
            list.sort_by(|a, b| a.since.cmp(&b.since).then_with(|| a.alert.id.cmp(&b.alert.id)));
        }
        content
    }

    /// The same, where files that cannot be read are renamed, so that they are found once.
    pub fn load(&self) -> Content {
        for path in files(&self.dir.join("waiting")).into_iter().chain(files(&self.dir.join("dead"))) {
            if read::<Delivery>(&path).is_none() {
                // Left as it is where it cannot be renamed: it harms nobody.
                let _ = fs::rename(&path, path.with_extension("damaged"));
            }
        }
        Self::read(&self.dir)
    }

    /// Keeps a delivery that waits, in the place of an earlier state of it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep(&self, delivery: &Delivery) -> Result<(), OutboxError> {
        self.write(&self.dir.join("waiting").join(file_name(delivery)), delivery)
    }

    /// Forgets a delivery: it was taken.
    pub fn forget(&self, delivery: &Delivery) {
        // What cannot be removed is sent once more after a restart, under its id.
        let _ = fs::remove_file(self.dir.join("waiting").join(file_name(delivery)));
    }

    /// Puts a delivery among the dead letters.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn bury(&self, delivery: &Delivery) -> Result<(), OutboxError> {
        let dead = self.dir.join("dead");
        self.write(&dead.join(file_name(delivery)), delivery)?;
        self.forget(delivery);
        let prefix = format!("{}.", delivery.receiver);
        let is_its = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
        let its: Vec<PathBuf> = files(&dead).into_iter().filter(is_its).collect();
        for path in its.iter().take(its.len().saturating_sub(DEAD_MAX)) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// Keeps what the desk has told.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn remember(&self, memory: &Memory) -> Result<(), OutboxError> {
        self.write(&self.dir.join(MEMORY), memory)
    }

    /// What a desk has told before; nothing where that cannot be read.
    pub fn recall(&self) -> Memory {
        read(&self.dir.join(MEMORY)).unwrap_or_default()
    }

    /// All of it or nothing, and it survives the machine.
    fn write(&self, path: &Path, value: &impl Serialize) -> Result<(), OutboxError> {
        let failed = |source| OutboxError { what: "write", path: path.to_owned(), source };
        let new = path.with_extension("new");
        let write = || {
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
            let mut file = BufWriter::new(file);
            serde_json::to_writer(&mut file, value)?;
            file.into_inner().map_err(IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&new, path)?;
            File::open(path.parent().unwrap_or(&self.dir))?.sync_all()
        };
        write().map_err(|error| {
            let _ = fs::remove_file(&new);
            failed(error)
        })
    }
}

/// By receiver and age.
fn file_name(delivery: &Delivery) -> String {
    format!("{}.{:020}.{}.json", delivery.receiver, delivery.since.as_nanos(), delivery.alert.id)
}

/// The deliveries of a directory, by name.
fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|end| end == "json")).collect();
    files.sort();
    files
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let is_small = fs::metadata(path).ok()?.len() <= FILE_BYTES_MAX;
    let text = is_small.then(|| fs::read(path))?.ok()?;
    serde_json::from_slice(&text).ok()
}
