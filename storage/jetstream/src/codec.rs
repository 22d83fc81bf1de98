//! Bytes of entries: numbers as varints, texts with their length, and contents that are cut out of what they came in
//! without being copied.

use bytes::{BufMut, Bytes, BytesMut};

/// The bytes are not what a node writes; the text says what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

const SHORT: Malformed = Malformed("it ends too early");

/// Appends a number in as few bytes as it takes (LEB128).
pub(crate) fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
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
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is too long"))
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
    fn numbers_round_trip() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = BytesMut::new();
            put_varint(&mut out, value);
            let out = out.freeze();
            assert_eq!(Taker::new(out.clone()).varint(), Ok(value));
            assert_eq!(Taker::new(out.slice(..out.len() - 1)).varint(), Err(SHORT));
        }
        assert!(Taker::new(Bytes::from_static(&[0xff; 11])).varint().is_err());
    }

    #[test]
    fn a_length_beyond_what_came_is_refused() {
        let mut out = BytesMut::new();
        put_varint(&mut out, u64::MAX);
        assert_eq!(Taker::new(out.freeze()).bytes(), Err(SHORT));
    }
}
