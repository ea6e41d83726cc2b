//! What has not been taken yet, on disk: a file for each alert and receiver, written before the first try and removed
//! after the receiver has taken it. A process that dies in between tries it again, under the same id.
//!
//! Files, and no database: a person can read, move and delete them, and one that is damaged harms no other.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, IntoInnerError};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

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
/// How the name of a delivery's file ends, and that of a dead letter which a person wants sent again. A rename asks for
/// it: the file stays that of the user whom squall runs as, whoever asks.
const JSON: &str = "json";
const ASKED_FOR: &str = "again";

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
    /// Since when each try is refused in a way that may pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused_since: Option<Timestamp>,
}

impl Delivery {
    /// An alert that was not tried yet.
    pub fn new(receiver: String, alert: Alert, since: Timestamp) -> Self {
        Self { receiver, alert, since, tries: 0, trouble: String::new(), refused_since: None }
    }
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
    /// Dead letters that somebody asks for, and that are not taken up yet, by age.
    pub asked_for: Vec<Delivery>,
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
        let mut all = |part, end| {
            let found = files(&dir.join(part), end);
            let read: Vec<Delivery> = found.iter().filter_map(|path| read(path)).collect();
            content.damaged += u64::try_from(found.len() - read.len()).unwrap_or(0);
            read
        };
        let (waiting, asked_for, dead) = (all("waiting", JSON), all("dead", ASKED_FOR), all("dead", JSON));
        (content.waiting, content.asked_for, content.dead) = (waiting, asked_for, dead);
        for list in [&mut content.waiting, &mut content.asked_for, &mut content.dead] {
            list.sort_by(|a, b| a.since.cmp(&b.since).then_with(|| a.alert.id.cmp(&b.alert.id)));
        }
        content
    }

    /// The same, where files that cannot be read are renamed, so that they are found once.
    pub fn load(&self) -> Content {
        let all = [("waiting", JSON), ("dead", JSON), ("dead", ASKED_FOR)];
        for path in all.into_iter().flat_map(|(part, end)| files(&self.dir.join(part), end)) {
            if read::<Delivery>(&path).is_none() {
                // If it cannot be renamed, it is left as it is: it harms nobody.
                let _ = fs::rename(&path, path.with_extension("damaged"));
            }
        }
        Self::read(&self.dir)
    }

    /// Asks the squall that has this outbox, now or later, to send a dead letter again.
    ///
    /// # Errors
    /// When its file cannot be renamed.
    pub fn ask_again(dir: &Path, delivery: &Delivery) -> Result<(), OutboxError> {
        let path = dir.join("dead").join(file_name(delivery));
        fs::rename(&path, path.with_extension(ASKED_FOR)).map_err(|source| OutboxError { what: "rename", path, source })
    }

    /// Whether that squall has not yet taken it up.
    pub fn is_asked_for(dir: &Path, delivery: &Delivery) -> bool {
        dir.join("dead").join(file_name(delivery)).with_extension(ASKED_FOR).exists()
    }

    /// Takes up the dead letters that were asked for: they wait as if they were new, in the order of their age.
    pub fn take_up(&self, now: Timestamp) -> Vec<Delivery> {
        let mut taken = Vec::new();
        for path in files(&self.dir.join("dead"), ASKED_FOR) {
            let Some(dead) = read::<Delivery>(&path) else { continue };
            let since = now.plus(Duration::from_nanos(u64::try_from(taken.len()).unwrap_or(0)));
            let delivery = Delivery::new(dead.receiver, dead.alert, since);
            let waiting = self.dir.join("waiting").join(file_name(&delivery));
            // A process that dies in between finds it under one name or the other. If the disk refuses, it is tried again.
            if self.write(&path, &delivery).is_ok() && fs::rename(&path, waiting).is_ok() {
                taken.push(delivery);
            }
        }
        taken
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
        self.write(&self.dir.join("dead").join(file_name(delivery)), delivery)?;
        self.forget(delivery);
        let its = self.dead_of(&delivery.receiver);
        for path in its.iter().take(its.len().saturating_sub(DEAD_MAX)) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    /// Forgets the receiver's dead letters of a conversation that it knows to be over: sent again, they would begin it
    /// again, and nothing would end it.
    pub fn forget_dead(&self, ended: &Delivery) {
        for path in self.dead_of(&ended.receiver) {
            if read::<Delivery>(&path).is_some_and(|dead| dead.alert.conversation == ended.alert.conversation) {
                let _ = fs::remove_file(path);
            }
        }
    }

    /// The files of a receiver's dead letters, by age.
    fn dead_of(&self, receiver: &str) -> Vec<PathBuf> {
        let prefix = format!("{receiver}.");
        let is_its = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix));
        files(&self.dir.join("dead"), JSON).into_iter().filter(is_its).collect()
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
    format!("{}.{:020}.{}.{JSON}", delivery.receiver, delivery.since.as_nanos(), delivery.alert.id)
}

/// The files of a directory whose names end so, by name.
fn files(dir: &Path, end: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|other| other == end)).collect();
    files.sort();
    files
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let is_small = fs::metadata(path).ok()?.len() <= FILE_BYTES_MAX;
    let text = is_small.then(|| fs::read(path))?.ok()?;
    serde_json::from_slice(&text).ok()
}
