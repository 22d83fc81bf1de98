//! What was appended and trimmed since the last commit: it gives positions and times, admits groups by their keys
//! and conditions, and keeps the result until it is committed. It knows no store: what the store remembers is handed
//! in.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
    sync::Arc,
};

use tailwire_core::log::{Appended, Group, LogError, Stored};
use tailwire_model::{
    Admission, Epochs, Message, Options, Position, Rules, Term, Timestamp, Topic, Trim, TrimReason,
    admission::{self, KeyRecord},
    limits::IDEMPOTENCY_WINDOW_MS,
};

use crate::index::Index;

/// A log's uncommitted end.
#[derive(Debug)]
pub(crate) struct Batch {
    newest: Position,
    time: Timestamp,
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
    /// What the messages take, roughly.
    pub(crate) bytes: usize,
}

impl Changes {
    /// Whether there is nothing to commit.
    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.trims.is_empty() && self.options.is_empty()
    }
}

impl Batch {
    /// A batch that goes on after the message at `newest`, which came at `time`.
    pub(crate) fn new(newest: Position, time: Timestamp, rules: Arc<Rules>) -> Self {
        Self { newest, time, tails: HashMap::new(), rules, changes: Changes::default() }
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

    /// The time of the log: the clock's, but it never runs backwards, so that times are in the order of positions
    /// and a key's age is measured on the clock that it was stamped by.
    pub(crate) fn time(&self, now: Timestamp) -> Timestamp {
        self.time.max(now)
    }

    /// Admits and appends groups. `stored` looks a key up among the committed ones.
    ///
    /// # Errors
    /// That of `stored`; then nothing was appended.
    pub(crate) fn append(
        &mut self,
        groups: Vec<Group>,
        now: Timestamp,
        epochs: &Epochs,
        index: &Index,
        stored: impl Fn(&str, Timestamp) -> Result<Option<KeyRecord>, LogError>,
    ) -> Result<Vec<Appended>, LogError> {
        let time = self.time(now);
        // All keys are looked up before the first group is appended: a failing store must not leave half of them.
        let mut records = Vec::with_capacity(groups.len());
        for group in &groups {
            let record = group.key.as_ref().map(|key| stored(&key.scoped, time)).transpose()?;
            records.push(record.flatten());
        }
        let appended = groups.into_iter().zip(records);
        Ok(appended.map(|(group, record)| self.append_group(group, record, time, epochs, index)).collect())
    }

    fn append_group(
        &mut self,
        group: Group,
        stored: Option<KeyRecord>,
        time: Timestamp,
        epochs: &Epochs,
        index: &Index,
    ) -> Appended {
        let pending = group.key.as_ref().and_then(|key| self.changes.keys.get(&key.scoped)).copied();
        let kept = |record: &KeyRecord| admission::is_kept(record, time, IDEMPOTENCY_WINDOW_MS);
        let record = pending.or(stored).filter(kept);
        let tail = group.drafts.first().map_or(Position::ZERO, |draft| self.tail(&draft.topic, index).0);
        match admission::admit(record.as_ref(), group.key.as_ref(), group.condition, tail, epochs) {
            Admission::Append => Appended::Stored(self.push(group, time, epochs)),
            Admission::Replay(record) => Appended::Replayed(record.into()),
            Admission::KeyReused => Appended::KeyReused,
            Admission::ConditionFailed(cursor) => Appended::ConditionFailed(cursor),
        }
    }

    fn push(&mut self, group: Group, time: Timestamp, epochs: &Epochs) -> Stored {
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
            self.changes.messages.push(draft.into_message(epoch, self.newest, time));
        }
        self.time = time;
        self.changes.groups.push(start..self.changes.messages.len());
        if let Some(key) = group.key {
            self.changes.keys.insert(key.scoped, KeyRecord { request: key.request, first, count, time });
        }
        Stored { first, count, time }
    }

    /// Trims a topic up to its newest appended message, if that was not done already.
    pub(crate) fn trim(&mut self, topic: &Topic, reason: TrimReason, index: &Index) {
        let (tail, time) = self.tail(topic, index);
        let pending = self.changes.trims.get(topic).map(|&(trim, _)| trim);
        let before =
            pending.or_else(|| index.trimmed(topic.as_str())).map_or(Position::ZERO, |trim| trim.upto);
        if tail > before {
            self.changes.trims.insert(topic.clone(), (Trim { upto: tail, reason }, time));
        }
    }

    /// Sets the options of a term.
    ///
    /// # Errors
    /// [`LogError::TooManyOptions`].
    pub(crate) fn set_options(&mut self, term: &Term, options: Options) -> Result<(), LogError> {
        Arc::make_mut(&mut self.rules).change(term, options)?;
        self.changes.options.insert(term.clone(), options);
        self.changes.rules = Some(self.rules.clone());
        Ok(())
    }

    fn tail(&self, topic: &Topic, index: &Index) -> (Position, Timestamp) {
        self.tails.get(topic).copied().unwrap_or_else(|| index.tail(topic))
    }
}
