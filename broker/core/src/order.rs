//! The order: it takes writes, decides their sequence, and has them applied. The local one is a queue and a thread
//! ([`LocalOrder`](crate::LocalOrder)); another one may share the sequence with other nodes.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use tailwire_model::{Epoch, Opening, Position, Timestamp};
use tokio::sync::oneshot;

use crate::{
    log::Appended,
    metrics::Metrics,
    store::{Entry, Outcome, Place, Store, StoreError, Token, Write},
    throttle::Activity,
};

/// Where a write's outcome goes. Without one it is unknown.
pub type Done = oneshot::Sender<Result<Outcome, WriteError>>;

/// An answer that may take asking others.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// See the module.
pub trait Order: Send + Sync + 'static {
    /// Takes a write. Of one caller, what is handed in first is applied first. `done` is called when this node's own store
    /// has applied it, and synced it if that store is the truth.
    ///
    /// # Errors
    /// Nothing was or will be done.
    fn submit(&self, write: Write, done: Done) -> Result<(), WriteError>;

    /// A position that no message lies beyond which was acknowledged anywhere by now: asked of whatever knows.
    fn newest(&self) -> Answer<'_, Result<Position, WriteError>>;

    /// Whether writes are applied, as far as the last one tells.
    fn health(&self) -> Health;

    /// How much waits, in 0..=1 of what may.
    fn load(&self) -> f64;

    /// Takes no more writes from here on, and waits as long as that for those that it took, and for the store to be
    /// closed. These go on also when it takes longer.
    fn close(&self, within: Duration);
}

/// How an order stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// It applies what it takes.
    Good,
    /// Something that was to be written may not have been.
    Failing,
    /// Others have applied what this node has yet to apply, since so many milliseconds.
    Behind(u64),
    /// The order is out of reach: what is stored can be read.
    Detached,
    /// It applies what it takes, and what orders it was set so that this may be lost.
    Misconfigured,
    /// What this node has may differ from what others have: it serves nobody.
    Diverged,
}

/// Why a write was not done, or may not have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The queue is full; nothing was done.
    #[error("the broker has more to commit than it can hold")]
    Overloaded,
    /// The broker is going away; nothing was done.
    #[error("the broker is shutting down")]
    Draining,
    /// The disk is full; nothing was done.
    #[error("the disk is full")]
    Full,
    /// The store failed before anything was done.
    #[error("the store failed")]
    Failed,
    /// The store failed while committing.
    #[error("the outcome is unknown")]
    Unknown,
    /// There are as many options as there may be; nothing was done.
    #[error("options are set for as many topics and patterns as there may be")]
    TooManyOptions,
    /// It would begin more topics than there may be; nothing was done.
    #[error("there are as many topics as there may be")]
    TooManyTopics,
}

/// The reports of an order beside its answers; the broker over it shows the counters, and reads old data more slowly while
/// commits are under way.
#[derive(Debug, Clone, Default)]
pub struct Instruments {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) activity: Arc<Activity>,
}

impl Instruments {
    /// Entries are about to be applied.
    pub fn begin(&self) {
        self.activity.begin();
    }

    /// They are, since `began`.
    pub fn end(&self, began: Instant) {
        let now = Instant::now();
        self.metrics.commits.inc();
        self.metrics.commit_seconds.observe(now.duration_since(began).as_secs_f64());
        self.activity.end(now);
    }

    /// Counts what became of a write that this node took, with so many bytes of bodies. Answers how many messages it stored.
    pub fn count(&self, outcome: &Outcome, bytes: usize) -> u64 {
        match outcome {
            Outcome::Published(Appended::Stored(stored)) => {
                let count = u64::from(stored.count);
                self.metrics.messages_in.inc_by(count);
                self.metrics.bytes_in.inc_by(bytes as u64);
                count
            }
            Outcome::Published(Appended::Replayed(_)) => {
                self.metrics.replayed.inc();
                0
            }
            _ => 0,
        }
    }
}

/// Begins an epoch in a store that no other node shares: the first entry after each opening. `draw` is a random number.
///
/// # Errors
/// Those of [`Store::apply`], and that there is no epoch left.
pub fn begin_epoch(store: &dyn Store, now: Timestamp, draw: u64) -> Result<(), StoreError> {
    let found = store.found();
    let last = (found != Opening::Created).then(|| store.epochs().current().epoch);
    let epoch = Epoch::opening(now.0, last, draw);
    let epoch = epoch.ok_or_else(|| StoreError::Failed("its epochs are used up".into()))?;
    let opening = Write::Opening(epoch, found);
    store.apply(vec![local_entry(store, now, now, vec![opening])], true).map(drop)
}

/// An entry of a log that has one node: its positions are dense. There may be any number of topics.
pub fn local_entry(store: &dyn Store, time: Timestamp, steady: Timestamp, writes: Vec<Write>) -> Entry {
    let (first, token) = (store.newest().next(), Token::default());
    let place = Place { first, time, steady, token, topics_max: u64::MAX };
    Entry { place, writes }
}
