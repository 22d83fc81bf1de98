//! What unit tests share: short ways to make messages, and a log that does what a test says. With the feature `testing`, a
//! broker for the unit tests of transports, whose commits are made up.

#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tailwire_model::{
    Condition, Cursor, Draft, Epoch, EpochStart, Epochs, Filter, MediaType, Message, Opening, Options,
    Position, Rules, Term, Timestamp, Topic, TrimReason,
};

use crate::log::{
    Appended, Bounds, Budget, Commit, Feed, Group, Log, LogError, LogStats, Page, Stored, TopicInfo,
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

/// Writes down what it is asked, and answers as it was told to.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) append_error: Mutex<Option<LogError>>,
    pub(crate) trim_error: Mutex<Option<LogError>>,
    pub(crate) commit_error: Mutex<Option<LogError>>,
    appended: AtomicUsize,
}

impl Script {
    fn note(&self, call: String) {
        self.calls.lock().push(call);
    }
}

impl Log for Script {
    fn epochs(&self) -> Arc<Epochs> {
        let start = EpochStart { epoch: epoch(), first: Position(1), opening: Opening::Created };
        Arc::new(Epochs::new(vec![start]).unwrap())
    }

    fn committed(&self) -> Position {
        Position::ZERO
    }

    fn append(&self, groups: Vec<Group>, _: Timestamp) -> Result<Vec<Appended>, LogError> {
        self.note(format!("append {}", groups.len()));
        if let Some(error) = self.append_error.lock().take() {
            return Err(error);
        }
        let stored = |group: Group| {
            let count = group.drafts.len();
            let first = self.appended.fetch_add(count, Ordering::SeqCst) as u64 + 1;
            let first = Cursor { epoch: epoch(), position: Position(first) };
            Appended::Stored(Stored { first, count: count as u32, time: Timestamp(0) })
        };
        Ok(groups.into_iter().map(stored).collect())
    }

    fn trim(&self, topic: &Topic, _: TrimReason) -> Result<(), LogError> {
        self.note(format!("trim {topic}"));
        self.trim_error.lock().take().map_or(Ok(()), Err)
    }

    fn commit(&self) -> Result<Position, LogError> {
        self.note("commit".into());
        self.commit_error.lock().take().map_or(Ok(Position::ZERO), Err)
    }

    fn follow(&self, _: Arc<dyn Feed>) {}

    fn read(&self, _: &Filter, _: Position, upto: Position, _: Budget) -> Result<Page, LogError> {
        Ok(Page { scanned: upto, ..Page::default() })
    }

    fn before_last(&self, _: &Filter, _: usize) -> Result<Position, LogError> {
        Ok(Position::ZERO)
    }

    fn get(&self, _: Position) -> Result<Option<Message>, LogError> {
        Ok(None)
    }

    fn bounds(&self, _: &Filter) -> Bounds {
        Bounds::default()
    }

    fn trimmed(&self, _: &Filter, _: Position) -> Option<tailwire_model::Trim> {
        None
    }

    fn topics(&self, _: &str, _: Option<&str>, _: usize) -> Vec<TopicInfo> {
        Vec::new()
    }

    fn stats(&self) -> LogStats {
        LogStats::default()
    }

    fn rules(&self) -> Arc<Rules> {
        Arc::default()
    }

    fn set_options(&self, term: &Term, _: Options) -> Result<(), LogError> {
        self.note(format!("options {}", term.as_str()));
        Ok(())
    }

    fn tidy(&self, _: Timestamp) -> Result<Option<u64>, LogError> {
        self.note("tidy".into());
        Ok(None)
    }

    fn close(&self) -> Result<(), LogError> {
        self.note("close".into());
        Ok(())
    }
}

/// A broker over a log that holds nothing. It commits nothing by itself: see [`deliver`].
#[cfg(feature = "testing")]
pub fn broker(encoders: crate::Encoders) -> crate::Broker {
    let parts = crate::Parts {
        log: Arc::new(Script::default()),
        encoders,
        policy: Arc::new(crate::AllowAll),
        clock: crate::Clock { now: || Timestamp(0), steady: || 0, random: || 0 },
        shards: 1,
        read_threads: 1,
        read_thread_begins: || {},
        read_rests: 0,
    };
    crate::Broker::start(parts).unwrap().0
}

/// Gives the broker's shard a commit of one message.
#[cfg(feature = "testing")]
pub fn deliver(broker: &crate::Broker, position: u64, name: &str, size: usize) {
    broker.push_to_shard(&commit(vec![message(position, name, size)], Vec::new()));
}

/// A commit of these messages and trims, up to the last message.
pub(crate) fn commit(messages: Vec<Message>, trims: Vec<(Topic, tailwire_model::Trim)>) -> Arc<Commit> {
    let watermark = messages.last().map_or(Position::ZERO, Message::position);
    Arc::new(Commit { watermark, messages, trims })
}
