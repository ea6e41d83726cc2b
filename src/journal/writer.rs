use std::cell::Cell;
use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::disk::{Disk, Identity};
use super::entry::{Change, Medium, Opened, Settings};
use super::history::History;
use super::prune::Pruning;
use super::read::Reader;
use super::shared::Shared;
use super::trouble::{Trouble, words};
use super::waiting::Waiting;
use super::write;
use crate::model::{BudgetReading, Decision, LetGo, Settlement, Span, Storm, Subject, Timestamp};

/// How many entries are written at once: enough that a flood costs few commits.
const BATCH_MAX: usize = 512;
/// How old a decision may be that a restart still settles.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// What a handle asks of the writer.
pub(super) enum Command {
    Write {
        change: Change,
        /// Told whether it is on disk.
        written: Option<oneshot::Sender<bool>>,
    },
    Ask(Box<dyn FnOnce(&mut Writer) + Send>),
    Close(oneshot::Sender<()>),
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write { .. } => "Write",
            Self::Ask(_) => "Ask",
            Self::Close(_) => "Close",
        })
    }
}

type Written = Option<oneshot::Sender<bool>>;

/// Owns the file, or what waits for it.
pub(super) struct Writer {
    settings: Settings,
    shared: Arc<Shared>,
    disk: Option<Disk>,
    /// When the disk was last tried.
    tried: Instant,
    waiting: Waiting,
    pruning: Pruning,
    unread: Cell<u64>,
}

impl Writer {
    pub(super) fn new(settings: Settings, shared: Arc<Shared>) -> Self {
        Self {
            pruning: Pruning::new(&settings),
            settings,
            shared,
            disk: None,
            tried: Instant::now(),
            waiting: Waiting::default(),
            unread: Cell::new(0),
        }
    }

    pub(super) fn open(&mut self) -> Opened {
        self.try_disk(None);
        let state = self.shared.state();
        let memory = match &state.medium {
            Medium::Durable => None,
            Medium::InMemory { why } => Some(why.clone()),
        };
        Opened { set_aside: state.set_aside.clone(), memory }
    }

    /// Serves until it is closed, or the last handle is dropped.
    pub(super) fn run(mut self, commands: Receiver<Command>) {
        loop {
            let first = match self.next_try() {
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => commands.recv_timeout(wait),
            };
            let mut next = match first {
                Ok(command) => Some(command),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return self.finish(),
            };
            self.try_disk_if_due();
            let mut batch = Vec::new();
            while let Some(command) = next {
                match command {
                    Command::Write { change, written } => batch.push((change, written)),
                    Command::Ask(question) => {
                        self.write(std::mem::take(&mut batch));
                        question(&mut self);
                    }
                    Command::Close(closed) => {
                        self.write(std::mem::take(&mut batch));
                        self.finish();
                        for late in commands.try_iter() {
                            // Who waits for an answer counts it.
                            if let Command::Write { written: None, .. } = late {
                                self.shared.lose_queued();
                            }
                        }
                        drop(commands);
                        // Who closed it may have gone.
                        let _ = closed.send(());
                        return;
                    }
                }
                next = if batch.len() < BATCH_MAX { commands.try_recv().ok() } else { None };
            }
            self.write(batch);
        }
    }

    pub(super) fn unsettled(&mut self) -> Vec<Decision> {
        let on_disk = self.read(|reader| reader.unsettled());
        let mut unsettled = self.waiting.unsettled(on_disk);
        let newest = unsettled.iter().map(|decision| decision.at).max().unwrap_or_default();
        unsettled.retain(|decision| newest.since(decision.at) <= DAY);
        unsettled
    }

    pub(super) fn done_since(&mut self, since: Timestamp) -> Vec<(Decision, Settlement)> {
        let on_disk = self.read(|reader| reader.done_since(since));
        // The disk is read while what waits is borrowed.
        let waiting = std::mem::take(&mut self.waiting);
        let done = waiting.done_since(since, on_disk, |id| self.read(|reader| reader.decision(id)));
        self.waiting = waiting;
        done
    }

    pub(super) fn let_goes_since(&mut self, since: Timestamp) -> Vec<LetGo> {
        let on_disk = self.read(|reader| reader.let_goes_since(since));
        self.waiting.let_goes_since(since, on_disk)
    }

    pub(super) fn pulls_since(&mut self, since: Timestamp) -> Vec<(Timestamp, String, u64, u64)> {
        self.read(|reader| reader.pulls_since(since))
    }

    pub(super) fn readings(&mut self, span: Span) -> Vec<BudgetReading> {
        self.read(|reader| reader.readings(span))
    }

    pub(super) fn attempts_since(&mut self, since: Timestamp) -> Vec<(Timestamp, u64, u64)> {
        self.read(|reader| reader.attempts_since(since))
    }

    pub(super) fn open_storms(&mut self) -> Vec<Storm> {
        let never = Timestamp::from_nanos(i64::MAX);
        let storms = self.read(|reader| reader.storms(Span { from: never, to: never }));
        storms.into_iter().map(Storm::from).collect()
    }

    pub(super) fn holds(&mut self) -> Vec<(Subject, String)> {
        let on_disk = self.read(|reader| reader.holds());
        self.waiting.holds(on_disk)
    }

    /// What the file says, also where it cannot be written: a restart on a full disk must know what is held.
    fn read<T: Default>(&mut self, read: impl Fn(Reader<'_>) -> rusqlite::Result<T>) -> T {
        self.follow_file();
        let mut told = None;
        if let Some(disk) = &self.disk {
            match read(Reader { connection: &disk.connection, unread: &self.unread }) {
                Ok(found) => told = Some(found),
                Err(error) => self.suffer(&error),
            }
        }
        let told = told.or_else(|| {
            let history = History::open(&self.settings.dir).ok()?;
            let found = read(history.reader()).ok()?;
            self.unread.set(self.unread.get() + history.unread());
            Some(found)
        });
        self.shared.state().unread = self.unread.get();
        told.unwrap_or_default()
    }

    fn write(&mut self, batch: Vec<(Change, Written)>) {
        if batch.is_empty() {
            return;
        }
        for (change, _) in &batch {
            self.pruning.see(change.at());
        }
        self.follow_file();
        let mut results = vec![false; batch.len()];
        if self.disk.is_some() && self.commit(batch.iter().map(|(change, _)| change)) {
            results.fill(true);
        } else {
            // One by one: of those that the file refuses, the others shall not suffer.
            for ((change, _), result) in batch.iter().zip(&mut results) {
                *result = self.keep(change);
            }
        }
        self.tell_waiting();
        for ((_, written), result) in batch.into_iter().zip(results) {
            self.shared.served();
            if let Some(written) = written {
                // Who waited may have gone.
                let _ = written.send(result);
            }
        }
        self.prune();
    }

    /// Writes one change, or lets it wait; whether it is on disk.
    fn keep(&mut self, change: &Change) -> bool {
        // The second try is on the file that was made in place of a damaged one.
        for _ in 0..2 {
            let Some(disk) = &self.disk else { break };
            match write::commit(&disk.connection, std::iter::once(change), self.pruning.now()) {
                Ok(rows) => {
                    self.pruning.wrote(rows);
                    return true;
                }
                Err(error) if Trouble::of(&error) == Trouble::Entry => {
                    self.shared.state().dropped += 1;
                    return false;
                }
                Err(error) => self.suffer(&error),
            }
        }
        let dropped = self.waiting.push(change.clone());
        self.shared.state().dropped += dropped;
        false
    }

    /// Writes all of them; whether they are on disk. If not, the disk may be gone, and none of them is written.
    fn commit<'a>(&mut self, changes: impl Iterator<Item = &'a Change>) -> bool {
        let Some(disk) = &self.disk else { return false };
        match write::commit(&disk.connection, changes, self.pruning.now()) {
            Ok(rows) => {
                self.pruning.wrote(rows);
                true
            }
            Err(error) => {
                if Trouble::of(&error) != Trouble::Entry {
                    self.suffer(&error);
                }
                false
            }
        }
    }

    /// Writes what waits, in order.
    fn write_waiting(&mut self) {
        while let Some(disk) = &self.disk
            && !self.waiting.is_empty()
        {
            let mut count = self.waiting.len().min(BATCH_MAX);
            let write = |count| write::commit(&disk.connection, self.waiting.front(count), self.pruning.now());
            let mut result = write(count);
            if count > 1 && result.as_ref().is_err_and(|error| Trouble::of(error) == Trouble::Entry) {
                count = 1;
                result = write(count);
            }
            match result {
                Ok(rows) => {
                    self.pruning.wrote(rows);
                    self.waiting.forget_front(count);
                }
                Err(error) if Trouble::of(&error) == Trouble::Entry => {
                    self.shared.state().dropped += 1;
                    self.waiting.forget_front(count);
                }
                Err(error) => self.suffer(&error),
            }
        }
    }

    fn prune(&mut self) {
        let Some(disk) = &self.disk else { return };
        match self.pruning.step(disk) {
            Ok(deleted) => self.shared.state().pruned += deleted,
            Err(error) => self.suffer(&error),
        }
    }

    /// Opens the file anew when its name leads to another one, or to none.
    fn follow_file(&mut self) {
        if self.disk.as_ref().is_some_and(|disk| !disk.is_current()) {
            self.disk = None;
            self.shared.state().replaced += 1;
            self.try_disk(None);
        }
    }

    /// Sets a damaged file aside and begins a new one; in other trouble goes on in memory.
    fn suffer(&mut self, error: &rusqlite::Error) {
        let condemned = self.disk.take().map(|disk| disk.identity());
        if Trouble::of(error) == Trouble::Damage {
            self.try_disk(condemned);
            return;
        }
        self.tried = Instant::now();
        let why = format!("cannot write {}: {}", self.settings.dir.join(super::FILE).display(), words(error));
        self.shared.state().medium = Medium::InMemory { why };
    }

    fn try_disk_if_due(&mut self) {
        if self.next_try().is_some_and(|wait| wait.is_zero()) {
            self.try_disk(None);
            self.write_waiting();
            self.tell_waiting();
        }
    }

    fn next_try(&self) -> Option<Duration> {
        self.disk.is_none().then(|| self.settings.retry_after.saturating_sub(self.tried.elapsed()))
    }

    fn try_disk(&mut self, condemned: Option<Identity>) {
        let (aside, opened) = Disk::open(&self.settings.dir, self.pruning.bytes_max(), condemned);
        self.tried = Instant::now();
        let mut state = self.shared.state();
        if aside.is_some() {
            state.set_aside = aside;
            state.set_aside_count += 1;
        }
        match opened {
            Ok(disk) => {
                self.disk = Some(disk);
                state.medium = Medium::Durable;
            }
            Err(why) => {
                self.disk = None;
                state.medium = Medium::InMemory { why };
            }
        }
    }

    fn tell_waiting(&self) {
        self.shared.state().pending = self.waiting.len() as u64;
    }

    fn finish(&mut self) {
        if self.disk.is_none() && !self.waiting.is_empty() {
            self.try_disk(None);
        }
        self.write_waiting();
        self.tell_waiting();
        if let Some(disk) = self.disk.take() {
            disk.close();
        }
        self.shared.state().medium = Medium::InMemory { why: "it is closed".to_owned() };
    }
}
