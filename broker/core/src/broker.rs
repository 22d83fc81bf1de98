//! The broker: one log, one committer, some shards of readers. Every transport and every protocol asks here.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Instant,
};

use tailwire_model::{
    Cursor, Epoch, Filter, Forbidden, Message, Options, Position, Principal, Rule, Rules, Term, Topic,
    epochs::Standing,
    gap::{self, Extent, Resume},
    limits::READ_BYTES_MAX,
    retry::{self, Pace},
};

use tokio::sync::oneshot;

use crate::{
    clock::Clock,
    committer::{Change, Committer, Health, Queue, WriteError, WriteResult},
    error::{MessageError, OpenError, PublishError},
    listing,
    log::{Appended, Commit, Feed, Group, Log, LogStats, TopicInfo},
    metrics::Metrics,
    policy::Policy,
    pool::{Haste, Pool},
    reader::{Permission, ReadError, Reader},
    segment::Encoders,
    shard::Shard,
    shared::Shared,
};

/// What a broker is made of.
pub struct Parts {
    /// The log, open. Nothing else may write to it.
    pub log: Arc<dyn Log>,
    /// The wire formats.
    pub encoders: Encoders,
    /// Who may do what.
    pub policy: Arc<dyn Policy>,
    /// Time and chance.
    pub clock: Clock,
    /// Delivery shards, at least one.
    pub shards: usize,
    /// Threads that read the log.
    pub read_threads: usize,
    /// What each of them does first.
    pub read_thread_begins: fn(),
    /// How many times as long as a page of old data took none is read after it, while others publish.
    pub read_rests: u32,
}

/// Where a subscription begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// After this cursor.
    After(Cursor),
    /// With the oldest retained message.
    Earliest,
    /// With the next message.
    Latest,
    /// With the n newest, then on.
    Last(usize),
}

/// What a reader is to read.
#[derive(Debug, Clone)]
pub struct Interest {
    /// The topics.
    pub filter: Filter,
    /// Where to begin.
    pub start: Start,
    /// The end of a gap that the client knows of.
    pub known: Option<Cursor>,
    /// The format that the transport will ask for, so that pages come ready-made.
    pub format: usize,
}

/// A handle; cloning is cheap.
#[derive(Clone)]
pub struct Broker(Arc<Shared>);

/// The log's feed goes to every shard.
struct Fanout {
    shards: Vec<Arc<Shard>>,
    clock: Clock,
    newest_at: Arc<AtomicU64>,
}

impl Feed for Fanout {
    fn committed(&self, commit: Arc<Commit>) {
        if !commit.messages.is_empty() {
            // Zero is none.
            self.newest_at.store((self.clock.steady)().max(1), Ordering::Relaxed);
        }
        for shard in &self.shards {
            shard.push(&commit);
        }
    }
}

impl Broker {
    /// A broker, and the committer that a thread must run for publishes to be answered.
    ///
    /// # Errors
    /// When the system gives no threads.
    pub fn start(parts: Parts) -> io::Result<(Self, Committer)> {
        let Parts { log, encoders, policy, clock, shards, read_threads, read_thread_begins, read_rests } =
            parts;
        let metrics = Arc::new(Metrics::default());
        let queue = Arc::new(Queue::default());
        let activity = Arc::default();
        let health = Arc::new(Health::default());
        let shards: Vec<_> =
            (0..shards.max(1)).map(|_| Shard::new(log.committed(), encoders, metrics.clone())).collect();
        let newest_at = Arc::new(AtomicU64::new(0));
        log.follow(Arc::new(Fanout { shards: shards.clone(), clock, newest_at: newest_at.clone() }));
        let pool = Pool::start(&log, &activity, read_threads.max(1), read_thread_begins, read_rests)?;
        let committer = Committer {
            queue: queue.clone(),
            log: log.clone(),
            metrics: metrics.clone(),
            clock,
            health: health.clone(),
            activity,
            // What an earlier run left to tidy up.
            tidy_at: Some(Instant::now()),
            commits_untidied: 0,
        };
        let epochs = log.epochs();
        let met_damage = AtomicBool::new(false);
        let shared = Shared {
            log,
            epochs,
            pool,
            shards,
            metrics,
            encoders,
            clock,
            queue,
            health,
            policy,
            reviews: AtomicU64::new(0),
            newest_at,
            met_damage,
        };
        Ok((Self(Arc::new(shared)), committer))
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

    /// Publishes a group. It has its place in the queue when this returns, so that publishes that are handed in one
    /// after the other are appended so; the future answers once it is durable.
    ///
    /// # Errors
    /// A [`PublishError`]; of all but [`WriteError::Unknown`], nothing was published.
    pub fn publish(
        &self,
        principal: &Principal,
        group: Group,
    ) -> impl Future<Output = Result<Appended, PublishError>> + Send + use<> {
        let queued = self.enqueue(principal, group);
        // The committer answers everything that it takes, unless its thread died over it.
        async { Ok(queued?.await.unwrap_or(Err(WriteError::Unknown))?) }
    }

    fn enqueue(
        &self,
        principal: &Principal,
        group: Group,
    ) -> Result<oneshot::Receiver<WriteResult>, PublishError> {
        for draft in &group.drafts {
            if draft.topic.is_reserved() {
                return Err(PublishError::Reserved);
            }
            self.0.policy.permit_write(principal, &draft.topic)?;
        }
        Ok(self.0.queue.publish(group).map_err(|error| self.refused(error))?)
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
        self.change(permitted, Change::Delete(topic))
    }

    /// The options that are set for a term itself.
    ///
    /// # Errors
    /// [`Forbidden`].
    pub fn options(&self, principal: &Principal, term: &Term) -> Result<Options, Forbidden> {
        self.0.policy.permit_manage(principal, term)?;
        Ok(self.0.log.rules().own(term))
    }

    /// Every term that options are set for, of those whose options the principal may know.
    pub fn all_options(&self, principal: &Principal) -> Vec<(Term, Options)> {
        let rules = self.0.log.rules();
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
        self.change(permitted, Change::Options(term, options))
    }

    /// All options, for the process itself.
    pub fn rules(&self) -> Arc<Rules> {
        self.0.log.rules()
    }

    /// What holds for a topic, by all options that name it.
    pub fn rule(&self, topic: &Topic) -> Rule {
        self.0.log.rules().of(topic)
    }

    /// Queues a permitted change at once; the future answers once it is durable.
    fn change(
        &self,
        permitted: Result<(), PublishError>,
        change: Change,
    ) -> impl Future<Output = Result<(), PublishError>> + Send + use<> {
        let queued =
            permitted.and_then(|()| Ok(self.0.queue.change(change).map_err(|error| self.refused(error))?));
        async { Ok(queued?.await.unwrap_or(Err(WriteError::Unknown))?) }
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

    /// Opens a reader. What its cursor has missed is the first that it says.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(&self, principal: &Principal, interest: Interest) -> Result<Reader, OpenError> {
        let Interest { filter, start, known, format } = interest;
        let (permission, filter) = Permission::ask(&self.0, principal, filter)?;
        let log = &self.0.log;
        let (resume, known) = match start {
            Start::After(cursor) => {
                let committed = log.committed();
                let extent = if self.0.epochs.standing(cursor, committed) == Standing::Good {
                    Extent { committed, head: None, trimmed: log.trimmed(&filter, cursor.position) }
                } else {
                    log.bounds(&filter).extent(committed)
                };
                (gap::resume(&self.0.epochs, &extent, cursor, known), known)
            }
            Start::Latest => (at(log.committed()), known),
            Start::Earliest => {
                // Whoever asks for the oldest knows that there may have been older ones.
                let bounds = log.bounds(&filter);
                let trimmed = bounds.trimmed.map_or(Position::ZERO, |trim| trim.upto);
                let before = bounds.head.map_or(trimmed, Position::previous);
                (at(before), Some(self.0.epochs.cursor_at(trimmed)))
            }
            Start::Last(count) => {
                let position = self.before_last(&filter, count).await?;
                let trimmed = log.trimmed(&filter, Position::ZERO);
                (at(position), trimmed.map(|trim| self.0.epochs.cursor_at(trim.upto)))
            }
        };
        Ok(Reader::new(self.0.clone(), permission, filter, resume, known, format))
    }

    /// A reader of nothing yet, at the tail: the live side of a connection with many subscriptions.
    pub fn open_empty(&self, principal: &Principal, format: usize) -> Reader {
        let (start, permission) = (at(self.0.log.committed()), Permission::shared(&self.0, principal));
        let nothing = Arc::new(Filter::union([]));
        Reader::new(self.0.clone(), permission, nothing, start, None, format).already_caught_up()
    }

    /// The part of a filter that may be read.
    ///
    /// # Errors
    /// [`Forbidden`] when none of it may be.
    pub fn permit_read(&self, principal: &Principal, filter: Filter) -> Result<Filter, Forbidden> {
        self.0.policy.permit_read(principal, filter)
    }

    /// Has open readers ask the policy again, whose answers have changed: those of the principals that are concerned. A reader
    /// goes on with what is permitted; one to which nothing is, ends with a [`ByeReason::Revoked`](tailwire_model::ByeReason).
    ///
    /// A revocation is a policy that permits the principal nothing, and then a review.
    pub fn review(&self, concerned: impl Fn(&Principal) -> bool) {
        self.0.reviews.fetch_add(1, Ordering::AcqRel);
        self.0.shards.iter().for_each(|shard| shard.review(&concerned));
    }

    async fn before_last(&self, filter: &Filter, count: usize) -> Result<Position, ReadError> {
        let filter = filter.clone();
        let result = self
            .0
            .pool
            .run(READ_BYTES_MAX, Haste::Answer, move |log, _| log.before_last(&filter, count))
            .await;
        self.0.readable(result)
    }

    /// The message that a cursor names.
    ///
    /// # Errors
    /// See [`MessageError`].
    pub async fn message(&self, principal: &Principal, cursor: Cursor) -> Result<Message, MessageError> {
        let standing = self.0.epochs.standing(cursor, self.0.log.committed());
        if standing != Standing::Good || cursor.position == Position::ZERO {
            return Err(MessageError::Unknown);
        }
        let read =
            self.0.pool.run(READ_BYTES_MAX, Haste::Answer, move |log, _| log.get(cursor.position)).await;
        let message = self.0.readable(read)?.ok_or(MessageError::Gone)?;
        let filter = Filter::from(Term::Topic(message.topic().clone()));
        self.permit_read(principal, filter)?;
        Ok(message)
    }

    /// A page of the topics that the principal may know of.
    pub async fn topics(
        &self,
        principal: &Principal,
        prefix: &str,
        from: Option<&str>,
        limit: usize,
    ) -> Vec<TopicInfo> {
        match self.0.policy.permit_list(principal) {
            None => self.0.log.topics(prefix, from, limit),
            Some(visible) => listing::topics(&*self.0.log, &visible, prefix, from, limit).await,
        }
    }

    /// The cursor of a position of the log.
    pub fn cursor_at(&self, position: Position) -> Cursor {
        self.0.epochs.cursor_at(position)
    }

    /// The cursor of the newest committed message.
    pub fn tail(&self) -> Cursor {
        self.cursor_at(self.0.log.committed())
    }

    /// The epoch in which messages are written.
    pub fn epoch(&self) -> Epoch {
        self.0.epochs.current().epoch
    }

    /// How often the log was opened.
    pub fn epochs(&self) -> u64 {
        self.0.epochs.starts().len() as u64
    }

    /// When a poll that found nothing under a filter should come again: by the topic's own pace, or the whole log's where
    /// there are several.
    pub fn retry_after_ms(&self, filter: &Filter) -> u64 {
        let clock = self.0.clock;
        let pace = match filter.only_topic() {
            Some(_) => self.0.log.bounds(filter).pace((clock.now)()),
            None => {
                let newest = self.0.newest_at.load(Ordering::Relaxed);
                let age = || (clock.steady)().saturating_sub(newest);
                Pace { interval_ms: None, age_ms: (newest > 0).then(age) }
            }
        };
        retry::retry_after_ms(pace, self.load(), clock.draw())
    }

    /// How busy the committer is, in 0..=1.
    pub fn load(&self) -> f64 {
        self.0.queue.load()
    }

    /// Figures of the store.
    pub fn stats(&self) -> LogStats {
        self.0.log.stats()
    }

    /// Whether the log takes what it is given, as far as the last commit tells.
    pub fn is_writable(&self) -> bool {
        self.0.health.is_good()
    }

    /// Whether the disk has no room for another message.
    pub fn is_full(&self) -> bool {
        self.0.log.is_full()
    }

    /// Whether the broker is going away.
    pub fn is_draining(&self) -> bool {
        self.0.shards[0].is_draining()
    }

    /// Refuses new publishes, lets what was accepted finish, and sends every reader its bye at the tail. The committer's
    /// `run` returns when the queue is empty.
    pub fn drain(&self) {
        self.0.queue.close();
        self.0.shards.iter().for_each(|shard| shard.drain());
    }

    /// Ends the threads that read the log.
    pub fn close(&self) {
        self.0.pool.close();
    }
}

fn at(after: Position) -> Resume {
    Resume { after, gap: None }
}
