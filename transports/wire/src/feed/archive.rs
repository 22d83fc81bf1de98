//! Where archives end. A message ends an archive by itself: whether it does follows from its position and its size, so that
//! the archives of a filter depend neither on the time of asking, nor on retention, nor on other messages.

use tailwire_model::Message;

/// Messages of an archive, in the mean.
const MESSAGES_MEAN: u64 = 64;
/// Bytes of an archive, in the mean, where messages are large: a message of this size always ends one.
const BYTES_MEAN: u64 = 256 << 10;

/// Whether a message is the last one of an archive. One in 64 is, by a hash of its position, and more where messages are
/// large: of archives of small messages one in ten thousand has more than 600.
pub fn ends_archive(message: &Message) -> bool {
    let cost = message.draft.cost() as u64;
    // In units of one in `BYTES_MEAN`.
    let chance = (BYTES_MEAN / MESSAGES_MEAN).max(cost);
    mix(message.position().0) % BYTES_MEAN < chance
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

    const FIRST_ENDS: &[u64] = &[217, 242, 247, 346];
}
