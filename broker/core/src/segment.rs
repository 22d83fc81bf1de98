//! Segments: a few messages, immutable and shared by every reader, with one contiguous encoding per format, made on
//! first use. This is where "encode once" lives. A format is a slot and a function; what it writes is not known here.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use smallvec::SmallVec;
use tailwire_model::{Message, Position};

use crate::pool::Lease;

/// Appends one message's encoding. Encodings of several messages concatenate.
pub type Encoder = fn(&Message, &mut Vec<u8>);

/// The formats of a broker. A format's name is its index.
pub type Encoders = &'static [Encoder];

/// Slices of one or more segments, oldest first.
pub type Slices = SmallVec<[Slice; 4]>;

/// Messages in log order.
pub(crate) struct Segment {
    messages: Box<[Message]>,
    encodings: Box<[OnceLock<Encoding>]>,
    encoders: Encoders,
    cost: usize,
    /// Of one that was read for one reader: given back to the pool when that lets the segment go.
    lease: Option<Lease>,
}

struct Encoding {
    bytes: Bytes,
    /// Where each message's encoding ends.
    ends: Box<[u32]>,
}

impl Segment {
    /// A segment of at least one message, for all who want it.
    pub(crate) fn new(messages: Vec<Message>, encoders: Encoders) -> Arc<Self> {
        Arc::new(Self::of(messages, encoders))
    }

    /// One for a reader by itself, encoded for it, which takes so much of the lease.
    pub(crate) fn leased(
        messages: Vec<Message>,
        encoders: Encoders,
        format: usize,
        mut lease: Lease,
    ) -> Arc<Self> {
        let mut segment = Self::of(messages, encoders);
        lease.set(segment.cost + segment.encoding(format).bytes.len());
        segment.lease = Some(lease);
        Arc::new(segment)
    }

    fn of(messages: Vec<Message>, encoders: Encoders) -> Self {
        debug_assert!(!messages.is_empty(), "a segment has at least one message");
        let cost = messages.iter().map(|message| message.draft.cost()).sum();
        let encodings = encoders.iter().map(|_| OnceLock::new()).collect();
        Self { messages: messages.into(), encodings, encoders, cost, lease: None }
    }

    pub(crate) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Its memory, roughly, before it is encoded.
    pub(crate) const fn cost(&self) -> usize {
        self.cost
    }

    pub(crate) fn last(&self) -> Position {
        self.messages.last().map_or(Position::ZERO, Message::position)
    }

    /// The index of the first message after `position`.
    pub(crate) fn index_after(&self, position: Position) -> usize {
        if self.messages.first().is_some_and(|first| first.position() > position) {
            return 0;
        }
        self.messages.partition_point(|message| message.position() <= position)
    }

    fn encoding(&self, format: usize) -> &Encoding {
        self.encodings[format].get_or_init(|| {
            let encode = self.encoders[format];
            let mut bytes = Vec::with_capacity(self.cost + 96 * self.messages.len());
            let ends = self
                .messages
                .iter()
                .map(|message| {
                    encode(message, &mut bytes);
                    // A segment holds one page or one commit's share: far below 4 GiB.
                    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
                })
                .collect();
            Encoding { bytes: bytes.into(), ends }
        })
    }
}

/// A run of messages of one segment.
#[derive(Clone)]
pub struct Slice {
    segment: Arc<Segment>,
    start: u32,
    end: u32,
}

impl Slice {
    pub(crate) fn new(segment: Arc<Segment>, start: usize, end: usize) -> Self {
        debug_assert!(start < end && end <= segment.messages.len(), "a slice is not empty");
        Self { segment, start: start as u32, end: end as u32 }
    }

    /// A slice of everything.
    pub(crate) fn whole(segment: Arc<Segment>) -> Self {
        let end = segment.messages.len();
        Self::new(segment, 0, end)
    }

    /// Its messages.
    pub fn messages(&self) -> &[Message] {
        &self.segment.messages[self.start as usize..self.end as usize]
    }

    /// How many.
    pub const fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Never.
    pub const fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Whether others may hold it, too; else it was read for one reader.
    pub fn is_shared(&self) -> bool {
        self.segment.lease.is_none()
    }

    /// The position of the last of them.
    pub fn last(&self) -> Position {
        self.messages().last().map_or(Position::ZERO, Message::position)
    }

    /// Its memory, roughly.
    pub(crate) fn cost(&self) -> usize {
        if self.len() == self.segment.messages.len() {
            return self.segment.cost;
        }
        self.messages().iter().map(|message| message.draft.cost()).sum()
    }

    /// The first `count` messages of it, at least one and at most all.
    #[must_use]
    pub fn first(&self, count: usize) -> Self {
        let count = count.clamp(1, self.len());
        Self { segment: self.segment.clone(), start: self.start, end: self.start + count as u32 }
    }

    /// Whether both are the same run of the same segment.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.segment, &other.segment) && self.start == other.start && self.end == other.end
    }

    /// The messages from index `start` to before `end`, counted in this slice.
    pub(crate) fn run(&self, start: usize, end: usize) -> Self {
        Self::new(self.segment.clone(), self.start as usize + start, self.start as usize + end)
    }

    /// A slice for each of its messages.
    pub fn each(&self) -> impl DoubleEndedIterator<Item = Self> + '_ {
        (0..self.len()).map(|index| self.run(index, index + 1))
    }

    /// All messages in one format, contiguous.
    pub fn encoded(&self, format: usize) -> Bytes {
        let encoding = self.segment.encoding(format);
        encoding.bytes.slice(self.range(encoding))
    }

    /// The same, to look at.
    pub(crate) fn bytes(&self, format: usize) -> &[u8] {
        let encoding = self.segment.encoding(format);
        &encoding.bytes[self.range(encoding)]
    }

    fn range(&self, encoding: &Encoding) -> Range<usize> {
        self.offset(encoding, self.start as usize)..self.offset(encoding, self.end as usize)
    }

    /// The end of the message in which byte `offset` of [`Slice::encoded`] lies, and that message's position.
    pub fn message_end(&self, format: usize, offset: usize) -> (usize, Position) {
        let encoding = self.segment.encoding(format);
        let base = self.offset(encoding, self.start as usize);
        let ends = &encoding.ends[self.start as usize..self.end as usize];
        let index = ends.partition_point(|&end| (end as usize) <= base + offset).min(ends.len() - 1);
        (ends[index] as usize - base, self.messages()[index].position())
    }

    fn offset(&self, encoding: &Encoding, index: usize) -> usize {
        if index == 0 { 0 } else { encoding.ends[index - 1] as usize }
    }
}

#[cfg(test)]
mod tests;
