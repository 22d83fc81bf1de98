//! Feeds: Atom (RFC 4287) and JSON Feed 1.1. An entry is encoded once and shared by all documents that have it; a document
//! is a head, entries and an end. Archives (RFC 5005 §4) end at messages that only the messages themselves choose.

pub mod archive;
pub mod atom;
mod clean;
pub mod json;
mod summary;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use tailwire_model::{Cursor, Timestamp};
use uuid::Uuid;

/// What entries of one broker have in common.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The log's own name: ids of entries and feeds are made of it.
    pub log: Uuid,
    /// The broker's public URL, with a slash at its end, if one is configured: what absolute links begin with.
    pub public_url: Option<String>,
}

impl Origin {
    /// The id of an entry: a version 5 UUID (RFC 9562 §5.5) of the log's name and the message's cursor, as a URN.
    fn entry_id(&self, cursor: Cursor) -> String {
        Uuid::new_v5(&self.log, &cursor.to_ascii()).urn().to_string()
    }

    /// The id of a feed: the same of the log's name and the feed's terms, sorted, one a line.
    pub fn feed_id(&self, terms: &str) -> String {
        Uuid::new_v5(&self.log, format!("feed\n{terms}").as_bytes()).urn().to_string()
    }
}

/// What stands in a document beside its entries. Links are relative to the document, or absolute.
#[derive(Debug, Clone)]
pub struct Head<'a> {
    /// The feed's id: the same for its archives.
    pub id: &'a str,
    /// The feed's title.
    pub title: &'a str,
    /// What the feed is about.
    pub description: Option<&'a str>,
    /// When the newest entry of the document came, or the feed's topic had its last one.
    pub updated: Timestamp,
    /// The way from the document to the broker's root: `../` as often as needed, or the public URL.
    pub base: &'a str,
    /// The document's own URL.
    pub own: &'a str,
    /// The subscription document, in an archive.
    pub current: Option<&'a str>,
    /// The archive with the entries before.
    pub prev_archive: Option<&'a str>,
    /// The archive with the entries after, in an archive.
    pub next_archive: Option<&'a str>,
    /// The document with the entries after these, where there are more.
    pub next: Option<&'a str>,
    /// The document with the entries before these.
    pub previous: Option<&'a str>,
    /// A WebSub hub, once there is one.
    pub hub: Option<&'a str>,
    /// How long a reader should wait between polls, in minutes.
    pub ttl_minutes: Option<u64>,
}

impl Head<'_> {
    /// Whether the document is an archive: it never changes.
    pub const fn is_archive(&self) -> bool {
        self.current.is_some()
    }
}
