//! The broker's own blocks of a Server-Sent Events stream (WHATWG HTML §9.2), appended to `out`. Wrap them by
//! [`chunk`](crate::framing::chunk) for a chunked socket.

use tailwire_model::{Cursor, Filter, Gap};

use crate::{
    json,
    line::{self, ByeReason},
};

/// The start of a stream: `retry:`, and the event `tailwire.open`, whose id is the starting cursor: who drops before the first
/// message comes back with it. A block of an id alone would do for browsers, but several clients give it as an empty message.
pub fn open(retry_ms: u64, cursor: Cursor, permitted: Option<&Filter>, out: &mut Vec<u8>) {
    retry(retry_ms, out);
    id(cursor, out);
    event("open", out, |out| line::opening(cursor, permitted, out));
}

/// A sign of life: the event `tailwire.heartbeat`, whose data is the line.
pub fn heartbeat(cursor: Cursor, out: &mut Vec<u8>) {
    id(cursor, out);
    event("heartbeat", out, |out| line::heartbeat(cursor, out));
}

/// The event `tailwire.gap`, whose data is the line. It has no id, so a client that drops right here gets it again.
pub fn gap(gap: &Gap, out: &mut Vec<u8>) {
    event("gap", out, |out| line::gap(gap, None, out));
}

/// The event `tailwire.caught_up`, whose data is the line.
pub fn caught_up(cursor: Cursor, out: &mut Vec<u8>) {
    id(cursor, out);
    event("caught_up", out, |out| line::caught_up(cursor, None, out));
}

/// `retry:` and the event `tailwire.bye`, whose data is the line. The stream ends after it.
pub fn bye(reason: ByeReason, retry_after_ms: u64, out: &mut Vec<u8>) {
    retry(retry_after_ms, out);
    event("bye", out, |out| line::bye(reason, retry_after_ms, out));
}

/// How long a client waits before it reconnects. Stands before the first block of a stream, whichever that is.
pub fn retry(retry_ms: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"retry: ");
    json::number(retry_ms, out);
    out.push(b'\n');
}

fn id(cursor: Cursor, out: &mut Vec<u8>) {
    out.extend_from_slice(b"id: ");
    out.extend_from_slice(&cursor.to_ascii());
    out.push(b'\n');
}

fn event(name: &str, out: &mut Vec<u8>, write_line: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"event: tailwire.");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\ndata: ");
    write_line(out);
    out.extend_from_slice(b"\n\n");
}
