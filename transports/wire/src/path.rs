//! Names in paths: what follows `/topics/` as a term, and back. Split at `/` first, each segment decoded once.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use tailwire_model::{Cursor, Filter, Term, Topic, limits::TOPIC_BYTES_MAX};

use crate::draft::one_topic;
use crate::problem::{Code, Problem};

/// The characters that a path segment can't have as they are (RFC 3986 §3.3), with the slash kept as separator. `+` and
/// `&` are encoded too, so that an encoded name is also good in a query.
const ENCODED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'&')
    .add(b'+')
    .add(b'<')
    .add(b'=')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The term that the raw, still percent-encoded rest of a path names.
///
/// # Errors
/// `topic-invalid`.
pub fn term(raw: &str) -> Result<Term, Problem> {
    Ok(Term::parse(&decode(raw)?)?)
}

/// The same where only one topic is meant.
///
/// # Errors
/// `topic-invalid`, or `pattern-not-allowed`.
pub fn topic(raw: &str) -> Result<Topic, Problem> {
    one_topic(&decode(raw)?)
}

/// The same as a filter of one term.
///
/// # Errors
/// `topic-invalid`.
pub fn filter(raw: &str) -> Result<Filter, Problem> {
    term(raw).map(Filter::from)
}

/// The cursor that a path names (`/messages/{cursor}`).
///
/// # Errors
/// `cursor-invalid`.
pub fn cursor(raw: &str) -> Result<Cursor, Problem> {
    raw.parse().map_err(|error| Problem::detailed(Code::CursorInvalid, format!("{error}")))
}

/// Appends a name as a path, its slashes kept and all that a path segment can't have percent-encoded (RFC 3986 §3.3). It
/// is good as a value of a query, too.
pub fn encode(name: &str, out: &mut String) {
    out.extend(utf8_percent_encode(name, ENCODED));
}

/// Decodes a path of segments, each once. An encoded slash or backslash is refused: proxies disagree about them, and
/// one of them would see another topic.
fn decode(raw: &str) -> Result<Cow<'_, str>, Problem> {
    let invalid = |why: &'static str| Problem::detailed(Code::TopicInvalid, why);
    // A name's every byte takes three characters at most, so the rest needs no look.
    if raw.len() > 3 * TOPIC_BYTES_MAX {
        return Err(tailwire_model::TopicError::TooLong.into());
    }
    if !raw.contains('%') {
        return Ok(Cow::Borrowed(raw));
    }
    let mut out = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, following @ ..] = rest {
        rest = following;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let byte = match following {
            [high, low, ..] => hex(*high).zip(hex(*low)).map(|(high, low)| high << 4 | low),
            _ => None,
        };
        let Some(byte) = byte else {
            return Err(invalid("a `%` in a path stands before two hexadecimal digits"));
        };
        if matches!(byte, b'/' | b'\\') {
            return Err(invalid("a topic has no encoded slash (%2F) and no backslash (%5C)"));
        }
        out.push(byte);
        rest = &following[2..];
    }
    String::from_utf8(out).map(Cow::Owned).map_err(|_| invalid("a topic is UTF-8"))
}

/// A hexadecimal digit's value.
fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}
