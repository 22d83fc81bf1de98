//! A cluster's node, put together: its store, the stream that it follows, and what has to hold of both before it serves.

mod connect;
mod join;
mod monitor;

pub(crate) use connect::{CredentialsError, jetstream_settings};
pub(crate) use join::{ClusterError, Member, join};
