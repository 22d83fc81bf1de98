//! What the topics of some patterns have together, kept up with every change: a quota asks for it with each publish.

use tailwire_model::{Pattern, PatternTree, Usage};

use super::{Index, order::TopicId};

/// See the module.
#[derive(Debug, Default, Clone)]
pub(super) struct PatternSums {
    numbers: PatternTree<usize>,
    sums: Vec<Usage>,
}

impl Index {
    /// Sums by these patterns from here on, in place of those before.
    pub(crate) fn set_patterns(&mut self, patterns: &[Pattern]) {
        let mut numbers = PatternTree::default();
        for (number, pattern) in patterns.iter().enumerate() {
            numbers.insert(pattern, number);
        }
        self.sums = PatternSums { numbers, sums: vec![Usage::default(); patterns.len()] };
        let ids = (0..self.names.numbers()).map(|at| TopicId(at as u32));
        for id in ids.filter(|id| !self.names.name(*id).is_empty()).collect::<Vec<_>>() {
            let bytes = self.entries[id.at()].bytes;
            self.change_sums(id, |sum| {
                sum.topics += 1;
                sum.bytes += bytes;
            });
        }
    }

    /// What the topics of the pattern of this number have.
    pub(crate) fn sum(&self, number: usize) -> Usage {
        self.sums.sums.get(number).copied().unwrap_or_default()
    }

    /// A topic is there that was not.
    pub(super) fn sum_begun(&mut self, id: TopicId) {
        self.change_sums(id, |sum| sum.topics += 1);
    }

    /// A topic that is there will not be, nor its messages.
    pub(super) fn sum_forgotten(&mut self, id: TopicId) {
        let bytes = self.entries[id.at()].bytes;
        self.change_sums(id, |sum| {
            sum.topics -= 1;
            sum.bytes -= bytes;
        });
    }

    /// A topic has so many bytes more.
    pub(super) fn sum_added(&mut self, id: TopicId, bytes: u64) {
        self.change_sums(id, |sum| sum.bytes += bytes);
    }

    /// A topic has another number of bytes than before.
    pub(super) fn sum_changed(&mut self, id: TopicId, before: u64) {
        let bytes = self.entries[id.at()].bytes;
        if bytes != before {
            self.change_sums(id, |sum| sum.bytes = (sum.bytes + bytes).saturating_sub(before));
        }
    }

    fn change_sums(&mut self, id: TopicId, mut change: impl FnMut(&mut Usage)) {
        let PatternSums { numbers, sums } = &mut self.sums;
        if !sums.is_empty() {
            numbers.matching_name(self.names.name(id), |&number| change(&mut sums[number]));
        }
    }
}

#[cfg(test)]
mod tests {
    use tailwire_model::{Position, Term, Timestamp, Trim, TrimReason};

    use super::{super::forgotten::Floor, *};

    fn pattern(text: &str) -> Pattern {
        let Ok(Term::Pattern(pattern)) = Term::parse(text) else { panic!("{text} is no pattern") };
        pattern
    }

    #[test]
    fn sums_are_what_counting_again_gives() {
        let patterns = ["a/**", "*/x", "b/**"].map(pattern);
        let mut index = Index::default();
        index.add("a/old", Position(1), Timestamp(1), 100);
        index.set_patterns(&patterns);
        let sums =
            |index: &Index| [0, 1, 2].map(|number| (index.sum(number).topics, index.sum(number).bytes));
        assert_eq!(sums(&index), [(1, 100), (0, 0), (0, 0)]);
        for (at, topic) in ["a/x", "a/y", "b/x", "a/x", "c/x", "a"].into_iter().enumerate() {
            index.add(topic, Position(10 + at as u64), Timestamp(1), 10 + at);
        }
        assert_eq!(sums(&index), [(3, 100 + 10 + 11 + 13), (3, 10 + 13 + 12 + 14), (1, 12)]);
        // A message that is not newer than all before it is known.
        index.add("a/x", Position(2), Timestamp(1), 1000);
        // Never stored, it begins a topic of no bytes.
        index.pass("b/volatile", Position(20), Timestamp(1));
        index.trim("a/x", Trim { upto: Position(10), reason: TrimReason::Retention }, Timestamp(1), None);
        index.mark_obsolete("a/y", Position(11), 11);
        index.remove("b/x", Trim { upto: Position(12), reason: TrimReason::Deleted }, Some(12));
        index.trim("gone/x", Trim { upto: Position(21), reason: TrimReason::Deleted }, Timestamp(1), None);
        let kept = sums(&index);
        assert_eq!(kept, [(3, 100 + 13), (4, 13 + 14), (2, 0)]);
        index.recount("a/old", 2, 50);
        index.recount("a/old", 1, 100);
        index.set_patterns(&patterns);
        assert_eq!(sums(&index), kept);
        index.forget(["a/old", "b/volatile"].into_iter(), Floor::default());
        let kept = sums(&index);
        assert_eq!(kept, [(2, 13), (4, 13 + 14), (1, 0)]);
        index.set_patterns(&patterns);
        assert_eq!(sums(&index), kept);
        index.set_patterns(&[]);
        assert_eq!(sums(&index), [(0, 0); 3]);
    }
}
