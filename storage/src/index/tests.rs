//! The index by itself, with blocks in a map where the store would be: against a list of all messages, and what is shelved.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use proptest::prelude::*;
use tailwire_core::StoreError;
use tailwire_model::limits::LISTED_PER_TURN;

use super::{newest::NewestPlan, *};

const TOPICS: [&str; 4] = ["a/x", "a/y", "b", "c/d/e"];

/// Blocks in a map.
#[derive(Default)]
struct Shelter(RefCell<BTreeMap<(TopicId, Position), Block>>);

impl Blocks for Shelter {
    fn beyond(&self, topic: TopicId, after: Position) -> Result<Option<Block>, StoreError> {
        let blocks = self.0.borrow();
        let of_topic = blocks.range((topic, Position::ZERO)..=(topic, Position::MAX));
        Ok(of_topic.map(|(_, block)| block).find(|block| block.last > after).cloned())
    }

    fn before(&self, topic: TopicId, upto: Position) -> Result<Option<Block>, StoreError> {
        let blocks = self.0.borrow();
        let of_topic = blocks.range((topic, Position::ZERO)..=(topic, upto));
        Ok(of_topic.map(|(_, block)| block).next_back().cloned())
    }
}

impl Shelter {
    fn seal_all(&self, index: &mut Index) {
        while let Some((topic, block)) = index.sealable() {
            self.0.borrow_mut().insert((topic, block.first), block.clone());
            index.sealed(topic, &block);
        }
    }

    /// Purges all the dead; answers their positions.
    fn purge_all(&self, index: &mut Index) -> Vec<u64> {
        let mut purged = Vec::new();
        while let Some(next_purge) = index.next_purge(7) {
            let (dead, upto) = match next_purge.sealed {
                Some((after, last)) => {
                    let block = self.beyond(next_purge.topic, after).unwrap().unwrap();
                    if block.last <= next_purge.upto {
                        self.0.borrow_mut().remove(&(next_purge.topic, block.first));
                    }
                    assert!(block.last <= last);
                    let dead = block.postings.iter().map(|posting| posting.position);
                    (
                        dead.filter(|&dead| dead > after && dead <= next_purge.upto).collect(),
                        block.last.min(next_purge.upto),
                    )
                }
                None => (next_purge.recent.clone(), *next_purge.recent.last().unwrap()),
            };
            purged.extend(dead.iter().map(|position: &Position| position.0));
            index.purged(next_purge.topic, upto);
        }
        purged
    }
}

fn filter(terms: &[&str]) -> Filter {
    Filter::new(terms.iter().map(|term| Term::parse(term).unwrap()).collect()).unwrap()
}

fn index(topics: &[&str]) -> Index {
    let mut index = Index::default();
    for (at, topic) in topics.iter().enumerate() {
        let at = at as u64 + 1;
        index.add(topic, Position(at), Timestamp(at * 1000), 100);
    }
    index
}

fn plan(index: &Index, blocks: &Shelter, terms: &[&str], after: u64, upto: u64, count: usize) -> Vec<u64> {
    let partial_plan = index.partial_plan(&filter(terms), Position(after), Position(upto), count).unwrap();
    let plan = partial_plan.oldest(blocks, Position(upto), count).unwrap();
    plan.iter().map(|planned| planned.position.0).collect()
}

fn newest_plan(index: &Index, filter: &Filter, upto: Position, count: usize) -> NewestPlan {
    let (mut walk, mut newest) = (FilterWalk::default(), NewestTopics::new(upto, count));
    while index.add_newest(filter, &mut walk, &mut newest) {}
    index.newest_plan(&newest).unwrap()
}

fn newest_of(index: &Index, blocks: &impl Blocks, terms: &[&str], upto: u64, count: usize) -> Vec<u64> {
    let plan = newest_plan(index, &filter(terms), Position(upto), count);
    let mut found: Vec<_> =
        plan.newest(blocks, count).unwrap().postings.iter().map(|posting| posting.position.0).collect();
    found.sort_unstable();
    found
}

fn trim(upto: u64) -> Trim {
    Trim { upto: Position(upto), reason: TrimReason::Deleted }
}

#[test]
fn a_walk_over_many_names_visits_each_and_finds_what_one_look_finds() {
    let mut index = Index::default();
    let count = 3 * LISTED_PER_TURN as u64 + 7;
    for position in 1..=count {
        index.add(&format!("t/{position:05}/x"), Position(position), Timestamp(position), 1);
    }
    let all = filter(&["t/*/x", "t/**", "none"]);
    let bounds = index.bounds(&all);
    assert_eq!((bounds.head, bounds.tail), (Some(Position(1)), Position(count)));
    assert_eq!(index.trimmed_soon(&all, Position::ZERO), Some(None));
    // So many that they are not gone through at once, and none of the pattern's.
    let trim = |upto: u64| Trim { upto: Position(upto), reason: TrimReason::Deleted };
    for position in 2..=count {
        index.trim(&format!("t/{position:05}/x"), trim(position), Timestamp(position), None);
    }
    let narrow = filter(&["*/*/y", "t/00001/*"]);
    assert_eq!(index.trimmed_soon(&narrow, Position::ZERO), None);
    assert_eq!(index.trimmed_after(&narrow, Position::ZERO), None);
    assert_eq!(index.trimmed_soon(&all, Position::ZERO), Some(Some(trim(count))));
    assert_eq!(index.trimmed_after(&filter(&["*/00002/*"]), Position::ZERO), Some(trim(2)));
    assert_eq!(index.trimmed_soon(&filter(&["t/00002/x", "t/00003/x"]), Position::ZERO), Some(Some(trim(3))));
    assert_eq!(newest_of(&index, &Shelter::default(), &["**"], u64::MAX, 5), [1]);
}

#[test]
fn a_plan_merges_topics_and_ignores_overlap() {
    let index = index(&["a/x", "b", "a/y", "a/x", "b", "a/y"]);
    let none = Shelter::default();
    assert_eq!(plan(&index, &none, &["a/x", "a/*", "**"], 0, 9, 10), [1, 2, 3, 4, 5, 6]);
    assert_eq!(plan(&index, &none, &["a/**", "a/y"], 1, 5, 10), [3, 4]);
    assert_eq!(newest_of(&index, &none, &["a/x", "a/*"], 9, 3), [3, 4, 6]);
    assert_eq!(newest_of(&index, &none, &["a/x", "a/*"], 4, 3), [1, 3, 4]);
}

#[test]
fn a_filter_over_many_topics_has_no_plan() {
    let names: Vec<String> = (0..=PLAN_NAMES_MAX).map(|n| format!("t/{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let index = index(&names);
    assert!(index.partial_plan(&filter(&["t/*"]), Position::ZERO, Position::MAX, 1).is_none());
    assert_eq!(index.bounds(&filter(&["t/*"])).tail, Position(names.len() as u64));
}

#[test]
fn trims_are_found_by_pattern() {
    let mut index = index(&["a/x", "b", "a/y", "a/x"]);
    index.trim("a/x", trim(4), Timestamp(4), None);
    assert_eq!(index.trimmed_after(&filter(&["a/*"]), Position(3)), Some(trim(4)));
    assert_eq!(index.trimmed_after(&filter(&["b", "c"]), Position(0)), None);
    assert_eq!((index.totals(), index.size("a/x"), index.size("b")), ((3, 2), (0, 0), (1, 100)));
    assert_eq!(index.bytes(), 200);
    assert_eq!(Shelter::default().purge_all(&mut index), [1, 4]);
}

#[test]
fn what_is_removed_from_the_middle_is_gone() {
    let (mut index, blocks) = (Index::default(), Shelter::default());
    for at in 1..=1000 {
        index.add("a", Position(at), Timestamp(at), 200);
    }
    blocks.seal_all(&mut index);
    assert!(index.mark_obsolete("a", Position(999), 200));
    assert!(!index.mark_obsolete("a", Position(999), 200), "only once");
    assert!(!index.mark_obsolete("b", Position(998), 200));
    assert!(index.mark_obsolete("a", Position(1), 200));
    assert_eq!((index.totals().1, index.size("a"), index.bytes()), (998, (998, 998 * 200), 998 * 200));
    assert!(index.is_dead("a", Position(999)) && index.is_dead("a", Position(1)));
    assert_eq!(index.farthest_dead(), Position(999));
    let id = index.id("a").unwrap();
    assert_eq!(index.obsolete(Position::ZERO, 9), [(Position(1), id), (Position(999), id)]);
    assert!(index.sealed_span(id, Position(999)).is_none());
    assert_eq!(index.sealed_span(id, Position(1)).unwrap().0, Position(1));
    assert_eq!(blocks.next_sealed(id, Position(1), Position(999)), Ok(Some(Position(2))));
    index.set_sealed_head(id, Some(Position(2)));
    index.unposted(id, Position(1));
    index.unposted(id, Position(999));
    assert_eq!(index.bounds(&filter(&["a"])).head, Some(Position(2)));
    assert_eq!(index.obsolete_count(), 0);
    assert!(!index.expects(id, Position(1)), "it may be missing in the store");
}

#[test]
fn a_broken_chain_of_blocks_is_noticed() {
    let (mut index, blocks) = (Index::default(), Shelter::default());
    for at in 1..=2000 {
        index.add("a", Position(at), Timestamp(at), 200);
    }
    blocks.seal_all(&mut index);
    let second = blocks.0.borrow().keys().nth(1).copied().unwrap();
    let taken = blocks.0.borrow_mut().remove(&second).unwrap();
    let all = || index.partial_plan(&filter(&["a"]), Position::ZERO, Position::MAX, 9999).unwrap();
    assert_eq!(all().oldest(&blocks, Position::MAX, 9999), Err(BrokenPostings::Broken));
    let plan = || newest_plan(&index, &filter(&["a"]), Position::MAX, 9999);
    let newest = || plan().newest(&blocks, 9999).map(|found| found.postings.len());
    assert_eq!(newest(), Err(BrokenPostings::Broken));
    blocks.0.borrow_mut().insert(second, taken);
    assert_eq!(all().oldest(&blocks, Position::MAX, 9999).unwrap().len(), 2000);
    assert_eq!(newest(), Ok(2000));
}

/// The index as it is read back from its index pages.
fn shelved(index: &mut Index) -> Index {
    index.pages = IndexPages::default();
    for at in 0..index.names.len() {
        index.pages.touch(TopicId(at as u32));
    }
    let mut pages: Vec<(u32, Vec<u8>)> = std::iter::from_fn(|| index.take_index_page()).collect();
    pages.sort();
    let mut again = Index::default();
    for (_, value) in &pages {
        let (ever, topics) = read_index_page(value).unwrap();
        assert!(again.add_index_page(ever, topics));
    }
    again.sort_names();
    for (&(upto, id), &reason) in &index.trims {
        let (name, entry) = (index.names.name(id), &index.entries[id.at()]);
        again.trim(name, Trim { upto, reason }, entry.tail_time, None);
    }
    again
}

#[derive(Debug, Clone)]
enum Step {
    /// Messages for a topic, this far apart.
    Add(usize, u64, u64),
    /// Takes this share of a topic's messages, of a hundred.
    Trim(usize, usize),
    Seal,
    Purge,
    Shelve,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..TOPICS.len(), 1..400u64, 1..300u64).prop_map(|(topic, count, apart)| Step::Add(topic, count, apart)),
        2 => (0..TOPICS.len(), 1..=100usize).prop_map(|(topic, share)| Step::Trim(topic, share)),
        3 => Just(Step::Seal),
        1 => Just(Step::Purge),
        1 => Just(Step::Shelve),
    ]
}

/// All that there is, plainly.
#[derive(Default)]
struct Plain {
    messages: BTreeMap<u64, (usize, u64)>,
    dead: BTreeSet<u64>,
    trimmed: [u64; TOPICS.len()],
}

impl Plain {
    fn of(&self, topic: usize) -> impl DoubleEndedIterator<Item = (u64, u64)> {
        self.messages.iter().filter(move |(_, (of, _))| *of == topic).map(|(&at, &(_, cost))| (at, cost))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_answers_like_a_list_of_all_messages(steps in proptest::collection::vec(step(), 1..40)) {
        let (mut index, blocks, mut plain) = (Index::default(), Shelter::default(), Plain::default());
        let mut newest = 0;
        for step in steps {
            match step {
                Step::Add(topic, count, apart) => for _ in 0..count {
                    newest += apart;
                    let cost = 65 + newest % 900;
                    index.add(TOPICS[topic], Position(newest), Timestamp(newest), cost as usize);
                    plain.messages.insert(newest, (topic, cost));
                },
                Step::Trim(topic, share) => {
                    let all: Vec<u64> = plain.of(topic).map(|(at, _)| at).collect();
                    let Some(&upto) = all.get((all.len() * share / 100).saturating_sub(1)) else { continue };
                    let split = index.split(TOPICS[topic], Position(upto));
                    let retained = split.as_ref().map(|split| split.read(&blocks).unwrap());
                    let rest = split.as_ref().map(|split| split.read_rest(&blocks).unwrap());
                    prop_assert_eq!(retained, rest);
                    index.trim(TOPICS[topic], trim(upto), Timestamp(newest), retained);
                    plain.dead.extend(all.iter().filter(|&&at| at <= upto));
                    plain.messages.retain(|&at, &mut (of, _)| of != topic || at > upto);
                    plain.trimmed[topic] = upto;
                }
                Step::Seal => blocks.seal_all(&mut index),
                Step::Purge => {
                    let purged: BTreeSet<u64> = blocks.purge_all(&mut index).into_iter().collect();
                    // An index page doesn't know how far into a block purging got, so some may come again.
                    prop_assert!(purged.is_superset(&plain.dead));
                    prop_assert!(purged.iter().all(|at| !plain.messages.contains_key(at)));
                    plain.dead.clear();
                }
                Step::Shelve => index = shelved(&mut index),
            }
            prop_assert_eq!(index.totals().1, plain.messages.len() as u64);
            for (topic, name) in TOPICS.iter().enumerate() {
                let all: Vec<u64> = plain.of(topic).map(|(at, _)| at).collect();
                prop_assert_eq!(&plan(&index, &blocks, &[name], 0, u64::MAX, usize::MAX), &all);
                prop_assert_eq!(index.size(name).1, plain.of(topic).map(|(_, cost)| cost).sum::<u64>());
                let bounds = index.bounds(&filter(&[name]));
                prop_assert_eq!(bounds.head.map(|head| head.0), all.first().copied());
                prop_assert_eq!(bounds.trimmed.map_or(0, |trim| trim.upto.0), plain.trimmed[topic]);
                let after = all.get(all.len() / 2).copied().unwrap_or(newest / 2);
                let some: Vec<u64> = all.iter().copied().filter(|&at| at > after).take(10).collect();
                prop_assert_eq!(plan(&index, &blocks, &[name], after, newest, 10), some);
            }
            let merged: Vec<u64> = plain.messages.keys().copied().collect();
            prop_assert_eq!(&plan(&index, &blocks, &["**", "a/*"], 0, u64::MAX, usize::MAX), &merged);
            for count in [1, 7, 200, 99_999] {
                let wanted = merged[merged.len().saturating_sub(count)..].to_vec();
                prop_assert_eq!(newest_of(&index, &blocks, &["**"], u64::MAX, count), wanted);
                let before = &merged[..merged.len() / 2];
                let wanted = before[before.len().saturating_sub(count)..].to_vec();
                let upto = before.last().copied().unwrap_or(0);
                prop_assert_eq!(newest_of(&index, &blocks, &["**"], upto, count), wanted);
            }
        }
    }
}

#[test]
fn a_damaged_shelf_is_an_error_or_a_shelf() {
    let mut index = index(&["a", "b", "a"]);
    let (number, value) = index.take_index_page().unwrap();
    let (ever, topics) = read_index_page(&value).unwrap();
    assert_eq!((number, ever, topics.len()), (0, 3, 2));
    assert!(read_index_page(&value[..value.len() - 1]).is_err());
    assert!(read_index_page(&[3]).is_err());
    for at in 0..value.len() {
        let mut damaged = value.clone();
        damaged[at] ^= 0x41;
        let _ = read_index_page(&damaged);
    }
}
