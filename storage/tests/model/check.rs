//! Whether a log answers as the reference does, to everything that can be asked.

use tailwire_core::log::{Budget, Log, Page};
use tailwire_model::{Cursor, Message, Position, Trim};

use crate::{
    common::{UNBOUNDED, filter},
    reference::{Entry, Reference, matches},
};

const FILTERS: [&[&str]; 7] =
    [&["a/x"], &["a/y"], &["m/x"], &["a/*"], &["*/x", "b"], &["m/*", "a/x"], &["**"]];
const NAMES: [&str; 5] = ["a/x", "a/y", "b", "m/x", "m/y"];

/// Topics that messages are published to.
pub(crate) const fn names() -> [&'static str; 5] {
    NAMES
}

/// Everything, after a commit. Counts are checked too where they must be right: not between an opening and the tidying
/// after it.
pub(crate) fn check(log: &dyn Log, wanted: &Reference, budget: Budget, counts: bool) {
    assert_eq!(log.committed(), Position(wanted.committed));
    for terms in FILTERS {
        check_filter(log, wanted, terms, budget);
    }
    for position in 0..=wanted.committed + 1 {
        let found = log.get(Position(position)).unwrap();
        let alive = wanted.entries.iter().find(|entry| entry.position == position);
        let alive = alive.filter(|entry| wanted.is_alive(entry));
        same(&found.into_iter().collect::<Vec<_>>(), &alive.into_iter().collect::<Vec<_>>());
    }
    check_topics(log, wanted, counts);
    if counts {
        let stats = log.stats();
        let alive = wanted.alive(|_| true).len() as u64;
        assert_eq!((stats.messages, stats.bytes), (alive, wanted.bytes(|_| true)), "stats");
        assert_eq!(stats.topics, wanted.names.len() as u64);
    }
}

fn check_filter(log: &dyn Log, wanted: &Reference, terms: &[&str], budget: Budget) {
    let asks = |topic: &str| terms.iter().any(|term| matches(term, topic));
    let alive = wanted.alive(asks);
    let page = read(log, terms, 0, UNBOUNDED);
    assert_eq!(page.scanned, Position(wanted.committed));
    same(&page.messages, &alive);
    same(&paged(log, terms, budget), &alive);
    for count in [0, 1, 2, 7, usize::MAX / 2] {
        let place = log.before_last(&filter(terms), count).unwrap();
        let after = alive.iter().filter(|entry| entry.position > place.0).count();
        assert_eq!(after, count.min(alive.len()), "after {place:?}, before the last {count} of {terms:?}");
    }
    let names = || wanted.names.iter().filter(|(topic, _)| asks(topic));
    let trims: Vec<Trim> = names().filter_map(|(topic, _)| wanted.trimmed(topic)).collect();
    let newest = names().map(|(_, name)| (name.tail, name.time)).max().filter(|(tail, _)| *tail > 0);
    let bounds = log.bounds(&filter(terms));
    assert_eq!(bounds.head.map(|head| head.0), alive.first().map(|entry| entry.position), "{terms:?}");
    check_trim(bounds.trimmed, &trims, 0);
    assert_eq!(
        (bounds.tail.0, bounds.tail_time.map(|time| time.0)),
        match newest {
            Some((tail, time)) => (tail, Some(time)),
            None => (0, None),
        }
    );
    for after in [0, wanted.committed / 2, trims.first().map_or(0, |trim| trim.upto.0)] {
        check_trim(log.trimmed(&filter(terms), Position(after)), &trims, after);
        check_trim(read(log, terms, after, budget).trimmed, &trims, after);
    }
}

/// A reader at a place is told of the farthest trim, if that lies beyond; of any of them, if two topics share it.
fn check_trim(told: Option<Trim>, trims: &[Trim], after: u64) {
    let told = told.filter(|trim| trim.upto.0 > after);
    let farthest = trims.iter().map(|trim| trim.upto.0).max().filter(|upto| *upto > after);
    assert_eq!(told.map(|trim| trim.upto.0), farthest, "after {after}");
    assert!(told.is_none_or(|told| trims.contains(&told)), "{told:?} is none of {trims:?}");
}

fn check_topics(log: &dyn Log, wanted: &Reference, counts: bool) {
    let listed = log.topics("", None, 99);
    assert!(listed.iter().map(|info| info.topic.as_str()).eq(wanted.names.keys()), "{listed:?}");
    for info in listed {
        let name = &wanted.names[info.topic.as_str()];
        let alive = wanted.alive(|topic| topic == info.topic.as_str());
        assert_eq!(info.head.map(|head| head.0), alive.first().map(|entry| entry.position), "{}", info.topic);
        assert_eq!((info.tail.0, info.tail_time.0), (name.tail, name.time), "{}", info.topic);
        if counts {
            assert_eq!(info.messages, alive.len() as u64, "{}", info.topic);
        }
    }
}

fn read(log: &dyn Log, terms: &[&str], after: u64, budget: Budget) -> Page {
    log.read(&filter(terms), Position(after), Position::MAX, budget).unwrap()
}

/// All messages of a filter, in pages.
fn paged(log: &dyn Log, terms: &[&str], budget: Budget) -> Vec<Message> {
    let (mut after, mut messages) = (Position::ZERO, Vec::new());
    while after < log.committed() {
        let page = read(log, terms, after.0, budget);
        assert!(page.scanned > after, "a page gets no further than {after:?}");
        assert!(page.messages.len() <= budget.messages.max(1));
        messages.extend(page.messages);
        after = page.scanned;
    }
    messages
}

fn same(found: &[Message], wanted: &[&Entry]) {
    let positions =
        |messages: &[Message]| messages.iter().map(|message| message.position().0).collect::<Vec<_>>();
    let places: Vec<u64> = wanted.iter().map(|entry| entry.position).collect();
    assert_eq!(positions(found), places);
    for (message, entry) in found.iter().zip(wanted) {
        let cursor = Cursor { epoch: entry.epoch, position: Position(entry.position) };
        assert_eq!((message.cursor, message.time.0), (cursor, entry.time));
        let key = message.draft.extras.as_ref().and_then(|extras| extras.key.as_deref());
        assert_eq!((message.topic().as_str(), key), (entry.draft.topic.as_str(), entry.draft.key.as_deref()));
        assert!(message.draft.body == entry.draft.body.as_bytes(), "the bytes of {}", entry.position);
    }
}
