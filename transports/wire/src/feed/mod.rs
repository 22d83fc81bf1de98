//! Feeds: Atom (RFC 4287) and JSON Feed 1.1. An entry is encoded once and shared by all documents that have it; a document
//! is a head, entries and an end. Archives (RFC 5005 §4) end at messages that only the messages themselves choose.

pub mod archive;
pub(crate) mod atom;
mod clean;
pub(crate) mod document;
mod head;
pub(crate) mod json;
mod summary;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
