//! The ways to show messages, one entry each: what a request calls it, the slot of a message's encoding, and how a document
//! or a stream is framed around encodings. A representation is added here, and nothing else matches on one.

use std::hash::{Hash, Hasher};

use tailwire_model::{Bye, Cursor, Filter, Gap};

use crate::{Format, document::Document, feed, line, page, sse};

/// An entry of the table.
#[derive(Debug)]
pub struct RepresentationEntry {
    /// The value of `format=`.
    pub name: &'static str,
    /// The media types that ask for it in `Accept`; a reply says the first.
    pub media_types: &'static [&'static str],
    /// Whether `application/*` and `*/*` ask for it too. Never a stream: an endless reply goes to those who name it.
    pub(crate) by_wildcard: bool,
    /// How it is given.
    pub(crate) shape: Shape,
}

/// How a representation is given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shape {
    /// Some messages, and where to go on.
    Document(&'static DocumentFormat),
    /// The newest message as itself.
    Newest,
    /// An endless reply; and what it is with `envelope`, if that makes a difference.
    Stream(&'static StreamFormat, Option<&'static StreamFormat>),
}

/// All of them, those first that win a tie.
pub static TABLE: [RepresentationEntry; 6] = [
    RepresentationEntry {
        name: "json",
        media_types: &["application/json"],
        by_wildcard: true,
        shape: Shape::Document(&PAGE),
    },
    RepresentationEntry {
        name: "sse",
        media_types: &["text/event-stream"],
        by_wildcard: false,
        shape: Shape::Stream(&SSE, Some(&SSE_ENVELOPE)),
    },
    RepresentationEntry {
        name: "ndjson",
        media_types: &["application/x-ndjson", "application/ndjson"],
        by_wildcard: false,
        shape: Shape::Stream(&NDJSON, None),
    },
    RepresentationEntry { name: "raw", media_types: &[], by_wildcard: false, shape: Shape::Newest },
    RepresentationEntry {
        name: "atom",
        media_types: &["application/atom+xml"],
        by_wildcard: false,
        shape: Shape::Document(&ATOM),
    },
    RepresentationEntry {
        name: "jsonfeed",
        media_types: &["application/feed+json"],
        by_wildcard: false,
        shape: Shape::Document(&JSON_FEED),
    },
];

/// The entry of that `format=`.
pub fn named(name: &str) -> Option<&'static RepresentationEntry> {
    TABLE.iter().find(|entry| entry.name == name)
}

/// The names that can be asked for.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    TABLE.iter().map(|entry| entry.name)
}

/// The framing of a document.
#[derive(Debug)]
pub struct DocumentFormat {
    /// The media type of the reply.
    pub media_type: &'static str,
    /// The slot of a message's encoding.
    pub slot: Format,
    /// Whether it is a feed: its newest message stands first, and is where it starts; and it is one also when it is empty.
    pub is_feed: bool,
    /// Appends a document of encodings.
    write: fn(&Document<'_>, &mut Vec<u8>),
}

impl DocumentFormat {
    /// Appends a document.
    pub fn write(&self, document: &Document<'_>, out: &mut Vec<u8>) {
        (self.write)(document, out);
    }
}

/// `application/json`: a page.
pub static PAGE: DocumentFormat = DocumentFormat {
    media_type: "application/json",
    slot: Format::Item,
    is_feed: false,
    write: |document, out| {
        let items = document.items.iter().copied();
        page::page(items, &document.place(), out);
    },
};

/// `application/atom+xml` (RFC 4287).
pub static ATOM: DocumentFormat = DocumentFormat {
    media_type: "application/atom+xml",
    slot: Format::AtomEntry,
    is_feed: true,
    write: feed::document::atom_document,
};

/// `application/feed+json` (JSON Feed 1.1).
pub static JSON_FEED: DocumentFormat = DocumentFormat {
    media_type: "application/feed+json",
    slot: Format::JsonFeedItem,
    is_feed: true,
    write: feed::document::json_document,
};

/// The framing of a stream.
#[derive(Debug)]
pub struct StreamFormat {
    /// Its name in metrics: of the transport.
    pub name: &'static str,
    /// The media type of the reply.
    pub media_type: &'static str,
    /// Whether it is `EventSource`'s: such a client says where to go on by `Last-Event-ID`, and stops for good at any
    /// status but 200.
    pub is_event_source: bool,
    bare: Format,
    chunked: Format,
    control: fn(&Control<'_>, &mut Vec<u8>),
}

/// An event of a stream beside messages.
#[derive(Debug, Clone, Copy)]
pub enum Control<'a> {
    /// The first of it, unless that is a gap: the starting cursor, what a client is to wait before it reconnects, and what its
    /// patterns were narrowed to, if they were.
    Open(Cursor, u64, Option<&'a Filter>),
    /// A sign of life.
    Heartbeat(Cursor),
    /// Messages are gone; with what a client is to wait before it reconnects, if this is the first of the stream.
    Gap(&'a Gap, Option<u64>),
    /// Caught up: the messages that follow are live.
    CaughtUp(Cursor),
    /// The last of it.
    Bye(Bye),
}

impl StreamFormat {
    /// The slot of a message's encoding: as a chunk of HTTP/1.1, or bare.
    pub const fn slot(&self, chunked: bool) -> Format {
        if chunked { self.chunked } else { self.bare }
    }

    /// Appends what is no message.
    pub fn control(&self, control: &Control<'_>, out: &mut Vec<u8>) {
        (self.control)(control, out);
    }
}

impl PartialEq for StreamFormat {
    fn eq(&self, other: &Self) -> bool {
        self.bare == other.bare
    }
}

impl Eq for StreamFormat {}

impl Hash for StreamFormat {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bare.hash(state);
    }
}

impl PartialEq for DocumentFormat {
    fn eq(&self, other: &Self) -> bool {
        self.slot == other.slot
    }
}

impl Eq for DocumentFormat {}

impl Hash for DocumentFormat {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.slot.hash(state);
    }
}

/// `text/event-stream` whose data is the message's body.
pub static SSE: StreamFormat = StreamFormat {
    name: "sse",
    media_type: "text/event-stream",
    is_event_source: true,
    bare: Format::Sse,
    chunked: Format::SseChunk,
    control: sse_control,
};

/// `text/event-stream` whose data is the line.
pub static SSE_ENVELOPE: StreamFormat = StreamFormat {
    name: "sse",
    media_type: "text/event-stream",
    is_event_source: true,
    bare: Format::SseEnvelope,
    chunked: Format::SseEnvelopeChunk,
    control: sse_control,
};

/// `application/x-ndjson`.
pub static NDJSON: StreamFormat = StreamFormat {
    name: "ndjson",
    media_type: "application/x-ndjson",
    is_event_source: false,
    bare: Format::Line,
    chunked: Format::LineChunk,
    control: ndjson_control,
};

fn sse_control(control: &Control<'_>, out: &mut Vec<u8>) {
    match *control {
        Control::Open(cursor, retry_ms, permitted) => sse::open(retry_ms, cursor, permitted, out),
        Control::Heartbeat(cursor) => sse::heartbeat(cursor, out),
        Control::Gap(gap, retry_ms) => {
            if let Some(retry_ms) = retry_ms {
                sse::retry(retry_ms, out);
            }
            sse::gap(gap, out);
        }
        Control::CaughtUp(cursor) => sse::caught_up(cursor, out),
        Control::Bye(bye) => sse::bye(bye.reason, bye.retry_after_ms, out),
    }
}

fn ndjson_control(control: &Control<'_>, out: &mut Vec<u8>) {
    match *control {
        Control::Open(cursor, _, permitted) => line::opening(cursor, permitted, out),
        Control::Heartbeat(cursor) => line::heartbeat(cursor, out),
        Control::Gap(gap, _) => line::gap(gap, None, out),
        Control::CaughtUp(cursor) => line::caught_up(cursor, None, out),
        Control::Bye(bye) => line::bye(bye.reason, bye.retry_after_ms, out),
    }
    out.push(b'\n');
}
