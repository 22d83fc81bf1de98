//! What a broker's handles and its readers have in common.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tailwire_model::Epochs;
use tokio::sync::oneshot::error::RecvError;

use crate::{
    clock::Clock,
    committer::{Health, Queue},
    log::{Log, LogError},
    metrics::Metrics,
    policy::Policy,
    pool::Pool,
    reader::ReadError,
    segment::Encoders,
    shard::Shard,
};

/// What all handles of a broker share.
pub(crate) struct Shared {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) epochs: Arc<Epochs>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) shards: Vec<Arc<Shard>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) encoders: Encoders,
    pub(crate) clock: Clock,
    /// When the newest message was committed, in this run, by the steady clock; zero if none was.
    pub(crate) newest_at: Arc<AtomicU64>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) health: Arc<Health>,
    pub(crate) policy: Arc<dyn Policy>,
    /// Counts the reviews of what is permitted: a reader that was opened before one and follows after it was not called.
    pub(crate) reviews: AtomicU64,
    /// A read of the log came to damage.
    pub(crate) met_damage: AtomicBool,
}

impl Shared {
    /// What a read of the log gave. Without an answer the pool is closed: the broker is ending.
    pub(crate) fn readable<T>(&self, read: Result<Result<T, LogError>, RecvError>) -> Result<T, ReadError> {
        read.map_err(|_| ReadError::Failed)?.map_err(|error| self.read_failed(&error))
    }

    /// What it means to a reader that a read of the log failed.
    pub(crate) fn read_failed(&self, error: &LogError) -> ReadError {
        tracing::error!(%error, "the log could not be read");
        let is_damaged = matches!(error, LogError::Corrupt(_));
        self.met_damage.fetch_or(is_damaged, Ordering::Relaxed);
        if is_damaged { ReadError::Damaged } else { ReadError::Failed }
    }
}
