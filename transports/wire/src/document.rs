//! Some messages as a document: what every format of one is given.

use tailwire_model::{Cursor, Filter, Timestamp};

use crate::page::PagePlace;

/// The parts of a document.
#[derive(Debug)]
pub struct Document<'a> {
    /// Encodings of the format's slot, each of one or more messages, in the document's order.
    pub items: &'a [&'a [u8]],
    /// The cursor to send as `after` next time.
    pub cursor: Cursor,
    /// Whether a limit ended it, and not the tail.
    pub more: bool,
    /// What to send as `before` for older ones, where there may be some and they were not asked for what comes after.
    pub prev: Option<Cursor>,
    /// When to come back, where there was nothing.
    pub retry_after_ms: Option<u64>,
    /// Its subject.
    pub about: &'a About<'a>,
}

impl Document<'_> {
    /// Where it stands.
    pub const fn place(&self) -> PagePlace {
        let Self { cursor, more, prev, retry_after_ms, .. } = *self;
        PagePlace { cursor, more, prev, retry_after_ms }
    }
}

/// The subject of a document.
#[derive(Debug)]
pub struct About<'a> {
    /// The topics that were asked for.
    pub filter: &'a Filter,
    /// The request's query.
    pub query: Option<&'a str>,
    /// The broker's public URL with a slash at its end, if one is set; without it all links are relative.
    pub public_url: Option<&'a str>,
    /// When the newest message of the document came, or if it has none, of the topics.
    pub updated: Timestamp,
    /// How long a reader should wait between polls; nothing of what never changes.
    pub pace_ms: Option<u64>,
    /// What the topic's options call it.
    pub title: Option<&'a str>,
    /// What its options say of it.
    pub description: Option<&'a str>,
    /// The WebSub hub that tells of changes, if there is one.
    pub hub: Option<&'a str>,
    /// The documents beside it, of a feed that has archives.
    pub archives: Archives,
}

/// The archives beside a document (RFC 5005 §4).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Archives {
    /// Whether the document is one itself.
    pub is_archive: bool,
    /// The one before, by its last message.
    pub previous: Option<Cursor>,
    /// The one after.
    pub next: Option<Cursor>,
}
