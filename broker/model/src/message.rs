//! Messages: what is published (a [`Draft`]) and what the log holds (a [`Message`]).

use std::{fmt, sync::Arc};

use bytes::Bytes;

use crate::{
    cursor::{Cursor, Epoch, Position},
    limits::DELETION_MS,
    topic::Topic,
};

/// Milliseconds of the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// Milliseconds from `earlier` to here; zero if it is later.
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The media type of a message as its publisher gave it, if any. Cloning is cheap.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct MediaType(Repr);

#[derive(Clone, Default, PartialEq, Eq, Hash)]
enum Repr {
    #[default]
    None,
    /// `application/json` to the letter: by far the most common, so it costs nothing.
    Json,
    Other(Arc<str>),
}

/// How a line carries a message's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataKind {
    /// JSON, as published.
    Json,
    /// A JSON string, if the body is UTF-8; else base64.
    Text,
    /// base64.
    Binary,
}

impl MediaType {
    /// The type of a message that was published as JSON.
    pub const JSON: Self = Self(Repr::Json);
    /// No type at all.
    pub const NONE: Self = Self(Repr::None);

    /// A type as a client wrote it. The caller has checked that it is a legal header value.
    pub fn new(text: &str) -> Self {
        match text {
            "" => Self(Repr::None),
            "application/json" => Self(Repr::Json),
            other => Self(Repr::Other(other.into())),
        }
    }

    /// The type as written, if there is one.
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Repr::None => None,
            Repr::Json => Some("application/json"),
            Repr::Other(text) => Some(text),
        }
    }

    /// `type/subtype` without parameters, trimmed; its case as written.
    pub fn essence(&self) -> Option<&str> {
        self.as_str().map(|text| text.split(';').next().unwrap_or("").trim())
    }

    /// How a line carries a body of this type.
    pub fn data_kind(&self) -> DataKind {
        match &self.0 {
            Repr::Json => return DataKind::Json,
            Repr::None => return DataKind::Text,
            Repr::Other(_) => {}
        }
        let Some((kind, subtype)) = self.essence().and_then(|essence| essence.split_once('/')) else {
            return DataKind::Binary;
        };
        let is = |own: &str, name: &str| own.eq_ignore_ascii_case(name);
        let suffix = subtype.rsplit_once('+').map_or("", |(_, suffix)| suffix);
        if is(suffix, "json") || is(kind, "application") && is(subtype, "json") {
            DataKind::Json
        } else if is(kind, "text") || is(kind, "application") && is(subtype, "x-www-form-urlencoded") {
            DataKind::Text
        } else {
            DataKind::Binary
        }
    }
}

impl fmt::Debug for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MediaType({:?})", self.as_str())
    }
}

/// The rare fields of a message, kept apart so that other messages don't pay for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extras {
    /// The compaction key: the newest message of each key stays.
    pub key: Option<String>,
    /// The event's name, for `EventSource`.
    pub event: Option<String>,
    /// The message's own headers, in the order given, names in lower case.
    pub headers: Vec<(String, String)>,
    /// How long it lives, whatever the options of its topic say.
    pub max_age_ms: Option<u64>,
    /// It says that its key is deleted, and nothing else.
    pub is_deletion: bool,
}

impl Extras {
    /// Their memory, roughly, in bytes.
    pub fn cost(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        self.key.as_deref().map_or(0, str::len) + self.event.as_deref().map_or(0, str::len) + headers
    }
}

/// A message that is not in the log yet: no position, no time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where it goes.
    pub topic: Topic,
    /// Its type.
    pub media_type: MediaType,
    /// Key, event and headers, where it has any.
    pub extras: Option<Box<Extras>>,
    /// Its content, as published.
    pub body: Bytes,
}

impl Draft {
    /// A draft without extras.
    pub fn new(topic: Topic, media_type: MediaType, body: Bytes) -> Self {
        Self { topic, media_type, extras: None, body }
    }

    /// The cost of the message in queues and logs, roughly, in bytes.
    pub fn cost(&self) -> usize {
        let extras = self.extras.as_deref().map_or(0, Extras::cost);
        Self::cost_of(self.topic.as_str().len(), extras, self.body.len())
    }

    /// The cost of a message whose topic, extras and body take so much: for those who have it in another form.
    pub const fn cost_of(topic: usize, extras: usize, body: usize) -> usize {
        64 + topic + extras + body
    }

    /// The message that says of a key that it is deleted. It goes after a time by itself.
    pub fn deletion(topic: Topic, key: String) -> Self {
        let (key, max_age_ms) = (Some(key), Some(DELETION_MS));
        let extras = Extras { key, max_age_ms, is_deletion: true, ..Extras::default() };
        Self { extras: Some(Box::new(extras)), ..Self::new(topic, MediaType::NONE, Bytes::new()) }
    }

    /// How long it lives, if it says so itself.
    pub fn max_age_ms(&self) -> Option<u64> {
        self.extras.as_ref()?.max_age_ms
    }

    /// Whether it says that its key is deleted.
    pub fn is_deletion(&self) -> bool {
        self.extras.as_ref().is_some_and(|extras| extras.is_deletion)
    }

    /// The message that this becomes in the log.
    pub fn into_message(self, epoch: Epoch, position: Position, time: Timestamp) -> Message {
        Message { cursor: Cursor { epoch, position }, time, draft: self }
    }
}

/// A message of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its place, and the epoch that it was written in.
    pub cursor: Cursor,
    /// When the broker accepted it.
    pub time: Timestamp,
    /// The draft that was published.
    pub draft: Draft,
}

impl Message {
    /// Its place in the log.
    pub const fn position(&self) -> Position {
        self.cursor.position
    }

    /// Its topic.
    pub const fn topic(&self) -> &Topic {
        &self.draft.topic
    }
}
