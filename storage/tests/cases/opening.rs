//! The feed, epochs, and what survives an opening.

use std::sync::Arc;

use tailwire_core::{Store, StoreError, store::Write};
use tailwire_model::{Cursor, Epoch, Opening, Position, Timestamp, Trim, TrimReason};
use tailwire_storage::testing::Writes as _;

use crate::common::{
    Harness, Recorder, START, UNBOUNDED, all, append, bodies, filter, group, positions, publish, stored,
    topic,
};

pub(crate) fn the_feed_is_in_order<H: Harness>() {
    let h = H::new();
    let feed = Arc::new(Recorder::default());
    h.log().follow(feed.clone());
    publish(h.log(), &[("a", "1"), ("b", "2")]);
    append(h.log(), group(&[("a", "3")]));
    h.log().trim(&topic("b"), TrimReason::Retention).unwrap();
    let commits = feed.0.lock();
    let seen: Vec<_> =
        commits.iter().map(|commit| (positions(&commit.messages), commit.watermark.0)).collect();
    assert_eq!(seen, [(vec![1, 2], 2), (vec![3], 3), (vec![], 3)]);
    let trim = Trim { upto: Position(2), reason: TrimReason::Retention };
    assert_eq!((commits[0].trims.len(), &commits[2].trims), (0, &vec![(topic("b"), trim)]));
}

pub(crate) fn epochs_follow_openings<H: Harness>() {
    let mut h = H::new();
    publish(h.log(), &[("a", "1"), ("a", "2")]);
    h.reopen(true, START + 60_000);
    publish(h.log(), &[("a", "3")]);
    h.reopen(false, START);
    publish(h.log(), &[("a", "4")]);
    let epochs = h.log().epochs();
    let starts: Vec<_> = epochs.starts().iter().map(|start| (start.first.0, start.opening)).collect();
    assert_eq!(starts, [(1, Opening::Created), (3, Opening::Clean), (4, Opening::Unclean)]);
    let page = h.log().read(&filter(&["a"]), Position::ZERO, Position::MAX, UNBOUNDED).unwrap();
    let cursors: Vec<Cursor> = page.messages.iter().map(|message| message.cursor).collect();
    let numbers: Vec<_> = epochs.starts().iter().map(|start| start.epoch).collect();
    let written: Vec<_> = cursors.iter().map(|cursor| cursor.epoch).collect();
    assert_eq!(written, [numbers[0], numbers[0], numbers[1], numbers[2]]);
}

pub(crate) fn of_epochs_begun_at_once_the_overtaken_begins_nothing<H: Harness>() {
    let h = H::new();
    publish(h.log(), &[("a", "1")]);
    let last = h.log().epochs().current().epoch;
    let [earlier, later] = [1, 2].map(|draw| Epoch::new(last.number() + draw).unwrap());
    for epoch in [later, earlier, later] {
        h.log().write(vec![Write::Opening(epoch, Opening::Clean)], Timestamp(START)).unwrap();
    }
    publish(h.log(), &[("a", "2")]);
    let epochs = h.log().epochs();
    let starts: Vec<_> = epochs.starts().iter().map(|start| start.epoch).collect();
    assert_eq!(starts, [last, later]);
    assert_eq!(epochs.current().first.0, h.log().newest().0);
}

pub(crate) fn what_is_applied_survives<H: Harness>() {
    let mut h = H::new();
    publish(h.log(), &[("a", "1"), ("b", "2")]);
    h.reopen(false, START + 1);
    assert_eq!(bodies(h.log(), &["**"]), ["1", "2"]);
    assert_eq!(h.log().newest(), Position(2));
    assert_eq!(stored(append(h.log(), group(&[("a", "3")]))).first.position, Position(3));
}

pub(crate) fn what_comes_while_somebody_begins_to_follow_is_not_lost<H: Harness>() {
    let h = H::new();
    let (store, feed) = (h.log(), Arc::new(Recorder::default()));
    let complete_from = std::thread::scope(|scope| {
        scope.spawn(|| (0..200).for_each(|_| publish(store, &[("a", "x")])));
        while store.newest() < Position(20) {
            std::thread::yield_now();
        }
        store.follow(feed.clone())
    });
    let fed: Vec<u64> = feed.0.lock().iter().flat_map(|commit| positions(&commit.messages)).collect();
    assert_eq!(fed, (complete_from.0 + 1..=200).collect::<Vec<_>>());
}

pub(crate) fn a_closed_store_refuses<H: Harness>() {
    let mut h = H::new();
    append(h.log(), group(&[("a", "1")]));
    h.log().close().unwrap();
    assert_eq!(all(h.log(), &["a"]), [1]);
    assert_eq!(h.log().append(vec![group(&[("a", "2")])], Timestamp(START)), Err(StoreError::Closed));
    assert_eq!(h.log().trim(&topic("a"), TrimReason::Deleted), Err(StoreError::Closed));
    assert_eq!(h.log().newest(), Position(1));
    h.log().close().unwrap();
    h.reopen(false, START + 1);
    assert_eq!(h.log().epochs().current().opening, Opening::Clean);
}

pub(crate) fn readers_see_groups_whole_while_others_write<H: Harness>() {
    let h = H::new();
    let log = h.log();
    let body = "x".repeat(1500);
    let groups = 60;
    std::thread::scope(|scope| {
        let reader = || {
            let mut seen = 0;
            while seen < groups {
                let watermark = log.newest();
                let page = log.read(&filter(&["a"]), Position::ZERO, Position::MAX, UNBOUNDED).unwrap();
                // Missing messages were trimmed, and the page says so.
                let trimmed = page.trimmed.map_or(0, |trim| trim.upto.0);
                let wanted: Vec<u64> = (1..=page.scanned.0).filter(|p| p % 3 != 0 && *p > trimmed).collect();
                assert_eq!(positions(&page.messages), wanted);
                assert!(page.scanned >= watermark && page.scanned.0 % 3 == 0);
                seen = page.scanned.0 / 3;
            }
        };
        scope.spawn(reader);
        scope.spawn(reader);
        for n in 0..groups {
            append(log, group(&[("a", &body), ("a", &body), ("b", &body)]));
            if n % 7 == 3 {
                log.trim(&topic("a"), TrimReason::Retention).unwrap();
            }
            log.tidy_at(Timestamp(START)).unwrap();
        }
    });
}
