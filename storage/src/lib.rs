//! Implementations of the log: [`SledLog`] on disk, [`MemoryLog`] for tests. They share the index of topics and the
//! batch of what is appended and not yet committed, and know nothing of clients, transports or threads.

mod ages;
mod batch;
mod codec;
mod index;
pub mod memory;
mod retention;
mod ring;
pub mod sled_log;

pub use ages::SteadyClock;
pub use memory::MemoryLog;
pub use sled_log::{LogSettings, NoRoom, OpenError, SledLog, inspect};
