//! Labels: what makes a stored value tell by itself what it is, so that messages can be found in a file of which the
//! engine makes nothing any more. It knows no layout of what it labels.
//!
//! ```text
//! 0xF5 "tw"  kind: u8  bytes, all of it: u32  bytes of the key: u16  key  value…  CRC-32 of all before: u32
//! ```
//! No text in UTF-8 has the byte 0xF5. Labelled is what a repair can't do without: messages, their fragments, trims,
//! epochs, and what was lost. Of a value that was stored more than once the file may hold all, so only what says by itself
//! which one counts (the farthest, the latest epoch's) may be found this way.

use crate::codec::{ByteReader, Damage, checksum};

/// The kind of a labelled value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A chunk, by its first position.
    Chunk,
    /// A fragment, by its message's position and its number.
    Fragment,
    /// A trim, by its topic.
    Trim,
    /// An epoch, by its number.
    Epoch,
    /// How far messages of a topic were lost, by the topic.
    Lost,
    /// A message that was taken by itself, by its topic and position.
    Removed,
}

/// The first byte of a label.
pub(crate) const FIRST_BYTE: u8 = 0xF5;
/// No labelled value is longer; see [`CHUNK_BYTES`](super::chunk::CHUNK_BYTES).
pub(crate) const LABELLED_BYTES_MAX: usize = 8192;

const MAGIC: [u8; 3] = [FIRST_BYTE, b't', b'w'];
const LENGTH_AT: usize = 4;
const HEADER_BYTES: usize = 10;
const SUM_BYTES: usize = 4;

impl Kind {
    const ALL: [Self; 6] = [Self::Chunk, Self::Fragment, Self::Trim, Self::Epoch, Self::Lost, Self::Removed];

    const fn byte(self) -> u8 {
        match self {
            Self::Chunk => b'c',
            Self::Fragment => b'f',
            Self::Trim => b't',
            Self::Epoch => b'e',
            Self::Lost => b'l',
            Self::Removed => b'r',
        }
    }

    fn of(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.byte() == byte)
    }
}

/// Begins a value: what follows is appended, and [`end`] ends it.
pub(crate) fn begin(kind: Kind, key: &[u8], capacity: usize) -> Vec<u8> {
    let mut value = Vec::with_capacity(HEADER_BYTES + key.len() + capacity + SUM_BYTES);
    value.extend_from_slice(&MAGIC);
    value.push(kind.byte());
    value.extend_from_slice(&[0; 4]);
    // A key is a position, an epoch or a topic, which has at most 255 bytes, or a topic and a position.
    value.extend_from_slice(&(key.len() as u16).to_le_bytes());
    value.extend_from_slice(key);
    value
}

/// Ends a value.
pub(crate) fn end(value: &mut Vec<u8>) {
    let length = (value.len() + SUM_BYTES) as u32;
    value[LENGTH_AT..LENGTH_AT + 4].copy_from_slice(&length.to_le_bytes());
    let sum = checksum(&[], value);
    value.extend_from_slice(&sum.to_le_bytes());
}

/// The labelled bytes, if they are of this kind and key, and as they were written.
pub(crate) fn open<'a>(kind: Kind, key: &[u8], labelled: &'a [u8]) -> Result<&'a [u8], Damage> {
    let found = find(labelled)?;
    if found.bytes != labelled.len() || found.kind != kind || found.key != key {
        return Err(Damage("it is another's value"));
    }
    found.check()
}

/// A labelled value, as it seems.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LabelledValue<'a> {
    pub(crate) kind: Kind,
    pub(crate) key: &'a [u8],
    /// The bytes of all of it.
    pub(crate) bytes: usize,
    labelled: &'a [u8],
}

/// The label that these bytes begin with.
pub(crate) fn find(bytes: &[u8]) -> Result<LabelledValue<'_>, Damage> {
    const NONE: Damage = Damage("it has no label");
    let mut reader = ByteReader(bytes);
    if reader.array()? != MAGIC {
        return Err(NONE);
    }
    let kind = Kind::of(reader.byte()?).ok_or(NONE)?;
    let length = reader.u32()? as usize;
    let key_length = usize::from(u16::from_le_bytes(reader.array()?));
    let least = HEADER_BYTES + key_length + SUM_BYTES;
    if length > LABELLED_BYTES_MAX || length < least || length > bytes.len() {
        return Err(Damage("its length is wrong"));
    }
    let key = reader.bytes(key_length)?;
    Ok(LabelledValue { kind, key, bytes: length, labelled: &bytes[..length] })
}

impl<'a> LabelledValue<'a> {
    /// The labelled bytes, if they are as they were written.
    pub(crate) fn check(&self) -> Result<&'a [u8], Damage> {
        let short = Damage("it is too short");
        let (value, sum) = self.labelled.split_last_chunk::<SUM_BYTES>().ok_or(short)?;
        if u32::from_le_bytes(*sum) == checksum(&[], value) {
            value.get(HEADER_BYTES + self.key.len()..).ok_or(short)
        } else {
            Err(Damage("its checksum is wrong"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    fn labelled(kind: Kind, key: &[u8], content: &[u8]) -> Vec<u8> {
        let mut value = begin(kind, key, content.len());
        value.extend_from_slice(content);
        end(&mut value);
        value
    }

    #[test]
    fn a_label_is_found_whatever_follows() {
        for kind in Kind::ALL {
            let mut bytes = labelled(kind, b"key", b"content");
            assert_eq!(open(kind, b"key", &bytes), Ok(&b"content"[..]));
            assert!(open(kind, b"kez", &bytes).is_err());
            let length = bytes.len();
            bytes.extend_from_slice(b"another's");
            let found = find(&bytes).unwrap();
            assert_eq!((found.kind, found.key, found.bytes), (kind, &b"key"[..], length));
            assert_eq!(found.check(), Ok(&b"content"[..]));
            assert!(open(kind, b"key", &bytes).is_err());
        }
    }

    #[test]
    fn every_bit_counts() {
        let value = labelled(Kind::Trim, b"a/b", b"content");
        for at in 0..value.len() * 8 {
            let mut damaged = value.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(open(Kind::Trim, b"a/b", &damaged).is_err());
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_panic(tail in proptest::collection::vec(any::<u8>(), 0..64)) {
            let bytes = [&MAGIC[..], b"c", &tail].concat();
            if let Ok(found) = find(&bytes) {
                let _ = found.check();
            }
        }
    }
}
