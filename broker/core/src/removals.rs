//! How often single messages were taken, by topic: what was made of a topic's messages is good until the number changes. Topics
//! share a bounded number of counters, so what one of them loses may count for another, too, which costs a look and no more.

use std::{
    array,
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering},
};

use tailwire_model::{Filter, Position, Topic};

/// Enough that a topic whose messages have short lifetimes rarely counts for one that is read.
const COUNTERS: usize = 1024;

/// See the module.
#[derive(Debug)]
pub(crate) struct RemovalCounts {
    shared: [AtomicU64; COUNTERS],
    all: AtomicU64,
}

impl RemovalCounts {
    /// Takes notice of a commit.
    pub(crate) fn note(&self, removed: &[(Topic, Position)]) {
        for (topic, _) in removed {
            self.shared_by(topic).fetch_add(1, Ordering::Release);
            self.all.fetch_add(1, Ordering::Release);
        }
    }

    /// Another number whenever topics of a filter lost single messages.
    pub(crate) fn of(&self, filter: &Filter) -> u64 {
        filter.only_topic().map_or(&self.all, |topic| self.shared_by(topic)).load(Ordering::Acquire)
    }

    fn shared_by(&self, topic: &Topic) -> &AtomicU64 {
        let mut hasher = DefaultHasher::new();
        topic.hash(&mut hasher);
        &self.shared[hasher.finish() as usize % COUNTERS]
    }
}

impl Default for RemovalCounts {
    fn default() -> Self {
        Self { shared: array::from_fn(|_| AtomicU64::new(0)), all: AtomicU64::new(0) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tailwire_model::Term;

    use super::*;

    #[test]
    fn a_topic_counts_for_itself_and_for_patterns() {
        let counts = RemovalCounts::default();
        let of = |name: &str| counts.of(&Filter::from(Term::parse(name).unwrap()));
        let names: Vec<String> = (0..50).map(|number| format!("t/{number}")).collect();
        let before: Vec<u64> = names.iter().map(|name| of(name)).collect();
        let removed = |name: &str| (Topic::parse(name).unwrap(), Position(1));
        counts.note(&[removed("t/7"), removed("t/7")]);
        assert_eq!(of("t/7"), before[7] + 2);
        assert_eq!(of("t/*"), 2);
        let changed = names.iter().zip(&before).filter(|(name, before)| of(name) != **before).count();
        assert!(changed < 5, "{changed} of 50 share a counter");
        counts.note(&[]);
        assert_eq!(of("**"), 2);
    }
}
