//! An order that many nodes share, on NATS JetStream: the stream is the sequencer, and each node's own store a replica of what
//! it has ordered. A node alone knows nothing of this crate.
//!
//! `frame`, `write` and `codec` are the bytes of the stream; `replica` is what a node makes of them, and `proposals` what it
//! says itself, both without network and clock. `link`, `stream`, `live` and `feed` speak to NATS; `propose`, `applier` and `nodes`
//! are what runs, around the `hub` that they share; `order` is the whole. `checkpoint`, `checkpoints` and `replay` are beginnings
//! for nodes that the stream has not all messages for.

mod applier;
mod checkpoint;
mod checkpoints;
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
mod replay;
mod replica;
mod settings;
mod stream;
mod write;

pub use applier::Applier;
pub use checkpoint::{Checkpoint, CheckpointFlaw};
pub use checkpoints::{
    CHECKPOINT_PART_BYTES, CheckpointError, CheckpointReader, CheckpointWriter, LogCheckpoints,
};
pub use codec::Malformed;
pub use frame::LogId;
pub use link::LinkError;
pub use nodes::NodeReport;
pub use order::{Cluster, ClusterStatus, JetStreamOrder, JoinError};
pub use replay::Stand;
pub use replica::Divergence;
pub use settings::{JetStreamSettings, NatsCredentials};
pub use stream::{StreamError, StreamInfo};
