//! Segments: a few messages, immutable and shared by every reader, with one contiguous encoding per format, made on
//! first use. This is where "encode once" lives. A format is a slot and a function; what it writes is not known here.
//! Readers with a bound on a message's size share an encoding of their own only where a message is beyond it.

mod view;

use std::{
    iter,
    ops::Range,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use smallvec::SmallVec;
use tailwire_model::{Message, Position};

pub use self::view::{Encoder, Encoders, ReferenceEncoder, View};
use crate::pool::Lease;

/// Slices of one or more segments, oldest first.
pub type Slices = SmallVec<[Slice; 4]>;

/// Messages in log order.
pub(crate) struct Segment {
    messages: Box<[Message]>,
    encodings: Box<[OnceLock<Encoding>]>,
    /// Those with references in place of what is beyond some readers' bounds.
    bounded: OnceLock<Box<Bounded>>,
    encoders: Encoders,
    cost: usize,
    /// Of one that was read for one reader: given back to the pool when that lets the segment go.
    lease: Option<Lease>,
}

struct Encoding {
    bytes: Bytes,
    /// Where each message's encoding ends.
    ends: Box<[u32]>,
    /// The bytes of the longest of them.
    longest: u32,
}

/// A list that only grows, so that what it holds can be borrowed.
struct Bounded {
    view: View,
    encoding: Encoding,
    next: OnceLock<Box<Self>>,
}

impl Drop for Bounded {
    /// One after the other, as the list may be long.
    fn drop(&mut self) {
        let mut next = self.next.take();
        while let Some(mut bounded) = next {
            next = bounded.next.take();
        }
    }
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
        view: View,
        mut lease: Lease,
    ) -> Arc<Self> {
        let mut segment = Self::of(messages, encoders);
        segment.encoding(view);
        let encodings = segment.encodings.iter().filter_map(OnceLock::get).chain(segment.bounded());
        lease.set(segment.cost + encodings.map(|encoding| encoding.bytes.len()).sum::<usize>());
        segment.lease = Some(lease);
        Arc::new(segment)
    }

    fn of(messages: Vec<Message>, encoders: Encoders) -> Self {
        debug_assert!(!messages.is_empty(), "a segment has at least one message");
        let cost = messages.iter().map(|message| message.draft.cost()).sum();
        let encodings = encoders.whole.iter().map(|_| OnceLock::new()).collect();
        let bounded = OnceLock::new();
        Self { messages: messages.into(), encodings, bounded, encoders, cost, lease: None }
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

    fn encoding(&self, view: View) -> &Encoding {
        let whole = self.whole(view.format());
        match view.bytes_max() {
            Some(bytes_max) if whole.longest as usize > bytes_max => self.with_references(view, whole),
            _ => whole,
        }
    }

    fn whole(&self, format: usize) -> &Encoding {
        self.encodings[format].get_or_init(|| {
            let encode = self.encoders.whole[format];
            Encoding::new(&self.messages, self.cost + 96 * self.messages.len(), |_, message, out| {
                encode(message, out);
            })
        })
    }

    /// The encoding in which what is beyond the bound is a reference, made for the first who asks for it.
    fn with_references<'a>(&'a self, view: View, whole: &'a Encoding) -> &'a Encoding {
        let Some(encode) = self.encoders.references.get(view.format()) else { return whole };
        let bytes_max = view.bytes_max().unwrap_or(usize::MAX);
        let make = || {
            let encoding = Encoding::new(&self.messages, 0, |index, message, out| {
                let bytes = &whole.bytes[whole.range(index, index + 1)];
                if bytes.len() > bytes_max {
                    encode(message, view.depth(), out);
                } else {
                    out.extend_from_slice(bytes);
                }
            });
            Box::new(Bounded { view, encoding, next: OnceLock::new() })
        };
        let mut bounded = self.bounded.get_or_init(make);
        while bounded.view != view {
            bounded = bounded.next.get_or_init(make);
        }
        &bounded.encoding
    }

    fn bounded(&self) -> impl Iterator<Item = &Encoding> {
        let all = iter::successors(self.bounded.get(), |bounded| bounded.next.get());
        all.map(|bounded| &bounded.encoding)
    }
}

impl Encoding {
    fn new(
        messages: &[Message],
        capacity: usize,
        mut encode: impl FnMut(usize, &Message, &mut Vec<u8>),
    ) -> Self {
        let (mut bytes, mut longest) = (Vec::with_capacity(capacity), 0);
        let ends = messages
            .iter()
            .enumerate()
            .map(|(index, message)| {
                let start = bytes.len();
                encode(index, message, &mut bytes);
                longest = longest.max(bytes.len() - start);
                // A segment holds one page or one commit's share: far below 4 GiB.
                u32::try_from(bytes.len()).unwrap_or(u32::MAX)
            })
            .collect();
        Self { bytes: bytes.into(), ends, longest: longest as u32 }
    }

    /// Where the messages from index `start` to before `end` stand.
    fn range(&self, start: usize, end: usize) -> Range<usize> {
        let offset = |index: usize| if index == 0 { 0 } else { self.ends[index - 1] as usize };
        offset(start)..offset(end)
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

    /// All messages as somebody sees them, contiguous.
    pub fn encoded(&self, view: impl Into<View>) -> Bytes {
        let encoding = self.segment.encoding(view.into());
        encoding.bytes.slice(self.range(encoding))
    }

    /// The same, to look at.
    pub(crate) fn bytes(&self, view: View) -> &[u8] {
        let encoding = self.segment.encoding(view);
        &encoding.bytes[self.range(encoding)]
    }

    fn range(&self, encoding: &Encoding) -> Range<usize> {
        encoding.range(self.start as usize, self.end as usize)
    }

    /// The end of the message in which byte `offset` of [`Slice::encoded`] lies, and that message's position.
    pub fn message_end(&self, view: impl Into<View>, offset: usize) -> (usize, Position) {
        let encoding = self.segment.encoding(view.into());
        let base = self.range(encoding).start;
        let ends = &encoding.ends[self.start as usize..self.end as usize];
        let index = ends.partition_point(|&end| (end as usize) <= base + offset).min(ends.len() - 1);
        (ends[index] as usize - base, self.messages()[index].position())
    }
}

#[cfg(test)]
mod tests;
