//! Why a node can't join, or has no store to join with.

use std::io;

use tailwire_core::WriteError;
use tailwire_jetstream::{CheckpointError, Divergence, JoinError};
use tailwire_storage::OpenError;

use super::{connect::CredentialsError, monitor::MonitorError};

/// See the module. Each is one sentence.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    #[error("cluster: {0}")]
    Credentials(#[from] CredentialsError),
    #[error(
        "cluster: whether the NATS servers sync what they acknowledge is not known: name their monitors by \
         --cluster-monitors, or say by --replicas 1 that this is a trial"
    )]
    NoMonitors,
    #[error("cluster: {0}")]
    Monitor(#[from] MonitorError),
    #[error(
        "data folder {0}: it holds the log of a broker that was alone; a node of a cluster needs another folder"
    )]
    Alone(String),
    #[error("data folder {folder}: {error}")]
    Open { folder: String, error: OpenError },
    #[error("data folder {folder}: the node's store can't be made again: {error}")]
    Remove { folder: String, error: io::Error },
    #[error("cluster: {error}{}", advice(error))]
    Join { error: JoinError },
    #[error("cluster: {}{}", .0, divergence_advice(.0))]
    Diverged(Divergence),
    #[error("cluster: the node ended while it caught up")]
    Ended,
    #[error("cluster: a checkpoint can't be read: {0}")]
    Checkpoint(#[from] CheckpointError),
    #[error("cluster: options of the settings could not be set: {0}")]
    Options(WriteError),
    #[error("can't start threads: {0}")]
    Threads(io::Error),
}

/// What an operator can do about a node that can't join.
fn advice(error: &JoinError) -> &'static str {
    match error {
        JoinError::Stream(tailwire_jetstream::StreamError::Absent(_)) => {
            ", though this node has followed one: restore it from a backup, or move the data folder away to begin anew"
        }
        JoinError::Diverged(Divergence::Short { .. } | Divergence::Log(_)) => {
            ": it was restored or made anew; delete the node's folder `replica` to follow it from its beginning, which \
             gives up what only this node has"
        }
        JoinError::Diverged(Divergence::Purged { .. }) => {
            ", and there is no good checkpoint that it could begin with: restore the stream, and that of its checkpoints, \
             from a backup"
        }
        _ => "",
    }
}

/// What an operator can do about a node that can't follow the stream any more.
pub(crate) fn divergence_advice(divergence: &Divergence) -> &'static str {
    match divergence {
        Divergence::Purged { .. } => "; its next start begins with a checkpoint",
        Divergence::Missing { .. } => {
            "; restore the stream from a backup; where a checkpoint has what is missing, it is enough to delete the node's \
             folder `replica`"
        }
        _ => "",
    }
}
