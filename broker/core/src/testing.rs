//! Common parts of unit tests: short ways to make messages, and a store that does what a test says. With the feature
//! `testing`, a broker for the unit tests of transports, whose commits are made up.

#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tailwire_model::{
    Condition, Cursor, Draft, Epoch, EpochStart, Epochs, Filter, MediaType, Message, Opening, Position,
    Rules, Term, Timestamp, Topic, Trim, admission::KeyRecord,
};

use crate::{
    log::{Appended, Bounds, Budget, Commit, Feed, Group, LogStats, StorePage, Stored, TopicInfo, Window},
    store::{Entry, Outcome, Store, StoreError, Token, Write},
};

static ZEROS: [u8; 1 << 20] = [0; 1 << 20];

pub(crate) fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

pub(crate) fn term(name: &str) -> Term {
    Term::parse(name).unwrap()
}

pub(crate) fn draft(name: &str, size: usize) -> Draft {
    Draft::new(topic(name), MediaType::JSON, Bytes::from_static(&ZEROS[..size]))
}

pub(crate) fn message(position: u64, name: &str, size: usize) -> Message {
    draft(name, size).into_message(epoch(), Position(position), Timestamp(0))
}

pub(crate) fn group(names: &[&str]) -> Group {
    let drafts = names.iter().map(|name| draft(name, 1)).collect();
    Group { drafts, key: None, condition: Condition::None }
}

fn epoch() -> Epoch {
    Epoch::new(1).unwrap()
}

/// A waker that counts.
#[derive(Default)]
pub(crate) struct Wakes(AtomicUsize);

impl Wakes {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl std::task::Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Writes down what it is asked, and answers as the test says.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) error: Mutex<Option<StoreError>>,
    pub(crate) due: Mutex<Vec<Write>>,
    pub(crate) is_full: AtomicBool,
    /// An entry that is applied while somebody begins to follow.
    pub(crate) applied_meanwhile: AtomicU64,
    newest: AtomicU64,
}

impl Script {
    fn note(&self, call: String) {
        self.calls.lock().push(call);
    }

    fn outcome(&self, write: Write, next: &mut u64) -> Outcome {
        let Write::Publish(group) = write else { return Outcome::Done };
        let count = group.drafts.len();
        let first = Cursor { epoch: epoch(), position: Position(*next) };
        *next += count as u64;
        Outcome::Published(Appended::Stored(Stored { first, count: count as u32, time: Timestamp(0) }))
    }
}

fn named(write: &Write) -> String {
    match write {
        Write::Publish(group) => format!("publish {}", group.drafts.len()),
        Write::Delete(topic) => format!("delete {topic}"),
        Write::Retain(topic, upto) => format!("retain {topic} {upto}"),
        Write::Forget(topic, upto) => format!("forget {topic} {upto}"),
        Write::Remove(cursor, _) => format!("remove {cursor}"),
        Write::Compact(topic, ..) => format!("compact {topic}"),
        Write::Options(term, _) => format!("options {}", term.as_str()),
        Write::Opening(..) => "opening".into(),
    }
}

impl Store for Script {
    fn found(&self) -> Opening {
        Opening::Created
    }

    fn token(&self) -> Token {
        Token::default()
    }

    fn newest(&self) -> Position {
        Position(self.newest.load(Ordering::SeqCst))
    }

    fn epochs(&self) -> Arc<Epochs> {
        let start = EpochStart { epoch: epoch(), first: Position(1), opening: Opening::Created };
        Arc::new(Epochs::new(vec![start]).unwrap())
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::default()
    }

    fn apply(&self, entries: Vec<Entry>, sync: bool) -> Result<Vec<Outcome>, StoreError> {
        assert!(sync, "a local order's store is the truth");
        let writes: Vec<Write> = entries.into_iter().flat_map(|entry| entry.writes).collect();
        self.note(writes.iter().map(named).collect::<Vec<_>>().join(", "));
        if let Some(error) = self.error.lock().take() {
            return Err(error);
        }
        let mut next = self.newest().next().0;
        let outcomes = writes.into_iter().map(|write| self.outcome(write, &mut next)).collect();
        self.newest.store(next - 1, Ordering::SeqCst);
        Ok(outcomes)
    }

    fn due(&self, _: Timestamp) -> Result<(Vec<Write>, Option<u64>), StoreError> {
        Ok((std::mem::take(&mut *self.due.lock()), None))
    }

    fn tidy(&self) -> Result<Option<u64>, StoreError> {
        self.note("tidy".into());
        Ok(None)
    }

    fn follow(&self, _: Arc<dyn Feed>) -> Position {
        self.newest.fetch_add(self.applied_meanwhile.load(Ordering::SeqCst), Ordering::SeqCst);
        self.newest()
    }

    fn read(&self, _: &Filter, _: Position, upto: Position, _: Budget) -> Result<StorePage, StoreError> {
        Ok(StorePage { scanned: upto, ..StorePage::default() })
    }

    fn before_last(&self, _: &Filter, _: Position, _: Budget) -> Result<Window, StoreError> {
        Ok(Window { after: Position::ZERO, is_full: false })
    }

    fn before_time(&self, _: Timestamp) -> Result<Position, StoreError> {
        Ok(Position::ZERO)
    }

    fn get(&self, _: Position) -> Result<Option<Message>, StoreError> {
        Ok(None)
    }

    fn bounds(&self, _: &Filter) -> Bounds {
        Bounds::default()
    }

    fn trimmed(&self, _: &Filter, _: Position) -> Option<Trim> {
        None
    }

    fn topics(&self, _: &str, _: Option<&str>, _: usize) -> Vec<TopicInfo> {
        Vec::new()
    }

    fn keys(&self, _: &mut dyn FnMut(&str, &KeyRecord)) -> Result<(), StoreError> {
        Ok(())
    }

    fn stats(&self) -> LogStats {
        LogStats::default()
    }

    fn has_room(&self, _: usize) -> bool {
        !self.is_full.load(Ordering::SeqCst)
    }

    fn close(&self) -> Result<(), StoreError> {
        self.note("close".into());
        Ok(())
    }
}

/// A broker over a log that holds nothing. It commits nothing by itself: see [`deliver`].
#[cfg(feature = "testing")]
pub fn broker(encoders: crate::Encoders) -> crate::Broker {
    let (store, instruments) = (Arc::new(Script::default()), crate::Instruments::default());
    let clock = crate::Clock { now: || Timestamp(0), steady: || 0, random: || 0 };
    let (order, _) = crate::LocalOrder::begin(store.clone(), clock, &instruments).unwrap();
    let parts = crate::BrokerParts {
        order: Arc::new(order),
        store,
        instruments,
        encoders,
        policy: Arc::new(crate::AllowAll),
        clock,
        shards: 1,
        read_threads: 1,
        read_thread_begins: || {},
        read_throttle_factor: 0,
        quotas: Vec::new(),
    };
    crate::Broker::start(parts).unwrap()
}

/// Gives the broker's shard a commit of one message.
#[cfg(feature = "testing")]
pub fn deliver(broker: &crate::Broker, position: u64, name: &str, size: usize) {
    broker.push_to_shard(&commit(vec![message(position, name, size)], Vec::new()));
}

/// A commit of these messages and trims, up to the last message.
pub(crate) fn commit(messages: Vec<Message>, trims: Vec<(Topic, Trim)>) -> Arc<Commit> {
    let watermark = messages.last().map_or(Position::ZERO, Message::position);
    let cost = messages.iter().map(|message| message.draft.cost()).sum();
    Arc::new(Commit { watermark, messages, cost, trims, removed: Vec::new() })
}
