//! Where archives end. A message ends an archive by itself: whether it does follows from its position and its size, so that
//! the archives of a filter depend neither on the time of asking, nor on retention, nor on other messages.
//!
//! An archive is named by its last message, and reaches back to the message that ends the one before. So every message
//! names one, and what it holds follows from the messages before it alone.

use tailwire_model::{Cursor, Message};

/// Messages of an archive, in the mean.
const MESSAGES_MEAN: u64 = 64;
/// Bytes of an archive, in the mean, where messages are large: a message of this size always ends one.
const BYTES_MEAN: u64 = 256 << 10;
/// Messages of an archive at most, where none ends one for so long. It is part of what archives hold, so it never changes.
const MESSAGES_MAX: usize = 1000;
/// Bytes of an archive at most, as [`Draft::cost`](tailwire_model::Draft::cost) counts them; one message is always given.
const BYTES_MAX: usize = 1 << 20;
/// Entries of a subscription document at least, where there are so many.
const SUBSCRIPTION_MIN: usize = 100;

/// Whether a message is the last one of an archive. One in 64 is, by a hash of its position, and more where messages are
/// large: of archives of small messages one in ten thousand has more than 600.
pub fn ends_archive(message: &Message) -> bool {
    let cost = message.draft.cost() as u64;
    // In units of one in `BYTES_MEAN`.
    let chance = (BYTES_MEAN / MESSAGES_MEAN).max(cost);
    mix(message.position().0) % BYTES_MEAN < chance
}

/// How far back a document reaches. It is given the messages from the newest on, and has enough when the answer is known.
#[derive(Debug)]
pub struct Reach {
    entries_min: usize,
    /// Messages that end an archive and have to stand in the document.
    ends_min: usize,
    messages: usize,
    bytes: usize,
    ends: usize,
    /// The entries behind the farthest message that the document may begin after.
    begins: Option<usize>,
}

impl Reach {
    /// Of an archive: from its last message back to the one that ends another.
    pub const fn of_archive() -> Self {
        Self::new(1, 0)
    }

    /// Of a subscription document: so far that what it leaves to archives never changes. The newest archive that it leaves out
    /// is followed by a message that ends one, so that its own successor is known.
    pub const fn of_subscription() -> Self {
        Self::new(SUBSCRIPTION_MIN, 1)
    }

    const fn new(entries_min: usize, ends_min: usize) -> Self {
        Self { entries_min, ends_min, messages: 0, bytes: 0, ends: 0, begins: None }
    }

    /// Takes the next older message. False where it has enough: the document is then the [`Reach::entries`] newest messages, and
    /// the one before them ends the archive before it.
    pub fn takes(&mut self, message: &Message) -> bool {
        if ends_archive(message) && self.messages > 0 {
            if self.ends >= self.ends_min {
                self.begins = Some(self.messages);
            }
            if self.begins.is_some_and(|entries| entries >= self.entries_min) {
                return false;
            }
        }
        let cost = message.draft.cost();
        if self.messages > 0 && (self.messages == MESSAGES_MAX || self.bytes + cost > BYTES_MAX) {
            self.begins = self.begins.or(Some(self.messages));
            return false;
        }
        self.ends += usize::from(ends_archive(message));
        self.messages += 1;
        self.bytes += cost;
        true
    }

    /// How many entries the document has, after it has had enough.
    pub fn entries(&self) -> usize {
        self.begins.unwrap_or(self.messages)
    }
}

/// What follows an archive. It is given the messages after it, the oldest first.
#[derive(Debug, Default)]
pub struct Successor {
    messages: usize,
    bytes: usize,
}

/// What is known of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follows {
    /// Not yet enough.
    Unknown,
    /// The archive that ends with this message.
    Archive(Cursor),
    /// One that is too long to be found from this side.
    Unnamed,
}

impl Successor {
    /// Takes the next newer message.
    pub fn takes(&mut self, message: &Message) -> Follows {
        self.messages += 1;
        self.bytes += message.draft.cost();
        let fits = self.messages == 1 || (self.messages <= MESSAGES_MAX && self.bytes <= BYTES_MAX);
        match (fits, ends_archive(message)) {
            (false, _) => Follows::Unnamed,
            (true, true) => Follows::Archive(message.cursor),
            (true, false) => Follows::Unknown,
        }
    }
}

/// A bijection that spreads neighbouring numbers (the finaliser of SplitMix64). It is part of the URLs of archives, so it
/// never changes.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::Bytes;
    use tailwire_model::{Draft, Epoch, MediaType, Position, Timestamp, Topic};

    use super::*;

    fn message(position: u64, bytes: usize) -> Message {
        let topic = Topic::parse("a").unwrap();
        let draft = Draft::new(topic, MediaType::JSON, Bytes::from(vec![b'1'; bytes]));
        draft.into_message(Epoch::MAX, Position(position), Timestamp(0))
    }

    /// How many of so many messages end an archive, and the most that an archive has.
    fn ends(count: u64, step: u64, bytes: usize) -> (u64, u64) {
        let (mut ends, mut longest, mut length) = (0, 0, 0);
        for index in 1..=count {
            length += 1;
            if ends_archive(&message(index * step, bytes)) {
                ends += 1;
                longest = longest.max(length);
                length = 0;
            }
        }
        (ends, longest)
    }

    #[test]
    fn archives_have_some_sixty_messages_whatever_the_distance_of_positions() {
        for step in [1, 64, 1 << 14, 1 << 30] {
            let (ends, longest) = ends(64_000, step, 100);
            assert!((900..1100).contains(&ends), "{step}: {ends}");
            assert!(longest < 800, "{step}: {longest}");
        }
    }

    #[test]
    fn archives_of_large_messages_have_few() {
        let (ends, longest) = ends(1_000, 1, 64 << 10);
        assert!((200..300).contains(&ends), "{ends}");
        assert!(longest < 40, "{longest}");
        assert!((1..100).all(|position| ends_archive(&message(position, 256 << 10))));
    }

    #[test]
    fn the_boundaries_never_change() {
        let ends: Vec<u64> = (1..400).filter(|&position| ends_archive(&message(position, 10))).collect();
        assert_eq!(ends, FIRST_ENDS);
    }

    /// The archives of a log from its newest message back, each by how many messages it has, with what each says follows it.
    fn walk(log: &[Message]) -> Vec<usize> {
        let reach_back = |upto: usize, mut reach: Reach| {
            let enough = log[..upto].iter().rev().any(|message| !reach.takes(message));
            if enough { reach.entries() } else { upto }
        };
        let mut lengths = vec![reach_back(log.len(), Reach::of_subscription())];
        let mut upto = log.len() - lengths[0];
        while upto > 0 {
            let length = reach_back(upto, Reach::of_archive());
            let mut successor = Successor::default();
            let mut follows = log[upto..].iter().map(|message| successor.takes(message));
            let follows = follows.find(|follows| *follows != Follows::Unknown);
            if let Some(Follows::Archive(end)) = follows {
                let at = log.iter().position(|message| message.cursor == end).unwrap() + 1;
                assert_eq!(at - reach_back(at, Reach::of_archive()), upto, "what follows leads back");
            }
            assert!(follows.is_some(), "whatever a subscription document leaves out has a successor");
            lengths.push(length);
            upto -= length;
        }
        lengths
    }

    #[test]
    fn archives_are_a_log_without_seams() {
        for (count, bytes) in [(5_000, 40), (3_000, 3_000), (400, 60_000), (60, 600_000)] {
            let log: Vec<_> = (1..=count).map(|position| message(position, bytes)).collect();
            let lengths = walk(&log);
            assert_eq!(lengths.iter().sum::<usize>() as u64, count);
            assert!(lengths.len() > 2, "{count} {bytes}: {lengths:?}");
            // As it grows, the archives that were there stay.
            for shorter in [count - 1, count - 7, count / 2] {
                let before = walk(&log[..shorter as usize]);
                let ends = |lengths: &[usize]| -> Vec<usize> {
                    let lengths = lengths.iter().rev();
                    lengths
                        .scan(0, |at, length| {
                            *at += length;
                            Some(*at)
                        })
                        .collect()
                };
                let (old, new) = (ends(&before), ends(&lengths));
                assert_eq!(old[..old.len() - 1], new[..old.len() - 1], "{count} {bytes} {shorter}");
            }
        }
    }

    #[test]
    fn a_document_is_bounded_whatever_is_published() {
        // Only messages that end no archive, as somebody might choose them.
        let none: Vec<_> = (1..20_000)
            .map(|position| message(position, 10))
            .filter(|message| !ends_archive(message))
            .collect();
        let mut reach = Reach::of_archive();
        assert!(none.iter().rev().any(|message| !reach.takes(message)));
        assert_eq!(reach.entries(), MESSAGES_MAX);
        let mut successor = Successor::default();
        let found = none.iter().map(|message| successor.takes(message)).find(|one| *one != Follows::Unknown);
        assert_eq!(found, Some(Follows::Unnamed));
        let large: Vec<_> = (1..100).map(|position| message(position, 1 << 20)).collect();
        let mut reach = Reach::of_subscription();
        assert!(large.iter().rev().any(|message| !reach.takes(message)));
        assert_eq!(reach.entries(), 1);
    }

    const FIRST_ENDS: &[u64] = &[217, 242, 247, 346];
}
