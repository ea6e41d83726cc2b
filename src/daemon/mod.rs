//! The shell around the detector: it asks a live Docker and dockerd's log, and lets time pass.
//!
//! One loop takes all that can wake it ([`sensor::Wake`]), and hands what it reads to the detector. On a manager it
//! lists services with their status often, the tasks of suspects at a quarter of their loop period, and all tasks
//! rarely; on a worker or a plain host it reads events and container listings. These tasks and responses are done beside
//! one another: none waits for another that takes long.

mod clock;
mod hand;
mod inbox;
mod log_file;
mod log_journal;
mod objects;
mod opened;
mod plan;
mod purse;
mod sensor;
mod session;
mod supervisor;
mod tally;
mod teller;
mod wait;

pub use clock::{sleep_until, wall_clock};
pub use hand::{Hand, HandError};
pub use opened::SessionError;
pub use opened::mistakes;
pub use purse::{target, unasked};
pub use sensor::{Sensors, Wake};
pub use session::{Role, Said, Session};
pub use supervisor::{describe, stopping};
pub use teller::{OUTBOX, Teller, TellerError};
pub use wait::await_docker;
