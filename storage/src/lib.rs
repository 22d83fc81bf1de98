//! Implementations of the store: [`SledStore`] on disk, [`MemoryStore`] for tests. They share the index of topics, the batch
//! of what is being applied, and retention, and know nothing of clients, transports, orders or threads.

mod ages;
mod batch;
mod codec;
mod digest;
#[cfg(feature = "testing")]
pub mod fake_order;
mod forgetting;
mod index;
mod lifetimes;
#[cfg(feature = "testing")]
mod memory;
mod retention;
mod ring;
pub mod sled_store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use digest::{StateDigest, digest};
#[cfg(feature = "testing")]
pub use memory::MemoryStore;
pub use sled_store::{LogSettings, NoRoom, OpenError, SledStore, inspect};
