//! The names of topics: each has a number, its bytes stand once in a shared arena, a hash table finds it, and blocks of
//! numbers keep all of them in order. A name of 21 bytes takes some 45, and nothing here is ever moved as a whole.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::{order::Order, paged::Paged};

/// A topic's number: the order in which topics came, for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicId(pub(crate) u32);

impl TopicId {
    pub(super) fn at(self) -> usize {
        self.0 as usize
    }
}

/// Bytes of one page of the arena: a place in it is 16 bits.
const ARENA_PAGE: usize = 1 << 16;
/// Hash tables that share the names: one that grows hashes only its own share again, within a millisecond or two.
const SHARDS: usize = 64;

/// Where a name stands in the arena.
#[derive(Debug, Clone, Copy)]
struct Place {
    page: u32,
    start: u16,
    length: u8,
}

/// All names.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    arena: Vec<String>,
    places: Paged<Place>,
    hasher: RandomState,
    found: Vec<HashTable<TopicId>>,
    order: Order,
}

impl Default for Names {
    fn default() -> Self {
        let found = (0..SHARDS).map(|_| HashTable::new()).collect();
        Self {
            arena: Vec::new(),
            places: Paged::default(),
            hasher: RandomState::new(),
            found,
            order: Order::default(),
        }
    }
}

impl Names {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    /// The name of a topic.
    pub(crate) fn name(&self, id: TopicId) -> &str {
        name(&self.arena, self.places[id.at()])
    }

    /// The topic of a name.
    pub(crate) fn find(&self, text: &str) -> Option<TopicId> {
        let hash = self.hasher.hash_one(text);
        self.found[shard(hash)].find(hash, |&id| self.name(id) == text).copied()
    }

    /// The topic of a name, which gets the next number if it is new.
    pub(crate) fn find_or_add(&mut self, text: &str) -> TopicId {
        if let Some(id) = self.find(text) {
            return id;
        }
        let id = self.push(text);
        let Self { arena, places, order, .. } = self;
        order.insert(id, |id| name(arena, places[id.at()]));
        id
    }

    /// Adds a name with the next number, out of order until [`Names::settle`]; answers false if it stood there before.
    pub(crate) fn append(&mut self, text: &str) -> bool {
        let is_new = self.find(text).is_none();
        if is_new {
            self.push(text);
        }
        is_new
    }

    /// Puts all names into their order at once, which is much faster than one by one.
    pub(crate) fn settle(&mut self) {
        let ids = (0..self.len()).filter_map(|id| u32::try_from(id).ok()).map(TopicId).collect();
        let Self { arena, places, order, .. } = self;
        *order = Order::sorted(ids, |id| name(arena, places[id.at()]));
    }

    /// The topics whose names are `from` or after it, in byte order of their names.
    pub(crate) fn from<'a>(&'a self, from: &str) -> impl Iterator<Item = (TopicId, &'a str)> {
        self.order.from(from, |id| self.name(id)).map(|id| (id, self.name(id)))
    }

    /// Puts a name, which is not there, into the arena and the hash table.
    fn push(&mut self, text: &str) -> TopicId {
        // Four thousand million names would not fit into memory.
        let id = TopicId(u32::try_from(self.places.len()).unwrap_or(u32::MAX));
        if self.arena.last().is_none_or(|page| page.len() + text.len() > ARENA_PAGE) {
            self.arena.push(String::with_capacity(ARENA_PAGE));
        }
        let number = self.arena.len() - 1;
        let page = &mut self.arena[number];
        // A topic has at most 255 bytes, a page 65,536, and a name that would end beyond it begins the next.
        self.places.push(Place { page: number as u32, start: page.len() as u16, length: text.len() as u8 });
        page.push_str(text);
        let Self { arena, places, hasher, found, .. } = self;
        let hash = hasher.hash_one(text);
        found[shard(hash)].insert_unique(hash, id, |&id| hasher.hash_one(name(arena, places[id.at()])));
        id
    }
}

fn name(arena: &[String], place: Place) -> &str {
    let start = usize::from(place.start);
    &arena[place.page as usize][start..start + usize::from(place.length)]
}

/// By bits that the hash table does not look at.
fn shard(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_are_found_and_stand_in_order() {
        let mut names = Names::default();
        let mut wanted = BTreeMap::new();
        for n in 0..5000u32 {
            let text = format!("{}/{}", n.wrapping_mul(2_654_435_761) % 977, "x".repeat(n as usize % 200));
            let id = names.find_or_add(&text);
            assert_eq!(*wanted.entry(text.clone()).or_insert(id), id);
            assert_eq!(names.name(id), text);
        }
        assert_eq!(names.len(), wanted.len());
        let listed: Vec<(TopicId, &str)> = names.from("").collect();
        let sorted: Vec<(TopicId, &str)> = wanted.iter().map(|(text, &id)| (id, text.as_str())).collect();
        assert_eq!(listed, sorted);
        for from in ["0", "5", "500/x", "976", "a"] {
            let listed: Vec<&str> = names.from(from).map(|(_, text)| text).collect();
            let sorted: Vec<&str> = wanted.range(from.to_owned()..).map(|(text, _)| text.as_str()).collect();
            assert_eq!(listed, sorted);
        }
        assert_eq!(names.find("none"), None);
    }

    #[test]
    fn many_names_come_at_once() {
        let texts: Vec<String> = (0..3000).map(|n| format!("devices/{:04}/state", n * 7 % 3000)).collect();
        let mut names = Names::default();
        assert!(texts.iter().all(|text| names.append(text)));
        assert!(!names.append(&texts[17]));
        names.settle();
        let mut sorted = texts.clone();
        sorted.sort();
        assert_eq!(names.from("").map(|(_, text)| text).collect::<Vec<_>>(), sorted);
        assert_eq!(names.find(&texts[17]), Some(TopicId(17)));
        assert_eq!(names.find_or_add("devices/0000/a"), TopicId(3000));
    }
}
