//! Topic names: the rules a name obeys, and nothing about who may use it.

use std::{borrow::Borrow, fmt, sync::Arc};

use unicode_normalization::is_nfc;

use crate::limits::TOPIC_BYTES_MAX;

/// The name of a stream of messages: 1 to 255 bytes of UTF-8 in NFC, segments separated by `/`. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic(Arc<str>);

/// Why a string is not a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// No bytes at all.
    #[error("a topic has at least one character")]
    Empty,
    /// Longer than [`TOPIC_BYTES_MAX`].
    #[error("a topic has at most 255 bytes of UTF-8")]
    TooLong,
    /// `a//b`, a leading or a trailing slash.
    #[error("a topic has no empty segment (a doubled, leading or trailing slash)")]
    EmptySegment,
    /// `.` or `..`, which URL clients resolve away.
    #[error("a topic has no segment `.` or `..`")]
    DotSegment,
    /// A control character, or a backslash, which some URL clients turn into a slash.
    #[error("a topic has no control character and no backslash")]
    Control,
    /// A `*`, which only patterns have.
    #[error("a topic has no `*`: only a pattern does, as a whole segment")]
    Wildcard,
    /// The name would change under NFC.
    #[error("a topic is in Unicode normalization form C")]
    NotNormalized,
}

impl Topic {
    /// Parses a decoded name.
    ///
    /// # Errors
    /// The first rule of [`TopicError`] that the name breaks.
    pub fn parse(name: &str) -> Result<Self, TopicError> {
        check(name)?;
        if name.contains('*') {
            return Err(TopicError::Wildcard);
        }
        Ok(Self(name.into()))
    }

    /// A name whose rules the caller has checked.
    pub(crate) fn unchecked(name: &str) -> Self {
        Self(name.into())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments of the name, at least one.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether the topic is the broker's own: no client publishes there, and no wildcard matches it.
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }

    /// Whether the topic has records of access: keys, and what was revoked.
    pub fn is_access(&self) -> bool {
        self.0.starts_with("$access/")
    }
}

/// The rules that topics and patterns share.
pub(crate) fn check(name: &str) -> Result<(), TopicError> {
    if name.is_empty() {
        return Err(TopicError::Empty);
    }
    if name.len() > TOPIC_BYTES_MAX {
        return Err(TopicError::TooLong);
    }
    for segment in name.split('/') {
        match segment {
            "" => return Err(TopicError::EmptySegment),
            "." | ".." => return Err(TopicError::DotSegment),
            _ => {}
        }
    }
    if name.chars().any(|c| c.is_control() || c == '\\') {
        return Err(TopicError::Control);
    }
    // ASCII always is, and most names are.
    if !name.is_ascii() && !is_nfc(name) {
        return Err(TopicError::NotNormalized);
    }
    Ok(())
}

impl Borrow<str> for Topic {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topic({:?})", &*self.0)
    }
}
