//! Numbers in as few bytes as they take (LEB128), as what is stored and what nodes send to each other has them.

/// The bytes that a number takes at most.
pub const VARINT_BYTES_MAX: usize = 10;

/// A number, and how many of the bytes it takes.
pub const fn varint(mut value: u64) -> ([u8; VARINT_BYTES_MAX], usize) {
    let (mut bytes, mut length) = ([0; VARINT_BYTES_MAX], 0);
    while value >= 0x80 {
        bytes[length] = (value & 0x7f) as u8 | 0x80;
        value >>= 7;
        length += 1;
    }
    bytes[length] = value as u8;
    (bytes, length + 1)
}

/// Why some bytes don't begin with a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VarintError {
    /// They end before it does.
    Short,
    /// It has more bytes than a number has.
    Long,
}

/// The number at the front of some bytes, and how many of them it takes.
///
/// # Errors
/// A [`VarintError`].
pub fn take_varint(bytes: &[u8]) -> Result<(u64, usize), VarintError> {
    let mut value = 0;
    for at in 0..VARINT_BYTES_MAX {
        let byte = *bytes.get(at).ok_or(VarintError::Short)?;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            return Ok((value, at + 1));
        }
    }
    Err(VarintError::Long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let (bytes, length) = varint(value);
            assert_eq!(take_varint(&bytes[..length]), Ok((value, length)));
            assert_eq!(take_varint(&bytes[..length - 1]), Err(VarintError::Short));
        }
        assert_eq!(take_varint(&[0xff; 11]), Err(VarintError::Long));
    }
}
