//! The latest pages that long-polls were answered with, so that a thousand clients that waited for the same message get
//! one encoded reply.

use std::collections::VecDeque;

use bytes::Bytes;
use parking_lot::Mutex;
use tailwire_model::{Cursor, Filter};

/// How many are kept: clients that wait for one message are answered within moments of each other.
const KEPT: usize = 8;

/// See the module.
#[derive(Default)]
pub(crate) struct Replies(Mutex<VecDeque<(Key, Bytes)>>);

/// What a page's body depends on: all that matches the filter from the first to the last of its messages.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) filter: Filter,
    pub(crate) first: Cursor,
    pub(crate) last: Cursor,
    pub(crate) messages: usize,
    pub(crate) more: bool,
}

impl Replies {
    /// The body for a key, made if nobody has asked for it yet.
    pub(crate) fn get_or_make(&self, key: Key, make: impl FnOnce() -> Bytes) -> Bytes {
        let mut kept = self.0.lock();
        if let Some((_, body)) = kept.iter().rev().find(|(own, _)| *own == key) {
            return body.clone();
        }
        let body = make();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((key, body.clone()));
        body
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use tailwire_model::{Epoch, Position, Topic};

    use super::*;

    fn key(topic: &str, position: u64) -> Key {
        let cursor = Cursor { epoch: Epoch::new(1).unwrap(), position: Position(position) };
        let filter = Topic::parse(topic).unwrap().into();
        Key { filter, first: cursor, last: cursor, messages: 1, more: false }
    }

    #[test]
    fn makes_a_body_once_and_keeps_few() {
        let replies = Replies::default();
        let mut made = 0;
        for (topic, position) in [("a", 1), ("a", 1), ("b", 1), ("a", 2), ("b", 1)] {
            replies.get_or_make(key(topic, position), || {
                made += 1;
                Bytes::new()
            });
        }
        assert_eq!(made, 3);
        (0..100).for_each(|position| drop(replies.get_or_make(key("c", position), Bytes::new)));
        assert_eq!(replies.0.lock().len(), KEPT);
    }
}
