//! What a client is given of a message that is larger than it takes: the metadata, and in the data's place its size and a
//! reference to the message, which stands in every format as a message does.

use tailwire_model::Message;

use crate::{
    feed::{self, atom},
    format::{Format, metadata, names, sse_id},
    framing::{chunked, framed},
    json,
};

/// The name of its event, where a block of SSE has the data alone: who listens to messages must not take it for one.
const EVENT: &str = "tailwire.omitted";

/// Appends what stands in a message's place, with a reference that climbs so many levels first.
pub(crate) type ReferenceEncoder = fn(&Message, u8, &mut Vec<u8>);

/// By the format's number. A feed has its entries whole: they are summaries.
pub const REFERENCES: [ReferenceEncoder; Format::COUNT] = [
    |message, depth, out| {
        out.push(b'{');
        members(message, depth, out);
        out.extend_from_slice(b"},");
    },
    line_break,
    |message, depth, out| chunked(out, |out| line_break(message, depth, out)),
    |message, depth, out| framed(out, |out| line(message, depth, out)),
    sse,
    |message, depth, out| chunked(out, |out| sse(message, depth, out)),
    sse_envelope,
    |message, depth, out| chunked(out, |out| sse_envelope(message, depth, out)),
    |message, _, out| atom::entry(message, out),
    |message, _, out| feed::json::item(message, out),
];

fn members(message: &Message, depth: u8, out: &mut Vec<u8>) {
    metadata(message, out);
    if let Some(extras) = &message.draft.extras {
        names(extras, out);
    }
    json::boolean_member("omitted", true, out);
    json::number_member("size", message.draft.body.len() as u64, out);
    out.extend_from_slice(b",\"href\":\"");
    (0..depth).for_each(|_| out.extend_from_slice(b"../"));
    out.extend_from_slice(b"messages/");
    out.extend_from_slice(&message.cursor.to_ascii());
    out.push(b'"');
}

fn line(message: &Message, depth: u8, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"kind\":\"message\",");
    members(message, depth, out);
    out.push(b'}');
}

fn line_break(message: &Message, depth: u8, out: &mut Vec<u8>) {
    line(message, depth, out);
    out.push(b'\n');
}

fn sse(message: &Message, depth: u8, out: &mut Vec<u8>) {
    sse_id(message, out);
    out.extend_from_slice(b"event: ");
    out.extend_from_slice(EVENT.as_bytes());
    out.extend_from_slice(b"\ndata: {");
    members(message, depth, out);
    out.extend_from_slice(b"}\n\n");
}

fn sse_envelope(message: &Message, depth: u8, out: &mut Vec<u8>) {
    sse_id(message, out);
    out.extend_from_slice(b"data: ");
    line(message, depth, out);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tailwire_model::{
        Draft, Epoch, MediaType, Position, SizeBound, Timestamp, Topic,
        limits::{
            EVENT_BYTES_MAX, MEDIA_TYPE_BYTES_MAX, MESSAGE_KEY_BYTES_MAX, SIZE_BOUND_MIN, TOPIC_BYTES_MAX,
        },
        message::Extras,
    };

    use super::*;

    #[test]
    fn the_longest_metadata_are_within_the_least_bound() {
        let long = |c: &str, bytes: usize| c.repeat(bytes / c.len());
        for c in ["\"", "\u{2028}", "a/"] {
            let topic = long(c, TOPIC_BYTES_MAX - 1);
            let topic = Topic::parse(topic.strip_suffix('/').unwrap_or(&topic)).unwrap();
            let depth = topic.as_str().matches('/').count() + 1;
            let kind = format!("a/b;c=\"{}\"", "\\\"".repeat((MEDIA_TYPE_BYTES_MAX - 8) / 2));
            let mut draft = Draft::new(topic, MediaType::new(&kind), Bytes::from(vec![b'"'; 1 << 20]));
            draft.extras = Some(Box::new(Extras {
                key: Some(long("\u{2028}", MESSAGE_KEY_BYTES_MAX)),
                event: Some("e".repeat(EVENT_BYTES_MAX)),
                headers: vec![("x-a".to_owned(), "1".repeat(4000))],
                ..Extras::default()
            }));
            let message = draft.into_message(Epoch::MAX, Position(7), Timestamp(1_795_000_000_123));
            let bound = SizeBound::new(u64::from(SIZE_BOUND_MIN)).unwrap().at_depth(depth);
            for (format, encode) in REFERENCES.iter().enumerate().take(Format::AtomEntry as usize) {
                let mut out = Vec::new();
                encode(&message, bound.depth(), &mut out);
                assert!(out.len() <= bound.bytes(), "{format}: {} bytes", out.len());
            }
        }
    }
}
