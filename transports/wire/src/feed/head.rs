//! The head of a document, and the ids of it and its entries.

use tailwire_model::{Filter, Message, Term, Timestamp};
use uuid::Uuid;

/// The namespace of all ids: any UUID that nobody else uses.
const NAMESPACE: Uuid = Uuid::from_u128(0x7461_696c_7769_7265_8f2c_41d5_a7b3_90e6);

/// The id of an entry: a version 5 UUID (RFC 9562 §5.5) of the message's cursor, time and topic, as a URN. A copy of the
/// log keeps it; another log has no message with the same three.
pub(super) fn entry_id(message: &Message) -> String {
    let name = format!("{} {} {}", message.cursor, message.time.0, message.topic().as_str());
    Uuid::new_v5(&NAMESPACE, name.as_bytes()).urn().to_string()
}

/// The id of a feed: the same of the URL that it is known by, without its query but for the topics.
pub(super) fn feed_id(place: &str, filter: &Filter) -> String {
    let terms: Vec<&str> = filter.terms().iter().map(Term::as_str).collect();
    Uuid::new_v5(&NAMESPACE, format!("{place}\n{}", terms.join("\n")).as_bytes()).urn().to_string()
}

/// The head of a document: all that stands beside its entries. Links are relative to the document, or absolute.
#[derive(Debug, Clone)]
pub(super) struct FeedHead<'a> {
    /// The feed's id: the same for its archives.
    pub(super) id: &'a str,
    /// The feed's title.
    pub(super) title: &'a str,
    /// The subject of the feed.
    pub(super) description: Option<&'a str>,
    /// When the newest entry of the document came, or the feed's topic had its last one.
    pub(super) updated: Timestamp,
    /// The way from the document to the broker's root: `../` as often as needed, or the public URL.
    pub(super) base: &'a str,
    /// The document's own URL.
    pub(super) own: &'a str,
    /// The subscription document, in an archive.
    pub(super) current: Option<&'a str>,
    /// The archive with the entries before.
    pub(super) prev_archive: Option<&'a str>,
    /// The archive with the entries after, in an archive.
    pub(super) next_archive: Option<&'a str>,
    /// The document with the entries after these, where there are more.
    pub(super) next: Option<&'a str>,
    /// The WebSub hub, if one is configured.
    pub(super) hub: Option<&'a str>,
    /// How long a reader should wait between polls, in minutes.
    pub(super) ttl_minutes: Option<u64>,
}

impl FeedHead<'_> {
    /// Whether the document is an archive: it never changes.
    pub(super) const fn is_archive(&self) -> bool {
        self.current.is_some()
    }
}
