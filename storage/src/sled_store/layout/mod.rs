//! The stored bytes: the layout of each value, and the trees that hold the index. Knows no durability and no order of writes.

pub(crate) mod change;
pub(crate) mod chunk;
pub(crate) mod label;
pub(crate) mod postings;
pub(crate) mod record;
pub(crate) mod table;
pub(crate) mod values;

/// The version of everything stored. Another one is not guessed at.
pub(crate) const FORMAT: u32 = 7;
