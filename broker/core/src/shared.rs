//! State that a broker's handles and its readers share.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use tailwire_model::{Cursor, Filter, Position, retry};
use tokio::sync::oneshot::error::RecvError;

use crate::{
    arrival::{Arrivals, arrival},
    clock::{Clock, SteadyTime},
    error::ReadError,
    metrics::Metrics,
    order::Order,
    policy::Policy,
    pool::{Pool, Priority},
    quotas::Quotas,
    removals::RemovalCounts,
    segment::Encoders,
    shard::Shard,
    store::{Store, StoreError},
};

/// State that all handles of a broker share.
pub(crate) struct BrokerShared {
    pub(crate) order: Arc<dyn Order>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) quotas: Quotas,
    pub(crate) pool: Arc<Pool>,
    pub(crate) shards: Vec<Arc<Shard>>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) encoders: Encoders,
    pub(crate) clock: Clock,
    pub(crate) steady: SteadyTime,
    /// When the newest message was committed, in this run, by the steady clock; zero if none was.
    pub(crate) newest_at: Arc<AtomicU64>,
    /// Counts the commits by which topics lost messages.
    pub(crate) taken: Arc<AtomicU64>,
    pub(crate) removals: Arc<RemovalCounts>,
    /// Notified of each commit.
    pub(crate) arrivals: Arc<Arrivals>,
    pub(crate) policy: Arc<dyn Policy>,
    /// Counts the reviews of what is permitted: a reader that was opened before one and follows after it was not called.
    pub(crate) reviews: AtomicU64,
    /// How many clients a drain sends away.
    pub(crate) drained: AtomicU64,
    /// A read of the log came to damage.
    pub(crate) met_damage: AtomicBool,
}

impl BrokerShared {
    /// The cursor of a position.
    pub(crate) fn cursor_at(&self, position: Position) -> Cursor {
        self.store.epochs().cursor_at(position)
    }

    /// When a client that a drain sends away should come back: each has a time of its own.
    pub(crate) fn drain_retry_ms(&self) -> u64 {
        retry::retry_drained_ms(self.drained.load(Ordering::Relaxed), self.clock.draw())
    }

    /// Waits for what a cursor of another node has seen and this one has not, for a bounded time.
    ///
    /// # Errors
    /// [`ReadError::Behind`].
    pub(crate) async fn arrival_of(&self, cursor: Cursor) -> Result<(), ReadError> {
        if arrival(&*self.order, &*self.store, &self.arrivals, cursor).await {
            return Ok(());
        }
        Err(ReadError::Behind)
    }

    /// Looks into the store's memory: at once for topics; for patterns, which may stand for as many topics as there are, on a
    /// thread that nobody waits for who publishes.
    ///
    /// # Errors
    /// When the broker is ending.
    pub(crate) async fn look<T: Send + 'static>(
        &self,
        filter: &Arc<Filter>,
        look: impl FnOnce(&dyn Store, &Filter) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        if !filter.has_patterns() {
            return Ok(look(&*self.store, filter));
        }
        let filter = filter.clone();
        self.aside(move |store| look(store, &filter)).await
    }

    /// Does something for one answer that takes up to some milliseconds, on a thread that reads the log.
    ///
    /// # Errors
    /// When the broker is ending.
    pub(crate) async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        self.pool.run(0, Priority::Answer, move |store, _| work(store)).await.map_err(|_| ReadError::Failed)
    }

    /// The result of a read of the log. Without an answer the pool is closed: the broker is ending.
    pub(crate) fn readable<T>(&self, read: Result<Result<T, StoreError>, RecvError>) -> Result<T, ReadError> {
        read.map_err(|_| ReadError::Failed)?.map_err(|error| self.read_failed(&error))
    }

    /// A failed read of the log, for the reader.
    pub(crate) fn read_failed(&self, error: &StoreError) -> ReadError {
        tracing::error!(%error, "the log could not be read");
        let is_damaged = matches!(error, StoreError::Corrupt(_));
        self.met_damage.fetch_or(is_damaged, Ordering::Relaxed);
        if is_damaged { ReadError::Damaged } else { ReadError::Failed }
    }
}
