//! The formats of a message, and the JSON and SSE of which their encodings are made. Which is encoded how stands in the table of
//! [`encoders`](crate::encoders).

use base64::{Engine, engine::general_purpose::STANDARD};
use memchr::{memchr2, memchr2_iter};
use tailwire_model::{DataKind, MediaType, Message, message::Extras};

use crate::{json, time::rfc3339};

/// How a transport wants messages encoded. The broker knows it as a number only: a slot.
#[repr(usize)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// An object of a page's `messages`, followed by a comma.
    Item,
    /// A line of NDJSON, with its line break.
    Line,
    /// The same as one chunk of HTTP/1.1 (RFC 9112 §7.1).
    LineChunk,
    /// The line without its line break, as one unmasked WebSocket text frame (RFC 6455 §5.2).
    Frame,
    /// A block of SSE (WHATWG HTML §9.2) whose data is the message's body.
    Sse,
    /// The same as one chunk.
    SseChunk,
    /// A block of SSE whose data is the line.
    SseEnvelope,
    /// The same as one chunk.
    SseEnvelopeChunk,
    /// An entry of an Atom feed.
    AtomEntry,
    /// An item of a JSON Feed, followed by a comma.
    JsonFeedItem,
}

impl Format {
    /// How many there are.
    pub const COUNT: usize = 10;
}

/// The size of an encoding beside names and bodies, generously, so that most make the buffer grow once.
const OVERHEAD_BYTES: usize = 192;

pub(crate) fn item(message: &Message, out: &mut Vec<u8>) {
    out.reserve(message.draft.cost() + OVERHEAD_BYTES);
    out.push(b'{');
    members(message, out);
    out.extend_from_slice(b"},");
}

/// The line, without its line break.
pub(crate) fn line(message: &Message, out: &mut Vec<u8>) {
    out.reserve(message.draft.cost() + OVERHEAD_BYTES);
    out.extend_from_slice(b"{\"kind\":\"message\",");
    members(message, out);
    out.push(b'}');
}

pub(crate) fn line_break(message: &Message, out: &mut Vec<u8>) {
    line(message, out);
    out.push(b'\n');
}

/// The members that a line and an item share, in their fixed order.
pub(crate) fn members(message: &Message, out: &mut Vec<u8>) {
    metadata(message, out);
    if let Some(extras) = &message.draft.extras {
        extra_members(extras, out);
    }
    data_members(message, out);
}

/// What is said of every message.
pub(crate) fn metadata(message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(b"\"cursor\":");
    json::cursor(message.cursor, out);
    json::string_member("topic", message.topic().as_str(), out);
    out.extend_from_slice(b",\"time\":\"");
    out.extend_from_slice(&rfc3339(message.time));
    out.push(b'"');
    match message.draft.media_type.as_str() {
        None => {}
        Some("application/json") => out.extend_from_slice(b",\"type\":\"application/json\""),
        Some(other) => json::string_member("type", other, out),
    }
}

fn data_members(message: &Message, out: &mut Vec<u8>) {
    if message.draft.is_deletion() {
        out.extend_from_slice(b",\"deleted\":true");
        return;
    }
    match data(&message.draft.media_type, &message.draft.body) {
        Data::Json(body) => {
            out.extend_from_slice(b",\"data\":");
            one_line(body, out);
        }
        Data::Text(body) => {
            out.extend_from_slice(b",\"data\":\"");
            json::escape(body, out);
            out.push(b'"');
        }
        Data::Binary(body) => {
            out.extend_from_slice(b",\"encoding\":\"base64\",\"data\":\"");
            base64(body, out);
            out.push(b'"');
        }
    }
}

fn extra_members(extras: &Extras, out: &mut Vec<u8>) {
    names(extras, out);
    if let Some(((name, value), rest)) = extras.headers.split_first() {
        out.extend_from_slice(b",\"headers\":{");
        json::string(name, out);
        out.push(b':');
        json::string(value, out);
        for (name, value) in rest {
            json::string_member(name, value, out);
        }
        out.push(b'}');
    }
    if let Some(max_age_ms) = extras.max_age_ms {
        json::number_member("max_age", max_age_ms / 1000, out);
    }
}

/// A message's key and event.
pub(crate) fn names(extras: &Extras, out: &mut Vec<u8>) {
    if let Some(key) = &extras.key {
        json::string_member("key", key, out);
    }
    if let Some(event) = &extras.event {
        json::string_member("event", event, out);
    }
}

pub(crate) fn sse(message: &Message, out: &mut Vec<u8>) {
    out.reserve(message.draft.cost() + OVERHEAD_BYTES);
    if message.draft.is_deletion() {
        // It has no data, and a block without is not given to anybody.
        sse_id(message, out);
        out.extend_from_slice(b"event: tailwire.deleted\ndata: ");
        line(message, out);
        out.extend_from_slice(b"\n\n");
        return;
    }
    sse_head(message, out);
    match data(&message.draft.media_type, &message.draft.body) {
        Data::Json(body) => {
            out.extend_from_slice(b"data: ");
            one_line(body, out);
            out.push(b'\n');
        }
        Data::Text(body) => sse_text(body, out),
        Data::Binary(body) => {
            out.extend_from_slice(b"data: ");
            base64(body, out);
            out.push(b'\n');
        }
    }
    out.push(b'\n');
}

/// The line says the event's name, and the block doesn't: so that one listener gets every message.
pub(crate) fn sse_envelope(message: &Message, out: &mut Vec<u8>) {
    sse_id(message, out);
    out.extend_from_slice(b"data: ");
    line(message, out);
    out.extend_from_slice(b"\n\n");
}

pub(crate) fn sse_id(message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(b"id: ");
    out.extend_from_slice(&message.cursor.to_ascii());
    out.push(b'\n');
}

fn sse_head(message: &Message, out: &mut Vec<u8>) {
    sse_id(message, out);
    if let Some(event) = message.draft.extras.as_ref().and_then(|extras| extras.event.as_deref()) {
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(event.as_bytes());
        out.push(b'\n');
    }
}

/// A text as `data:` lines, one for each of its own, which end by LF, CRLF or CR: what the client puts together again
/// has LF in their place.
fn sse_text(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        out.extend_from_slice(b"data: ");
        let Some(end) = memchr2(b'\n', b'\r', rest) else {
            out.extend_from_slice(rest);
            out.push(b'\n');
            return;
        };
        out.extend_from_slice(&rest[..end]);
        out.push(b'\n');
        let broken = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[end + broken..];
    }
}

/// A body, by how a line carries it.
enum Data<'a> {
    Json(&'a [u8]),
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

fn data<'a>(media_type: &MediaType, body: &'a [u8]) -> Data<'a> {
    match media_type.data_kind() {
        DataKind::Json => Data::Json(body),
        DataKind::Text if std::str::from_utf8(body).is_ok() => Data::Text(body),
        DataKind::Text | DataKind::Binary => Data::Binary(body),
    }
}

/// JSON without its line breaks. They stand between tokens only, since a string has them escaped (RFC 8259 §7).
fn one_line(body: &[u8], out: &mut Vec<u8>) {
    let mut start = 0;
    for at in memchr2_iter(b'\n', b'\r', body) {
        out.extend_from_slice(&body[start..at]);
        start = at + 1;
    }
    out.extend_from_slice(&body[start..]);
}

fn base64(body: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + body.len().div_ceil(3) * 4, 0);
    // The room is exact, so this does not fail.
    let written = STANDARD.encode_slice(body, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
}
