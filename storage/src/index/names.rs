//! The names of topics: each has a number, its bytes stand once in a shared arena, a hash table finds it, and blocks of
//! numbers keep all of them in order. A name of 21 bytes takes some 50, and nothing here is ever moved as a whole.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::{
    order::{NameOrder, TopicId},
    paged::Paged,
};

/// Bytes of one page of the arena: a place in it is 16 bits.
const ARENA_PAGE: usize = 1 << 16;
/// Hash tables that share the names: one that grows hashes only its own share again, within a millisecond or two.
const SHARDS: usize = 64;

/// Names that room is made for at once.
const RESERVED_MAX: usize = 4 << 20;

/// Where a name stands in the arena.
#[derive(Debug, Clone, Copy)]
struct NameSpan {
    page: u32,
    start: u16,
    length: u8,
}

/// A name in a hash table: half of its hash stands with it, so that other names are hardly ever looked at, neither to
/// find it nor when the table grows.
#[derive(Debug, Clone, Copy)]
struct HashedName {
    id: TopicId,
    half: u32,
}

impl HashedName {
    /// The hash that the table goes by.
    fn spread(half: u32) -> u64 {
        // The golden ratio: the table looks at the upper and the lower bits.
        u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// All names.
#[derive(Debug, Clone)]
pub(crate) struct TopicNames {
    arena: Vec<String>,
    spans: Paged<NameSpan>,
    hasher: RandomState,
    found: Vec<HashTable<HashedName>>,
    order: NameOrder,
}

impl Default for TopicNames {
    fn default() -> Self {
        let found = (0..SHARDS).map(|_| HashTable::new()).collect();
        Self {
            arena: Vec::new(),
            spans: Paged::default(),
            hasher: RandomState::new(),
            found,
            order: NameOrder::default(),
        }
    }
}

impl TopicNames {
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// The name of a topic.
    pub(crate) fn name(&self, id: TopicId) -> &str {
        name(&self.arena, self.spans[id.at()])
    }

    /// The topic of a name.
    pub(crate) fn find(&self, text: &str) -> Option<TopicId> {
        let (shard, half) = self.place(text);
        let is = |found: &HashedName| found.half == half && self.name(found.id) == text;
        self.found[shard].find(HashedName::spread(half), is).map(|found| found.id)
    }

    /// The topic of a name, which gets the next number if it is new.
    pub(crate) fn find_or_add(&mut self, text: &str) -> TopicId {
        if let Some(id) = self.find(text) {
            return id;
        }
        let id = self.push(text);
        let Self { arena, spans, order, .. } = self;
        order.insert(id, |id| name(arena, spans[id.at()]));
        id
    }

    /// Adds a name with the next number, out of order until [`TopicNames::sort_names`]; answers false if it stood there before.
    pub(crate) fn append(&mut self, text: &str) -> bool {
        let is_new = self.find(text).is_none();
        if is_new {
            self.push(text);
        }
        is_new
    }

    /// Makes room for this many names.
    pub(crate) fn reserve(&mut self, names: usize) {
        // The mark that says how many may be of any size; beyond this the tables grow by themselves.
        let share = names.min(RESERVED_MAX) / SHARDS;
        self.found.iter_mut().for_each(|found| found.reserve(share, |found| HashedName::spread(found.half)));
    }

    /// Puts all names into their order at once, which is much faster than one by one.
    pub(crate) fn sort_names(&mut self) {
        let ids = (0..self.len()).filter_map(|id| u32::try_from(id).ok()).map(TopicId).collect();
        let Self { arena, spans, order, .. } = self;
        *order = NameOrder::sorted(ids, |id| name(arena, spans[id.at()]));
    }

    /// The topics whose names are `from` or after it, in byte order of their names.
    pub(crate) fn from<'a>(&'a self, from: &str) -> impl Iterator<Item = (TopicId, &'a str)> {
        self.order.from(from, |id| self.name(id)).map(|id| (id, self.name(id)))
    }

    /// Puts a name, which is not there, into the arena and the hash table.
    fn push(&mut self, text: &str) -> TopicId {
        // Four thousand million names would not fit into memory.
        let id = TopicId(u32::try_from(self.spans.len()).unwrap_or(u32::MAX));
        if self.arena.last().is_none_or(|page| page.len() + text.len() > ARENA_PAGE) {
            self.arena.push(String::with_capacity(ARENA_PAGE));
        }
        let number = self.arena.len() - 1;
        let page = &mut self.arena[number];
        // A topic has at most 255 bytes, a page 65,536, and a name that would end beyond it begins the next.
        self.spans.push(NameSpan { page: number as u32, start: page.len() as u16, length: text.len() as u8 });
        page.push_str(text);
        let (shard, half) = self.place(text);
        let spread = |found: &HashedName| HashedName::spread(found.half);
        self.found[shard].insert_unique(HashedName::spread(half), HashedName { id, half }, spread);
        id
    }

    /// The shard of a name, and what it goes by there.
    fn place(&self, text: &str) -> (usize, u32) {
        let hash = self.hasher.hash_one(text);
        (hash as usize % SHARDS, (hash >> 32) as u32)
    }
}

fn name(arena: &[String], place: NameSpan) -> &str {
    let start = usize::from(place.start);
    &arena[place.page as usize][start..start + usize::from(place.length)]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn names_are_found_and_stand_in_order() {
        let mut names = TopicNames::default();
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
        let mut names = TopicNames::default();
        assert!(texts.iter().all(|text| names.append(text)));
        assert!(!names.append(&texts[17]));
        names.sort_names();
        let mut sorted = texts.clone();
        sorted.sort();
        assert_eq!(names.from("").map(|(_, text)| text).collect::<Vec<_>>(), sorted);
        assert_eq!(names.find(&texts[17]), Some(TopicId(17)));
        assert_eq!(names.find_or_add("devices/0000/a"), TopicId(3000));
    }
}
