//! Common parts of the suites: a log that can be opened again, and short ways to say what to append and read.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::Path, sync::Arc};

use parking_lot::Mutex;
use tailwire_core::{
    Store,
    log::{Appended, Budget, Commit, Feed, Group, Stored},
    order::begin_epoch,
};
use tailwire_model::{
    Condition, Draft, Filter, Fingerprint, IdempotencyKey, MediaType, Message, Opening, Position, Term,
    Timestamp, Topic, message::Extras,
};
use tailwire_storage::{LogSettings, MemoryStore, SledStore, testing::Writes};
use tempfile::TempDir;

/// 2026-11-21, in milliseconds.
pub(crate) const START: u64 = 1_795_000_000_000;

/// A log under test.
pub(crate) trait Harness {
    type Store: Store;
    fn new() -> Self;
    fn log(&self) -> &Self::Store;
    /// Opens it again, after closing it or as after a crash. Answers how it must have been found.
    fn restart(&mut self, close: bool) -> Opening;
    /// The same, and begins an epoch.
    fn reopen(&mut self, close: bool, now: u64) {
        self.restart(close);
        begin_epoch(self.log(), Timestamp(now), 0).unwrap();
    }
}

fn found(close: bool) -> Opening {
    if close { Opening::Clean } else { Opening::Unclean }
}

pub(crate) struct Memory(MemoryStore);

impl Harness for Memory {
    type Store = MemoryStore;

    fn new() -> Self {
        let store = MemoryStore::default();
        begin_epoch(&store, Timestamp(START), 0).unwrap();
        Self(store)
    }

    fn log(&self) -> &MemoryStore {
        &self.0
    }

    fn restart(&mut self, close: bool) -> Opening {
        if close {
            self.0.close().unwrap();
        }
        self.0 = self.0.reopen();
        found(close)
    }
}

pub(crate) struct OnDisk {
    log: Option<SledStore>,
    dir: TempDir,
}

impl OnDisk {
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Ends the log without closing it, and lets `change` do to its files what it wants.
    pub(crate) fn crash(&mut self, change: impl FnOnce(&Path)) {
        self.log = None;
        change(self.dir.path());
    }

    pub(crate) fn open(&mut self, now: u64) -> Result<&SledStore, tailwire_storage::OpenError> {
        Ok(self.log.insert(tailwire_storage::testing::open(
            self.dir.path(),
            Timestamp(now),
            &LogSettings::default(),
        )?))
    }
}

impl OnDisk {
    pub(crate) fn open_accepting_loss(
        &mut self,
        now: u64,
    ) -> Result<&SledStore, tailwire_storage::OpenError> {
        let settings = LogSettings { accepts_loss: true, ..LogSettings::default() };
        Ok(self.log.insert(tailwire_storage::testing::open(self.dir.path(), Timestamp(now), &settings)?))
    }
}

impl Harness for OnDisk {
    type Store = SledStore;

    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log =
            tailwire_storage::testing::open(dir.path(), Timestamp(START), &LogSettings::default()).unwrap();
        Self { log: Some(log), dir }
    }

    fn log(&self) -> &SledStore {
        self.log.as_ref().unwrap()
    }

    fn restart(&mut self, close: bool) -> Opening {
        if close {
            self.log().close().unwrap();
        }
        self.crash(|_| {});
        let settings = LogSettings::default();
        self.log = Some(SledStore::open(self.dir.path(), &settings).unwrap());
        found(close)
    }
}

pub(crate) fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

pub(crate) fn filter(terms: &[&str]) -> Filter {
    Filter::new(terms.iter().map(|term| Term::parse(term).unwrap()).collect()).unwrap()
}

pub(crate) fn draft(name: &str, body: &str) -> Draft {
    Draft::new(topic(name), MediaType::JSON, body.to_owned().into())
}

/// A group of messages, each a topic and a body.
pub(crate) fn group(messages: &[(&str, &str)]) -> Group {
    let drafts = messages.iter().map(|(name, body)| draft(name, body)).collect();
    Group { drafts, key: None, condition: Condition::None }
}

pub(crate) fn keyed(mut group: Group, key: &str, request: u8) -> Group {
    group.key = Some(IdempotencyKey { scoped: key.into(), request: Fingerprint([request; 16]) });
    group
}

pub(crate) fn given(mut group: Group, condition: Condition) -> Group {
    group.condition = condition;
    group
}

pub(crate) fn append_at(log: &impl Store, group: Group, now: u64) -> Appended {
    log.append(vec![group], Timestamp(now)).unwrap().remove(0)
}

pub(crate) fn append(log: &impl Store, group: Group) -> Appended {
    append_at(log, group, START)
}

/// The first position that a group was given.
pub(crate) fn stored(appended: Appended) -> Stored {
    match appended {
        Appended::Stored(stored) => stored,
        other => panic!("not stored: {other:?}"),
    }
}

/// Appends messages, each a group of its own.
pub(crate) fn publish(log: &impl Store, messages: &[(&str, &str)]) {
    let groups = messages.iter().map(|message| group(&[*message])).collect();
    log.append(groups, Timestamp(START)).unwrap();
}

pub(crate) const UNBOUNDED: Budget =
    Budget { messages: usize::MAX, bytes: usize::MAX, scan_bytes: usize::MAX };

pub(crate) fn positions(messages: &[Message]) -> Vec<u64> {
    messages.iter().map(|message| message.position().0).collect()
}

/// Positions of all the messages of a filter.
pub(crate) fn all(log: &impl Store, terms: &[&str]) -> Vec<u64> {
    positions(&log.read(&filter(terms), Position::ZERO, Position::MAX, UNBOUNDED).unwrap().messages)
}

/// Bodies of all the messages of a filter.
pub(crate) fn bodies(log: &impl Store, terms: &[&str]) -> Vec<String> {
    let page = log.read(&filter(terms), Position::ZERO, Position::MAX, UNBOUNDED).unwrap();
    page.messages.iter().map(|message| String::from_utf8(message.draft.body.to_vec()).unwrap()).collect()
}

/// Gives every message of a group a key of its own topic.
pub(crate) fn with_key(mut group: Group, key: &str) -> Group {
    for draft in &mut group.drafts {
        draft.extras = Some(Box::new(Extras { key: Some(key.into()), ..Extras::default() }));
    }
    group
}

pub(crate) fn tidy_all(log: &impl Store) {
    tidy_all_at(log, START);
}

pub(crate) fn tidy_all_at(log: &impl Store, now: u64) {
    while log.tidy_at(Timestamp(now)).unwrap() == Some(0) {}
}

/// Copies a folder and all below it.
pub(crate) fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_files(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Opens a tree of a log that is not open, and that is from then on as after a checkpoint: what the journal has would be
/// done again.
pub(crate) fn with_tree<T>(dir: &Path, name: &str, change: impl FnOnce(&sled::Tree) -> T) -> T {
    let _ = fs::remove_file(dir.join("journal"));
    let settings = String::from_utf8_lossy(&fs::read(dir.join("conf")).unwrap()).into_owned();
    let segment_bytes = settings.lines().find_map(|line| line.strip_prefix("segment_size: ")).unwrap();
    let segment_bytes = segment_bytes.parse().unwrap();
    let open = || sled::Config::new().path(dir).flush_every_ms(None).segment_size(segment_bytes).open();
    // The log before may still be letting go of the lock.
    let db = std::iter::repeat_with(open).take(1000).find_map(Result::ok).unwrap();
    let tree = db.open_tree(name).unwrap();
    let result = change(&tree);
    tree.flush().unwrap();
    result
}

/// A feed that keeps what it gets.
#[derive(Default)]
pub(crate) struct Recorder(pub(crate) Mutex<Vec<Arc<Commit>>>);

impl Feed for Recorder {
    fn committed(&self, commit: Arc<Commit>) {
        self.0.lock().push(commit);
    }
}
