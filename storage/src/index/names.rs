//! The names of topics: each has a number, its bytes stand once in a shared arena, a hash table finds it, and blocks of
//! numbers keep all of them in order. A name of 21 bytes takes some 50, and nothing here is ever moved as a whole.
//!
//! A name that is removed gives its room back: its number goes to the next new one, and a page of the arena of which a
//! quarter is left is given up for another.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    mem,
};

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

/// A part of the arena.
#[derive(Debug, Clone, Default)]
struct ArenaPage {
    text: String,
    /// Bytes of names that are there.
    living: usize,
}

/// Where a name stands in the arena. A number that no name has is one without length.
#[derive(Debug, Clone, Copy, Default)]
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
    arena: Vec<ArenaPage>,
    /// The page that takes names, and those that were given up.
    page: usize,
    given_up: Vec<usize>,
    /// Numbers that no name has.
    vacant: BTreeSet<TopicId>,
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
            page: 0,
            given_up: Vec::new(),
            vacant: BTreeSet::new(),
            spans: Paged::default(),
            hasher: RandomState::new(),
            found,
            order: NameOrder::default(),
        }
    }
}

impl TopicNames {
    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.spans.len() - self.vacant.len()
    }

    /// How many numbers there are, of names or of none.
    pub(crate) fn numbers(&self) -> usize {
        self.spans.len()
    }

    /// The name of a topic; empty where no topic has this number.
    pub(crate) fn name(&self, id: TopicId) -> &str {
        name(&self.arena, self.spans[id.at()])
    }

    /// The topic of a name.
    pub(crate) fn find(&self, text: &str) -> Option<TopicId> {
        let (shard, half) = self.place(text);
        let is = |found: &HashedName| found.half == half && self.name(found.id) == text;
        self.found[shard].find(HashedName::spread(half), is).map(|found| found.id)
    }

    /// The topic of a name, and whether it is new: then it gets a number that none has.
    pub(crate) fn find_or_add(&mut self, text: &str) -> (TopicId, bool) {
        if let Some(id) = self.find(text) {
            return (id, false);
        }
        let id = self.vacant.pop_first();
        let id = self.push(text, id);
        let Self { arena, spans, order, .. } = self;
        order.insert(id, |id| name(arena, spans[id.at()]));
        (id, true)
    }

    /// Adds a name with the next number, out of order until [`TopicNames::sort_names`]; answers false if it stood there before.
    pub(crate) fn append(&mut self, text: &str) -> bool {
        let is_new = self.find(text).is_none();
        if is_new {
            self.push(text, None);
        }
        is_new
    }

    /// Leaves the next number to none.
    pub(crate) fn append_vacant(&mut self) {
        self.vacant.insert(self.next_number());
        self.spans.push(NameSpan::default());
    }

    /// Removes a name; answers its number.
    pub(crate) fn remove(&mut self, text: &str) -> Option<TopicId> {
        let (shard, half) = self.place(text);
        let id = self.find(text)?;
        let is = |found: &HashedName| found.id == id;
        if let Ok(found) = self.found[shard].find_entry(HashedName::spread(half), is) {
            found.remove();
        }
        let Self { arena, spans, order, .. } = self;
        order.remove(id, |id| name(arena, spans[id.at()]));
        let span = mem::take(&mut self.spans[id.at()]);
        self.vacant.insert(id);
        let page = span.page as usize;
        self.arena[page].living -= usize::from(span.length);
        if page != self.page {
            self.give_up_if_hollow(page);
        }
        Some(id)
    }

    /// Makes room for this many names.
    pub(crate) fn reserve(&mut self, names: usize) {
        // The mark that says how many may be of any size; beyond this the tables grow by themselves.
        let share = names.min(RESERVED_MAX) / SHARDS;
        self.found.iter_mut().for_each(|found| found.reserve(share, |found| HashedName::spread(found.half)));
    }

    /// Puts all names into their order at once, which is much faster than one by one.
    pub(crate) fn sort_names(&mut self) {
        let ids = (0..self.numbers()).filter_map(|id| u32::try_from(id).ok()).map(TopicId);
        let ids = ids.filter(|id| self.spans[id.at()].length > 0).collect();
        let Self { arena, spans, order, .. } = self;
        *order = NameOrder::sorted(ids, |id| name(arena, spans[id.at()]));
    }

    /// The topics whose names are `from` or after it, in byte order of their names.
    pub(crate) fn from<'a>(&'a self, from: &str) -> impl Iterator<Item = (TopicId, &'a str)> {
        self.order.from(from, |id| self.name(id)).map(|id| (id, self.name(id)))
    }

    /// Puts a name, which is not there, into the arena and the hash table, under this number or else the next.
    fn push(&mut self, text: &str, id: Option<TopicId>) -> TopicId {
        let span = self.write(text);
        let id = if let Some(id) = id {
            self.spans[id.at()] = span;
            id
        } else {
            let id = self.next_number();
            self.spans.push(span);
            id
        };
        let (shard, half) = self.place(text);
        let spread = |found: &HashedName| HashedName::spread(found.half);
        self.found[shard].insert_unique(HashedName::spread(half), HashedName { id, half }, spread);
        id
    }

    fn next_number(&self) -> TopicId {
        // Four thousand million names would not fit into memory.
        TopicId(u32::try_from(self.spans.len()).unwrap_or(u32::MAX))
    }

    /// Writes a name into the arena.
    fn write(&mut self, text: &str) -> NameSpan {
        let has_room = |page: &ArenaPage| page.text.len() + text.len() <= ARENA_PAGE;
        if !self.arena.get(self.page).is_some_and(has_room) {
            let full = self.page;
            self.page = self.given_up.pop().unwrap_or(self.arena.len());
            if self.page == self.arena.len() {
                self.arena.push(ArenaPage::default());
            }
            self.arena[self.page].text.reserve_exact(ARENA_PAGE);
            if full < self.arena.len() && full != self.page {
                self.give_up_if_hollow(full);
            }
        }
        let page = &mut self.arena[self.page];
        // A topic has at most 255 bytes, a page 65,536, and a name that would end beyond it begins the next.
        let (start, length) = (page.text.len() as u16, text.len() as u8);
        page.text.push_str(text);
        page.living += text.len();
        NameSpan { page: self.page as u32, start, length }
    }

    /// Moves what is left of a page, which is no longer the one that takes names, if it is a quarter or less.
    fn give_up_if_hollow(&mut self, page: usize) {
        let ArenaPage { text, living } = &self.arena[page];
        if *living > text.len() / 4 || text.is_empty() {
            return;
        }
        let ArenaPage { text, .. } = mem::take(&mut self.arena[page]);
        for at in 0..self.spans.len() {
            let NameSpan { page: own, start, length } = self.spans[at];
            if length > 0 && own as usize == page {
                let start = usize::from(start);
                self.spans[at] = self.write(&text[start..start + usize::from(length)]);
            }
        }
        self.given_up.push(page);
    }

    /// The shard of a name, and what it goes by there.
    fn place(&self, text: &str) -> (usize, u32) {
        let hash = self.hasher.hash_one(text);
        (hash as usize % SHARDS, (hash >> 32) as u32)
    }
}

fn name(arena: &[ArenaPage], place: NameSpan) -> &str {
    let start = usize::from(place.start);
    let text = arena.get(place.page as usize).map_or("", |page| &page.text);
    text.get(start..start + usize::from(place.length)).unwrap_or_default()
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
            let (id, is_new) = names.find_or_add(&text);
            assert_eq!(is_new, !wanted.contains_key(&text));
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
        assert_eq!(names.find_or_add("devices/0000/a"), (TopicId(3000), true));
    }
    #[test]
    fn what_is_removed_gives_its_room_to_others() {
        let mut names = TopicNames::default();
        let mut wanted = BTreeMap::new();
        let room = |names: &TopicNames| {
            let arena: usize = names.arena.iter().map(|page| page.text.capacity()).sum();
            (names.numbers(), arena, names.order.room())
        };
        let mut first = None;
        for round in 0..8u32 {
            for n in 0..5_000u32 {
                let text = format!(
                    "{round}/{}/{}",
                    n.wrapping_mul(2_654_435_761) % 4_999,
                    "x".repeat(n as usize % 40)
                );
                let (id, is_new) = names.find_or_add(&text);
                assert!(is_new || wanted.contains_key(&text));
                wanted.insert(text, id);
            }
            // A few stay, and hold no room of others; all else goes, in another order than it came.
            let goes: Vec<String> = wanted
                .keys()
                .filter(|text| text.len() % 97 != 5 || text.starts_with("0/"))
                .cloned()
                .collect();
            for text in goes {
                assert_eq!(names.remove(&text), wanted.remove(&text));
                assert_eq!((names.find(&text), names.remove(&text)), (None, None));
            }
            assert_eq!(names.len(), wanted.len());
            let listed: Vec<(TopicId, &str)> = names.from("").collect();
            assert!(listed.iter().copied().eq(wanted.iter().map(|(text, &id)| (id, text.as_str()))));
            let (numbers, arena, order) = room(&names);
            let (first_numbers, first_arena, first_order) = *first.get_or_insert((numbers, arena, order));
            assert!(numbers <= first_numbers + wanted.len(), "{numbers} numbers");
            assert!(
                arena <= first_arena + 4 * wanted.keys().map(String::len).sum::<usize>() + 2 * ARENA_PAGE,
                "{arena}"
            );
            assert!(order <= first_order + 64 * wanted.len() + 8192, "{order}");
        }
    }

    #[test]
    fn numbers_of_none_are_given_first() {
        let mut names = TopicNames::default();
        assert!(names.append("b"));
        names.append_vacant();
        assert!(names.append("a"));
        names.append_vacant();
        names.sort_names();
        assert_eq!((names.len(), names.numbers(), names.name(TopicId(1))), (2, 4, ""));
        assert_eq!(names.from("").map(|(_, text)| text).collect::<Vec<_>>(), ["a", "b"]);
        let given = ["c", "d", "e"].map(|text| names.find_or_add(text).0.0);
        assert_eq!(given, [1, 3, 4]);
    }
}
