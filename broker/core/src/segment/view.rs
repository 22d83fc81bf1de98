//! What a reader is given of a message: an encoding in one format, and where that is longer than its client takes, a
//! reference.

use std::num::NonZeroU32;

use tailwire_model::{Message, SizeBound};

/// Appends one message's encoding. Encodings of several messages concatenate.
pub type Encoder = fn(&Message, &mut Vec<u8>);

/// The same for what stands in place of a message that is too large: its metadata, and a reference that climbs so many
/// levels.
pub type ReferenceEncoder = fn(&Message, u8, &mut Vec<u8>);

/// The formats of a broker. A format's name is its index.
#[derive(Debug, Clone, Copy)]
pub struct Encoders {
    pub(super) whole: &'static [Encoder],
    pub(super) references: &'static [ReferenceEncoder],
}

impl Encoders {
    /// Formats in which messages of any size are given whole.
    pub const fn whole(whole: &'static [Encoder]) -> Self {
        Self { whole, references: &[] }
    }

    /// Formats that have something to put in a large message's place, each at the same index.
    pub const fn new(whole: &'static [Encoder], references: &'static [ReferenceEncoder]) -> Self {
        Self { whole, references }
    }
}

/// How messages are encoded for a reader. Eight bytes, since every subscriber slot has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    pub(super) bytes_max: Option<NonZeroU32>,
    pub(super) format: u8,
    pub(super) depth: u8,
}

impl View {
    /// Messages of any size, in the format of this slot.
    pub const fn whole(format: usize) -> Self {
        // There are a dozen formats.
        Self { bytes_max: None, format: format as u8, depth: 0 }
    }

    /// The same with references to what is larger, if there is a bound.
    #[must_use]
    pub fn bounded(self, bound: Option<SizeBound>) -> Self {
        let Some(bound) = bound else { return self };
        let bytes_max = u32::try_from(bound.bytes()).ok().and_then(NonZeroU32::new);
        Self { bytes_max, depth: bound.depth(), ..self }
    }

    /// The slot.
    pub const fn format(self) -> usize {
        self.format as usize
    }

    /// Bytes of a message's encoding, at most; `None` if any size is taken.
    pub fn bytes_max(self) -> Option<usize> {
        self.bytes_max.map(|bytes| bytes.get() as usize)
    }

    /// How many levels a reference climbs.
    pub(super) const fn depth(self) -> u8 {
        self.depth
    }

    /// Whether this takes less of a message than another does.
    pub(crate) fn is_tighter_than(self, other: Self) -> bool {
        self.bytes_max.is_some_and(|own| other.bytes_max.is_none_or(|others| own < others))
    }
}

impl From<usize> for View {
    fn from(format: usize) -> Self {
        Self::whole(format)
    }
}
