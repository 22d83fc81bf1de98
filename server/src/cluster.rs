//! A cluster's node, put together: its store, the stream that it follows, and what has to hold of both before it serves.

mod checkpoint;
mod connect;
mod error;
mod join;
mod monitor;
mod replica;

pub(crate) use connect::jetstream_settings;
pub(crate) use error::{ClusterError, divergence_advice};
pub(crate) use join::{Member, join};
