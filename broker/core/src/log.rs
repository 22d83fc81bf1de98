//! The log's values: what is appended, read, committed and counted. The traits over them are [`Store`](crate::Store), which
//! applies and serves, and [`Order`](crate::Order), which decides the sequence. Nothing here knows an engine.

use std::sync::Arc;

use tailwire_model::{
    Condition, Cursor, Draft, IdempotencyKey, Message, Position, Timestamp, Topic, Trim,
    admission::KeyRecord, gap::Extent, retry::Pace,
};

/// Where committed messages go.
pub trait Feed: Send + Sync {
    /// Called once a commit, in order. Returns at once: it runs on the committing thread, and must not call back into
    /// the writing side of the log.
    fn committed(&self, commit: Arc<Commit>);
}

/// A commit: messages and trims that became durable together.
#[derive(Debug)]
pub struct Commit {
    /// The committed watermark from here on.
    pub watermark: Position,
    /// The new messages, oldest first; also those that a trim of the same commit took again.
    pub messages: Vec<Message>,
    /// What the messages take, as [`Draft::cost`] counts it.
    pub cost: usize,
    /// The topics that lost messages.
    pub trims: Vec<(Topic, Trim)>,
    /// Single messages that were taken.
    pub removed: Vec<(Topic, Position)>,
}

/// Messages that are appended together, or not at all.
#[derive(Debug, Clone)]
pub struct Group {
    /// The messages; at least one. A condition asks about the first one's topic.
    pub drafts: Vec<Draft>,
    /// The client's key for this request, if it has one.
    pub key: Option<IdempotencyKey>,
    /// The condition.
    pub condition: Condition,
}

/// The outcome of a group.
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

/// How much one call of [`Store::read`](crate::Store::read) or [`Store::before_last`](crate::Store::before_last) may do.
/// Where the first match is in reach, it is given whatever its size; where the scan ends before, the page is empty, and has
/// got further all the same.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Messages given.
    pub messages: usize,
    /// Bytes of the messages given, as [`Draft::cost`] counts them.
    pub bytes: usize,
    /// Stored bytes looked at.
    pub scan_bytes: usize,
}

impl Budget {
    /// So many messages, whatever they take.
    pub const fn of_messages(messages: usize) -> Self {
        Self { messages, bytes: usize::MAX, scan_bytes: usize::MAX }
    }
}

/// The result of one call of [`Store::read`](crate::Store::read).
#[derive(Debug, Default)]
pub struct StorePage {
    /// The messages, oldest first.
    pub messages: Vec<Message>,
    /// Every match up to here is in the page: the end asked for, unless the budget ended the call before.
    pub scanned: Position,
    /// How far any topic of the filter was trimmed as of this read, where that lies beyond its start.
    pub trimmed: Option<Trim>,
}

/// Where the newest of some messages begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// They stand after this position.
    pub after: Position,
    /// Whether the budget ended it, so that there may be older ones.
    pub is_full: bool,
}

/// The bounds of a filter in the log.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bounds {
    /// The oldest retained message.
    pub head: Option<Position>,
    /// The newest message that there ever was; zero if none.
    pub tail: Position,
    /// How far any of its topics lost messages.
    pub trimmed: Option<Trim>,
    /// The same without messages that were taken one by one: everything of that topic up to there is gone.
    pub cleared: Option<Trim>,
    /// The time of the newest message, if there was one.
    pub tail_time: Option<Timestamp>,
    /// When it came, by the steady clock.
    pub tail_came: Option<Timestamp>,
    /// The mean time between the latest messages, if it is one topic that had two.
    pub interval_ms: Option<u64>,
}

impl Bounds {
    /// The extent, for the gap rule.
    pub fn extent(&self, committed: Position) -> Extent {
        Extent { committed, head: self.head, trimmed: self.trimmed }
    }

    /// The pace, for the rule of Retry-After, at a time of the steady clock.
    pub fn pace(&self, steady: Timestamp) -> Pace {
        Pace { interval_ms: self.interval_ms, age_ms: self.tail_came.map(|came| steady.since(came)) }
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
    /// Their bytes, as [`Draft::cost`] counts them.
    pub bytes: u64,
    /// The bytes of the files.
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
