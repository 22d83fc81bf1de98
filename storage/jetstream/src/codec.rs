//! Bytes of entries: numbers as varints, texts with their length, and contents that are cut out of what they came in
//! without being copied.

use bytes::{BufMut, Bytes, BytesMut};
use tailwire_model::varint::{VarintError, take_varint, varint};

/// The bytes are not what a node writes; the text says what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

const SHORT: Malformed = Malformed("it ends too early");

/// Appends a number in as few bytes as it takes.
pub(crate) fn put_varint(out: &mut BytesMut, value: u64) {
    let (bytes, length) = varint(value);
    out.put_slice(&bytes[..length]);
}

/// Appends bytes and their length.
pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_varint(out, bytes.len() as u64);
    out.put_slice(bytes);
}

/// Takes values off the front of some bytes.
#[derive(Debug, Clone)]
pub(crate) struct Taker {
    bytes: Bytes,
    at: usize,
}

impl Taker {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self { bytes, at: 0 }
    }

    fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// Bytes that are left.
    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// All that is left.
    pub(crate) fn into_rest(self) -> Bytes {
        self.bytes.slice(self.at..)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let taken = *self.rest().first_chunk::<N>().ok_or(SHORT)?;
        self.at += N;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn u128(&mut self) -> Result<u128, Malformed> {
        self.array().map(u128::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let (value, length) = take_varint(self.rest()).map_err(|error| match error {
            VarintError::Short => SHORT,
            VarintError::Long => Malformed("a number is too long"),
        })?;
        self.at += length;
        Ok(value)
    }

    /// A number of things of which each takes at least one byte: so that what is reserved for them is bounded by what came.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = usize::try_from(self.varint()?).map_err(|_| Malformed("a number is too large"))?;
        if count > self.left() { Err(SHORT) } else { Ok(count) }
    }

    fn span(&mut self) -> Result<std::ops::Range<usize>, Malformed> {
        let length = self.count()?;
        let start = self.at;
        self.at += length;
        Ok(start..start + length)
    }

    /// A content, which shares the memory of what it came in.
    pub(crate) fn bytes(&mut self) -> Result<Bytes, Malformed> {
        let span = self.span()?;
        Ok(self.bytes.slice(span))
    }

    pub(crate) fn text(&mut self) -> Result<&str, Malformed> {
        let span = self.span()?;
        std::str::from_utf8(&self.bytes[span]).map_err(|_| Malformed("a text is not UTF-8"))
    }

    /// That nothing is left.
    pub(crate) fn end(&self) -> Result<(), Malformed> {
        if self.left() == 0 { Ok(()) } else { Err(Malformed("something follows its end")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_what_came_is_refused() {
        let mut out = BytesMut::new();
        put_varint(&mut out, u64::MAX);
        assert_eq!(Taker::new(out.freeze()).bytes(), Err(SHORT));
    }
}
