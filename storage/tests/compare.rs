//! The log on disk against the one in memory: whatever is done to both, they answer the same.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Harness, Memory, OnDisk, START, UNBOUNDED, draft, filter, topic};
use proptest::prelude::*;
use tailwire_core::{
    Store,
    log::{Budget, Group},
};
use tailwire_model::{
    Condition, Epoch, Fingerprint, IdempotencyKey, Message, Position, Timestamp, TrimReason,
};
use tailwire_storage::testing::Writes as _;

const TOPICS: [&str; 5] = ["a", "b/x", "b/y", "b/y/z", "$sys/c"];
const FILTERS: [&[&str]; 6] =
    [&["a"], &["b/*"], &["**"], &["a", "b/y"], &["b/**", "b/x", "$sys/c"], &["none"]];

/// A group to append: topics and body sizes, a key or none, a condition or none.
#[derive(Debug, Clone)]
struct Publish {
    messages: Vec<(usize, usize)>,
    key: Option<u8>,
    never_written: bool,
}

impl Publish {
    fn group(&self) -> Group {
        let drafts = self.messages.iter().map(|&(name, size)| draft(TOPICS[name], &"x".repeat(size)));
        let key = |key: u8| IdempotencyKey { scoped: (key / 2).to_string(), request: Fingerprint([key; 16]) };
        Group {
            drafts: drafts.collect(),
            key: self.key.map(key),
            condition: if self.never_written { Condition::NeverWritten } else { Condition::None },
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Appends groups some milliseconds later.
    Append(Vec<Publish>, u64),
    Trim(usize),
    Compare,
    Tidy,
    Reopen(bool),
}

fn publish() -> impl Strategy<Value = Publish> {
    let size = prop_oneof![4 => 0..300usize, 1 => 3000..5000usize, 1 => 7000..20_000usize];
    let messages = proptest::collection::vec((0..TOPICS.len(), size), 1..5);
    let key = proptest::option::of(0..6u8);
    let never_written = proptest::bool::weighted(0.1);
    (messages, key, never_written).prop_map(|(messages, key, never_written)| Publish {
        messages,
        key,
        never_written,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let groups = proptest::collection::vec(publish(), 1..5);
    prop_oneof![
        6 => (groups, 0..400_000u64).prop_map(|(groups, later)| Step::Append(groups, later)),
        2 => (0..TOPICS.len()).prop_map(Step::Trim),
        4 => Just(Step::Compare),
        2 => Just(Step::Tidy),
        1 => any::<bool>().prop_map(Step::Reopen),
    ]
}

/// All the messages of a filter, in pages of a few.
fn paged(log: &impl Store, terms: &[&str]) -> Vec<Message> {
    let budget = Budget { messages: 3, bytes: 9000, scan_bytes: 20_000 };
    let (mut after, mut messages) = (Position::ZERO, Vec::new());
    while after < log.newest() {
        let page = log.read(&filter(terms), after, Position::MAX, budget).unwrap();
        assert!(page.scanned > after && page.messages.len() <= 3);
        messages.extend(page.messages);
        after = page.scanned;
    }
    messages
}

fn same(memory: &impl Store, disk: &impl Store) {
    assert_eq!(memory.newest(), disk.newest());
    assert_eq!(memory.epochs(), disk.epochs());
    assert_eq!(memory.topics("", None, 99), disk.topics("", None, 99));
    assert_eq!(memory.stats().messages, disk.stats().messages);
    for terms in FILTERS {
        let wanted = memory.read(&filter(terms), Position::ZERO, Position::MAX, UNBOUNDED).unwrap();
        let page = disk.read(&filter(terms), Position::ZERO, Position::MAX, UNBOUNDED).unwrap();
        assert_eq!(
            (&page.messages, page.scanned, page.trimmed),
            (&wanted.messages, wanted.scanned, wanted.trimmed)
        );
        assert_eq!(paged(disk, terms), wanted.messages);
        assert_eq!(paged(memory, terms), wanted.messages);
        for count in [0, 1, 3, 99] {
            let place = |log: &dyn Store| log.before_newest(&filter(terms), count).unwrap();
            assert_eq!(place(memory), place(disk));
        }
        for upto in [0, memory.newest().0 / 2, memory.newest().0] {
            for (messages, bytes) in [(1, 1), (3, usize::MAX), (9, 400), (99, usize::MAX)] {
                let budget = Budget { messages, bytes, scan_bytes: usize::MAX };
                let window =
                    |log: &dyn Store| log.before_last(&filter(terms), Position(upto), budget).unwrap();
                assert_eq!(window(memory), window(disk));
            }
        }
        let (a, b) = (memory.bounds(&filter(terms)), disk.bounds(&filter(terms)));
        assert_eq!((a.head, a.tail, a.trimmed, a.tail_time), (b.head, b.tail, b.trimmed, b.tail_time));
    }
    let everything = |after| memory.read(&filter(&["**"]), after, Position::MAX, UNBOUNDED).unwrap().messages;
    for message in everything(Position::ZERO) {
        for time in [message.time.0 - 1, message.time.0, message.time.0 + 1] {
            let place = |log: &dyn Store| log.before_time(Timestamp(time)).unwrap();
            let (wanted, found) = (place(memory), place(disk));
            assert!(found <= wanted, "{found:?}, {wanted:?}");
            assert_eq!(everything(found), everything(wanted));
        }
    }
    for position in 0..=memory.newest().0 + 1 {
        assert_eq!(memory.get(Position(position)), disk.get(Position(position)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_answer_the_same(steps in proptest::collection::vec(step(), 1..30)) {
        let (mut memory, mut disk) = (Memory::new(), OnDisk::new());
        let mut now = START;
        for step in steps {
            match step {
                Step::Append(plan, later) => {
                    now += later;
                    let append = |log: &dyn Store| log.append(plan.iter().map(Publish::group).collect(), Timestamp(now));
                    prop_assert_eq!(append(memory.log()), append(disk.log()));
                }
                Step::Trim(name) => {
                    let trim = |log: &dyn Store| log.trim(&topic(TOPICS[name]), TrimReason::Deleted);
                    prop_assert_eq!(trim(memory.log()), trim(disk.log()));
                }
                Step::Compare => same(memory.log(), disk.log()),
                Step::Tidy => {
                    memory.log().tidy_at(Timestamp(now)).unwrap();
                    disk.log().tidy_at(Timestamp(now)).unwrap();
                    same(memory.log(), disk.log());
                }
                Step::Reopen(close) => {
                    // Within one epoch's time it is chance what the next one is.
                    now += Epoch::UNIT_MS;
                    memory.reopen(close, now);
                    disk.reopen(close, now);
                    same(memory.log(), disk.log());
                }
            }
        }
    }
}
