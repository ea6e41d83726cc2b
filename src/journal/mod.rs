//! History on disk, for one squall on one host: storms, decisions and what became of them, what is held, gaps, and
//! attempts by the minute.
//!
//! It is what a restart asks (which permitted action was not settled, which container is held, what the hour has
//! already cost) and what `squall report` reads. [`Journal`] writes, on a thread of its own; [`History`] reads, also
//! beside a writer of another process.
//!
//! It is SQLite in WAL mode: a commit survives the death of the process at any point. `synchronous=NORMAL`: a power cut
//! can take the last commits and never damages the file.
//!
//! Nothing here ends the daemon. A disk that cannot be written makes a journal in memory that tries again; a damaged
//! file is set aside, never deleted, and a new one begun; a file of a newer squall is left as it is. Each is said in
//! [`State`], for the caller to log: nothing here logs, and nothing here judges.
//!
//! Times come with the entries. The only clocks are a stopwatch for the next try, and the date in the name of what is
//! set aside.

mod disk;
mod entry;
mod handle;
mod history;
mod prune;
mod read;
mod schema;
mod shared;
mod trouble;
mod waiting;
mod write;
mod writer;

pub use entry::{Entry, Medium, Opened, Settings, State};
pub use handle::{Journal, QUEUE_MAX};
pub use history::{History, HistoryError, ServiceHistory};
pub use read::StormHistory;
pub use waiting::WAITING_MAX;

/// The file's name in the state directory.
pub const FILE: &str = "journal.db";
