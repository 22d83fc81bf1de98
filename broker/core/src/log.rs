//! The log, as the broker sees it. Implementations are in `storage`; nothing here knows an engine.
//!
//! The trait is synchronous: threads belong to the caller. One thread (the committer's) appends, trims and commits;
//! any number read. Nothing appended is visible to a reader, to `bounds` or to the feed before `commit` returns.

use std::sync::Arc;

use tailwire_model::{
    Condition, Cursor, Draft, Epochs, Filter, IdempotencyKey, Message, Options, Position, Rules, Term,
    Timestamp, Topic, Trim, TrimReason, admission::KeyRecord, gap::Extent, options::TooManyOptions,
    retry::Pace,
};

/// One persistent sequence of messages, in total order.
pub trait Log: Send + Sync + 'static {
    /// The openings of this log; constant while it is open.
    fn epochs(&self) -> Arc<Epochs>;

    /// The newest committed position: every message up to it is durable, and none beyond it is ever read.
    fn committed(&self) -> Position;

    /// Appends groups, each whole or not at all, in order. A group sees the groups before it.
    ///
    /// # Errors
    /// None of the groups was appended, unless it is [`LogError::Unknown`].
    fn append(&self, groups: Vec<Group>, now: Timestamp) -> Result<Vec<Appended>, LogError>;

    /// Takes the messages of a topic up to its newest appended one. Takes effect at the next commit.
    ///
    /// # Errors
    /// Nothing was taken, unless it is [`LogError::Unknown`].
    fn trim(&self, topic: &Topic, reason: TrimReason) -> Result<(), LogError>;

    /// The options that hold, as of the last commit.
    fn rules(&self) -> Arc<Rules>;

    /// Sets the options of a term; empty ones take them back. Takes effect at the next commit.
    ///
    /// # Errors
    /// Nothing was changed, unless it is [`LogError::Unknown`].
    fn set_options(&self, term: &Term, options: Options) -> Result<(), LogError>;

    /// Makes durable what was appended, trimmed and set, as its topics' durability asks, moves the committed watermark,
    /// and feeds the followers, in this order. Without anything to commit it does nothing.
    ///
    /// # Errors
    /// It is unknown what became durable; after that the log refuses every append.
    fn commit(&self) -> Result<Position, LogError>;

    /// From here on, everything that is committed goes to `feed`, from whichever thread commits it.
    fn follow(&self, feed: Arc<dyn Feed>);

    /// The messages of `filter` after `after` and up to `upto`, oldest first, within a budget.
    ///
    /// # Errors
    /// When the store can't be read.
    fn read(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<Page, LogError>;

    /// The position after which exactly the `count` newest messages of `filter` stand (fewer if it has fewer).
    ///
    /// # Errors
    /// When the store can't be read.
    fn before_last(&self, filter: &Filter, count: usize) -> Result<Position, LogError>;

    /// The message at exactly this position, if it is retained.
    ///
    /// # Errors
    /// When the store can't be read.
    fn get(&self, position: Position) -> Result<Option<Message>, LogError>;

    /// What the log holds of a filter. In memory: cheap for topics, a walk over the matching names for patterns.
    fn bounds(&self, filter: &Filter) -> Bounds;

    /// How far any topic of a filter was trimmed, where that lies beyond `after`. In memory, and cheap for patterns too
    /// while few topics were trimmed since.
    fn trimmed(&self, filter: &Filter, after: Position) -> Option<Trim>;

    /// Topics in byte order of their names, from after `from`, that begin with `prefix`; at most `limit`. A topic that
    /// was ever written to is listed, also when it is empty again.
    fn topics(&self, prefix: &str, from: Option<&str>, limit: usize) -> Vec<TopicInfo>;

    /// Figures of the store. In memory, but for a look at its oldest message and its files.
    fn stats(&self) -> LogStats;

    /// Whether the disk has no room for another message.
    fn is_full(&self) -> bool {
        false
    }

    /// Does a bounded step of what need not be done within a commit: carries out retention, removes what is dead, makes
    /// durable what was committed as relaxed. Returns after how many milliseconds it wants to be called again, even if
    /// nothing is committed until then: 0 when more is left to do, `None` when nothing is due.
    ///
    /// # Errors
    /// When the store failed, and takes no more; nothing that is alive is touched. What it can only not read or not do
    /// for now it tells the operator, and tries again.
    fn tidy(&self, now: Timestamp) -> Result<Option<u64>, LogError>;

    /// Whether enough came since the last step, to a log with something to tidy, that the next one is not to wait until
    /// there is time for it: else what is dead would pile up under load.
    fn owes_tidying(&self) -> bool {
        false
    }

    /// Commits, and closes in good order: the next opening is a clean one. Appends fail from here on.
    ///
    /// # Errors
    /// When the store fails; the next opening will be an unclean one.
    fn close(&self) -> Result<(), LogError>;
}

/// Where committed messages go.
pub trait Feed: Send + Sync {
    /// Called once a commit, in order. Returns at once: it runs on the committing thread, and must not call back into
    /// the writing side of the log.
    fn committed(&self, commit: Arc<Commit>);
}

/// What one commit made durable.
#[derive(Debug)]
pub struct Commit {
    /// The committed watermark from here on.
    pub watermark: Position,
    /// The new messages, oldest first; also those that a trim of the same commit took again.
    pub messages: Vec<Message>,
    /// The topics that lost messages.
    pub trims: Vec<(Topic, Trim)>,
}

/// Messages that are appended together, or not at all.
#[derive(Debug, Clone)]
pub struct Group {
    /// The messages; at least one. A condition asks about the first one's topic.
    pub drafts: Vec<Draft>,
    /// The client's key for this request, if it has one.
    pub key: Option<IdempotencyKey>,
    /// What must hold.
    pub condition: Condition,
}

/// What became of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Appended {
    /// It was appended, at contiguous positions.
    Stored(Stored),
    /// It had been appended before, under the same key.
    Replayed(Stored),
    /// Its key was used for another request.
    KeyReused,
    /// Its condition does not hold: the topic's newest message stands here.
    ConditionFailed(Cursor),
}

/// Where a group stands in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stored {
    /// Its first message; the others follow without a hole.
    pub first: Cursor,
    /// How many.
    pub count: u32,
    /// When it was accepted.
    pub time: Timestamp,
}

impl From<KeyRecord> for Stored {
    fn from(record: KeyRecord) -> Self {
        Self { first: record.first, count: record.count, time: record.time }
    }
}

/// How much one call of [`Log::read`] may do. Where the first match is in reach, it is given whatever its size; where the
/// scan ends before, the page is empty, and has got further all the same.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Messages given.
    pub messages: usize,
    /// Bytes of the messages given, as [`Draft::cost`] counts them.
    pub bytes: usize,
    /// Stored bytes looked at.
    pub scan_bytes: usize,
}

/// What one call of [`Log::read`] found.
#[derive(Debug, Default)]
pub struct Page {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Every match up to here is in the page: the end asked for, unless the budget ended the call before.
    pub scanned: Position,
    /// How far any topic of the filter was trimmed as of this read, where that lies beyond its start.
    pub trimmed: Option<Trim>,
}

/// What the log holds of a filter.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// The oldest retained message.
    pub head: Option<Position>,
    /// The newest message that there ever was; zero if none.
    pub tail: Position,
    /// How far any of its topics was trimmed.
    pub trimmed: Option<Trim>,
    /// When the newest message came, if there was one.
    pub tail_time: Option<Timestamp>,
    /// The mean time between the latest messages, if it is one topic that had two.
    pub interval_ms: Option<u64>,
}

impl Bounds {
    /// What the gap rule asks.
    pub fn extent(&self, committed: Position) -> Extent {
        Extent { committed, head: self.head, trimmed: self.trimmed }
    }

    /// What the rule of Retry-After asks.
    pub fn pace(&self, now: Timestamp) -> Pace {
        Pace { interval_ms: self.interval_ms, age_ms: self.tail_time.map(|time| now.since(time)) }
    }
}

/// One entry of the list of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// Its name.
    pub topic: Topic,
    /// Its oldest retained message.
    pub head: Option<Position>,
    /// Its newest message ever.
    pub tail: Position,
    /// Retained messages.
    pub messages: u64,
    /// When the newest came.
    pub tail_time: Timestamp,
}

/// Figures of a store.
#[derive(Debug, Clone, Default)]
pub struct LogStats {
    /// The log's own name, if it has one.
    pub id: Option<Box<str>>,
    /// The version of everything stored, if anything is.
    pub format: Option<u32>,
    /// Topics that were ever written to.
    pub topics: u64,
    /// Retained messages.
    pub messages: u64,
    /// What they take, as [`Draft::cost`] counts it.
    pub bytes: u64,
    /// What the files take.
    pub file_bytes: u64,
    /// The oldest retained message; or a place before it, while much that is dead has yet to be removed.
    pub head: Option<Position>,
    /// The number of the last commit.
    pub commits: u64,
    /// The number and the newest position of the last commit that may have been acknowledged, if that is known.
    pub acknowledged: Option<(u64, Position)>,
    /// Topics that were trimmed.
    pub trims: u64,
    /// Idempotency keys that are remembered; after a start they are counted bit by bit.
    pub keys: u64,
    /// Topics and patterns that clients have set options for.
    pub options: u64,
}

/// Why the log could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The disk is full; nothing changed.
    #[error("the disk is full")]
    Full,
    /// The store failed, and nothing changed.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The store failed while committing: what was appended may or may not survive.
    #[error("the store failed while committing: {0}")]
    Unknown(String),
    /// What is stored is not what was written.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
    /// There are as many options as there may be; nothing changed.
    #[error(transparent)]
    TooManyOptions(#[from] TooManyOptions),
}
