use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;

use super::log_file::LogFile;
use super::log_journal::Follower;
use crate::config::LogSource;
use crate::docker::{Client, Follow, FollowItem, FollowSettings};

/// How many events and log lines wait to be judged. A listing of a large cluster takes seconds, in which a storm of
/// 200 events a second fills a small part of it; what does not fit is dropped, counted and said.
const QUEUE_MAX: usize = 16_384;
/// Pause before a log that ended or failed is opened again.
const LOG_AGAIN: Duration = Duration::from_secs(5);

/// All that can wake the loop from outside.
#[derive(Debug)]
pub enum Wake {
    /// What the event stream yields.
    Docker(FollowItem),
    /// A line of dockerd's log.
    Log(String),
    /// The log cannot be read, and why. It is tried again.
    NoLog(String),
}

/// The tasks that read the event stream and the log into a queue: nothing that the loop does delays them, as dockerd
/// makes every publisher wait for a reader that does not read.
#[derive(Debug)]
pub struct Sensors {
    queue: Receiver<Wake>,
    dropped: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sensors {
    /// Starts them. The log is read only where it is the daemon's own: a journal of this machine tells nothing of
    /// another.
    pub fn start(client: &Client, log: &LogSource) -> Self {
        let (sender, queue) = mpsc::channel(QUEUE_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let mut tasks = vec![tokio::spawn(follow(client.clone(), sender.clone(), Arc::clone(&dropped)))];
        match log {
            LogSource::Nowhere => {}
            LogSource::Journal if client.endpoint().socket().is_none() => {}
            log => tasks.push(tokio::spawn(read_log(log.clone(), sender))),
        }
        Self { queue, dropped, tasks }
    }

    /// The next thing that happens. Cancel-safe. `None` only when both readers have ended, which they do not.
    pub async fn next(&mut self) -> Option<Wake> {
        self.queue.recv().await
    }

    /// How many events did not fit into the queue since this was asked last.
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

impl Drop for Sensors {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn follow(client: Client, queue: Sender<Wake>, dropped: Arc<AtomicU64>) {
    // The pauses of several hosts differ by their seeds.
    let seed = u64::from(std::process::id()) ^ u64::from_be_bytes(wall_seed());
    let mut follow = Follow::new(client, FollowSettings::default(), None, seed);
    loop {
        let item = follow.next().await;
        let is_event = matches!(item, FollowItem::Event(_));
        let wake = Wake::Docker(item);
        if is_event {
            if queue.try_send(wake).is_err() {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        } else if queue.send(wake).await.is_err() {
            return;
        }
    }
}

fn wall_seed() -> [u8; 8] {
    super::clock::wall_clock().as_nanos().to_be_bytes()
}

async fn read_log(log: LogSource, queue: Sender<Wake>) {
    let mut follower = Follower::new();
    loop {
        let result = match &log {
            LogSource::File(path) => read_file(path, &queue).await,
            _ => read_journal(&mut follower, &queue).await,
        };
        let why = match result {
            Ok(()) => "it ended".to_owned(),
            Err(error) => error.to_string(),
        };
        if queue.send(Wake::NoLog(format!("{log}: {why}"))).await.is_err() {
            return;
        }
        tokio::time::sleep(LOG_AGAIN).await;
    }
}

async fn read_file(path: &std::path::Path, queue: &Sender<Wake>) -> std::io::Result<()> {
    let mut file = LogFile::open(path, 0).await?;
    loop {
        let mut lines = Vec::new();
        file.read(&mut |line| {
            if is_of_interest(line) {
                lines.push(line.to_owned());
            }
        })
        .await?;
        for line in lines {
            if queue.send(Wake::Log(line)).await.is_err() {
                return Ok(());
            }
        }
        file.wait().await;
    }
}

async fn read_journal(follower: &mut Follower, queue: &Sender<Wake>) -> std::io::Result<()> {
    let mut journal = follower.start()?;
    while let Some(line) = follower.next(&mut journal).await? {
        if is_of_interest(&line) && queue.send(Wake::Log(line)).await.is_err() {
            return Ok(());
        }
    }
    journal.end().await
}

/// Most lines of dockerd's log name no task; they are not worth a place in the queue.
pub(super) fn is_of_interest(line: &str) -> bool {
    line.contains("task.id")
}

/// An event's bytes as text.
pub(super) fn text_of(event: &Bytes) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(event)
}
