//! The topics of a run, which message goes to which of them, and what a subscriber should therefore get.
//!
//! Each publisher goes round all topics, beginning with one of its own. So a message's topic follows from its numbers,
//! and nobody has to keep a count for each topic.

use crate::measure::payload::{Stamp, append_decimal};

/// One topic, or as many as are asked for, numbered below one base.
#[derive(Debug, Clone)]
pub(crate) struct TopicSet {
    base: String,
    count: usize,
    /// Into how many parts subscribers divide them: a part has every so-manieth topic, so it is one topic if they are as
    /// many.
    parts: usize,
}

impl TopicSet {
    pub(crate) fn new(base: String, count: usize) -> TopicSet {
        TopicSet { base, count: count.max(1), parts: count.max(1) }
    }

    /// Divided into so many parts, of which it has a multiple of topics; each topic of a part is asked for by a pattern
    /// that only it matches, with a wildcard for its name's last segment but one.
    pub(crate) fn in_parts(self, parts: usize) -> TopicSet {
        TopicSet { parts, ..self }
    }

    pub(crate) fn one(topic: String) -> TopicSet {
        TopicSet::new(topic, 1)
    }

    pub(crate) fn count(&self) -> usize {
        self.count
    }

    pub(crate) fn parts(&self) -> usize {
        self.parts
    }

    /// The topic itself if there is one, else what the names of all begin with.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    /// Appends the end of a message's topic, which follows the base.
    pub(crate) fn append_suffix(&self, out: &mut Vec<u8>, mark: Stamp) {
        if self.count > 1 {
            out.push(b'/');
            append_decimal(out, (u64::from(mark.seq) + u64::from(mark.from)) % self.count as u64);
        }
    }

    /// The filters that select a share of the run.
    pub(crate) fn filters(&self, share: TopicShare) -> Vec<String> {
        let parent = self.base.rsplit_once('/').map_or("", |(parent, _)| parent);
        match share {
            _ if self.count == 1 => vec![self.base.clone()],
            TopicShare::All => vec![format!("{}/**", self.base)],
            TopicShare::Part(at) if self.parts == self.count => vec![format!("{}/{at}", self.base)],
            TopicShare::Part(at) => {
                (at..self.count).step_by(self.parts).map(|at| format!("{parent}/*/{at}")).collect()
            }
        }
    }
}

/// The part of a run's messages that a subscriber asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum TopicShare {
    All,
    /// The topics of one part.
    Part(usize),
}

impl TopicShare {
    /// Of the parts, the one that a message goes to.
    pub(crate) fn of(parts: usize, mark: Stamp) -> TopicShare {
        TopicShare::Part(((u64::from(mark.seq) + u64::from(mark.from)) % parts as u64) as usize)
    }

    /// Which message of its publisher this is, within the share; none if it doesn't belong there.
    pub(crate) fn ordinal(self, parts: usize, mark: Stamp) -> Option<u32> {
        let (first, step) = self.numbers(parts, mark.from);
        (mark.seq % step == first).then(|| mark.seq / step)
    }

    /// How many messages are in the share, if each publisher has sent so many.
    pub(crate) fn expected(self, parts: usize, sent: &[u32]) -> u64 {
        let of_one = |(from, &count): (u32, &u32)| {
            let (first, step) = self.numbers(parts, from);
            u64::from(count.saturating_sub(first).div_ceil(step))
        };
        (0..).zip(sent).map(of_one).sum()
    }

    /// The number of a publisher's first message in the share, and how far apart the others are.
    fn numbers(self, parts: usize, from: u32) -> (u32, u32) {
        match self {
            TopicShare::All => (0, 1),
            TopicShare::Part(part) => {
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
    fn run(topic_set: &TopicSet, sent: [u32; 3]) -> Vec<(Stamp, String)> {
        let name = |mark| {
            let mut name = topic_set.base().as_bytes().to_vec();
            topic_set.append_suffix(&mut name, mark);
            String::from_utf8(name).unwrap()
        };
        (0..3)
            .flat_map(|from| (0..sent[from as usize]).map(move |seq| Stamp { seq, from, at: 0 }))
            .map(|mark| (mark, name(mark)))
            .collect()
    }

    #[test]
    fn a_topic_gets_the_messages_that_its_share_expects() {
        let sent = [7, 0, 12];
        for topics in [1, 2, 5, 20] {
            let topic_set = TopicSet::new("b".to_owned(), topics);
            let all = run(&topic_set, sent);
            for at in 0..topics {
                let share = TopicShare::Part(at);
                let here: Vec<Stamp> =
                    (all.iter().filter(|(_, name)| topic_set.filters(share).contains(name)))
                        .map(|&(mark, _)| mark)
                        .collect();
                assert_eq!(share.expected(topics, &sent), here.len() as u64, "topic {at} of {topics}");
                for from in 0..3 {
                    let ordinals: Vec<u32> = (here.iter().filter(|mark| mark.from == from))
                        .map(|&mark| share.ordinal(topics, mark).unwrap())
                        .collect();
                    let dense: Vec<u32> = (0..ordinals.len() as u32).collect();
                    assert!(here.iter().all(|&mark| TopicShare::of(topics, mark) == share));
                    assert_eq!(ordinals, dense, "publisher {from} in topic {at} of {topics}");
                }
            }
        }
    }

    #[test]
    fn a_part_is_asked_for_by_a_pattern_for_each_of_its_topics() {
        let topic_set = TopicSet::new("a/of".to_owned(), 6).in_parts(2);
        assert_eq!(topic_set.filters(TopicShare::Part(1)), ["a/*/1", "a/*/3", "a/*/5"]);
        assert_eq!(TopicShare::Part(1).expected(topic_set.parts(), &[6]), 3);
        for (mark, name) in run(&topic_set, [12, 0, 0]) {
            let place = TopicShare::Part(1).ordinal(topic_set.parts(), mark);
            assert_eq!(place.is_some(), ["a/of/1", "a/of/3", "a/of/5"].contains(&name.as_str()), "{name}");
        }
    }

    #[test]
    fn all_is_every_message_of_every_topic() {
        let topic_set = TopicSet::new("b".to_owned(), 4);
        assert_eq!(TopicShare::All.expected(4, &[3, 4]), 7);
        assert_eq!(TopicShare::All.ordinal(4, Stamp { seq: 9, from: 1, at: 0 }), Some(9));
        assert_eq!(topic_set.filters(TopicShare::All), ["b/**"]);
        assert_eq!(TopicSet::one("b".to_owned()).filters(TopicShare::All), ["b"]);
    }

    #[test]
    fn a_message_of_another_topic_has_no_place_in_a_share() {
        assert_eq!(TopicShare::Part(1).ordinal(3, Stamp { seq: 1, from: 0, at: 0 }), Some(0));
        assert_eq!(TopicShare::Part(1).ordinal(3, Stamp { seq: 2, from: 0, at: 0 }), None);
    }
}
