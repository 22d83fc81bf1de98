//! Index pages: the index as it is stored, eight topics to a value, so that a million of them are read in seconds and one
//! that changes costs one write. Which index pages changed since they were written is known here; writing them is not.
//!
//! ```text
//! messages ever added to its topics
//! each topic: name  flags  tail  its time  interval + 1  trimmed  count  bytes  sealed last  sealed head
//!             base of recent postings  their count  their length  postings
//! ```
//! Numbers are varints, texts have their length before them. Where no topic has the number, there is an empty name, and no
//! more. What was trimmed stands here only to tell whether the counts know of a trim; trims have a place of their own. But
//! where the flags say so it is the floor as of the topic's first message, which stands nowhere else.

use std::collections::{BTreeMap, HashSet, VecDeque};

use tailwire_model::{Position, Timestamp, Trim, TrimReason};

use super::{
    Index,
    entry::{IndexedTopic, SealedPostings, flag},
    order::TopicId,
    postings::Postings,
};
use crate::codec::{ByteReader, Damage, put_str, put_varint};

/// Topics of one index page: with the longest names and the most recent postings it stays below 7 KB.
const TOPICS: usize = 8;

/// The index pages in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct IndexPages {
    /// Of each: messages ever added to its topics, and whether it changed since it was last taken.
    states: Vec<(u64, bool)>,
    changed: VecDeque<u32>,
}

impl IndexPages {
    /// A topic got a message.
    pub(super) fn count(&mut self, id: TopicId) {
        self.state(id.0 / TOPICS as u32).0 += 1;
    }

    /// Something of a topic changed.
    pub(super) fn touch(&mut self, id: TopicId) {
        let number = id.0 / TOPICS as u32;
        let (_, changed) = self.state(number);
        if !std::mem::replace(changed, true) {
            self.changed.push_back(number);
        }
    }

    fn state(&mut self, number: u32) -> &mut (u64, bool) {
        let at = number as usize;
        if at >= self.states.len() {
            self.states.resize(at + 1, (0, false));
        }
        &mut self.states[at]
    }
}

/// One topic as it stands on its index page; without a name it is none.
pub(crate) struct StoredTopic<'a> {
    name: &'a str,
    entry: IndexedTopic,
}

impl<'a> StoredTopic<'a> {
    /// The newest message that it knows.
    pub(crate) fn tail(&self) -> Position {
        self.entry.tail
    }
}

/// Reads an index page: messages ever added, and its topics.
pub(crate) fn read(value: &[u8]) -> Result<(u64, Vec<StoredTopic<'_>>), Damage> {
    let mut reader = ByteReader(value);
    let ever = reader.varint()?;
    let mut topics = Vec::with_capacity(TOPICS);
    while !reader.0.is_empty() {
        topics.push(take(&mut reader)?);
    }
    if topics.is_empty() || topics.len() > TOPICS {
        return Err(Damage("it has no topics, or too many"));
    }
    Ok((ever, topics))
}

impl Index {
    /// How many index pages changed since they were taken.
    pub(crate) fn pages_changed(&self) -> usize {
        self.pages.changed.len()
    }

    /// Takes the index page that changed longest ago: its number and value.
    pub(crate) fn take_index_page(&mut self) -> Option<(u32, Vec<u8>)> {
        let number = self.pages.changed.pop_front()?;
        self.pages.state(number).1 = false;
        Some((number, self.index_page(number, &HashSet::new())))
    }

    /// The index pages on which topics stand that are about to be forgotten, without them.
    pub(crate) fn index_pages_without(&self, topics: &HashSet<TopicId>) -> BTreeMap<u32, Vec<u8>> {
        let numbers = topics.iter().map(|id| id.0 / TOPICS as u32);
        numbers.map(|number| (number, self.index_page(number, topics))).collect()
    }

    fn index_page(&self, number: u32, without: &HashSet<TopicId>) -> Vec<u8> {
        let mut value = Vec::with_capacity(1024);
        put_varint(&mut value, self.pages.states.get(number as usize).map_or(0, |(ever, _)| *ever));
        let first = number as usize * TOPICS;
        for at in first..self.names.numbers().min(first + TOPICS) {
            let id = TopicId(at as u32);
            let name = if without.contains(&id) { "" } else { self.names.name(id) };
            put(&mut value, name, &self.entries[at]);
        }
        value
    }

    /// Messages ever added to any topic, as far as is known. Each position of the log belongs to one of them.
    pub(crate) fn ever(&self) -> u64 {
        self.pages.states.iter().map(|(ever, _)| ever).sum()
    }

    /// Adds an index page's topics, which follow those of the index page before, out of order until
    /// [`Index::sort_names`]. Answers false if one of them is there already.
    pub(crate) fn add_index_page(&mut self, ever: u64, topics: Vec<StoredTopic<'_>>) -> bool {
        self.pages.states.push((ever, false));
        for StoredTopic { name, entry } in topics {
            let id = TopicId(self.entries.len() as u32);
            if name.is_empty() {
                self.names.append_vacant();
            } else if !self.names.append(name) {
                return false;
            }
            self.messages += entry.count;
            self.bytes += entry.bytes;
            if entry.is(flag::SEALABLE) {
                self.sealable.push_back(id);
            }
            self.entries.push(entry);
        }
        true
    }

    /// Makes room for this many topics.
    pub(crate) fn reserve(&mut self, topics: usize) {
        self.names.reserve(topics);
    }

    /// Ends the adding of index pages.
    pub(crate) fn sort_names(&mut self) {
        self.names.sort_names();
    }

    /// Whether the trims that the index knows are those that its topics know.
    pub(crate) fn trims_agree(&self) -> bool {
        self.entries.iter().filter(|entry| entry.trim().is_some()).count() == self.trims.len()
    }
}

fn put(out: &mut Vec<u8>, name: &str, entry: &IndexedTopic) {
    put_str(out, name);
    if name.is_empty() {
        return;
    }
    let sealed = entry.sealed.as_deref();
    let numbers = [
        u64::from(entry.stored_flags()),
        entry.tail.0,
        entry.tail_time.0,
        entry.interval_ms().map_or(0, |mean| mean + 1),
        entry.cleared().map_or(0, |trim| trim.upto.0),
        entry.count,
        entry.bytes,
        sealed.map_or(0, |sealed| sealed.last.0),
        sealed.and_then(|sealed| sealed.head).map_or(0, |head| head.0),
        entry.recent.base().0,
        u64::from(entry.recent.len()),
        entry.recent.encoded().len() as u64,
    ];
    numbers.into_iter().for_each(|number| put_varint(out, number));
    out.extend_from_slice(entry.recent.encoded());
}

fn take<'a>(reader: &mut ByteReader<'a>) -> Result<StoredTopic<'a>, Damage> {
    let name = reader.str()?;
    if name.len() > usize::from(u8::MAX) {
        return Err(Damage("a name is too long"));
    }
    if name.is_empty() {
        return Ok(StoredTopic { name, entry: IndexedTopic::vacant() });
    }
    let flags = u8::try_from(reader.varint()?).ok().filter(|flags| flags & !flag::STORED == 0);
    let flags = flags.ok_or(Damage("a topic has an unknown flag"))?;
    let mut entry = IndexedTopic::default();
    (entry.tail, entry.tail_time) = (Position(reader.varint()?), Timestamp(reader.varint()?));
    entry.set_interval_ms(reader.varint()?.checked_sub(1));
    let trimmed = Position(reader.varint()?);
    (entry.count, entry.bytes) = (reader.varint()?, reader.varint()?);
    let (last, head) = (Position(reader.varint()?), Position(reader.varint()?));
    if last > Position::ZERO {
        let head = (head > Position::ZERO).then_some(head);
        entry.sealed = Some(Box::new(SealedPostings { last, head, purged: Position::ZERO }));
    }
    let base = Position(reader.varint()?);
    let count = u32::try_from(reader.varint()?).map_err(|_| Damage("a count is too large"))?;
    let length = reader.length()?;
    entry.recent = Postings::decode(base, count, reader.bytes(length)?)?;
    if entry.recent.last() > entry.tail && count > 0 || last > entry.tail || base < last {
        return Err(Damage("a topic's tail lies before its messages"));
    }
    if trimmed > Position::ZERO {
        entry.remember_trim(Trim { upto: trimmed, reason: TrimReason::Retention });
    }
    entry.set(flags, true);
    entry.set(flag::SEALABLE, length >= super::blocks::BLOCK_BYTES);
    Ok(StoredTopic { name, entry })
}
