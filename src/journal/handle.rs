use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;

use tokio::sync::oneshot;

use super::entry::{Change, Entry, Medium, Opened, Settings, State};
use super::shared::Shared;
use super::writer::{Command, Writer};
use crate::model::{BudgetReading, Decision, LetGo, Settlement, Span, Storm, Subject, Timestamp};

/// How many entries wait for the writer; above it [`Journal::note`] drops the new one. A writer that is not hindered
/// takes some 50,000 a second.
pub const QUEUE_MAX: u64 = 4096;

/// Writes history, and answers what a restart asks. A cheap handle: the file belongs to a thread of its own.
///
/// When the last handle is dropped the thread writes what it has and ends; [`Journal::close`] waits for that.
#[derive(Clone, Debug)]
pub struct Journal {
    commands: Sender<Command>,
    shared: Arc<Shared>,
}

impl Journal {
    /// Opens the journal; it is in memory where the disk cannot be used.
    ///
    /// It waits for the file to be checked: about a second for 256 MiB that the system has in its cache.
    pub fn open(settings: Settings) -> (Self, Opened) {
        let shared = Arc::new(Shared {
            queued: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            state: Mutex::new(State {
                medium: Medium::InMemory { why: "it is not open yet".to_owned() },
                pending: 0,
                dropped: 0,
                set_aside: None,
                set_aside_count: 0,
                replaced: 0,
                unread: 0,
                pruned: 0,
            }),
        });
        let (commands, queue) = channel();
        let (tell_opened, opened) = channel();
        let writer_shared = Arc::clone(&shared);
        let thread = thread::Builder::new().name("journal".to_owned()).spawn(move || {
            let mut writer = Writer::new(settings, writer_shared);
            // Who opened it waits for this.
            let _ = tell_opened.send(writer.open());
            writer.run(queue);
        });
        let why = match thread {
            Ok(_) => "its thread has ended".to_owned(),
            Err(error) => format!("cannot start its thread: {error}"),
        };
        let opened = opened.recv().unwrap_or_else(|_| {
            shared.state().medium = Medium::InMemory { why: why.clone() };
            Opened { set_aside: None, memory: Some(why) }
        });
        (Self { commands, shared }, opened)
    }

    /// Keeps an entry; returns when it is committed. `true`: it is on disk. `false`: it is only in memory, for now.
    ///
    /// It takes as long as the disk, and up to 5 s while another process holds the file.
    pub async fn record(&self, entry: Entry) -> bool {
        self.write(Change::Entry(entry)).await
    }

    /// Keeps an entry some time soon; it is dropped and counted when [`QUEUE_MAX`] wait already.
    pub fn note(&self, entry: Entry) {
        let has_room = |queued: u64| (queued < QUEUE_MAX).then_some(queued + 1);
        let queued = self.shared.queued.fetch_update(Ordering::Relaxed, Ordering::Relaxed, has_room);
        let write = Command::Write { change: Change::Entry(entry), written: None };
        if queued.is_err() {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        } else if self.commands.send(write).is_err() {
            self.shared.lose_queued();
        }
    }

    /// Ends each storm that goes on in the journal and is not among `ids`: those that an earlier process left. Returns
    /// as [`Journal::record`] does.
    pub async fn close_storms_not_in(&self, ids: &[String], at: Timestamp) -> bool {
        self.write(Change::EndStorms { except: ids.to_vec(), at }).await
    }

    /// How the journal is.
    pub fn state(&self) -> State {
        let mut state = self.shared.state().clone();
        state.pending += self.shared.queued.load(Ordering::Relaxed);
        state.dropped += self.shared.dropped.load(Ordering::Relaxed);
        state
    }

    /// Why the journal is in memory; `None`: it is on disk.
    pub fn trouble(&self) -> Option<String> {
        match &self.shared.state().medium {
            Medium::Durable => None,
            Medium::InMemory { why } => Some(why.clone()),
        }
    }

    /// Permitted decisions without a settlement, by time: what a process was about to do when it ended. None that is
    /// more than a day older than the newest of them.
    pub async fn unsettled(&self) -> Vec<Decision> {
        self.ask(Writer::unsettled).await
    }

    /// Decisions that were done since then, with their settlements.
    pub async fn done_since(&self, since: Timestamp) -> Vec<(Decision, Settlement)> {
        self.ask(move |writer| writer.done_since(since)).await
    }

    /// What was let go since then, by time.
    pub async fn let_goes_since(&self, since: Timestamp) -> Vec<LetGo> {
        self.ask(move |writer| writer.let_goes_since(since)).await
    }

    /// What each registry was asked in each minute since then: the minute, the registry, pulls, requests.
    pub async fn pulls_since(&self, since: Timestamp) -> Vec<(Timestamp, String, u64, u64)> {
        self.ask(move |writer| writer.pulls_since(since)).await
    }

    /// What registries said of their budgets in a span, by time.
    pub async fn readings(&self, span: Span) -> Vec<BudgetReading> {
        self.ask(move |writer| writer.readings(span)).await
    }

    /// Of each minute since then the attempts that ended, and those of them that failed.
    pub async fn attempts_since(&self, since: Timestamp) -> Vec<(Timestamp, u64, u64)> {
        self.ask(move |writer| writer.attempts_since(since)).await
    }

    /// The storms that go on as far as the journal knows.
    pub async fn open_storms(&self) -> Vec<Storm> {
        self.ask(Writer::open_storms).await
    }

    /// What is held and has no label to say so, and the mark of each.
    pub async fn holds(&self) -> Vec<(Subject, String)> {
        self.ask(Writer::holds).await
    }

    /// Writes what is queued and waits, brings the log into the file, and closes it. Other handles keep nothing after
    /// it.
    pub async fn close(self) {
        let (tell, told) = oneshot::channel();
        if self.commands.send(Command::Close(tell)).is_ok() {
            // An end without an answer is an end too.
            let _ = told.await;
        }
    }

    async fn write(&self, change: Change) -> bool {
        let (written, is_written) = oneshot::channel();
        self.shared.queued.fetch_add(1, Ordering::Relaxed);
        if self.commands.send(Command::Write { change, written: Some(written) }).is_err() {
            self.shared.lose_queued();
            return false;
        }
        // No answer: it came to a writer that was closing.
        is_written.await.unwrap_or_else(|_| {
            self.shared.lose_queued();
            false
        })
    }

    /// The default where there is no writer any more.
    async fn ask<T: Default + Send + 'static>(&self, question: impl FnOnce(&mut Writer) -> T + Send + 'static) -> T {
        let (tell, told) = oneshot::channel();
        let ask = Command::Ask(Box::new(move |writer| {
            // Who asked may have gone.
            let _ = tell.send(question(writer));
        }));
        if self.commands.send(ask).is_err() {
            return T::default();
        }
        told.await.unwrap_or_default()
    }
}
