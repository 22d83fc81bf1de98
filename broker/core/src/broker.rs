//! The broker: an order, a store, some shards of readers. Every transport and every protocol asks here.

mod backwards;
mod before;
mod messages;
mod opening;
mod own;
mod publishing;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tailwire_model::{
    Cursor, Epoch, Filter, Forbidden, Options, Position, Principal, Quota, Rule, Rules, Term, Timestamp,
    Topic,
    retry::{self, Pace, Poll},
};

use tokio::sync::oneshot;

use crate::{
    arrival::Arrivals,
    clock::{Clock, SteadyTime},
    error::{PublishError, ReadError},
    listing,
    log::{Commit, Feed, LogStats, TopicInfo},
    metrics::Metrics,
    order::{Health, Instruments, Order, WriteError},
    policy::Policy,
    pool::Pool,
    quotas::Quotas,
    removals::RemovalCounts,
    segment::{Encoders, View},
    shard::Shard,
    shared::BrokerShared,
    store::{Outcome, Store, Write},
};

pub use backwards::{Backwards, TopicsState};

/// The parts of a broker.
pub struct BrokerParts {
    /// Where writes go.
    pub order: Arc<dyn Order>,
    /// The store that the order applies them to.
    pub store: Arc<dyn Store>,
    /// The instruments that the order reports to.
    pub instruments: Instruments,
    /// The wire formats.
    pub encoders: Encoders,
    /// The access policy.
    pub policy: Arc<dyn Policy>,
    /// Time and chance.
    pub clock: Clock,
    /// Delivery shards, at least one.
    pub shards: usize,
    /// Threads that read the log.
    pub read_threads: usize,
    /// A call that each of them begins with.
    pub read_thread_begins: fn(),
    /// How many times as long as a page of old data took none is read after it, while others publish.
    pub read_throttle_factor: u32,
    /// What clients may publish at most, by pattern.
    pub quotas: Vec<Quota>,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// After this cursor.
    After(Cursor),
    /// With the first message of this time or later.
    Since(Timestamp),
    /// With the oldest retained message.
    Earliest,
    /// With the next message.
    Latest,
    /// With the n newest, then on.
    Last(usize),
}

/// A reader's interest.
#[derive(Debug, Clone)]
pub struct Interest {
    /// The topics.
    pub filter: Filter,
    /// Where to begin.
    pub start: Start,
    /// The end of a gap that the client knows of.
    pub known: Option<Cursor>,
    /// How the transport will have messages, so that pages come ready-made.
    pub view: View,
}

/// A look backwards: the newest messages before a cursor.
#[derive(Debug, Clone)]
pub struct Before {
    /// The topics.
    pub filter: Filter,
    /// The cursor.
    pub before: Cursor,
    /// The end of a gap that the client knows of.
    pub known: Option<Cursor>,
    /// How many messages at most.
    pub limit: usize,
    /// How the transport will have them.
    pub view: View,
}

/// A handle; cloning is cheap.
#[derive(Clone)]
pub struct Broker(Arc<BrokerShared>);

/// The store's feed goes to every shard.
struct Fanout {
    shards: Vec<Arc<Shard>>,
    clock: Clock,
    newest_at: Arc<AtomicU64>,
    taken: Arc<AtomicU64>,
    removals: Arc<RemovalCounts>,
    arrivals: Arc<Arrivals>,
}

impl Feed for Fanout {
    fn committed(&self, commit: Arc<Commit>) {
        if !commit.messages.is_empty() {
            // Zero is none.
            self.newest_at.store((self.clock.steady)().max(1), Ordering::Relaxed);
        }
        if !commit.trims.is_empty() {
            self.taken.fetch_add(1, Ordering::Release);
        }
        self.removals.note(&commit.removed);
        for shard in &self.shards {
            shard.push(&commit);
        }
        self.arrivals.notify();
    }
}

impl Broker {
    /// A broker over an order and its store.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(parts: BrokerParts) -> io::Result<Self> {
        let BrokerParts { order, store, instruments, encoders, policy, clock, .. } = parts;
        let Instruments { metrics, activity } = instruments;
        let quotas = Quotas::new(parts.quotas, &*store);
        let shards: Vec<_> =
            (0..parts.shards.max(1)).map(|_| Shard::new(encoders, metrics.clone())).collect();
        let newest_at = Arc::new(AtomicU64::new(0));
        let (taken, removals) = (Arc::new(AtomicU64::new(0)), Arc::new(RemovalCounts::default()));
        let arrivals = Arc::new(Arrivals::default());
        let fanout = Fanout {
            shards: shards.clone(),
            clock,
            newest_at: newest_at.clone(),
            taken: taken.clone(),
            removals: removals.clone(),
            arrivals: arrivals.clone(),
        };
        let complete_from = store.follow(Arc::new(fanout));
        shards.iter().for_each(|shard| shard.begin(complete_from));
        let (threads, throttle_factor) = (parts.read_threads.max(1), parts.read_throttle_factor);
        let pool = Pool::start(&store, &activity, threads, parts.read_thread_begins, throttle_factor)?;
        let met_damage = AtomicBool::new(false);
        let shared = BrokerShared {
            order,
            store,
            quotas,
            pool,
            shards,
            metrics,
            encoders,
            clock,
            steady: SteadyTime::begin(clock),
            policy,
            reviews: AtomicU64::new(0),
            drained: AtomicU64::new(0),
            newest_at,
            taken,
            removals,
            arrivals,
            met_damage,
        };
        Ok(Self(Arc::new(shared)))
    }

    /// The dispatcher of a shard, to be run on the runtime whose connections it feeds.
    pub fn dispatcher(&self, shard: usize) -> impl Future<Output = ()> + Send + 'static {
        self.0.shards[shard].clone().dispatch()
    }

    /// Gives the first shard a commit that no log has made.
    #[cfg(feature = "testing")]
    pub(crate) fn push_to_shard(&self, commit: &Arc<Commit>) {
        self.0.shards[0].push(commit);
    }

    /// Whether any read of the log has come to damage, in this run.
    pub fn has_met_damage(&self) -> bool {
        self.0.met_damage.load(Ordering::Relaxed)
    }

    /// Up to where a shard's readers can have what is committed.
    pub fn dispatched(&self, shard: usize) -> Position {
        self.0.shards[shard].dispatched()
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.0.shards.len()
    }

    /// The broker's counters.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// Time and chance.
    pub fn clock(&self) -> Clock {
        self.0.clock
    }

    /// Removes the messages of a topic, up to the newest as of its turn, which it has when this returns.
    ///
    /// # Errors
    /// As for [`Broker::publish`].
    pub fn delete(
        &self,
        principal: &Principal,
        topic: Topic,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + use<> {
        let permitted = self.permit_manage(principal, &Term::Topic(topic.clone()));
        self.change(permitted, Write::Delete(topic))
    }

    /// The options that are set for a term itself.
    ///
    /// # Errors
    /// [`Forbidden`].
    pub fn options(&self, principal: &Principal, term: &Term) -> Result<Options, Forbidden> {
        self.0.policy.permit_manage(principal, term)?;
        Ok(self.0.store.rules().own(term))
    }

    /// Every term that options are set for, of those whose options the principal may know.
    pub fn all_options(&self, principal: &Principal) -> Vec<(Term, Options)> {
        let rules = self.0.store.rules();
        let known = rules.iter().filter(|(term, _)| self.0.policy.permit_manage(principal, term).is_ok());
        known.map(|(term, options)| (term.clone(), options)).collect()
    }

    /// Sets the options of a term; empty ones take back what was set. It has its turn when this returns.
    ///
    /// # Errors
    /// As for [`Broker::publish`].
    pub fn set_options(
        &self,
        principal: &Principal,
        term: Term,
        options: Options,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + use<> {
        let permitted = self.permit_manage(principal, &term);
        self.change(permitted, Write::Options(term, options))
    }

    /// All options, for the process itself.
    pub fn rules(&self) -> Arc<Rules> {
        self.0.store.rules()
    }

    /// The rule for a topic, by all options that name it.
    pub fn rule(&self, topic: &Topic) -> Rule {
        self.0.store.rules().of(topic)
    }

    fn change(
        &self,
        permitted: Result<(), PublishError>,
        write: Write,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + use<> {
        let outcome = self.submit(permitted, write);
        async { outcome.await.map(drop) }
    }

    /// Hands a permitted write to the order at once; the future answers once it is applied.
    fn submit(
        &self,
        permitted: Result<(), PublishError>,
        write: Write,
    ) -> impl Future<Output = Result<Outcome, PublishError>> + Send + use<> {
        let submitted = permitted.and_then(|()| {
            let (done, outcome) = oneshot::channel();
            self.0.order.submit(write, done).map_err(|error| self.refused(error))?;
            Ok(outcome)
        });
        // The order answers everything that it takes, unless its thread died over it.
        async { Ok(submitted?.await.unwrap_or(Err(WriteError::Unknown))?) }
    }

    fn permit_publish(&self, principal: &Principal, topic: &Topic) -> Result<(), PublishError> {
        if topic.is_reserved() {
            return Err(PublishError::Reserved);
        }
        Ok(self.0.policy.permit_write(principal, topic)?)
    }

    fn permit_manage(&self, principal: &Principal, term: &Term) -> Result<(), PublishError> {
        if term.is_reserved() {
            return Err(PublishError::Reserved);
        }
        Ok(self.0.policy.permit_manage(principal, term)?)
    }

    fn refused(&self, error: WriteError) -> WriteError {
        if error == WriteError::Overloaded {
            self.0.metrics.refused.inc();
        }
        error
    }

    /// The part of a filter that may be read.
    ///
    /// # Errors
    /// [`Forbidden`] when none of it may be.
    pub fn permit_read(&self, principal: &Principal, filter: Filter) -> Result<Filter, Forbidden> {
        self.0.policy.permit_read(principal, filter)
    }

    /// Has open readers ask the policy again, whose answers have changed: those of the principals that are concerned. A
    /// reader goes on with what is permitted; one to which nothing is, ends with a
    /// [`ByeReason::Revoked`](tailwire_model::ByeReason).
    ///
    /// A revocation is a policy that permits the principal nothing, and then a review.
    pub fn review(&self, concerned: impl Fn(&Principal) -> bool) {
        self.0.reviews.fetch_add(1, Ordering::AcqRel);
        self.0.shards.iter().for_each(|shard| shard.review(&concerned));
    }

    /// A page of the topics that the principal may know of.
    ///
    /// # Errors
    /// When the broker is ending.
    pub async fn topics(
        &self,
        principal: &Principal,
        prefix: &str,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Vec<TopicInfo>, ReadError> {
        let visible = self.0.policy.permit_list(principal);
        listing::topics(&self.0, visible.as_ref(), prefix, from, limit).await
    }

    /// Writes down an answer that takes up to some milliseconds, on a thread that nobody waits for who publishes.
    ///
    /// # Errors
    /// When the broker is ending.
    pub async fn aside<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        self.0.aside(move |_| work()).await
    }

    /// The cursor of a position of the log.
    pub fn cursor_at(&self, position: Position) -> Cursor {
        self.0.store.epochs().cursor_at(position)
    }

    /// The cursor of the newest committed message.
    pub fn tail(&self) -> Cursor {
        self.cursor_at(self.0.store.newest())
    }

    /// The epoch in which messages are written.
    pub fn epoch(&self) -> Epoch {
        self.0.store.epochs().current().epoch
    }

    /// How often the log was opened.
    pub fn epochs(&self) -> u64 {
        self.0.store.epochs().starts().len() as u64
    }

    /// The pace at which messages come under a filter: the topic's own, or the whole log's where there are several.
    pub fn pace(&self, filter: &Filter) -> Pace {
        if filter.only_topic().is_some() {
            return self.0.store.bounds(filter).pace(self.0.steady.now());
        }
        let newest = self.0.newest_at.load(Ordering::Relaxed);
        let age = || (self.0.clock.steady)().saturating_sub(newest);
        Pace { interval_ms: None, age_ms: (newest > 0).then(age) }
    }

    /// When a poll under a filter should come again that was ready to wait so long, and is given all up to the newest message
    /// or nothing.
    pub fn retry_after_ms(&self, filter: &Filter, wait_ms: u64, has_found: bool) -> u64 {
        let poll = Poll { pace: self.pace(filter), wait_ms, has_found, load: self.load() };
        retry::retry_after_ms(&poll, self.0.clock.draw())
    }

    /// The time of the newest message of a filter, if there was one.
    ///
    /// # Errors
    /// When the broker is ending.
    pub async fn newest_time(&self, filter: &Filter) -> Result<Option<Timestamp>, ReadError> {
        Ok(self.bounds(&Arc::new(filter.clone())).await?.tail_time)
    }

    /// How much the order has to do, in 0..=1.
    pub fn load(&self) -> f64 {
        self.0.order.load()
    }

    /// Figures of the store.
    pub fn stats(&self) -> LogStats {
        self.0.store.stats()
    }

    /// How the order stands, as far as the last commit tells.
    pub fn health(&self) -> Health {
        self.0.order.health()
    }

    /// Whether the disk has no room for another message.
    pub fn is_full(&self) -> bool {
        !self.0.store.has_room(0)
    }

    /// Whether the broker is going away.
    pub fn is_draining(&self) -> bool {
        self.0.shards[0].is_draining()
    }

    /// Refuses new publishes, lets what was accepted finish, and sends every reader its bye at the tail. The order goes
    /// on by itself until it is done with what it took. So many `clients` will come back.
    pub fn drain(&self, clients: u64) {
        self.0.drained.store(clients, Ordering::Relaxed);
        self.0.order.close(Duration::ZERO);
        self.0.shards.iter().for_each(|shard| shard.drain());
    }

    /// When a client that a drain sends away should come back.
    pub fn drain_retry_ms(&self) -> u64 {
        self.0.drain_retry_ms()
    }

    /// Ends the threads that read the log.
    pub fn close(&self) {
        self.0.pool.close();
    }
}

#[cfg(test)]
mod tests;
