//! The store: it applies writes in the sequence that an order decided, shows them and serves them. Implementations are in
//! the crate `storage`; nothing here knows an engine, and no store knows an order.
//!
//! The trait is synchronous: threads belong to the caller. One thread applies and tidies; any number read. Nothing of an
//! entry is visible to a reader, to `bounds` or to the feed before `apply` is done with it.

use std::sync::Arc;

use bytes::Bytes;
use tailwire_model::{
    Cursor, Draft, Epoch, Epochs, Filter, Message, Opening, Options, Pattern, Position, Rules, Term,
    Timestamp, Topic, Trim, TrimReason, Usage, admission::KeyRecord,
};

use crate::log::{Appended, Bounds, Budget, Feed, Group, LogStats, StorePage, TopicInfo, Window};

/// The log as one node has it: a function of the entries that were applied to it.
pub trait Store: Send + Sync + 'static {
    /// How the store was found when it was opened, by which an order that begins an epoch says what came before it.
    fn found(&self) -> Opening;

    /// The token of the newest entry that was applied; empty before the first one.
    fn token(&self) -> Token;

    /// The watermark: every message up to it is applied (and durable, where that was acknowledged), and none beyond it is
    /// ever read.
    fn newest(&self) -> Position;

    /// The epochs of the log. They change with an entry that begins one.
    fn epochs(&self) -> Arc<Epochs>;

    /// The options that hold, as of the newest entry.
    fn rules(&self) -> Arc<Rules>;

    /// Applies entries, oldest first: decides keys and conditions, stores each group whole or not at all, moves the
    /// watermark, and feeds the followers. Answers an outcome for each write. The state afterwards depends on the state
    /// before and on the entries, and on nothing else: neither on a clock nor on how many entries come in one call.
    ///
    /// With `sync` it returns when all is as durable as its topics ask; without, the store is a copy that
    /// can be made again.
    ///
    /// # Errors
    /// Nothing of these entries was applied; unless it is [`StoreError::Unknown`], after which the store applies no more.
    fn apply(&self, entries: Vec<Entry>, sync: bool) -> Result<Vec<Outcome>, StoreError>;

    /// Decides what retention and compaction ask for at a time of the steady clock, in a bounded step, and changes
    /// nothing: the writes have their effect as part of an entry. Says after how many milliseconds it wants to be asked
    /// again, even if nothing is applied until then: 0 when more is left to decide, `None` when nothing is due.
    ///
    /// # Errors
    /// When the store can't be read.
    fn due(&self, now: Timestamp) -> Result<(Vec<Write>, Option<u64>), StoreError>;

    /// Does a bounded step of what nobody sees: removes what is dead, writes the index behind, makes durable what was
    /// applied as relaxed. Returns as [`Store::due`] does when it wants to be called again.
    ///
    /// # Errors
    /// When the store failed, and applies no more; nothing that is alive is touched. What it can only not read or not do
    /// for now it tells the operator, and tries again.
    fn tidy(&self) -> Result<Option<u64>, StoreError>;

    /// Whether so much was applied since the last step, to a store with something to tidy, that the next one is not to wait
    /// until there is time for it: else what is dead would pile up under load.
    fn needs_tidying(&self) -> bool {
        false
    }

    /// From here on, all that is applied goes to `feed`, from the applying thread. Returns the watermark from which the
    /// feed is complete.
    fn follow(&self, feed: Arc<dyn Feed>) -> Position;

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
    ) -> Result<StorePage, StoreError>;

    /// Where the newest messages of `filter` up to `upto` begin: as many of them as a budget has room for, the first whatever
    /// its size.
    ///
    /// # Errors
    /// When the store can't be read.
    fn before_last(&self, filter: &Filter, upto: Position, budget: Budget) -> Result<Window, StoreError>;

    /// The position before the first message, of whatever topic, whose time is this or later: the newest one if there was none.
    /// Where that message is gone, a place before it, such that nothing that is left stands between; unless it was never stored:
    /// of such a message a later opening knows nothing.
    ///
    /// # Errors
    /// When the store can't be read.
    fn before_time(&self, time: Timestamp) -> Result<Position, StoreError>;

    /// The message at exactly this position, if it is retained.
    ///
    /// # Errors
    /// When the store can't be read.
    fn get(&self, position: Position) -> Result<Option<Message>, StoreError>;

    /// The bounds of a filter in the log. In memory: cheap for topics, a walk over the matching names for patterns.
    fn bounds(&self, filter: &Filter) -> Bounds;

    /// How far any topic of a filter was trimmed, where that lies beyond `after`. In memory, and cheap for patterns too
    /// while few topics were trimmed since.
    fn trimmed(&self, filter: &Filter, after: Position) -> Option<Trim>;

    /// Topics in byte order of their names, from after `from`, that begin with `prefix`; at most `limit`. A topic that
    /// was ever written to is listed, also when it is empty again, until it is forgotten.
    fn topics(&self, prefix: &str, from: Option<&str>, limit: usize) -> Vec<TopicInfo>;

    /// Visits the idempotency keys that still count, in no order.
    ///
    /// # Errors
    /// When the store can't be read.
    fn keys(&self, visit: &mut dyn FnMut(&str, &KeyRecord)) -> Result<(), StoreError>;

    /// Whether an idempotency key, with its caller's scope, is one that still counts. A store that can't tell says that it is none.
    ///
    /// # Errors
    /// When the store can't be read.
    fn has_key(&self, _scoped: &str) -> Result<bool, StoreError> {
        Ok(false)
    }

    /// Whether a topic was ever written to. In memory.
    fn has_topic(&self, topic: &Topic) -> bool {
        self.bounds(&topic.clone().into()).tail > Position::ZERO
    }

    /// From here on, sums what the topics of these patterns have, for [`Store::sum`].
    fn sum_by(&self, _patterns: &[Pattern]) {}

    /// What the topics of the pattern of this number have, of those that were named last. In memory. A store that can't tell
    /// says that it is nothing.
    fn sum(&self, _number: usize) -> Usage {
        Usage::default()
    }

    /// Figures of the store. In memory, but for a look at its oldest message and its files.
    fn stats(&self) -> LogStats;

    /// Whether the disk has room for messages of so many bytes.
    fn has_room(&self, _bytes: usize) -> bool {
        true
    }

    /// Whether it has room for what frees room in the end: deletes, options, retention.
    fn has_room_to_tidy(&self) -> bool {
        true
    }

    /// Closes in good order: the next opening is a clean one. Nothing is applied from here on.
    ///
    /// # Errors
    /// When the store fails; the next opening will be an unclean one.
    fn close(&self) -> Result<(), StoreError>;
}

/// Writes that were ordered together, and where they stand.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where.
    pub place: Place,
    /// The writes, each of which sees those before it.
    pub writes: Vec<Write>,
}

/// Where an entry stands: decided by the order, and the same on every node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The position of its first message, beyond all that was applied; the others follow without a hole.
    pub first: Position,
    /// The time of its messages, by a clock that people and machines set.
    pub time: Timestamp,
    /// The same by a clock that only ever runs forward, by which ages are measured. An order that has only one clock, which
    /// never runs backwards, gives its time twice.
    pub steady: Timestamp,
    /// Stored with the entry.
    pub token: Token,
    /// How many topics there may be: a group that would begin more is refused. With the entry, and not a setting of each node, since
    /// all nodes have to refuse the same.
    pub topics_max: u64,
}

/// An order's own note with each entry, by which it knows where to go on. Opaque to the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Token(pub Bytes);

/// A change of the log.
#[derive(Debug, Clone)]
pub enum Write {
    /// Append messages.
    Publish(Group),
    /// Take a topic's messages up to its newest.
    Delete(Topic),
    /// Take a topic's messages up to a position: what retention decided.
    Retain(Topic, Position),
    /// Forget a topic that has no messages, and has had none since this position: it must be trimmed up to its newest, and have no
    /// options under exactly its name. Takes effect at the end of its entry, unless something else in there is about the topic.
    Forget(Topic, Position),
    /// Take exactly one message: a client asked for it, or its own lifetime is over.
    Remove(Cursor, TrimReason),
    /// Let a topic's messages after the first position and up to the second lose their compaction key to newer ones.
    Compact(Topic, Position, Position),
    /// Set the options of a term; empty ones take them back.
    Options(Term, Options),
    /// Begin an epoch, whose first message is the next one.
    Opening(Epoch, Opening),
}

impl Write {
    /// Bytes of its messages, as [`Draft::cost`] counts them.
    pub fn cost(&self) -> usize {
        match self {
            Self::Publish(group) => group.drafts.iter().map(Draft::cost).sum(),
            _ => 0,
        }
    }
}

/// The outcome of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A group's.
    Published(Appended),
    /// The change was made, or there was nothing to change.
    Done,
    /// There is no such message, or not any more; nothing was changed.
    NoMessage,
    /// There are as many options as there may be; nothing was changed.
    TooManyOptions,
    /// There would be more topics than there may be; nothing of the group was appended.
    TooManyTopics,
}

/// Why the store could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store failed, and nothing changed.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The store failed while applying: what was to be written may or may not survive.
    #[error("the store failed while committing: {0}")]
    Unknown(String),
    /// The store is damaged.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The store was closed.
    #[error("the log is closed")]
    Closed,
}
