//! The wall clock is set while a log is open, and between two openings: ages are those of the steady clock.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tailwire_core::{
    Store,
    log::{Appended, Budget, Group},
    order::local_entry,
    store::{Outcome, Write},
};
use tailwire_model::{
    Bound, Condition, Draft, Filter, Fingerprint, IdempotencyKey, MediaType, Options, Position, Term,
    Timestamp, Topic,
};
use tailwire_storage::{LogSettings, SledStore, testing};

const START: u64 = 1_795_000_000_000;
const DAY: i64 = 86_400_000;
const MINUTE: u64 = 60_000;
const STEPS: [i64; 6] = [660_000, -300_000, DAY, -DAY, 18_000 * DAY, -18_000 * DAY];

/// The steady clock of this process's tests: it runs forward for all of them.
static STEADY: AtomicU64 = AtomicU64::new(7);

fn passes(ms: u64) -> u64 {
    STEADY.fetch_add(ms, Ordering::SeqCst);
    ms
}

/// A log, and its wall clock.
struct Clocked {
    log: SledStore,
    wall: u64,
    /// The time of both clocks at the opening.
    opened: (u64, u64),
}

impl Clocked {
    fn open(dir: &Path, wall: u64) -> Self {
        let log = testing::open(dir, Timestamp(wall), &LogSettings::default()).unwrap();
        Self { log, wall, opened: (wall, STEADY.load(Ordering::SeqCst)) }
    }

    fn steady(&self) -> Timestamp {
        Timestamp(self.opened.0 + STEADY.load(Ordering::SeqCst) - self.opened.1)
    }

    fn apply(&self, writes: Vec<Write>) -> Vec<Outcome> {
        let entry = local_entry(&self.log, Timestamp(self.wall), self.steady(), writes);
        self.log.apply(vec![entry], true).unwrap()
    }

    fn publish(&self, topic: &str, key: Option<&str>) -> Appended {
        let draft = Draft::new(Topic::parse(topic).unwrap(), MediaType::NONE, Bytes::from_static(b"x"));
        let key = key.map(|key| IdempotencyKey { scoped: key.to_owned(), request: Fingerprint([1; 16]) });
        let group = Group { drafts: vec![draft], key, condition: Condition::None };
        match self.apply(vec![Write::Publish(group)])[..] {
            [Outcome::Published(appended)] => appended,
            ref other => panic!("{other:?}"),
        }
    }

    fn expires(&self, topic: &str, ms: u64) {
        let options = Options { max_age_ms: Some(Bound(ms)), ..Options::default() };
        self.apply(vec![Write::Options(Term::parse(topic).unwrap(), options)]);
    }

    fn pass(&mut self, ms: u64) {
        self.wall = self.wall.saturating_add(passes(ms));
        loop {
            let (writes, due) = self.log.due(self.steady()).unwrap();
            if !writes.is_empty() {
                self.apply(writes);
            }
            if self.log.tidy().unwrap() != Some(0) && due != Some(0) {
                break;
            }
        }
    }

    fn step(&mut self, ms: i64) {
        self.wall = self.wall.saturating_add_signed(ms);
    }

    fn messages(&self, topic: &str) -> usize {
        let budget = Budget { messages: usize::MAX, bytes: usize::MAX, scan_bytes: usize::MAX };
        let filter = Filter::from(Term::parse(topic).unwrap());
        self.log.read(&filter, Position::ZERO, Position::MAX, budget).unwrap().messages.len()
    }
}

// One test: all of it goes by one clock.
#[test]
fn ages_are_those_of_the_steady_clock() {
    for step in STEPS {
        within_a_run(step);
        over_a_restart(step);
    }
}

fn within_a_run(step: i64) {
    let dir = tempfile::tempdir().unwrap();
    let mut own = Clocked::open(dir.path(), START);
    own.expires("a", 3 * MINUTE);
    own.publish("a", Some("k"));
    own.pass(MINUTE);
    own.step(step);
    assert!(matches!(own.publish("a", Some("k")), Appended::Replayed(_)), "{step}");
    own.publish("a", None);
    own.pass(MINUTE);
    assert_eq!(own.messages("a"), 2, "{step}");
    own.pass(MINUTE + 1000);
    assert_eq!(own.messages("a"), 1, "{step}: what came before the step");
    own.step(-step);
    own.pass(MINUTE);
    assert_eq!(own.messages("a"), 0, "{step}: what came after it");
    // Ten minutes after the first one, and not before.
    own.pass(5 * MINUTE + 50_000);
    assert!(matches!(own.publish("b", Some("k")), Appended::Replayed(_)), "{step}");
    own.pass(MINUTE);
    assert!(matches!(own.publish("b", Some("k")), Appended::Stored(_)), "{step}");
}

fn over_a_restart(step: i64) {
    let dir = tempfile::tempdir().unwrap();
    let own = Clocked::open(dir.path(), START.saturating_add_signed(step));
    own.expires("a", 3 * MINUTE);
    own.publish("a", Some("k"));
    own.log.close().unwrap();
    drop(own);
    let mut own = Clocked::open(dir.path(), START);
    let is_old = step < -600_000;
    let again = own.publish("c", Some("k"));
    assert_eq!(matches!(again, Appended::Replayed(_)), !is_old, "{step}");
    own.publish("a", None);
    own.pass(MINUTE);
    assert_eq!(own.messages("a"), if step < -120_000 { 1 } else { 2 }, "{step}");
    own.pass(2 * MINUTE + 1000);
    assert_eq!(own.messages("a"), 0, "{step}");
    own.publish("a", None);
    own.pass(3 * MINUTE + 1000);
    assert_eq!(own.messages("a"), 0, "{step}: what comes later expires, too");
}
