//! The broker's core: the log as a trait, one committer, tails shared by readers, and the readers themselves.
//!
//! It knows no HTTP, no JSON, no storage engine and no socket. A wire format is a slot and a function that somebody
//! else supplies ([`segment::Encoder`]); time and chance come from outside ([`Clock`]).

mod broker;
mod clock;
mod committer;
mod error;
mod following;
mod listing;
pub mod log;
mod metrics;
mod page;
mod policy;
mod pool;
mod reader;
mod rest;
mod routes;
mod segment;
mod shard;
mod shared;
mod slot;
mod tail;
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(not(test), allow(dead_code, reason = "the rest is for the tests here"))]
pub mod testing;
mod timer;

pub use broker::{Broker, Interest, Parts, Start};
pub use clock::Clock;
pub use committer::{Committer, WriteError};
pub use error::{MessageError, OpenError, PublishError};
pub use log::Log;
pub use metrics::Metrics;
pub use page::{Page, Until, Wait};
pub use policy::{AllowAll, Policy};
pub use reader::{Event, ReadError, Reader};
pub use segment::{Encoder, Encoders, Slice, Slices};
pub use slot::{Accepted, Remainder, Sink};
pub use timer::Timer;
