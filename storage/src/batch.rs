//! What was appended, trimmed and set since the last commit: it gives positions and times, admits groups by their keys
//! and conditions, says which message takes another's place, and keeps the result until it is committed. It knows no
//! store: what the store remembers is asked through [`Memory`].

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use tailwire_core::log::{Appended, Commit, Group, LogError, Stored};
use tailwire_model::{
    Admission, Draft, Durability, Epochs, Keep, Message, Options, Position, Rules, Term, Timestamp, Topic,
    Trim, TrimReason,
    admission::{self, KeyRecord},
    limits::IDEMPOTENCY_WINDOW_MS,
};

use crate::{
    ages::{Ages, Steady},
    index::{Cut, Index},
    retention::Trims,
};

/// What a store remembers of what was committed.
pub(crate) trait Memory {
    /// The record of an idempotency key, as of a time.
    ///
    /// # Errors
    /// When the store can't be read.
    fn key(&self, scoped: &str, time: Timestamp) -> Result<Option<KeyRecord>, LogError>;

    /// Where the message stands that holds a place of which there is one.
    ///
    /// # Errors
    /// When the store can't be read.
    fn holder(&self, place: &Place) -> Result<Option<Holder>, LogError>;
}

/// What only the newest message has: the key of a compacted topic, or, without a key, a topic that keeps only its last.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) topic: Topic,
    pub(crate) key: Option<Box<str>>,
}

/// The message that holds a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) position: Position,
    /// What it takes.
    pub(crate) cost: usize,
}

impl Place {
    /// The place that a message takes, if its topic is kept so.
    pub(crate) fn of(draft: &Draft, keep: Keep) -> Option<Self> {
        let key = match keep {
            Keep::All => return None,
            Keep::Last => None,
            Keep::Compact => Some(draft.extras.as_ref()?.key.as_deref()?.into()),
        };
        Some(Self { topic: draft.topic.clone(), key })
    }
}

/// A log's uncommitted end.
#[derive(Debug)]
pub(crate) struct Batch {
    newest: Position,
    steady: Steady,
    ages: Ages,
    tails: HashMap<Topic, (Position, Timestamp)>,
    /// The options that hold for the next message.
    rules: Arc<Rules>,
    changes: Changes,
}

/// What a commit makes durable.
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
    /// The terms whose options were set, with what is set for them.
    pub(crate) options: BTreeMap<Term, Options>,
    /// The options that hold from here on, if any were set.
    pub(crate) rules: Option<Arc<Rules>>,
    /// Places that messages took, with the message and the one that held it as of the last commit.
    pub(crate) places: HashMap<Place, (Holder, Option<Holder>)>,
    /// Messages that lost their place to a newer one.
    pub(crate) superseded: Vec<(Topic, Holder)>,
    /// Something here is promised to be on the disk.
    pub(crate) promised: bool,
    /// What the messages take, roughly.
    pub(crate) bytes: usize,
    /// When the last group came, by the steady clock.
    pub(crate) came: Timestamp,
    /// How ages are counted from here on, if the wall clock was set.
    pub(crate) ages: Option<Ages>,
}

/// Who held a place as of the last commit.
type Holders = HashMap<Place, Holder>;

impl Changes {
    /// Whether there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
            && self.trims.is_empty()
            && self.options.is_empty()
            && self.superseded.is_empty()
            && self.places.is_empty()
    }

    /// Shows an index what is committed. `cuts` are what was read for the trims, in their order.
    pub(crate) fn apply(&self, index: &mut Index, cuts: Vec<Option<Cut>>) {
        if let Some(ages) = &self.ages {
            index.set_ages(ages.clone());
        }
        for message in &self.messages {
            let (topic, position) = (message.topic().as_str(), message.position());
            if self.is_volatile(message) {
                index.pass(topic, position, message.time);
            } else {
                index.add(topic, position, message.time, message.draft.cost());
            }
        }
        for ((topic, &(trim, time)), cut) in self.trims.iter().zip(cuts) {
            index.trim(topic.as_str(), trim, time, cut);
        }
        for (topic, holder) in &self.superseded {
            index.supersede(topic.as_str(), holder.position, holder.cost as u64);
        }
    }

    /// What the followers are told of it.
    pub(crate) fn into_commit(self, watermark: Position) -> Arc<Commit> {
        let trims = self.trims.into_iter().map(|(topic, (trim, _))| (topic, trim)).collect();
        Arc::new(Commit { watermark, messages: self.messages, trims })
    }

    /// The messages that are not to be stored.
    pub(crate) fn volatile(&self) -> impl Iterator<Item = &Message> {
        // Most commits have none, and are not gone through.
        let messages = if self.volatile.is_empty() { &[] } else { self.messages.as_slice() };
        messages.iter().filter(|message| self.is_volatile(message))
    }

    fn is_volatile(&self, message: &Message) -> bool {
        self.volatile.binary_search(&message.position()).is_ok()
    }

    /// Whether there is nothing to store.
    pub(crate) fn is_all_volatile(&self) -> bool {
        self.volatile.len() == self.messages.len()
            && self.keys.is_empty()
            && self.trims.is_empty()
            && self.options.is_empty()
            && self.places.is_empty()
    }

    /// The messages that are to be stored, and their groups.
    pub(crate) fn stored(&self) -> (Cow<'_, [Message]>, Cow<'_, [Range<usize>]>) {
        if self.volatile.is_empty() {
            return (Cow::Borrowed(&self.messages), Cow::Borrowed(&self.groups));
        }
        let (mut messages, mut groups) = (Vec::new(), Vec::new());
        for group in &self.groups {
            let start = messages.len();
            let is_stored = |message: &&Message| !self.is_volatile(message);
            messages.extend(self.messages[group.clone()].iter().filter(is_stored).cloned());
            if messages.len() > start {
                groups.push(start..messages.len());
            }
        }
        (Cow::Owned(messages), Cow::Owned(groups))
    }
}

impl Batch {
    /// A batch that goes on after the message at `newest`, in a log that was opened by this clock.
    pub(crate) fn new(newest: Position, ages: Ages, steady: Steady, rules: Arc<Rules>) -> Self {
        Self { newest, steady, ages, tails: HashMap::new(), rules, changes: Changes::default() }
    }

    /// The newest appended position.
    pub(crate) fn newest(&self) -> Position {
        self.newest
    }

    /// What is appended and trimmed so far.
    pub(crate) fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Hands over the changes; the next ones go on after them.
    pub(crate) fn take(&mut self) -> Changes {
        self.tails.clear();
        std::mem::take(&mut self.changes)
    }

    /// The time by which ages are measured, when the wall clock shows `now`.
    pub(crate) fn time(&mut self, now: Timestamp) -> Timestamp {
        let steady = self.steady.time(now);
        if self.ages.look(now, steady, self.newest.next()) {
            self.changes.ages = Some(self.ages.clone());
        }
        steady
    }

    /// How ages are counted, if that was not committed yet.
    pub(crate) fn take_ages(&mut self) -> Option<Ages> {
        self.changes.ages.take()
    }

    /// Whether a key's record still counts.
    fn keeps(&self, record: &KeyRecord, time: Timestamp) -> bool {
        let came = self.ages.at(record.first.position, record.time);
        admission::is_kept(came, time, IDEMPOTENCY_WINDOW_MS)
    }

    /// Admits and appends groups.
    ///
    /// # Errors
    /// That of `memory`; then nothing was appended.
    pub(crate) fn append(
        &mut self,
        groups: Vec<Group>,
        now: Timestamp,
        epochs: &Epochs,
        index: &Index,
        memory: &impl Memory,
    ) -> Result<Vec<Appended>, LogError> {
        let time = self.time(now);
        // All is looked up before the first group is appended: a failing store must not leave half of them.
        let mut records = Vec::with_capacity(groups.len());
        let mut holders = HashMap::new();
        for group in &groups {
            let record = group.key.as_ref().map(|key| memory.key(&key.scoped, time)).transpose()?;
            records.push(record.flatten());
            if !self.rules.is_empty() {
                self.look_up(&group.drafts, memory, &mut holders)?;
            }
        }
        let with_records = groups.into_iter().zip(records);
        self.changes.came = time;
        let times = (now, time);
        let mut append = |(group, record)| self.append_group(group, record, times, epochs, index, &holders);
        Ok(with_records.map(&mut append).collect())
    }

    /// Finds who holds the places that these drafts would take.
    fn look_up(&self, drafts: &[Draft], memory: &impl Memory, holders: &mut Holders) -> Result<(), LogError> {
        for draft in drafts {
            let place = Place::of(draft, self.rules.of(&draft.topic).keep);
            if let Some(place) = place.filter(|place| !self.changes.places.contains_key(place))
                && let Some(holder) = memory.holder(&place)?
            {
                holders.insert(place, holder);
            }
        }
        Ok(())
    }

    fn append_group(
        &mut self,
        group: Group,
        stored: Option<KeyRecord>,
        (now, time): (Timestamp, Timestamp),
        epochs: &Epochs,
        index: &Index,
        holders: &Holders,
    ) -> Appended {
        let pending = group.key.as_ref().and_then(|key| self.changes.keys.get(&key.scoped)).copied();
        let record = pending.or(stored).filter(|record| self.keeps(record, time));
        let tail = group.drafts.first().map_or(Position::ZERO, |draft| self.tail(&draft.topic, index).0);
        match admission::admit(record.as_ref(), group.key.as_ref(), group.condition, tail, epochs) {
            Admission::Append => Appended::Stored(self.push(group, now, epochs, holders)),
            Admission::Replay(record) => Appended::Replayed(record.into()),
            Admission::KeyReused => Appended::KeyReused,
            Admission::ConditionFailed(cursor) => Appended::ConditionFailed(cursor),
        }
    }

    fn push(&mut self, group: Group, time: Timestamp, epochs: &Epochs, holders: &Holders) -> Stored {
        let epoch = epochs.current().epoch;
        let start = self.changes.messages.len();
        let first = epochs.cursor_at(self.newest.next());
        let count = u32::try_from(group.drafts.len()).unwrap_or(u32::MAX);
        for draft in group.drafts {
            self.newest = self.newest.next();
            self.changes.bytes += draft.cost();
            match self.tails.get_mut(&draft.topic) {
                Some(tail) => *tail = (self.newest, time),
                None => drop(self.tails.insert(draft.topic.clone(), (self.newest, time))),
            }
            self.obey(&draft, holders);
            self.changes.messages.push(draft.into_message(epoch, self.newest, time));
        }
        self.changes.groups.push(start..self.changes.messages.len());
        if let Some(key) = group.key {
            self.changes.keys.insert(key.scoped, KeyRecord { request: key.request, first, count, time });
        }
        Stored { first, count, time }
    }

    /// Does what the options ask of the newest message.
    fn obey(&mut self, draft: &Draft, holders: &Holders) {
        if self.rules.is_empty() {
            self.changes.promised = true;
            return;
        }
        let rule = self.rules.of(&draft.topic);
        match rule.durability {
            Durability::Sync => self.changes.promised = true,
            Durability::Relaxed => {}
            // The ring has its own bound.
            Durability::Memory => return self.changes.volatile.push(self.newest),
        }
        if let Some(place) = Place::of(draft, rule.keep) {
            let before = holders.get(&place).copied();
            self.take_place(place, Holder { position: self.newest, cost: draft.cost() }, before);
        }
    }

    /// Gives a place to a message. `before` held it as of the last commit.
    fn take_place(&mut self, place: Place, by: Holder, before: Option<Holder>) {
        let (loser, before) = match self.changes.places.get(&place) {
            Some(&(pending, before)) => (Some(pending), before),
            None => (before, before),
        };
        self.changes.superseded.extend(loser.map(|loser| (place.topic.clone(), loser)));
        self.changes.places.insert(place, (by, before));
    }

    /// Lets a message that was stored before its topic was compacted take its place, or lose it to a newer one.
    ///
    /// # Errors
    /// That of `memory`; then nothing changed.
    pub(crate) fn compact(&mut self, message: &Message, memory: &impl Memory) -> Result<(), LogError> {
        let Some(place) = Place::of(&message.draft, self.rules.of(message.topic()).keep) else {
            return Ok(());
        };
        let pending = self.changes.places.get(&place).map(|&(holder, _)| holder);
        let holder = pending.map_or_else(|| memory.holder(&place), |holder| Ok(Some(holder)))?;
        let own = Holder { position: message.position(), cost: message.draft.cost() };
        match holder {
            Some(holder) if holder.position > own.position => {
                self.changes.superseded.push((place.topic, own));
            }
            Some(holder) if holder.position == own.position => {}
            holder => self.take_place(place, own, holder),
        }
        Ok(())
    }

    /// Trims a topic up to its newest appended message, if that was not done already.
    pub(crate) fn trim(&mut self, topic: &Topic, reason: TrimReason, index: &Index) {
        let upto = self.tail(topic, index).0;
        self.trim_upto(topic, Trim { upto, reason }, index);
    }

    /// Trims what retention asks for.
    pub(crate) fn retain(&mut self, trims: &Trims, index: &Index) {
        for (topic, &upto) in trims {
            self.trim_upto(topic, Trim { upto, reason: TrimReason::Retention }, index);
        }
    }

    /// Trims a topic up to a message of its own, if that was not done already.
    fn trim_upto(&mut self, topic: &Topic, trim: Trim, index: &Index) {
        let pending = self.changes.trims.get(topic).map(|&(trim, _)| trim);
        let before =
            pending.or_else(|| index.trimmed(topic.as_str())).map_or(Position::ZERO, |trim| trim.upto);
        if trim.upto > before {
            // What retention takes it would take again.
            self.changes.promised |= trim.reason == TrimReason::Deleted;
            let time = self.tail(topic, index).1;
            self.changes.trims.insert(topic.clone(), (trim, time));
        }
    }

    /// Sets the options of a term.
    ///
    /// # Errors
    /// [`LogError::TooManyOptions`].
    pub(crate) fn set_options(&mut self, term: &Term, options: Options) -> Result<(), LogError> {
        Arc::make_mut(&mut self.rules).change(term, options)?;
        self.changes.promised = true;
        self.changes.options.insert(term.clone(), options);
        self.changes.rules = Some(self.rules.clone());
        Ok(())
    }

    fn tail(&self, topic: &Topic, index: &Index) -> (Position, Timestamp) {
        self.tails.get(topic).copied().unwrap_or_else(|| index.tail(topic))
    }
}
