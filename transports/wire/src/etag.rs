//! Entity tags (RFC 9110 §8.8.3): a list's or a message's tag is the cursor of its newest message.

use tailwire_model::Cursor;

/// The tags that `If-None-Match` (RFC 9110 §13.1.2) names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfNoneMatch {
    /// `*`
    Any,
    /// The cursors among the tags; other tags match nothing.
    Cursors(Vec<Cursor>),
}

impl IfNoneMatch {
    /// Parses the header's value; tags that are no cursors are left out.
    pub fn parse(value: &str) -> Self {
        if value.trim() == "*" {
            return Self::Any;
        }
        // A cursor has no comma and no quote, so a list splits at every comma.
        Self::Cursors(value.split(',').filter_map(|tag| tag_cursor(tag.trim())).collect())
    }

    /// Whether it names the representation whose tag is `cursor`, by weak comparison (RFC 9110 §8.8.3.2).
    pub fn matches(&self, cursor: Cursor) -> bool {
        match self {
            Self::Any => true,
            Self::Cursors(cursors) => cursors.contains(&cursor),
        }
    }

    /// The newest cursor that it names.
    pub(crate) fn newest(&self) -> Option<Cursor> {
        match self {
            Self::Any => None,
            Self::Cursors(cursors) => cursors.iter().max().copied(),
        }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Cursors(mut own), Self::Cursors(more)) => {
                own.extend(more);
                Self::Cursors(own)
            }
            _ => Self::Any,
        }
    }
}

/// The cursor of an entity tag, weak or strong (RFC 9110 §8.8.3).
pub(crate) fn tag_cursor(tag: &str) -> Option<Cursor> {
    let opaque = tag.strip_prefix("W/").unwrap_or(tag);
    opaque.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}
