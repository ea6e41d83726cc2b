//! What people are told: storms are grouped into conversations, silenced where that was asked for, and delivered.
//!
//! [`Desk`] decides what is told and when: it reads no clock, so a day of alerts is tested in a moment. [`receiver`]
//! puts an alert into a receiver's own form. [`Outbox`] keeps on disk what has not been taken yet, and [`Courier`]
//! brings it there. Nothing here talks to Docker or delays detection: transitions of cases wait in one place for each
//! case, so that none is lost however late the desk is, and other news over a queue that has a cap.

mod courier;
mod desk;
mod desktop;
mod filter;
mod news;
mod outbox;
pub mod receiver;
mod send;
mod silence;

pub use courier::{Courier, Receiver, Way, try_once};
pub use desk::{Desk, Memory, Settings};
pub use filter::Filter;
pub use news::{Heard, News, Part};
pub use outbox::{Content, Delivery, Outbox, OutboxError};
pub use send::{Answer, Sender, SenderError};
pub use silence::{Silence, When, Window, WindowError};
