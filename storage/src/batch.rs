//! Entries that are being applied: a batch gives positions and times, admits groups by their keys and conditions, says
//! which message is the newest of a compaction key, and keeps the result until it is committed, all of it or nothing. It
//! knows no store: what the store remembers is asked through [`Memory`].

mod changes;
mod forgetting;
mod removal;
mod topics;

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use tailwire_core::{
    StoreError,
    log::{Appended, Group, Stored},
    store::{Entry, Outcome, Place, Token, Write},
};
use tailwire_model::{
    Admission, Draft, Durability, Epoch, EpochStart, Epochs, Keep, Message, Opening, Options, Position,
    Rules, Term, Timestamp, Topic, Trim, TrimReason,
    admission::{self, KeyRecord},
    limits::IDEMPOTENCY_WINDOW_MS,
};

pub(crate) use self::{
    forgetting::{Forgotten, batches},
    removal::{Removal, Retained},
};
use crate::{
    ages::Ages,
    index::{Floor, Index},
};

/// A store's memory of committed messages.
pub(crate) trait Memory {
    /// The record of an idempotency key, as of a time.
    ///
    /// # Errors
    /// When the store can't be read.
    fn key(&self, scoped: &str, time: Timestamp) -> Result<Option<KeyRecord>, StoreError>;

    /// The newest message of a compaction key.
    ///
    /// # Errors
    /// When the store can't be read.
    fn latest(&self, key: &CompactionKey) -> Result<Option<Latest>, StoreError>;

    /// The message at a position, if it is retained.
    ///
    /// # Errors
    /// When the store can't be read.
    fn retained(&self, position: Position) -> Result<Option<Retained>, StoreError>;

    /// Whether a message of a topic, which was stored, was taken by itself.
    ///
    /// # Errors
    /// When the store can't be read.
    fn was_removed(&self, topic: &Topic, position: Position) -> Result<bool, StoreError>;

    /// The retained messages of a topic after a position and up to another, oldest first.
    ///
    /// # Errors
    /// When the store can't be read.
    fn span(&self, topic: &Topic, after: Position, upto: Position) -> Result<Vec<Message>, StoreError>;
}

/// A compaction key, of which only the newest message stays: the key of a compacted topic, or, without a key, a topic
/// that keeps only its last.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CompactionKey {
    pub(crate) topic: Topic,
    pub(crate) key: Option<Box<str>>,
}

/// The newest message of a compaction key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Latest {
    pub(crate) position: Position,
    /// Its cost.
    pub(crate) cost: usize,
}

impl CompactionKey {
    /// That of a message, if its topic is compacted.
    pub(crate) fn of(draft: &Draft, keep: Keep) -> Option<Self> {
        let key = match keep {
            Keep::All => return None,
            Keep::Last => None,
            Keep::Compact => Some(draft.extras.as_ref()?.key.as_deref()?.into()),
        };
        Some(Self { topic: draft.topic.clone(), key })
    }
}

impl Latest {
    pub(crate) fn of(message: &Message) -> Self {
        Self { position: message.position(), cost: message.draft.cost() }
    }
}

/// The log as of the last commit, as far as a batch goes on from it.
#[derive(Debug, Clone)]
pub(crate) struct LogHead {
    pub(crate) newest: Position,
    /// When the last entry came, by the steady clock, and how ages are counted.
    pub(crate) steady: Timestamp,
    pub(crate) ages: Ages,
    pub(crate) token: Token,
    pub(crate) rules: Arc<Rules>,
    pub(crate) epochs: Arc<Epochs>,
}

impl LogHead {
    /// Whether a key's record still counts at a time of the steady clock.
    pub(crate) fn keeps(&self, record: &KeyRecord, time: Timestamp) -> bool {
        let came = self.ages.at(record.first.position, record.time);
        admission::is_kept(came, time, IDEMPOTENCY_WINDOW_MS)
    }
}

/// The epochs of a log before its first one: none that any message is of.
pub(crate) fn no_epochs() -> Arc<Epochs> {
    let none = EpochStart {
        epoch: Epoch::new(0).unwrap_or(Epoch::MAX),
        first: Position::MAX,
        opening: Opening::Created,
    };
    Arc::new(Epochs::new(vec![none]).unwrap_or_else(|| unreachable!("one is in order")))
}

fn has_begun(epochs: &Epochs) -> bool {
    epochs.current().first < Position::MAX
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Batch {
    head: LogHead,
    tails: HashMap<Topic, (Position, Timestamp)>,
    /// How many topics it begins, if that was counted.
    begun: Option<u64>,
    /// Topics that are to be forgotten at the end of the entry, which had nothing since a position.
    forgetting: Vec<(Topic, Position)>,
    changes: Changes,
}

/// The changes that a commit makes durable.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// The new messages, oldest first.
    pub(crate) messages: Vec<Message>,
    /// Of them, those that are not to be stored.
    pub(crate) volatile: Vec<Position>,
    /// The groups that they came in, as ranges of `messages`, without a hole.
    pub(crate) groups: Vec<Range<usize>>,
    /// The keys that the groups were published with.
    pub(crate) keys: HashMap<String, KeyRecord>,
    /// Each trimmed topic, with the time of its newest message.
    pub(crate) trims: BTreeMap<Topic, (Trim, Timestamp)>,
    /// Topics that are forgotten, and the floor with them. Nothing else here is about these.
    pub(crate) forgotten: BTreeMap<Topic, Forgotten>,
    pub(crate) floor: Option<Floor>,
    /// Single messages that are taken.
    pub(crate) removed: BTreeMap<Position, Removal>,
    /// The terms whose options were set, with what is set for them.
    pub(crate) options: BTreeMap<Term, Options>,
    /// Whether any were.
    pub(crate) has_new_rules: bool,
    /// The epochs that begin with it.
    pub(crate) openings: Vec<EpochStart>,
    /// Whether the token is another than that of the last commit.
    pub(crate) has_new_token: bool,
    /// Compaction keys with their newest message, and the one that was the newest as of the last commit.
    pub(crate) latest: HashMap<CompactionKey, (Latest, Option<Latest>)>,
    /// Messages that are no longer the newest of their compaction key.
    pub(crate) obsolete: Vec<(Topic, Latest)>,
    /// How far topics were compacted that are so since their messages were stored.
    pub(crate) compacted: Vec<(Topic, Position)>,
    /// Whether anything here is acknowledged as durable.
    pub(crate) must_sync: bool,
    /// The bytes of the messages, roughly.
    pub(crate) bytes: usize,
    /// When the last entry came, by the steady clock.
    pub(crate) came: Timestamp,
    /// Whether ages are counted otherwise from here on: the wall clock was set.
    pub(crate) has_new_ages: bool,
}

impl Batch {
    /// A batch that goes on after the last commit.
    pub(crate) fn new(head: LogHead) -> Self {
        Self { head, tails: HashMap::new(), begun: None, forgetting: Vec::new(), changes: Changes::default() }
    }

    /// The changes, and the log as of them.
    pub(crate) fn into_parts(self) -> (LogHead, Changes) {
        (self.head, self.changes)
    }

    /// Applies an entry.
    ///
    /// # Errors
    /// That of `memory`, or an entry that does not go on from what is applied; the batch is no good then.
    pub(crate) fn apply(
        &mut self,
        entry: Entry,
        index: &Index,
        memory: &impl Memory,
        outcomes: &mut Vec<Outcome>,
    ) -> Result<(), StoreError> {
        let Place { first, time, steady, token, topics_max } = entry.place;
        if first <= self.head.newest {
            let newest = self.head.newest;
            return Err(StoreError::Failed(format!("an entry at {first} comes after position {newest}")));
        }
        let mut at =
            Next { position: first, time, steady: self.head.steady.max(steady), placed: steady, topics_max };
        self.changes.came = at.steady;
        self.head.steady = at.steady;
        for write in entry.writes {
            outcomes.push(self.write(write, &mut at, index, memory)?);
        }
        self.forget(index);
        if token != self.head.token {
            self.head.token = token;
            self.changes.has_new_token = true;
        }
        Ok(())
    }

    fn write(
        &mut self,
        write: Write,
        at: &mut Next,
        index: &Index,
        memory: &impl Memory,
    ) -> Result<Outcome, StoreError> {
        match write {
            Write::Publish(group) => return self.append(group, at, index, memory),
            Write::Delete(topic) => {
                let upto = self.tail(&topic, index).0;
                self.trim(topic, Trim { upto, reason: TrimReason::Deleted }, index);
            }
            Write::Retain(topic, upto) => {
                let upto = upto.min(self.tail(&topic, index).0);
                self.trim(topic, Trim { upto, reason: TrimReason::Retention }, index);
            }
            Write::Forget(topic, upto) => self.forgetting.push((topic, upto)),
            Write::Remove(cursor, reason) => return self.remove(cursor, reason, memory),
            Write::Compact(topic, after, upto) => self.compact(topic, after, upto, memory)?,
            Write::Options(term, options) => {
                if Arc::make_mut(&mut self.head.rules).change(&term, options.clone()).is_err() {
                    return Ok(Outcome::TooManyOptions);
                }
                self.changes.must_sync = true;
                self.changes.has_new_rules = true;
                self.changes.options.insert(term, options);
            }
            // Nodes that start at the same time draw epochs by themselves: one that is overtaken begins nothing.
            Write::Opening(epoch, _)
                if has_begun(&self.head.epochs) && epoch <= self.head.epochs.current().epoch => {}
            Write::Opening(epoch, opening) => {
                self.begin(EpochStart { epoch, first: at.position, opening })?;
                if self.head.token.0.is_empty() {
                    // A local order's clock begins anew: what was stored before is no younger than that.
                    at.steady = at.placed;
                    self.head.steady = at.placed;
                    self.head.ages = Ages::new(at.placed, at.position);
                    self.changes.has_new_ages = true;
                }
            }
        }
        Ok(Outcome::Done)
    }

    fn append(
        &mut self,
        group: Group,
        at: &mut Next,
        index: &Index,
        memory: &impl Memory,
    ) -> Result<Outcome, StoreError> {
        if !has_begun(&self.head.epochs) {
            return Err(StoreError::Failed("a message comes before the first epoch".into()));
        }
        let record = match &group.key {
            None => None,
            Some(key) => match self.changes.keys.get(&key.scoped) {
                Some(pending) => Some(*pending),
                None => memory.key(&key.scoped, at.steady)?,
            },
        };
        self.changes.has_new_ages |= self.head.ages.look(at.time, at.steady, at.position);
        let record = record.filter(|record| self.head.keeps(record, at.steady));
        let tail = group.drafts.first().map_or(Position::ZERO, |draft| self.tail(&draft.topic, index).0);
        let epochs = &self.head.epochs;
        let admission = admission::admit(record.as_ref(), group.key.as_ref(), group.condition, tail, epochs);
        if matches!(admission, Admission::Append) && !self.has_room_for_topics(&group, at.topics_max, index) {
            return Ok(Outcome::TooManyTopics);
        }
        Ok(Outcome::Published(match admission {
            Admission::Append => Appended::Stored(self.push(group, at, memory)?),
            Admission::Replay(record) => Appended::Replayed(record.into()),
            Admission::KeyReused => Appended::KeyReused,
            Admission::ConditionFailed(cursor) => Appended::ConditionFailed(cursor),
        }))
    }

    fn push(&mut self, group: Group, at: &mut Next, memory: &impl Memory) -> Result<Stored, StoreError> {
        let (epoch, time) = (self.head.epochs.current().epoch, at.time);
        let start = self.changes.messages.len();
        let first = tailwire_model::Cursor { epoch, position: at.position };
        let count = u32::try_from(group.drafts.len()).unwrap_or(u32::MAX);
        for draft in group.drafts {
            let position = at.position;
            at.position = position.next();
            self.changes.bytes += draft.cost();
            match self.tails.get_mut(&draft.topic) {
                Some(tail) => *tail = (position, time),
                None => drop(self.tails.insert(draft.topic.clone(), (position, time))),
            }
            self.enforce(&draft, position, memory)?;
            self.changes.messages.push(draft.into_message(epoch, position, time));
            self.head.newest = position;
        }
        self.changes.groups.push(start..self.changes.messages.len());
        if let Some(key) = group.key {
            self.changes.keys.insert(key.scoped, KeyRecord { request: key.request, first, count, time });
        }
        Ok(Stored { first, count, time })
    }

    /// Does what the options ask of the newest message.
    fn enforce(&mut self, draft: &Draft, position: Position, memory: &impl Memory) -> Result<(), StoreError> {
        if self.head.rules.is_empty() {
            self.changes.must_sync = true;
            return Ok(());
        }
        let rule = self.head.rules.of(&draft.topic);
        match rule.durability {
            Durability::Sync => self.changes.must_sync = true,
            Durability::Relaxed => {}
            Durability::Memory => {
                // The ring has its own bound.
                self.changes.volatile.push(position);
                return Ok(());
            }
        }
        match CompactionKey::of(draft, rule.keep) {
            Some(key) => self.offer(key, Latest { position, cost: draft.cost() }, memory),
            None => Ok(()),
        }
    }

    /// Makes a message the newest of a compaction key, or obsolete, if it is older than that.
    fn offer(&mut self, key: CompactionKey, own: Latest, memory: &impl Memory) -> Result<(), StoreError> {
        let (latest, committed) = match self.changes.latest.get(&key) {
            Some(&(pending, committed)) => (Some(pending), committed),
            None => memory.latest(&key).map(|latest| (latest, latest))?,
        };
        match latest {
            Some(latest) if latest.position > own.position => self.changes.obsolete.push((key.topic, own)),
            Some(latest) if latest.position == own.position => {}
            older => {
                // One that was taken by itself is not taken again.
                if let Some(older) = older
                    && !self.was_removed(&key.topic, older.position, memory)?
                {
                    self.changes.obsolete.push((key.topic.clone(), older));
                }
                self.changes.latest.insert(key, (own, committed));
            }
        }
        Ok(())
    }

    /// Lets messages that were stored before their topic was compacted be the newest of their key, or go.
    fn compact(
        &mut self,
        topic: Topic,
        after: Position,
        upto: Position,
        memory: &impl Memory,
    ) -> Result<(), StoreError> {
        let keep = self.head.rules.of(&topic).keep;
        let stored = memory.span(&topic, after, upto)?;
        let pending = self.changes.messages.iter().filter(|message| {
            let is_inside = message.position() > after && message.position() <= upto;
            *message.topic() == topic && is_inside && !self.changes.is_volatile(message)
        });
        let offers: Vec<_> = (stored.iter().chain(pending))
            .filter_map(|message| Some((CompactionKey::of(&message.draft, keep)?, Latest::of(message))))
            .collect();
        for (key, own) in offers {
            self.offer(key, own, memory)?;
        }
        self.changes.compacted.push((topic, upto));
        Ok(())
    }

    /// Trims a topic up to a message of its own, if that was not done already.
    fn trim(&mut self, topic: Topic, trim: Trim, index: &Index) {
        let pending = self.changes.trims.get(&topic).map(|&(trim, _)| trim);
        let before =
            pending.or_else(|| index.trimmed(topic.as_str())).map_or(Position::ZERO, |trim| trim.upto);
        if trim.upto > before {
            // Retention would take the same again.
            self.changes.must_sync |= trim.reason == TrimReason::Deleted;
            let time = self.tail(&topic, index).1;
            self.changes.trims.insert(topic, (trim, time));
        }
    }

    fn begin(&mut self, start: EpochStart) -> Result<(), StoreError> {
        let mut starts = match has_begun(&self.head.epochs) {
            true => self.head.epochs.starts().to_vec(),
            false => Vec::new(),
        };
        starts.push(start);
        let epochs = Epochs::new(starts);
        let epochs = epochs.ok_or_else(|| StoreError::Failed("an epoch comes after a later one".into()))?;
        self.head.epochs = Arc::new(epochs);
        self.changes.openings.push(start);
        self.changes.must_sync = true;
        Ok(())
    }

    fn tail(&self, topic: &Topic, index: &Index) -> (Position, Timestamp) {
        self.tails.get(topic).copied().unwrap_or_else(|| index.tail(topic))
    }
}

/// Where the next message of an entry stands.
struct Next {
    position: Position,
    time: Timestamp,
    steady: Timestamp,
    /// As the order gave it.
    placed: Timestamp,
    topics_max: u64,
}
