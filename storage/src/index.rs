//! The index of topics: what the log holds of each, in memory, of committed messages only. It knows positions and
//! times, no bodies and no store, and is rebuilt from the store at opening. A `BTreeMap` keeps the names sorted, so
//! that a pattern walks only the names under its prefix and the list of topics pages cheaply.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
    ops::Bound::{Excluded, Included, Unbounded},
};

use tailwire_core::log::{Bounds, TopicInfo};
use tailwire_model::{Filter, Position, Term, Timestamp, Topic, Trim, TrimReason};

/// Names that planning a read may visit. Beyond, scanning the log costs less than merging so many topics.
const PLAN_NAMES_MAX: usize = 256;

/// Everything the log knows of its topics without asking the store.
#[derive(Debug, Default, Clone)]
pub(crate) struct Index {
    topics: BTreeMap<Topic, Entry>,
    /// Every topic's trim by its position, which no two topics share: the farthest trim of a pattern is the last
    /// one here that matches.
    trims: BTreeMap<Position, (Topic, TrimReason)>,
    messages: u64,
    bytes: u64,
    removals: u64,
    farthest_removed: Position,
}

/// What the messages that a trim takes have taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freed {
    /// All that the topic has.
    All,
    /// So much.
    Bytes(u64),
}

/// What is known of one topic.
#[derive(Debug, Default, Clone)]
struct Entry {
    /// Its retained messages, oldest first.
    positions: VecDeque<Position>,
    /// What they take.
    bytes: u64,
    /// Some were taken out of the middle.
    compacted: bool,
    tail: Position,
    tail_time: Timestamp,
    interval_ms: Option<u64>,
    trim: Option<Trim>,
}

impl Entry {
    /// Moves the tail. The interval is a moving mean in which the latest eight messages weigh most.
    fn advance(&mut self, position: Position, time: Timestamp) {
        if self.tail > Position::ZERO {
            let latest = time.since(self.tail_time);
            self.interval_ms = Some(self.interval_ms.map_or(latest, |mean| (mean * 7 + latest + 4) / 8));
        }
        self.tail = position;
        self.tail_time = time;
    }
}

impl Index {
    /// Adds a message, newer than all before it.
    pub(crate) fn add(&mut self, topic: &Topic, position: Position, time: Timestamp, cost: usize) {
        let entry = self.touch(topic, position, time);
        entry.positions.push_back(position);
        entry.bytes += cost as u64;
        self.messages += 1;
        self.bytes += cost as u64;
    }

    /// Moves a topic's tail to a message that is not stored.
    pub(crate) fn pass(&mut self, topic: &Topic, position: Position, time: Timestamp) {
        self.touch(topic, position, time);
    }

    fn touch(&mut self, topic: &Topic, position: Position, time: Timestamp) -> &mut Entry {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.clone(), Entry::default());
        }
        let entry = self.topics.entry(topic.clone()).or_default();
        entry.advance(position, time);
        entry
    }

    /// Takes one message out, wherever it stands. Returns whether it was there.
    pub(crate) fn remove(&mut self, topic: &Topic, position: Position, cost: usize) -> bool {
        let Some(entry) = self.topics.get_mut(topic) else { return false };
        let Ok(at) = entry.positions.binary_search(&position) else { return false };
        entry.positions.remove(at);
        entry.bytes -= cost as u64;
        entry.compacted = true;
        self.messages -= 1;
        self.bytes -= cost as u64;
        self.farthest_removed = self.farthest_removed.max(position);
        self.removals += 1;
        true
    }

    /// Takes a topic's messages up to `trim.upto`, whose newest came at `time`, and returns them.
    pub(crate) fn trim(&mut self, topic: &Topic, trim: Trim, time: Timestamp, freed: Freed) -> Vec<Position> {
        let entry = self.topics.entry(topic.clone()).or_default();
        if let Some(before) = entry.trim.replace(trim) {
            self.trims.remove(&before.upto);
        }
        if entry.tail < trim.upto {
            // Only at opening, when the store no longer holds what was trimmed.
            entry.tail = trim.upto;
            entry.tail_time = time;
        }
        let dead = entry.positions.partition_point(|&position| position <= trim.upto);
        let kept = entry.positions.split_off(dead);
        let taken = std::mem::replace(&mut entry.positions, kept);
        let bytes = match freed {
            Freed::Bytes(bytes) if !entry.positions.is_empty() => bytes.min(entry.bytes),
            _ => entry.bytes,
        };
        entry.bytes -= bytes;
        self.bytes -= bytes;
        self.messages -= taken.len() as u64;
        self.trims.insert(trim.upto, (topic.clone(), trim.reason));
        self.removals += 1;
        taken.into()
    }

    /// Changes with every trim and removal, so that a reader can tell whether one happened meanwhile.
    pub(crate) fn removals(&self) -> u64 {
        self.removals
    }

    /// How many messages a topic holds, and what they take.
    pub(crate) fn size(&self, topic: &Topic) -> (u64, u64) {
        self.topics.get(topic).map_or((0, 0), |entry| (entry.positions.len() as u64, entry.bytes))
    }

    /// What all messages take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A topic's newest position ever and its time; zero if none.
    pub(crate) fn tail(&self, topic: &Topic) -> (Position, Timestamp) {
        self.topics.get(topic).map_or_else(Default::default, |entry| (entry.tail, entry.tail_time))
    }

    /// How far a topic was trimmed.
    pub(crate) fn trimmed(&self, topic: &str) -> Option<Trim> {
        self.topics.get(topic).and_then(|entry| entry.trim)
    }

    /// Whether a message of this topic was taken.
    pub(crate) fn is_dead(&self, topic: &str, position: Position) -> bool {
        let Some(entry) = self.topics.get(topic) else { return false };
        entry.trim.is_some_and(|trim| position <= trim.upto)
            || entry.compacted && entry.positions.binary_search(&position).is_err()
    }

    /// Whether the index holds a message at this position in some topic of a filter.
    pub(crate) fn is_alive(&self, filter: &Filter, position: Position) -> bool {
        let holds = |entry: &&Entry| entry.positions.binary_search(&position).is_ok();
        self.entries(filter, usize::MAX).unwrap_or_default().iter().any(holds)
    }

    /// A topic that the index knows, by its name.
    pub(crate) fn name(&self, name: &str) -> Option<Topic> {
        self.topics.get_key_value(name).map(|(topic, _)| topic.clone())
    }

    /// The farthest trim of any topic.
    pub(crate) fn farthest_dead(&self) -> Position {
        self.farthest_trim().max(self.farthest_removed)
    }

    /// How far any topic was trimmed.
    pub(crate) fn farthest_trim(&self) -> Position {
        self.trims.last_key_value().map_or(Position::ZERO, |(&upto, _)| upto)
    }

    /// When the newest message of all came.
    pub(crate) fn newest_time(&self) -> Timestamp {
        self.topics.values().map(|entry| entry.tail_time).max().unwrap_or_default()
    }

    /// How many topics were ever written to, and how many messages are retained.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.topics.len() as u64, self.messages)
    }

    /// What the log holds of a filter.
    pub(crate) fn bounds(&self, filter: &Filter) -> Bounds {
        let mut bounds = Bounds::default();
        let entries = self.entries(filter, usize::MAX).unwrap_or_default();
        for entry in &entries {
            bounds.head = match (bounds.head, entry.positions.front().copied()) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            if entry.tail > bounds.tail {
                bounds.tail = entry.tail;
                bounds.tail_time = Some(entry.tail_time);
            }
            bounds.trimmed = Trim::farther(bounds.trimmed, entry.trim);
        }
        if let (Some(_), [entry]) = (filter.only_topic(), entries.as_slice()) {
            bounds.interval_ms = entry.interval_ms;
        }
        bounds
    }

    /// How far any topic of a filter was trimmed, as far as a reader at `after` needs to know: `None` may also mean
    /// that nothing beyond `after` was.
    pub(crate) fn trimmed_after(&self, filter: &Filter, after: Position) -> Option<Trim> {
        if let Some(topic) = filter.only_topic() {
            return self.trimmed(topic.as_str());
        }
        let beyond = self.trims.range((Excluded(after), Unbounded)).rev();
        let (&upto, &(_, reason)) = beyond.into_iter().find(|(_, (topic, _))| filter.matches(topic))?;
        Some(Trim { upto, reason })
    }

    /// Topics that begin with `prefix`, from after `from`, in byte order of their names.
    pub(crate) fn list(&self, prefix: &str, from: Option<&str>, limit: usize) -> Vec<TopicInfo> {
        let start = match from {
            Some(from) if from >= prefix => Excluded(from),
            _ => Included(prefix),
        };
        let names = self.topics.range::<str, _>((start, Unbounded));
        let matching = names.take_while(|(topic, _)| topic.as_str().starts_with(prefix));
        let info = |(topic, entry): (&Topic, &Entry)| TopicInfo {
            topic: topic.clone(),
            head: entry.positions.front().copied(),
            tail: entry.tail,
            messages: entry.positions.len() as u64,
            tail_time: entry.tail_time,
        };
        matching.take(limit).map(info).collect()
    }

    /// The oldest `count` messages of a filter after `after` and up to `upto`. `None` when the filter spans so many
    /// topics that a scan of the log is the better way.
    pub(crate) fn plan(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        count: usize,
    ) -> Option<Vec<Position>> {
        let entries = self.entries(filter, PLAN_NAMES_MAX)?;
        let mut nearest = BinaryHeap::with_capacity(entries.len());
        for (slot, entry) in entries.iter().enumerate() {
            let at = entry.positions.partition_point(|&position| position <= after);
            nearest.extend(entry.positions.get(at).map(|&position| Reverse((position, slot, at))));
        }
        let mut plan = Vec::new();
        while plan.len() < count
            && let Some(Reverse((position, slot, at))) = nearest.pop()
            && position <= upto
        {
            // Overlapping terms name a topic twice, and its messages then come twice in a row.
            if plan.last() != Some(&position) {
                plan.push(position);
            }
            let next = entries[slot].positions.get(at + 1);
            nearest.extend(next.map(|&position| Reverse((position, slot, at + 1))));
        }
        Some(plan)
    }

    /// The positions of the `count` newest messages of a filter, newest first.
    pub(crate) fn newest(&self, filter: &Filter, count: usize) -> Vec<Position> {
        let entries = self.entries(filter, usize::MAX).unwrap_or_default();
        let newest = |(slot, entry): (usize, &&Entry)| {
            entry.positions.back().map(|&position| (position, slot, entry.positions.len() - 1))
        };
        let mut nearest: BinaryHeap<_> = entries.iter().enumerate().filter_map(newest).collect();
        let mut found = Vec::new();
        while found.len() < count
            && let Some((position, slot, at)) = nearest.pop()
        {
            if found.last() != Some(&position) {
                found.push(position);
            }
            if at > 0 {
                nearest.extend(entries[slot].positions.get(at - 1).map(|&position| (position, slot, at - 1)));
            }
        }
        found
    }

    /// The topics that a filter asks for, some twice if its terms overlap; `None` if that takes a visit to more than
    /// `names_max` names.
    fn entries(&self, filter: &Filter, names_max: usize) -> Option<Vec<&Entry>> {
        let mut entries = Vec::new();
        let mut visited = 0;
        for term in filter.terms() {
            let pattern = match term {
                Term::Topic(topic) => {
                    entries.extend(self.topics.get(topic));
                    continue;
                }
                Term::Pattern(pattern) => pattern,
            };
            let prefix = pattern.prefix();
            for (topic, entry) in self.topics.range::<str, _>((Included(prefix), Unbounded)) {
                if !topic.as_str().starts_with(prefix) {
                    break;
                }
                visited += 1;
                if visited > names_max {
                    return None;
                }
                if pattern.matches(topic) {
                    entries.push(entry);
                }
            }
        }
        Some(entries)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn filter(terms: &[&str]) -> Filter {
        Filter::new(terms.iter().map(|term| Term::parse(term).unwrap()).collect()).unwrap()
    }

    fn index(topics: &[&str]) -> Index {
        let mut index = Index::default();
        for (at, topic) in topics.iter().enumerate() {
            let at = at as u64 + 1;
            index.add(&Topic::parse(topic).unwrap(), Position(at), Timestamp(at * 1000), 10);
        }
        index
    }

    #[test]
    fn a_plan_merges_topics_and_ignores_overlap() {
        let index = index(&["a/x", "b", "a/y", "a/x", "b", "a/y"]);
        let plan = |terms: &[&str], after, upto| {
            index
                .plan(&filter(terms), Position(after), Position(upto), 10)
                .unwrap()
                .iter()
                .map(|p| p.0)
                .collect()
        };
        let all: Vec<u64> = plan(&["a/x", "a/*", "**"], 0, 9);
        assert_eq!(all, [1, 2, 3, 4, 5, 6]);
        let some: Vec<u64> = plan(&["a/**", "a/y"], 1, 5);
        assert_eq!(some, [3, 4]);
        let newest = index.newest(&filter(&["a/x", "a/*"]), 3);
        assert_eq!(newest, [Position(6), Position(4), Position(3)]);
    }

    #[test]
    fn a_filter_over_many_topics_has_no_plan() {
        let names: Vec<String> = (0..=PLAN_NAMES_MAX).map(|n| format!("t/{n}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let index = index(&names);
        assert!(index.plan(&filter(&["t/*"]), Position::ZERO, Position::MAX, 1).is_none());
        assert_eq!(index.bounds(&filter(&["t/*"])).tail, Position(names.len() as u64));
    }

    #[test]
    fn trims_are_found_by_pattern() {
        let mut index = index(&["a/x", "b", "a/y", "a/x"]);
        let trim = |upto| Trim { upto: Position(upto), reason: TrimReason::Deleted };
        assert_eq!(
            index.trim(&Topic::parse("a/x").unwrap(), trim(4), Timestamp(4), Freed::All),
            [Position(1), Position(4)]
        );
        assert_eq!(index.trimmed_after(&filter(&["a/*"]), Position(3)), Some(trim(4)));
        assert_eq!(index.trimmed_after(&filter(&["b", "c"]), Position(0)), None);
        assert_eq!(index.totals(), (3, 2));
    }
}
