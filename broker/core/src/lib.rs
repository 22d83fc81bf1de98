//! The broker's core: order and store as traits, the local order, tails shared by readers, and the readers themselves.
//!
//! It knows no HTTP, no JSON, no storage engine and no socket. A wire format is a slot and a function that somebody
//! else supplies ([`segment::Encoder`]); time and chance come from outside ([`Clock`]).

mod arrival;
mod broker;
mod clock;
mod error;
mod following;
mod listing;
mod local_order;
pub mod log;
mod metrics;
pub mod order;
mod page;
mod policy;
mod pool;
mod quotas;
mod reader;
mod removals;
mod routes;
mod segment;
mod shard;
mod shared;
mod slot;
pub mod store;
mod tail;
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, reason = "the rest is for the tests here"))]
pub mod testing;
mod throttle;
mod tidying;
mod timer;

pub use broker::{Backwards, Before, Broker, BrokerParts, Interest, Start, TopicsState};
pub use clock::Clock;
pub use error::{MessageError, PublishError, ReadError, ReaderError, RemoveError};
pub use local_order::{Committer, LocalOrder};
pub use metrics::Metrics;
pub use order::{Instruments, Order, WriteError};
pub use page::{Page, PageWait};
pub use policy::{AllowAll, Policy};
pub use reader::{Event, Reader, Until};
pub use segment::{Encoder, Encoders, ReferenceEncoder, Slice, Slices, View};
pub use slot::{Accepted, Remainder, Sink};
pub use store::{Store, StoreError};
pub use tidying::TidySchedule;
pub use timer::Timer;
