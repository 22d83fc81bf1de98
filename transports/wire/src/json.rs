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
    // How U+0085, U+2028 and U+2029 begin, of which some readers of lines make line breaks.
    table[0xc2] = true;
    table[0xe2] = true;
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
            0xc2 | 0xe2 => {
                rest = escape_break(&rest[at..], out);
                continue;
            }
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

/// A character that may be a line break to others: escaped if it is, else as it stands. Gives what follows its first byte,
/// or the whole of it.
fn escape_break<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let breaks: [(&[u8], &[u8]); 3] = [
        ("\u{85}".as_bytes(), b"\\u0085"),
        ("\u{2028}".as_bytes(), b"\\u2028"),
        ("\u{2029}".as_bytes(), b"\\u2029"),
    ];
    for (own, escaped) in breaks {
        if let Some(rest) = text.strip_prefix(own) {
            out.extend_from_slice(escaped);
            return rest;
        }
    }
    out.push(text[0]);
    &text[1..]
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
        let breaks = less(word ^ (ONES * 0xc2), 1) | less(word ^ (ONES * 0xe2), 1);
        let found = less(word, 0x20) | less(quotes, 1) | less(backslashes, 1) | breaks;
        if found != 0 {
            return Some(at + (found.trailing_zeros() / 8) as usize);
        }
        at += 8;
    }
    text[at..].iter().position(|&byte| ESCAPED[usize::from(byte)]).map(|found| at + found)
}

/// The fault of a text in which half of a surrogate pair is escaped: it is written like a character and is none, so
/// that some parsers refuse it (RFC 8259 §8.2), and say only that something is missing behind it.
pub(crate) fn surrogate_fault(text: &str) -> Option<String> {
    let at = lone_surrogate(text)?;
    let escape = &text[at..at + 6];
    Some(format!("`{escape}` at byte {} is half of a surrogate pair, and no character", at + 1))
}

/// The fault of a text that is no JSON.
pub(crate) fn explain(text: &str, error: &serde_json::Error) -> String {
    surrogate_fault(text).unwrap_or_else(|| error.to_string())
}

/// Where the first escape stands that is half of a surrogate pair.
fn lone_surrogate(text: &str) -> Option<usize> {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let mut at = 0;
    while let Some(found) = memchr::memchr(b'\\', &text.as_bytes()[at..]) {
        at += found;
        match unit(at) {
            Some(0xd800..0xdc00) if matches!(unit(at + 6), Some(0xdc00..0xe000)) => at += 12,
            Some(0xd800..0xe000) => return Some(at),
            // The character behind a backslash is no escape of its own.
            _ => at += 2,
        }
        if at >= text.len() {
            return None;
        }
    }
    None
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
            for c in
                (0..=0x7f).map(char::from).chain(['é', '\u{85}', '\u{2028}', '\u{2029}', '\u{2027}', '😀'])
            {
                let text = format!("{}{c}{}\"\u{80}", "a".repeat(place), "z".repeat(20 - place));
                let mut out = Vec::new();
                string(&text, &mut out);
                assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
                assert!(!out.iter().any(|&byte| byte < 0x20), "{c:?} at {place}");
                let is_line = |c: char| !matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}');
                assert!(std::str::from_utf8(&out).unwrap().chars().all(is_line), "{c:?} at {place}");
            }
        }
    }

    #[test]
    fn half_of_a_surrogate_pair_is_found() {
        for (text, at) in [
            (r#""\ud800""#, Some(1)),
            (r#""\udc00""#, Some(1)),
            (r#""é\uD83D""#, Some(3)),
            (r#""\ud83d\ude00\ud83d!""#, Some(13)),
            (r#""\ud83dx\ude00""#, Some(1)),
            (r#""\ud83d\ude00""#, None),
            (r#""\\ud800""#, None),
            (r#""\u00e9 \n \""#, None),
            (r#""\u12é4""#, None),
            ("\\", None),
            ("", None),
        ] {
            assert_eq!(lone_surrogate(text), at, "{text}");
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
