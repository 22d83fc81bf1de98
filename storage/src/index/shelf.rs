//! Shelves: the index as it is stored, eight topics to a value, so that a million of them are read in seconds and one
//! that changes costs one write. Which shelves changed since they were written is known here; writing them is not.
//!
//! ```text
//! messages ever added to its topics
//! each topic: name  tail  tail - its time  interval + 1  trimmed  count  bytes  sealed last  sealed head
//!             base of recent postings  their count  their length  postings
//! ```
//! Numbers are varints, texts have their length before them. What was trimmed stands here only to tell whether the counts
//! know of a trim; trims have a place of their own.

use std::collections::VecDeque;

use tailwire_model::{Position, Timestamp, Trim, TrimReason};

use super::{
    Index,
    entry::{Entry, Sealed, flag},
    names::TopicId,
    postings::Postings,
};
use crate::codec::{Damage, Reader, put_str, put_varint};

/// Topics of one shelf: with the longest names and the most recent postings it stays below 7 KB.
const TOPICS: usize = 8;

/// What is known of the shelves in memory.
#[derive(Debug, Clone, Default)]
pub(super) struct Shelves {
    /// Of each: messages ever added to its topics, and whether it changed since it was last taken.
    states: Vec<(u64, bool)>,
    changed: VecDeque<u32>,
}

impl Shelves {
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

/// One topic as it stands on its shelf.
pub(crate) struct Shelved<'a> {
    name: &'a str,
    entry: Entry,
}

impl<'a> Shelved<'a> {
    /// The newest message that it knows.
    pub(crate) fn tail(&self) -> Position {
        self.entry.tail
    }
}

/// Reads a shelf: messages ever added, and its topics.
pub(crate) fn read(value: &[u8]) -> Result<(u64, Vec<Shelved<'_>>), Damage> {
    let mut reader = Reader(value);
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
    /// How many shelves changed since they were taken.
    pub(crate) fn shelves_changed(&self) -> usize {
        self.shelves.changed.len()
    }

    /// Takes the shelf that changed longest ago: its number and value.
    pub(crate) fn take_shelf(&mut self) -> Option<(u32, Vec<u8>)> {
        let number = self.shelves.changed.pop_front()?;
        let state = self.shelves.state(number);
        state.1 = false;
        let mut value = Vec::with_capacity(1024);
        put_varint(&mut value, state.0);
        let first = number as usize * TOPICS;
        for at in first..self.names.len().min(first + TOPICS) {
            put(&mut value, self.names.name(TopicId(at as u32)), &self.entries[at]);
        }
        Some((number, value))
    }

    /// Messages ever added to any topic, as far as is known. Each position of the log belongs to one of them.
    pub(crate) fn ever(&self) -> u64 {
        self.shelves.states.iter().map(|(ever, _)| ever).sum()
    }

    /// Adds a shelf's topics, which follow those of the shelf before, out of order until [`Index::settle`]. Answers
    /// false if one of them is there already.
    pub(crate) fn add_shelf(&mut self, ever: u64, topics: Vec<Shelved<'_>>) -> bool {
        self.shelves.states.push((ever, false));
        for Shelved { name, entry } in topics {
            let id = TopicId(self.entries.len() as u32);
            if !self.names.append(name) {
                return false;
            }
            self.messages += entry.count;
            self.bytes += entry.bytes;
            if entry.is(flag::RIPE) {
                self.ripe.push_back(id);
            }
            self.entries.push(entry);
        }
        true
    }

    /// Makes room for this many topics.
    pub(crate) fn reserve(&mut self, topics: usize) {
        self.names.reserve(topics);
    }

    /// Ends the adding of shelves.
    pub(crate) fn settle(&mut self) {
        self.names.settle();
    }

    /// Whether the trims that the index knows are those that its topics know.
    pub(crate) fn trims_agree(&self) -> bool {
        self.entries.iter().filter(|entry| entry.trim().is_some()).count() == self.trims.len()
    }
}

fn put(out: &mut Vec<u8>, name: &str, entry: &Entry) {
    put_str(out, name);
    let sealed = entry.sealed.as_deref();
    let numbers = [
        entry.tail.0,
        entry.tail_time.0,
        entry.interval_ms().map_or(0, |mean| mean + 1),
        entry.trim().map_or(0, |trim| trim.upto.0),
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

fn take<'a>(reader: &mut Reader<'a>) -> Result<Shelved<'a>, Damage> {
    let name = reader.str()?;
    if name.len() > usize::from(u8::MAX) {
        return Err(Damage("a name is too long"));
    }
    let mut entry = Entry::default();
    (entry.tail, entry.tail_time) = (Position(reader.varint()?), Timestamp(reader.varint()?));
    entry.set_interval_ms(reader.varint()?.checked_sub(1));
    let trimmed = Position(reader.varint()?);
    (entry.count, entry.bytes) = (reader.varint()?, reader.varint()?);
    let (last, head) = (Position(reader.varint()?), Position(reader.varint()?));
    if last > Position::ZERO {
        let head = (head > Position::ZERO).then_some(head);
        entry.sealed = Some(Box::new(Sealed { last, head, buried: Position::ZERO }));
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
    entry.set(flag::RIPE, length >= super::blocks::BLOCK_BYTES);
    Ok(Shelved { name, entry })
}
