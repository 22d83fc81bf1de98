//! Reading against the log's order: whatever the messages' number, size and distance, all are met once, the newest first.

use tailwire_core::log::Budget;
use tailwire_model::{Position, limits::SCAN_BYTES_MAX};

use crate::rig::{Rig, draft, filter, paused};

/// The positions of a walk to the log's beginning, and in how many turns.
fn walk(rig: &Rig, terms: &[&str], upto: u64, messages: usize, bytes: usize) -> (Vec<u64>, usize) {
    let (filter, mut at, mut turns) = (filter(terms), Position(upto), 0);
    let mut met = Vec::new();
    while at > Position::ZERO {
        let budget = Budget { messages, bytes, scan_bytes: SCAN_BYTES_MAX };
        let back = rig.through(rig.broker.read_back(&filter, at, budget)).expect("a log that can be read");
        assert!(back.after < at, "it gets on");
        assert!(back.messages.len() <= messages.max(1));
        let positions = back.messages.iter().map(|message| message.position().0);
        assert!(positions.clone().is_sorted() && positions.clone().all(|position| position > back.after.0));
        met.extend(positions.rev());
        (at, turns) = (back.after, turns + 1);
    }
    (met, turns)
}

#[test]
fn all_is_met_once_from_the_newest_on() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    // One in seven is of the topic, and one in a thousand of another.
    for batch in 0..30 {
        let names: Vec<_> = (0..100)
            .map(|number| match batch * 100 + number {
                at if at % 1000 == 0 => "rare",
                at if at % 7 == 0 => "a/x",
                _ => "b",
            })
            .collect();
        rig.publish_now(&names);
    }
    for terms in [&["a/x"][..], &["a/*"], &["rare"], &["**"], &["rare", "a/x"], &["never"]] {
        let filter = filter(terms);
        for upto in [3000, 1801, 64, 1] {
            let expect: Vec<u64> = (1..=upto)
                .rev()
                .filter(|position| {
                    let name = match position - 1 {
                        at if at % 1000 == 0 => "rare",
                        at if at % 7 == 0 => "a/x",
                        _ => "b",
                    };
                    filter.matches_name(name)
                })
                .collect();
            for messages in [1, 5, 128] {
                assert_eq!(
                    walk(&rig, terms, upto, messages, 1 << 20).0,
                    expect,
                    "{terms:?} {upto} {messages}"
                );
            }
        }
    }
    assert!(walk(&rig, &["rare"], 3000, 128, 1 << 20).1 <= 2, "what is rare is found in few turns");
    assert_eq!(walk(&rig, &["never"], 3000, 128, 1 << 20).1, 1);
}

#[test]
fn large_messages_come_one_by_one_and_a_larger_one_than_the_budget_too() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut rig = Rig::new();
    for size in [10, 600_000, 600_000, 10, 1 << 20, 10] {
        let _ = rig.publish(vec![draft("a", size)]).poll();
        rig.settle();
    }
    assert_eq!(walk(&rig, &["a"], 6, 128, 1 << 20).0, [6, 5, 4, 3, 2, 1]);
    rig.delete_now("a");
    rig.publish_now(&["a"]);
    assert_eq!(walk(&rig, &["a"], 7, 128, 1 << 20).0, [7]);
    assert!(rig.broker.was_cleared_after(&filter(&["a"]), Position(3)));
    assert!(!rig.broker.was_cleared_after(&filter(&["a"]), Position(6)));
}
