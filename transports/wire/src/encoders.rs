//! The encoder of each format: made once a message, sent to every reader. An encoding is written straight into the buffer that
//! goes to the sockets, with its framing.

use tailwire_model::Message;

use crate::{
    feed::{self, atom},
    format::{Format, item, line, line_break, sse, sse_envelope},
    framing::{chunked, framed},
};

/// Appends the encoding of one message.
pub type MessageEncoder = fn(&Message, &mut Vec<u8>);

/// The encoder of each format, by the format's number. Encodings of successive messages concatenate.
pub const ENCODERS: [MessageEncoder; Format::COUNT] = [
    item,
    line_break,
    |message, out| chunked(out, |out| line_break(message, out)),
    |message, out| framed(out, |out| line(message, out)),
    sse,
    |message, out| chunked(out, |out| sse(message, out)),
    sse_envelope,
    |message, out| chunked(out, |out| sse_envelope(message, out)),
    |message, out| in_feed(message, atom::entry, out),
    |message, out| in_feed(message, feed::json::item, out),
];

/// An entry of a feed. There a deleted key is nothing to read.
fn in_feed(message: &Message, entry: MessageEncoder, out: &mut Vec<u8>) {
    if !message.draft.is_deletion() {
        entry(message, out);
    }
}
