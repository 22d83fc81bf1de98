//! What a broker's handles and its readers have in common.

use std::sync::{Arc, atomic::AtomicU64};

use tailwire_model::Epochs;

use crate::{
    clock::Clock,
    committer::{Health, Queue},
    log::Log,
    metrics::Metrics,
    policy::Policy,
    pool::Pool,
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
    /// When the newest message was committed, in this run.
    pub(crate) newest_ms: Arc<AtomicU64>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) health: Arc<Health>,
    pub(crate) policy: Arc<dyn Policy>,
}
