//! An order that many nodes share, on NATS JetStream: the stream is the sequencer, and each node's own store a replica of what
//! it has ordered. A node alone knows nothing of this crate.
//!
//! `frame`, `write` and `codec` are the bytes of the stream; `replica` is what a node makes of them, and `proposals` what it
//! says itself, both without network and clock. `link`, `stream`, `live` and `feed` speak to NATS; `propose`, `applier` and `nodes`
//! are what runs, around the `hub` that they share; `order` is the whole.

mod applier;
mod codec;
mod feed;
mod frame;
mod hub;
mod link;
mod live;
mod message;
mod nodes;
mod order;
mod proposals;
mod propose;
mod replica;
mod settings;
mod stream;
mod write;

pub use applier::Applier;
pub use codec::Malformed;
pub use frame::LogId;
pub use link::LinkError;
pub use nodes::NodeReport;
pub use order::{Cluster, ClusterStatus, JetStreamOrder, JoinError};
pub use replica::Divergence;
pub use settings::{JetStreamSettings, NatsCredentials};
pub use stream::{StreamError, StreamInfo};
