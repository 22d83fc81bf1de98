//! Whether a publish is admitted: idempotency keys first, then preconditions. Decided inside the commit, so that it
//! holds under any concurrency.

use crate::{
    cursor::{Cursor, Position},
    epochs::Epochs,
    message::Timestamp,
};

/// A digest of a request: method, URI, type, options and body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 16]);

/// A client's key for one publish, with what it was used for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// Caller and key, as one string: keys of different callers never meet.
    pub scoped: String,
    /// The request that it stands for.
    pub request: Fingerprint,
}

/// The log's record of an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRecord {
    /// The request that used it.
    pub request: Fingerprint,
    /// The first message that the request appended.
    pub first: Cursor,
    /// How many it appended; their positions are contiguous.
    pub count: u32,
    /// When.
    pub time: Timestamp,
}

/// The condition on a topic for a publish to go through.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// The topic holds no message after this cursor (`If-Match`).
    NothingAfter(Cursor),
    /// The topic never had a message (`If-None-Match: *`).
    NeverWritten,
}

/// The decision about a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Append it.
    Append,
    /// It was done before: answer with the first receipt.
    Replay(KeyRecord),
    /// The key was used for another request.
    KeyReused,
    /// The condition does not hold; the topic's newest message stands here.
    ConditionFailed(Cursor),
}

/// Decides. `tail` is the newest position that the topic ever had, zero if none.
pub fn admit(
    record: Option<&KeyRecord>,
    key: Option<&IdempotencyKey>,
    condition: Condition,
    tail: Position,
    epochs: &Epochs,
) -> Admission {
    if let (Some(record), Some(key)) = (record, key) {
        let same = record.request == key.request;
        return if same { Admission::Replay(*record) } else { Admission::KeyReused };
    }
    let newest = epochs.cursor_at(tail);
    let holds = match condition {
        Condition::None => true,
        // A cursor of another log says nothing about this one.
        Condition::NothingAfter(cursor) => {
            epochs.lists(cursor.epoch) && (tail == Position::ZERO || newest <= cursor)
        }
        Condition::NeverWritten => tail == Position::ZERO,
    };
    if holds { Admission::Append } else { Admission::ConditionFailed(newest) }
}

/// Whether a key that came at a time is still kept at `now`, both by a clock that is never set.
pub const fn is_kept(came: Timestamp, now: Timestamp, window_ms: u64) -> bool {
    now.since(came) < window_ms
}
