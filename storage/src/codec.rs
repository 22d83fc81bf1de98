//! Bytes of the small kind: varints, strings, and the checksum that every stored value ends with. Knows no layout;
//! those are with the values.

use tailwire_model::varint::{VarintError, take_varint, varint};

/// The bytes are not what was written; the text says what is wrong with them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damage(pub(crate) &'static str);

const SUM_BYTES: usize = 4;

/// Ends a value with its checksum. `key` goes into the sum, so that a value under another's key is damage, too.
pub(crate) fn seal(key: &[u8], value: &mut Vec<u8>) {
    let sum = checksum(key, value);
    value.extend_from_slice(&sum.to_le_bytes());
}

/// The value without its checksum, if that is right.
pub(crate) fn unseal<'a>(key: &[u8], sealed: &'a [u8]) -> Result<&'a [u8], Damage> {
    let (value, sum) = sealed.split_last_chunk::<SUM_BYTES>().ok_or(Damage("it is too short"))?;
    if u32::from_le_bytes(*sum) == checksum(key, value) {
        Ok(value)
    } else {
        Err(Damage("its checksum is wrong"))
    }
}

/// CRC-32 of a key and a value.
pub(crate) fn checksum(key: &[u8], value: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(key);
    hasher.update(value);
    hasher.finalize()
}

/// Appends a number in as few bytes as it takes.
pub(crate) fn put_varint(out: &mut Vec<u8>, value: u64) {
    let (bytes, length) = varint(value);
    out.extend_from_slice(&bytes[..length]);
}

/// Appends a string and its length.
pub(crate) fn put_str(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Takes values off the front of some bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ByteReader<'a>(pub(crate) &'a [u8]);

const SHORT: Damage = Damage("it ends too early");

impl<'a> ByteReader<'a> {
    pub(crate) fn bytes(&mut self, count: usize) -> Result<&'a [u8], Damage> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Damage> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Damage> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Damage> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Damage> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Damage> {
        let (value, length) = take_varint(self.0).map_err(|error| match error {
            VarintError::Short => SHORT,
            VarintError::Long => Damage("a number is too long"),
        })?;
        self.0 = &self.0[length..];
        Ok(value)
    }

    pub(crate) fn length(&mut self) -> Result<usize, Damage> {
        usize::try_from(self.varint()?).map_err(|_| Damage("a length is too large"))
    }

    pub(crate) fn str(&mut self) -> Result<&'a str, Damage> {
        let length = self.length()?;
        std::str::from_utf8(self.bytes(length)?).map_err(|_| Damage("a text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_seal_covers_key_and_value() {
        let mut sealed = b"value".to_vec();
        seal(b"key", &mut sealed);
        assert_eq!(unseal(b"key", &sealed).unwrap(), b"value");
        assert!(unseal(b"other", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone();
            damaged[at] ^= 0x10;
            assert!(unseal(b"key", &damaged).is_err());
        }
        assert!(unseal(b"key", b"abc").is_err());
    }
}
