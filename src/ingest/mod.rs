//! Bytes to observations: tolerant readers of what Docker and dockerd write.
//!
//! The kind of a line is found by looking at it. What cannot be read is skipped and counted by reason; nothing that a
//! daemon, a label or a log line holds stops the reading. Only what tells something about attempts is taken over:
//! environments, arguments and secrets of a specification are never kept.
//!
//! It opens no file: it reads from what it is given.

mod event;
mod line;
mod log;
mod object;
mod reader;
mod reading;
mod recording;
mod spec;
pub mod split;
mod text;

pub use line::read_line;
pub use object::read_object;
pub use reader::{LINE_LIMIT_BYTES, Reader};
pub use reading::Reading;
pub use recording::{Fault, Recording, RecordingEnd, Source, Understood};
