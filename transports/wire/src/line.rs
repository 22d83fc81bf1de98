//! The server's control lines, for NDJSON and WebSocket: JSON text without a line break, appended to `out`.
//!
//! For NDJSON push `\n` after it; for a chunked socket wrap that by [`chunk`](crate::framing::chunk), for a WebSocket
//! wrap the line by [`frame_text`](crate::framing::frame_text).

pub use tailwire_model::ByeReason;
use tailwire_model::{Cursor, Epoch, Filter, Gap, Position, limits};

use crate::{json, narrowed, problem::Problem, request::Id};

/// The first line of a WebSocket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// The log's current epoch, on the wire as in a cursor.
    pub epoch: Epoch,
    /// The longest silence of a live connection.
    pub heartbeat_ms: u64,
    /// The client's limits.
    pub limits: WelcomeLimits,
    /// Whether the client has to authenticate before the URL's filter is served; left out when it doesn't.
    pub authenticate: bool,
}

/// The limits that a WebSocket client should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WelcomeLimits {
    /// Unanswered requests.
    pub pending: usize,
    /// Subscriptions of one connection.
    pub subscriptions: usize,
    /// Bytes of a client's line.
    pub line_bytes: usize,
    /// Bytes of a message's body.
    pub message_bytes: usize,
    /// Terms of a filter.
    pub terms: usize,
    /// Messages of a page.
    pub page: usize,
}

impl Default for WelcomeLimits {
    /// Those of [`tailwire_model::limits`].
    fn default() -> Self {
        Self {
            pending: limits::SOCKET_PENDING_MAX,
            subscriptions: limits::SOCKET_SUBSCRIPTIONS_MAX,
            line_bytes: limits::SOCKET_LINE_BYTES_MAX,
            message_bytes: limits::MESSAGE_BYTES_MAX,
            terms: limits::FILTER_TERMS_MAX,
            page: limits::PAGE_MESSAGES_MAX,
        }
    }
}

/// `{"kind":"heartbeat","cursor":"…"}`
pub fn heartbeat(cursor: Cursor, out: &mut Vec<u8>) {
    open("heartbeat", None, out);
    json::cursor_member("cursor", cursor, out);
    out.push(b'}');
}

/// The first line of a stream over HTTP, which is a heartbeat, with what its patterns were narrowed to, if they were.
pub fn opening(cursor: Cursor, permitted: Option<&Filter>, out: &mut Vec<u8>) {
    open("heartbeat", None, out);
    json::cursor_member("cursor", cursor, out);
    if let Some(permitted) = permitted {
        narrowed::member(permitted, out);
    }
    out.push(b'}');
}

/// `{"kind":"caught_up","cursor":"…"}`, tagged with the subscription if there is one.
pub fn caught_up(cursor: Cursor, sub: Option<&Id>, out: &mut Vec<u8>) {
    open("caught_up", sub, out);
    json::cursor_member("cursor", cursor, out);
    out.push(b'}');
}

/// `{"kind":"gap","from":"…","to":"…","reason":"…"}`, tagged with the subscription if there is one.
pub fn gap(gap: &Gap, sub: Option<&Id>, out: &mut Vec<u8>) {
    open("gap", sub, out);
    out.push(b',');
    json::gap_members(gap, out);
    out.push(b'}');
}

/// `{"kind":"bye","retry_after_ms":1200,"reason":"…"}`
pub fn bye(reason: ByeReason, retry_after_ms: u64, out: &mut Vec<u8>) {
    open("bye", None, out);
    json::number_member("retry_after_ms", retry_after_ms, out);
    json::string_member("reason", reason.as_str(), out);
    out.push(b'}');
}

/// `{"kind":"welcome","epoch":"…","heartbeat_ms":15000,"limits":{…}}`
pub fn welcome(welcome: &Welcome, out: &mut Vec<u8>) {
    open("welcome", None, out);
    let cursor = Cursor { epoch: welcome.epoch, position: Position::ZERO }.to_string();
    json::string_member("epoch", cursor.split('-').next().unwrap_or_default(), out);
    json::number_member("heartbeat_ms", welcome.heartbeat_ms, out);
    let limits = &welcome.limits;
    out.extend_from_slice(b",\"limits\":{\"pending\":");
    json::number(limits.pending as u64, out);
    json::number_member("subscriptions", limits.subscriptions as u64, out);
    json::number_member("line_bytes", limits.line_bytes as u64, out);
    json::number_member("message_bytes", limits.message_bytes as u64, out);
    json::number_member("terms", limits.terms as u64, out);
    json::number_member("page", limits.page as u64, out);
    out.push(b'}');
    if welcome.authenticate {
        out.extend_from_slice(b",\"authenticate\":true");
    }
    out.push(b'}');
}

/// `{"kind":"ok","id":1,…}`. `body` is the JSON object that HTTP would answer with (of [`page`](mod@crate::page)), whose
/// members follow the id; empty, or `{}`, where there is none.
pub fn ok(id: &Id, body: &[u8], out: &mut Vec<u8>) {
    out.reserve(body.len() + 32);
    open_answer("ok", Some(id), out);
    match body.strip_prefix(b"{") {
        None | Some(b"}") => out.push(b'}'),
        Some(members) => {
            out.push(b',');
            out.extend_from_slice(members);
        }
    }
}

/// `{"kind":"ok","id":1,"cursor":"…"}`: the answer to a subscribe, with the starting cursor, and what its patterns were narrowed
/// to, if they were.
pub fn ok_cursor(id: &Id, cursor: Cursor, permitted: Option<&Filter>, out: &mut Vec<u8>) {
    open_answer("ok", Some(id), out);
    json::cursor_member("cursor", cursor, out);
    if let Some(permitted) = permitted {
        narrowed::member(permitted, out);
    }
    out.push(b'}');
}

/// `{"kind":"error","id":1,"status":403,"code":"…","title":"…",…}`; without `id` where none could be read.
pub fn error(id: Option<&Id>, problem: &Problem, out: &mut Vec<u8>) {
    open_answer("error", id, out);
    out.push(b',');
    problem.write_members(out);
    out.push(b'}');
}

/// `{"sub":1,"kind":"…"`, the tag in front as in [`tag`](crate::framing::tag).
fn open(kind: &str, sub: Option<&Id>, out: &mut Vec<u8>) {
    match sub {
        None => out.extend_from_slice(b"{\"kind\":\""),
        Some(sub) => {
            out.extend_from_slice(b"{\"sub\":");
            out.extend_from_slice(sub.as_str().as_bytes());
            out.extend_from_slice(b",\"kind\":\"");
        }
    }
    out.extend_from_slice(kind.as_bytes());
    out.push(b'"');
}

/// `{"kind":"…","id":1`
fn open_answer(kind: &str, id: Option<&Id>, out: &mut Vec<u8>) {
    open(kind, None, out);
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        out.extend_from_slice(id.as_str().as_bytes());
    }
}
