//! Topics that begin: the log knows of one only once its first message is committed, and whatever comes for it meanwhile must
//! not count as another beginning. So those that were counted are remembered for a while.

use std::{
    collections::{HashSet, hash_map::RandomState},
    hash::BuildHasher,
    mem,
};

use parking_lot::Mutex;
use tailwire_model::{Draft, Topic};

/// At least so long is a topic remembered: a commit takes some milliseconds.
const REMEMBERED_NS: u64 = 10_000_000_000;
/// Half of the topics that are remembered, at most; 2 MB. Others may count twice.
const TOPICS_MAX: usize = 1 << 16;

/// See the module.
#[derive(Default)]
pub(super) struct BegunTopics {
    recent: Mutex<RecentTopics>,
    hasher: RandomState,
}

#[derive(Default)]
struct RecentTopics {
    own: HashSet<u64>,
    /// Those of the time before.
    before: HashSet<u64>,
    since_ns: u64,
}

impl BegunTopics {
    /// The topics of a publish that begin with it, each once, hashed.
    pub(super) fn new_among(
        &self,
        drafts: &[Draft],
        is_there: impl Fn(&Topic) -> bool,
        now_ns: u64,
    ) -> HashSet<u64> {
        // A batch has mostly one topic.
        let mut looked_at: Option<&Topic> = None;
        let mut new = HashSet::new();
        for Draft { topic, .. } in drafts {
            if looked_at.replace(topic) != Some(topic) && !is_there(topic) {
                new.insert(self.hasher.hash_one(topic.as_str()));
            }
        }
        if !new.is_empty() {
            let mut recent = self.recent.lock();
            recent.turn(now_ns);
            new.retain(|topic| !recent.own.contains(topic) && !recent.before.contains(topic));
        }
        new
    }

    /// They are counted.
    pub(super) fn add(&self, topics: HashSet<u64>) {
        if !topics.is_empty() {
            self.recent.lock().own.extend(topics);
        }
    }
}

impl RecentTopics {
    fn turn(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.since_ns) >= REMEMBERED_NS || self.own.len() >= TOPICS_MAX {
            self.before = mem::take(&mut self.own);
            self.since_ns = now_ns;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tailwire_model::MediaType;

    use super::*;

    fn drafts(names: &[&str]) -> Vec<Draft> {
        let draft = |name: &&str| Draft::new(Topic::parse(name).unwrap(), MediaType::NONE, Bytes::new());
        names.iter().map(draft).collect()
    }

    #[test]
    fn a_topic_begins_once() {
        let begun = BegunTopics::default();
        let new = |names: &[&str], now_ns| {
            begun.new_among(&drafts(names), |topic| topic.as_str() == "there", now_ns)
        };
        assert_eq!(new(&["there", "there"], 0).len(), 0);
        let counted = new(&["a", "a", "b", "there", "a"], 0);
        assert_eq!(counted.len(), 2);
        // Refused, they are as new as before.
        assert_eq!(new(&["a", "b"], 0), counted);
        begun.add(counted);
        assert_eq!(new(&["a", "b", "c"], 0).len(), 1);
        assert_eq!(new(&["a"], REMEMBERED_NS).len(), 0);
        assert_eq!(new(&["a"], 2 * REMEMBERED_NS).len(), 1, "its publish came to nothing");
    }
}
