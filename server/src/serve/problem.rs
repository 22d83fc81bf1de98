//! Why a broker does not start, or goes on no longer: each problem in one sentence.

use std::io;

use tailwire_core::StoreError;
use tailwire_jetstream::Divergence;

use super::listeners::ListenError;
use crate::cluster::{ClusterError, divergence_advice};

/// Why the broker can't run, or no longer. Each is one sentence, and says what to do where that is known.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("data folder {folder}: {error}{}", open_advice(error))]
    Open { folder: String, error: tailwire_storage::OpenError },
    #[error("keys and revocations can't be read: {0}")]
    Records(tailwire_core::ReadError),
    #[error("can't start threads: {0}")]
    Threads(io::Error),
    #[error("{0}")]
    Cluster(Box<ClusterError>),
    #[error("{}: {}{}", stop_reason(.0), .0, divergence_advice(.0))]
    Diverged(Divergence),
    #[error("the log could not be begun: {0}")]
    Begin(StoreError),
    #[error("the log could not be closed in good order: {0}")]
    Close(StoreError),
    #[error("the log's writer stopped unexpectedly; what was acknowledged is on disk")]
    Committer,
}

impl StartError {
    /// Whether the next start begins with a checkpoint, and goes on.
    pub(super) fn is_mended_by_a_start(&self) -> bool {
        let divergence = match self {
            Self::Diverged(divergence) => Some(divergence),
            Self::Cluster(error) => match &**error {
                ClusterError::Diverged(divergence) => Some(divergence),
                _ => None,
            },
            _ => None,
        };
        matches!(divergence, Some(Divergence::Purged { .. }))
    }
}

fn stop_reason(divergence: &Divergence) -> &'static str {
    match divergence {
        Divergence::Purged { .. } => "the node was away for too long",
        _ => "the node stops, as what it has may differ from what others have",
    }
}

/// Advice to the operator of a log that can't be opened.
fn open_advice(error: &tailwire_storage::OpenError) -> &'static str {
    use tailwire_storage::OpenError::{Corrupt, Io, Short};
    match error {
        Short(_) => {
            "; look first, with `tailwire log check`; then restore a backup, mend it with `tailwire log repair`, \
             or start once with --accept-loss to go on with what is left"
        }
        Corrupt(_) => {
            "; `tailwire log check` tells what is wrong, `tailwire log repair` saves what can be read"
        }
        Io(why) if why.contains("No space left") => "; opening a log writes some MB: make room",
        _ => "",
    }
}
