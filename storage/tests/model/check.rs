//! Whether a log answers as the reference does, to everything that can be asked.

use tailwire_core::{
    Store,
    log::{Budget, StorePage},
};
use tailwire_model::{Cursor, Message, Position, Trim};
use tailwire_storage::testing::Writes as _;

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

/// Asks a log everything.
pub(crate) struct Check<'a> {
    pub(crate) log: &'a dyn Store,
    pub(crate) wanted: &'a Reference,
    /// Of its pages.
    pub(crate) budget: Budget,
    /// All was tidied since the last opening. Otherwise obsolete messages may be back, and counts those of a crash.
    pub(crate) tidied: bool,
}

impl Check<'_> {
    pub(crate) fn all(&self) {
        let Self { log, wanted, .. } = self;
        assert_eq!(log.newest(), Position(wanted.committed));
        for terms in FILTERS {
            self.filter(terms);
        }
        for position in 0..=wanted.committed + 1 {
            let found = log.get(Position(position)).unwrap();
            let alive = wanted.entries.iter().find(|entry| entry.position == position);
            let alive = alive.filter(|entry| wanted.is_alive(entry));
            same(&self.settled(found.into_iter().collect()), &alive.into_iter().collect::<Vec<_>>());
        }
        self.topics();
        if self.tidied {
            let stats = log.stats();
            let alive = wanted.alive(|_| true).len() as u64;
            assert_eq!((stats.messages, stats.bytes), (alive, wanted.bytes(|_| true)), "stats");
            assert_eq!(stats.topics, wanted.names.len() as u64);
        }
    }

    /// Of messages those that are not back only for a while.
    fn settled(&self, mut found: Vec<Message>) -> Vec<Message> {
        let back = self.back(|_| true);
        found.retain(|message| !back.contains(&message.position().0));
        found
    }

    fn back(&self, asks: impl Fn(&str) -> bool) -> Vec<u64> {
        let entries = self.wanted.entries.iter().filter(|entry| !self.tidied && asks(&entry.draft.topic));
        entries.filter(|entry| self.wanted.may_be_back(entry)).map(|entry| entry.position).collect()
    }

    fn filter(&self, terms: &[&str]) {
        let Self { log, wanted, budget, .. } = *self;
        let asks = |topic: &str| terms.iter().any(|term| matches(term, topic));
        let alive = wanted.alive(asks);
        let page = read(log, terms, 0, UNBOUNDED);
        assert_eq!(page.scanned, Position(wanted.committed));
        same(&self.settled(page.messages), &alive);
        same(&self.settled(paged(log, terms, budget)), &alive);
        let back = self.back(asks);
        for count in [0, 1, 2, 7, usize::MAX / 2] {
            let place = log.before_newest(&filter(terms), count).unwrap().0;
            let after = alive.iter().filter(|entry| entry.position > place).count();
            let most = after + back.iter().filter(|position| **position > place).count();
            let given = count.min(alive.len());
            assert!(
                after <= given && given <= most,
                "{after} after {place}, before the last {count} of {terms:?}"
            );
        }
        let names = || wanted.names.iter().filter(|(topic, _)| asks(topic));
        let trims = names().filter_map(|(topic, _)| wanted.trimmed(topic));
        let trims: Vec<Trim> = trims.chain(wanted.floor_of(terms)).collect();
        let newest = names().map(|(_, name)| (name.tail, name.time)).max().filter(|(tail, _)| *tail > 0);
        let bounds = log.bounds(&filter(terms));
        self.head(bounds.head, &alive, &back);
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

    fn head(&self, found: Option<Position>, alive: &[&Entry], back: &[u64]) {
        let oldest = alive.first().map(|entry| entry.position);
        let found = found.map(|head| head.0);
        assert!(
            found == oldest || found.is_some_and(|head| back.contains(&head)),
            "{found:?}, not {oldest:?}"
        );
    }

    fn topics(&self) {
        let Self { log, wanted, .. } = self;
        let listed = log.topics("", None, 99);
        assert!(listed.iter().map(|info| info.topic.as_str()).eq(wanted.names.keys()), "{listed:?}");
        for info in listed {
            let name = &wanted.names[info.topic.as_str()];
            let asks = |topic: &str| topic == info.topic.as_str();
            let alive = wanted.alive(asks);
            self.head(info.head, &alive, &self.back(asks));
            assert_eq!((info.tail.0, info.tail_time.0), (name.tail, name.time), "{}", info.topic);
            if self.tidied {
                assert_eq!(info.messages, alive.len() as u64, "{}", info.topic);
            }
        }
    }
}

/// A reader at a place is told of the farthest trim, if that lies beyond; of any of them, if two topics share it.
fn check_trim(told: Option<Trim>, trims: &[Trim], after: u64) {
    let told = told.filter(|trim| trim.upto.0 > after);
    let farthest = trims.iter().map(|trim| trim.upto.0).max().filter(|upto| *upto > after);
    assert_eq!(told.map(|trim| trim.upto.0), farthest, "after {after}");
    assert!(told.is_none_or(|told| trims.contains(&told)), "{told:?} is none of {trims:?}");
}

fn read(log: &dyn Store, terms: &[&str], after: u64, budget: Budget) -> StorePage {
    log.read(&filter(terms), Position(after), Position::MAX, budget).unwrap()
}

/// All messages of a filter, in pages.
fn paged(log: &dyn Store, terms: &[&str], budget: Budget) -> Vec<Message> {
    let (mut after, mut messages) = (Position::ZERO, Vec::new());
    while after < log.newest() {
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
