//! The topics of a run, which message goes to which of them, and what a subscriber should therefore get.
//!
//! Each publisher goes round all topics, beginning with one of its own. So a message's topic follows from its numbers,
//! and nobody has to keep a count for each topic.

use super::payload::{Mark, append_decimal};

/// One topic, or as many as are asked for, numbered below one base.
#[derive(Debug, Clone)]
pub(super) struct Spread {
    base: String,
    count: usize,
    /// Into how many parts subscribers divide them: a part has every so-manieth topic, so it is one topic if they are as
    /// many.
    parts: usize,
}

impl Spread {
    pub(super) fn new(base: String, count: usize) -> Spread {
        Spread { base, count: count.max(1), parts: count.max(1) }
    }

    /// Divided into so many parts, of which it has a multiple of topics; each topic of a part is asked for by a pattern
    /// that only it matches, with a wildcard for its name's last segment but one.
    pub(super) fn in_parts(self, parts: usize) -> Spread {
        Spread { parts, ..self }
    }

    pub(super) fn one(topic: String) -> Spread {
        Spread::new(topic, 1)
    }

    pub(super) fn count(&self) -> usize {
        self.count
    }

    pub(super) fn parts(&self) -> usize {
        self.parts
    }

    /// The topic itself if there is one, else what the names of all begin with.
    pub(super) fn base(&self) -> &str {
        &self.base
    }

    /// What follows the base in the name of a message's topic.
    pub(super) fn append_suffix(&self, out: &mut Vec<u8>, mark: Mark) {
        if self.count > 1 {
            out.push(b'/');
            append_decimal(out, (u64::from(mark.seq) + u64::from(mark.from)) % self.count as u64);
        }
    }

    /// What to subscribe to for a share of the run.
    pub(super) fn filters(&self, share: Share) -> Vec<String> {
        let parent = self.base.rsplit_once('/').map_or("", |(parent, _)| parent);
        match share {
            _ if self.count == 1 => vec![self.base.clone()],
            Share::All => vec![format!("{}/**", self.base)],
            Share::Part(at) if self.parts == self.count => vec![format!("{}/{at}", self.base)],
            Share::Part(at) => {
                (at..self.count).step_by(self.parts).map(|at| format!("{parent}/*/{at}")).collect()
            }
        }
    }
}

/// The part of a run's messages that a subscriber asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Share {
    All,
    /// The topics of one part.
    Part(usize),
}

impl Share {
    /// Of the parts, the one that a message goes to.
    pub(super) fn of(parts: usize, mark: Mark) -> Share {
        Share::Part(((u64::from(mark.seq) + u64::from(mark.from)) % parts as u64) as usize)
    }

    /// Which message of its publisher this is, within the share; none if it doesn't belong there.
    pub(super) fn ordinal(self, parts: usize, mark: Mark) -> Option<u32> {
        let (first, step) = self.numbers(parts, mark.from);
        (mark.seq % step == first).then(|| mark.seq / step)
    }

    /// How many messages are in the share, if each publisher has sent so many.
    pub(super) fn expected(self, parts: usize, sent: &[u32]) -> u64 {
        let of_one = |(from, &count): (u32, &u32)| {
            let (first, step) = self.numbers(parts, from);
            u64::from(count.saturating_sub(first).div_ceil(step))
        };
        (0..).zip(sent).map(of_one).sum()
    }

    /// The number of a publisher's first message in the share, and how far apart the others are.
    fn numbers(self, parts: usize, from: u32) -> (u32, u32) {
        match self {
            Share::All => (0, 1),
            Share::Part(part) => {
                let step = parts as u32;
                ((part as u32 + step - from % step) % step, step)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages of a run of three publishers, each with its topic.
    fn run(spread: &Spread, sent: [u32; 3]) -> Vec<(Mark, String)> {
        let name = |mark| {
            let mut name = spread.base().as_bytes().to_vec();
            spread.append_suffix(&mut name, mark);
            String::from_utf8(name).unwrap()
        };
        (0..3)
            .flat_map(|from| (0..sent[from as usize]).map(move |seq| Mark { seq, from, at: 0 }))
            .map(|mark| (mark, name(mark)))
            .collect()
    }

    #[test]
    fn a_topic_gets_the_messages_that_its_share_expects() {
        let sent = [7, 0, 12];
        for topics in [1, 2, 5, 20] {
            let spread = Spread::new("b".to_owned(), topics);
            let all = run(&spread, sent);
            for at in 0..topics {
                let share = Share::Part(at);
                let here: Vec<Mark> = (all.iter().filter(|(_, name)| spread.filters(share).contains(name)))
                    .map(|&(mark, _)| mark)
                    .collect();
                assert_eq!(share.expected(topics, &sent), here.len() as u64, "topic {at} of {topics}");
                for from in 0..3 {
                    let ordinals: Vec<u32> = (here.iter().filter(|mark| mark.from == from))
                        .map(|&mark| share.ordinal(topics, mark).unwrap())
                        .collect();
                    let dense: Vec<u32> = (0..ordinals.len() as u32).collect();
                    assert!(here.iter().all(|&mark| Share::of(topics, mark) == share));
                    assert_eq!(ordinals, dense, "publisher {from} in topic {at} of {topics}");
                }
            }
        }
    }

    #[test]
    fn a_part_is_asked_for_by_a_pattern_for_each_of_its_topics() {
        let spread = Spread::new("a/of".to_owned(), 6).in_parts(2);
        assert_eq!(spread.filters(Share::Part(1)), ["a/*/1", "a/*/3", "a/*/5"]);
        assert_eq!(Share::Part(1).expected(spread.parts(), &[6]), 3);
        for (mark, name) in run(&spread, [12, 0, 0]) {
            let place = Share::Part(1).ordinal(spread.parts(), mark);
            assert_eq!(place.is_some(), ["a/of/1", "a/of/3", "a/of/5"].contains(&name.as_str()), "{name}");
        }
    }

    #[test]
    fn all_is_every_message_of_every_topic() {
        let spread = Spread::new("b".to_owned(), 4);
        assert_eq!(Share::All.expected(4, &[3, 4]), 7);
        assert_eq!(Share::All.ordinal(4, Mark { seq: 9, from: 1, at: 0 }), Some(9));
        assert_eq!(spread.filters(Share::All), ["b/**"]);
        assert_eq!(Spread::one("b".to_owned()).filters(Share::All), ["b"]);
    }

    #[test]
    fn a_message_of_another_topic_has_no_place_in_a_share() {
        assert_eq!(Share::Part(1).ordinal(3, Mark { seq: 1, from: 0, at: 0 }), Some(0));
        assert_eq!(Share::Part(1).ordinal(3, Mark { seq: 2, from: 0, at: 0 }), None);
    }
}
