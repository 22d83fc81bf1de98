//! The index of topics: what the log holds of each, of committed messages only. It knows positions, costs and times, no
//! bodies and no store. What a topic takes in memory is bounded: its older postings are sealed into blocks that a store
//! keeps ([`Blocks`]), and the whole can be written behind page by page ([`stored_page`]), so that opening needs not read
//! every message. Names are kept in order, so that a pattern walks only those under its prefix.
//!
//! Nothing here waits for a store: what needs sealed postings is prepared under the index's lock and read outside.

mod blocks;
mod entry;
mod forgotten;
mod names;
mod newest;
mod order;
mod paged;
mod plan;
mod postings;
mod removed;
mod stored_page;
mod sums;
mod trim;
mod upkeep;
mod walk;

use std::collections::{BTreeMap, VecDeque};

use tailwire_core::log::TopicInfo;
use tailwire_model::{Filter, Position, Term, Timestamp, Topic, Trim, TrimReason};

pub(crate) use self::{
    blocks::{Block, Blocks, BrokenPostings},
    entry::RetainedPart,
    forgotten::{Floor, IdleTopic},
    newest::Newest,
    order::TopicId,
    plan::Planned,
    postings::{Posting, Postings},
    stored_page::read as read_index_page,
    upkeep::PurgeStep,
    walk::{FilterWalk, NewestTopics},
};
use crate::ages::Ages;

use self::{
    entry::{IndexedTopic, flag},
    names::TopicNames,
    paged::Paged,
    removed::Removed,
    stored_page::IndexPages,
    sums::PatternSums,
};

/// Names that planning a read may visit. Beyond, scanning the log costs less than merging so many topics.
const PLAN_NAMES_MAX: usize = 256;

/// Everything the log knows of its topics without asking the store.
#[derive(Debug, Default, Clone)]
pub(crate) struct Index {
    names: TopicNames,
    entries: Paged<IndexedTopic>,
    /// Every topic's trim by its position: the farthest trim of a pattern is the last one here that matches. Topics share
    /// one where all that they had was never stored.
    trims: BTreeMap<(Position, TopicId), TrimReason>,
    messages: u64,
    /// Their cost.
    bytes: u64,
    /// Changes with everything that is taken.
    removals: u64,
    /// Topics whose recent postings are ready to be sealed.
    sealable: VecDeque<TopicId>,
    /// Topics with dead messages that are not purged.
    purgeable: VecDeque<TopicId>,
    /// Messages that a newer one of their key made obsolete, or that were taken by themselves, and that are not purged.
    obsolete: BTreeMap<Position, TopicId>,
    removed: Removed,
    floor: Floor,
    pages: IndexPages,
    sums: PatternSums,
    ages: Ages,
}

impl Index {
    /// How ages are counted.
    pub(crate) fn ages(&self) -> &Ages {
        &self.ages
    }

    pub(crate) fn set_ages(&mut self, ages: Ages) {
        self.ages = ages;
    }

    /// Adds a message that costs so much, newer than all before it. One that is not newer is known, and left alone:
    /// answers false.
    pub(crate) fn add(&mut self, topic: &str, position: Position, time: Timestamp, cost: usize) -> bool {
        let id = self.entry(topic, position);
        let entry = &mut self.entries[id.at()];
        if position <= entry.tail {
            return false;
        }
        let latest = self.ages.at(position, time).since(self.ages.at(entry.tail, entry.tail_time));
        entry.add(Posting { position, cost: cost as u64 }, time, latest);
        if entry.recent.encoded().len() >= blocks::BLOCK_BYTES && entry.set(flag::SEALABLE, true) {
            self.sealable.push_back(id);
        }
        self.messages += 1;
        self.bytes += cost as u64;
        self.sum_added(id, cost as u64);
        self.pages.count(id);
        self.pages.touch(id);
        true
    }

    /// Moves a topic's tail to a message that is not stored.
    pub(crate) fn pass(&mut self, topic: &str, position: Position, time: Timestamp) {
        let id = self.entry(topic, position);
        let entry = &mut self.entries[id.at()];
        let latest = self.ages.at(position, time).since(self.ages.at(entry.tail, entry.tail_time));
        entry.advance(position, time, latest);
        self.pages.touch(id);
    }

    /// Changes with everything that is taken, so that a reader can tell whether something was meanwhile.
    pub(crate) fn removals(&self) -> u64 {
        self.removals
    }

    /// A topic's newest position ever and its time; zero if none.
    pub(crate) fn tail(&self, topic: &Topic) -> (Position, Timestamp) {
        self.get(topic.as_str()).map_or_else(Default::default, |entry| (entry.tail, entry.tail_time))
    }

    /// How far a topic was trimmed.
    pub(crate) fn trimmed(&self, topic: &str) -> Option<Trim> {
        self.get(topic).and_then(IndexedTopic::trim)
    }

    /// Whether a message of this topic was taken.
    pub(crate) fn is_dead(&self, topic: &str, position: Position) -> bool {
        let is_gone = self.get(topic).map_or(position <= self.floor.upto, |entry| entry.is_dead(position));
        is_gone || self.obsolete.contains_key(&position)
    }

    /// How many messages of a topic are retained, and what they cost together.
    pub(crate) fn size(&self, topic: &str) -> (u64, u64) {
        self.get(topic).map_or((0, 0), |entry| (entry.count, entry.bytes))
    }

    /// The cost of all retained messages.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The number of a topic that the index knows.
    pub(crate) fn id(&self, topic: &str) -> Option<TopicId> {
        self.names.find(topic)
    }

    /// The first number that was given to no topic.
    pub(crate) fn next_id(&self) -> TopicId {
        TopicId(self.names.numbers() as u32)
    }

    /// The farthest trim of any topic.
    pub(crate) fn farthest_trim(&self) -> Position {
        self.trims.last_key_value().map_or(Position::ZERO, |(&(upto, _), _)| upto)
    }

    /// How many topics were trimmed.
    pub(crate) fn trim_count(&self) -> usize {
        self.trims.len()
    }

    /// Beyond this nothing that is stored is dead.
    pub(crate) fn farthest_dead(&self) -> Position {
        let obsolete = self.obsolete.last_key_value().map_or(Position::ZERO, |(&position, _)| position);
        self.farthest_trim().max(obsolete).max(self.floor.upto)
    }

    /// When the newest message of all came.
    pub(crate) fn newest_time(&self) -> Timestamp {
        self.entries.iter().map(|entry| entry.tail_time).max().unwrap_or_default().max(self.floor.time)
    }

    /// How many topics were written to and are not forgotten, and how many messages are retained.
    pub(crate) fn totals(&self) -> (u64, u64) {
        (self.names.len() as u64, self.messages)
    }

    /// Topics that begin with `prefix`, from after `from`, in byte order of their names.
    pub(crate) fn list(&self, prefix: &str, from: Option<&str>, limit: usize) -> Vec<TopicInfo> {
        let start = from.filter(|from| *from >= prefix);
        let names = self.names.from(start.unwrap_or(prefix));
        let beyond = names.skip_while(|&(_, name)| Some(name) == start);
        let matching = beyond.take_while(|(_, name)| name.starts_with(prefix));
        let info = |(id, name): (TopicId, &str)| {
            let entry = &self.entries[id.at()];
            // Every name was a topic when it was added.
            let topic = Topic::parse(name).ok()?;
            Some(TopicInfo {
                topic,
                head: entry.head(),
                tail: entry.tail,
                messages: entry.count,
                tail_time: entry.tail_time,
            })
        };
        matching.take(limit).filter_map(info).collect()
    }

    fn get(&self, topic: &str) -> Option<&IndexedTopic> {
        self.names.find(topic).map(|id| &self.entries[id.at()])
    }

    /// A topic's number; it gets one if it is new, and begins with what stands at a position.
    fn entry(&mut self, topic: &str, first: Position) -> TopicId {
        let (id, is_new) = self.names.find_or_add(topic);
        if is_new {
            let own = IndexedTopic::beginning(self.floor.upto.min(first.previous()));
            if id.at() == self.entries.len() {
                self.entries.push(own);
            } else {
                self.entries[id.at()] = own;
            }
            self.sum_begun(id);
            self.pages.touch(id);
        }
        id
    }

    /// Visits the topics that a filter asks for, some twice if its terms overlap; answers false, and stops, if that takes
    /// a visit to more than `names_max` names.
    fn visit<'a>(
        &'a self,
        filter: &Filter,
        names_max: usize,
        mut each: impl FnMut(TopicId, &'a IndexedTopic),
    ) -> bool {
        let mut visited = 0;
        for term in filter.terms() {
            let pattern = match term {
                Term::Topic(topic) => {
                    if let Some(id) = self.names.find(topic.as_str()) {
                        each(id, &self.entries[id.at()]);
                    }
                    continue;
                }
                Term::Pattern(pattern) => pattern,
            };
            let prefix = pattern.prefix();
            for (id, name) in self.names.from(prefix).take_while(|(_, name)| name.starts_with(prefix)) {
                visited += 1;
                if visited > names_max {
                    return false;
                }
                if pattern.matches_name(name) {
                    each(id, &self.entries[id.at()]);
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests;
