//! Topics that are forgotten: which may be, and what is known of them afterwards, which is one place for all of them, the
//! floor. A reader below the floor may have missed messages of any topic that the index does not know.

use std::collections::{HashMap, HashSet};

use tailwire_model::{Filter, Position, Term, Timestamp, Topic, Trim, TrimReason};

use super::{
    Index,
    entry::{IndexedTopic, flag},
    order::TopicId,
    upkeep::PurgeStep,
};

/// Numbers of topics that one look goes through, and topics that it finds at most.
const LOOK_NUMBERS: usize = 4096;
const LOOK_FINDS: usize = 128;

/// How far topics that are forgotten had come: the farthest of them all, and the latest time of a message of theirs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) upto: Position,
    pub(crate) time: Timestamp,
}

impl Floor {
    /// The floor with one topic more.
    #[must_use]
    pub(crate) fn raised(self, upto: Position, time: Timestamp) -> Self {
        Self { upto: self.upto.max(upto), time: self.time.max(time) }
    }

    pub(crate) fn trim(self) -> Option<Trim> {
        (self.upto > Position::ZERO).then_some(Trim { upto: self.upto, reason: TrimReason::Retention })
    }
}

/// A topic that has held nothing for a while.
#[derive(Debug, Clone)]
pub(crate) struct IdleTopic {
    pub(crate) topic: Topic,
    pub(crate) tail: Position,
    /// Whether it is trimmed up to there.
    pub(crate) is_trimmed: bool,
}

impl Index {
    pub(crate) fn floor(&self) -> Floor {
        self.floor
    }

    pub(crate) fn set_floor(&mut self, floor: Floor) {
        self.floor = floor;
    }

    /// The floor, where a filter asks for a topic that is not known.
    pub(super) fn floor_of(&self, filter: &Filter) -> Option<Trim> {
        let floor = self.floor.trim()?;
        let is_unknown = |term: &Term| match term {
            Term::Topic(topic) => self.names.find(topic.as_str()).is_none(),
            Term::Pattern(_) => true,
        };
        filter.terms().iter().any(is_unknown).then_some(floor)
    }

    /// Whether a message at a position is of a topic that is forgotten, of this name.
    pub(crate) fn is_forgotten(&self, topic: &str, position: Position) -> bool {
        match self.get(topic) {
            Some(entry) => entry.is(flag::FLOORED) && entry.is_dead(position),
            None => position <= self.floor.upto,
        }
    }

    /// Some of the topics that hold nothing, of which nothing is left to purge, and whose newest message came so long ago; of
    /// those with this number and after it. Answers where to go on.
    pub(crate) fn idle(&self, from: u32, now: Timestamp, after_ms: u64) -> (Vec<IdleTopic>, Option<u32>) {
        let busy: HashSet<TopicId> = self.obsolete.values().copied().collect();
        let (start, count) = (from as usize, self.names.numbers());
        let mut idle = Vec::new();
        for at in start..count.min(start + LOOK_NUMBERS) {
            let (id, entry) = (TopicId(at as u32), &self.entries[at]);
            let name = self.names.name(id);
            let is_old = || now.since(self.ages.at(entry.tail, entry.tail_time)) >= after_ms;
            if name.is_empty()
                || name.starts_with('$')
                || entry.count > 0
                || entry.tail == Position::ZERO
                || entry.has_dead()
                || busy.contains(&id)
                || !is_old()
            {
                continue;
            }
            if idle.len() == LOOK_FINDS {
                return (idle, Some(id.0));
            }
            // Every name was a topic when it was added.
            let Ok(topic) = Topic::parse(name) else { continue };
            let is_trimmed = entry.trim().is_some_and(|trim| trim.upto >= entry.tail);
            idle.push(IdleTopic { topic, tail: entry.tail, is_trimmed });
        }
        let next = start + LOOK_NUMBERS;
        (idle, (next < count).then_some(next as u32))
    }

    /// Forgets topics. What is stored of their messages is nobody's from here on; their numbers are given to others.
    pub(crate) fn forget<'a>(&mut self, topics: impl Iterator<Item = &'a str>, floor: Floor) {
        self.floor = floor;
        let mut gone = HashSet::new();
        for topic in topics {
            let Some(id) = self.names.find(topic) else { continue };
            self.sum_forgotten(id);
            self.names.remove(topic);
            let entry = std::mem::replace(&mut self.entries[id.at()], IndexedTopic::vacant());
            if let Some(trim) = entry.trim() {
                self.trims.remove(&(trim.upto, id));
            }
            self.messages -= entry.count;
            self.bytes -= entry.bytes;
            self.pages.touch(id);
            gone.insert(id);
        }
        let is_there = |id: &TopicId| !gone.contains(id);
        self.removed.forget(is_there);
        self.obsolete.retain(|_, id| is_there(id));
        self.sealable.retain(is_there);
        self.purgeable.retain(is_there);
        self.removals += 1;
    }

    /// The obsolete messages of some topics that are not purged.
    pub(crate) fn obsolete_of(&self, topics: &HashSet<TopicId>) -> HashMap<TopicId, Vec<Position>> {
        let mut found = HashMap::<_, Vec<_>>::new();
        for (&position, id) in self.obsolete.iter().filter(|(_, id)| topics.contains(id)) {
            found.entry(*id).or_default().push(position);
        }
        found
    }

    /// The dead of a topic, as [`Index::next_purge`] gives those of some topic.
    pub(crate) fn next_purge_of(&mut self, topic: TopicId, count: usize) -> Option<PurgeStep> {
        let at = self.purgeable.iter().position(|id| *id == topic)?;
        self.purgeable.swap(0, at);
        self.next_purge(count)
    }

    /// Dead messages of a topic, which are purged, may be left in chunks.
    pub(crate) fn leave(&mut self, topic: &str) {
        if let Some(id) = self.names.find(topic)
            && self.entries[id.at()].set(flag::LEFTOVERS, true)
        {
            self.pages.touch(id);
        }
    }

    /// Whether that may be so.
    pub(crate) fn has_leftovers(&self, topic: TopicId) -> bool {
        self.entries[topic.at()].is(flag::LEFTOVERS)
    }
}
