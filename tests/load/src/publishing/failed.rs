//! Publishes that were not acknowledged: which messages they are, and whether these may be delivered all the same.

use std::ops::Range;

/// The fate of a publish that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishFate {
    /// The server turned it down (4xx): nobody gets it.
    Refused,
    /// The server could not say (5xx), or did not: all subscribers of its topic get it, or none.
    Unknown,
}

/// The messages of a run that failed.
#[derive(Debug, Clone, Default)]
pub(crate) struct FailedPublishes {
    /// For each publisher, the numbers of its messages, in the order in which they failed.
    by_publisher: Vec<Vec<(Range<u32>, PublishFate)>>,
    refused: u64,
    unknown: u64,
}

impl FailedPublishes {
    pub(crate) fn add(&mut self, from: u32, numbers: Range<u32>, fate: PublishFate) {
        *match fate {
            PublishFate::Refused => &mut self.refused,
            PublishFate::Unknown => &mut self.unknown,
        } += u64::from(numbers.end - numbers.start);
        let at = from as usize;
        if self.by_publisher.len() <= at {
            self.by_publisher.resize(at + 1, Vec::new());
        }
        // A server that refuses everything takes no more room than one that refuses once.
        match self.by_publisher[at].last_mut() {
            Some((last, same)) if last.end == numbers.start && *same == fate => last.end = numbers.end,
            _ => self.by_publisher[at].push((numbers, fate)),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.refused + self.unknown == 0
    }

    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    pub(crate) fn unknown(&self) -> u64 {
        self.unknown
    }

    /// Each message by its publisher and number, and its fate.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (u32, u32, PublishFate)> {
        let ranges =
            (0..).zip(&self.by_publisher).flat_map(|(from, all)| all.iter().map(move |one| (from, one)));
        ranges.flat_map(|(from, (range, fate))| range.clone().map(move |seq| (from, seq, *fate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_named_and_those_that_follow_each_other_are_kept_as_one() {
        let mut failed = FailedPublishes::default();
        assert!(failed.is_empty());
        failed.add(1, 3..4, PublishFate::Unknown);
        failed.add(1, 4..6, PublishFate::Unknown);
        failed.add(1, 6..7, PublishFate::Refused);
        failed.add(0, 9..10, PublishFate::Refused);
        assert_eq!(failed.by_publisher[1].len(), 2);
        assert_eq!((failed.refused(), failed.unknown(), failed.is_empty()), (2, 3, false));
        let all: Vec<_> = failed.messages().collect();
        let unknown = |seq| (1, seq, PublishFate::Unknown);
        assert_eq!(
            all,
            [(0, 9, PublishFate::Refused), unknown(3), unknown(4), unknown(5), (1, 6, PublishFate::Refused)]
        );
    }
}
