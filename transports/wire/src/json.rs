//! JSON written straight into a buffer: strings escaped by runs, numbers, cursors, timestamps. No tree, no serializer.

use tailwire_model::{Cursor, Gap};

/// `true` for the bytes that JSON strings escape (RFC 8259 §7): `"`, `\` and controls. All else is copied by runs.
const ESCAPED: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = true;
        byte += 1;
    }
    table[b'"' as usize] = true;
    table[b'\\' as usize] = true;
    table
};

/// A string with its quotes.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    escape(text.as_bytes(), out);
    out.push(b'"');
}

/// The inside of a string: UTF-8 that is escaped where it must be.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    while let Some(at) = find_escaped(rest) {
        out.extend_from_slice(&rest[..at]);
        let short = match rest[at] {
            b'"' => b'"',
            b'\\' => b'\\',
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            0x08 => b'b',
            0x0c => b'f',
            control => {
                const HEX: &[u8; 16] = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.push(HEX[usize::from(control >> 4)]);
                out.push(HEX[usize::from(control & 15)]);
                rest = &rest[at + 1..];
                continue;
            }
        };
        out.extend_from_slice(&[b'\\', short]);
        rest = &rest[at + 1..];
    }
    out.extend_from_slice(rest);
}

/// Where the first byte stands that must be escaped. Eight bytes at a time: a subtraction borrows into a byte's top bit
/// where the byte is less than the subtrahend, and nowhere before the first such byte.
fn find_escaped(text: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = ONES << 7;
    let less = |word: u64, than: u64| word.wrapping_sub(ONES * than) & !word & TOPS;
    let mut at = 0;
    while let Some(eight) = text[at..].first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        let quotes = word ^ (ONES * b'"' as u64);
        let backslashes = word ^ (ONES * b'\\' as u64);
        let found = less(word, 0x20) | less(quotes, 1) | less(backslashes, 1);
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    text[at..].iter().position(|&byte| ESCAPED[usize::from(byte)]).map(|found| at + found)
}

/// A number in decimal.
pub(crate) fn number(mut value: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut start = digits.len();
    loop {
        start -= 1;
        digits[start] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// `,"name":`
fn name(name: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

/// `,"name":"text"`
pub(crate) fn string_member(member: &str, text: &str, out: &mut Vec<u8>) {
    name(member, out);
    string(text, out);
}

/// `,"name":7`
pub(crate) fn number_member(member: &str, value: u64, out: &mut Vec<u8>) {
    name(member, out);
    number(value, out);
}

/// `,"name":true`
pub(crate) fn boolean_member(member: &str, value: bool, out: &mut Vec<u8>) {
    name(member, out);
    out.extend_from_slice(if value { b"true" } else { b"false" });
}

/// `,"name":null`
pub(crate) fn null_member(member: &str, out: &mut Vec<u8>) {
    name(member, out);
    out.extend_from_slice(b"null");
}

/// `,"name":"cursor"`
pub(crate) fn cursor_member(member: &str, value: Cursor, out: &mut Vec<u8>) {
    name(member, out);
    cursor(value, out);
}

/// A cursor with its quotes.
pub(crate) fn cursor(cursor: Cursor, out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(&cursor.to_ascii());
    out.push(b'"');
}

/// `"from":"…","to":"…","reason":"…"`
pub(crate) fn gap_members(gap: &Gap, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"from\":");
    cursor(gap.from, out);
    cursor_member("to", gap.to, out);
    string_member("reason", gap.reason.as_str(), out);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place_escapes_as_a_parser_reads_it() {
        for place in 0..20 {
            for c in (0..=0x7f).map(char::from).chain(['é', '\u{2028}', '😀']) {
                let text = format!("{}{c}{}\"\u{80}", "a".repeat(place), "z".repeat(20 - place));
                let mut out = Vec::new();
                string(&text, &mut out);
                assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
                assert!(!out.iter().any(|&byte| byte < 0x20), "{c:?} at {place}");
            }
        }
    }

    #[test]
    fn numbers() {
        for value in [0, 9, 10, 1_767_225_600_000, u64::MAX] {
            let mut out = Vec::new();
            number(value, &mut out);
            assert_eq!(out, value.to_string().as_bytes());
        }
    }
}
