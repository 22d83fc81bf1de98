//! The stores that are compared, each as one would use it for a log: a commit is one batch that is synced, a message's
//! key is its topic and position, a replay walks a topic's keys. The bare file knows no topics: all of it is read, which
//! is as fast as can be.

use std::{
    fs::{File, OpenOptions},
    io::{BufReader, Read, Write},
    path::Path,
};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use redb::{ReadableDatabase, TableDefinition};
use tailwire_core::{Store as _, log::Group};
use tailwire_model::{Condition, Draft, MediaType, Timestamp, Topic};
use tailwire_storage::testing::Writes as _;
use tailwire_storage::{LogSettings, SledStore};

use crate::child;

/// The topic that has many messages among topics of one.
pub(crate) const HOT: &str = "hot/topic";

/// The messages that are appended: message `n` goes to a topic that looks like chance, and is all `x`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Messages {
    pub(crate) topics: u64,
    pub(crate) size: usize,
}

impl Messages {
    pub(crate) fn topic(number: u64) -> String {
        format!("devices/{number:07}/state")
    }

    fn name(self, n: u64) -> String {
        Self::topic((n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % self.topics)
    }

    fn body(self) -> Vec<u8> {
        vec![b'x'; self.size]
    }
}

/// A store of messages.
pub(crate) trait Store {
    const NAME: &'static str;
    fn open(dir: &Path) -> Self;
    /// Appends messages `first` and on, durably.
    fn append(&mut self, messages: Messages, first: u64, count: u64);
    /// Reads all messages of a topic; answers how many.
    fn replay(&self, topic: &str) -> u64;
    fn close(self);
    /// The log, if this is ours.
    fn log(&self) -> Option<&SledStore> {
        None
    }
}

/// A file that is appended to and synced.
pub(crate) struct PlainFile(File);

impl Store for PlainFile {
    const NAME: &'static str = "file";

    fn open(dir: &Path) -> Self {
        Self(OpenOptions::new().create(true).append(true).read(true).open(dir.join("file")).unwrap())
    }

    fn append(&mut self, messages: Messages, _: u64, count: u64) {
        self.0.write_all(&messages.body().repeat(count as usize)).unwrap();
        self.0.sync_data().unwrap();
    }

    fn replay(&self, _: &str) -> u64 {
        let mut reader = BufReader::with_capacity(1 << 16, &self.0);
        let (mut message, mut count) = ([0; 128], 0);
        while reader.read_exact(&mut message).is_ok() {
            count += 1;
        }
        count
    }

    fn close(self) {}
}

/// Ours.
pub(crate) struct Tailwire(SledStore);

impl Tailwire {
    /// Appends one message for each of some new topics, and one for [`HOT`] after every `every` of them.
    pub(crate) fn append_with_hot(&mut self, first: u64, count: u64, every: u64) {
        let body = Messages { topics: 1, size: 128 }.body();
        let names = (first..first + count).flat_map(|n| {
            let hot = (n % every == 0).then(|| HOT.to_owned());
            std::iter::once(Messages::topic(n)).chain(hot)
        });
        self.append_to(names, &body);
    }

    fn append_to(&self, names: impl Iterator<Item = String>, body: &[u8]) {
        let body = body.to_vec().into();
        let draft = |name: String| {
            Draft::new(Topic::parse(&name).unwrap(), MediaType::NONE, bytes::Bytes::clone(&body))
        };
        let group = |name| Group { drafts: vec![draft(name)], key: None, condition: Condition::None };
        self.0.append(names.map(group).collect(), Timestamp(1)).unwrap();
        // As the committer does.
        self.0.tidy_at(Timestamp(1)).unwrap();
    }
}

impl Store for Tailwire {
    const NAME: &'static str = "tailwire";

    fn open(dir: &Path) -> Self {
        Self(tailwire_storage::testing::open(dir, Timestamp(1), &LogSettings::default()).unwrap())
    }

    fn append(&mut self, messages: Messages, first: u64, count: u64) {
        self.append_to((first..first + count).map(|n| messages.name(n)), &messages.body());
    }

    fn replay(&self, topic: &str) -> u64 {
        child::replay(&self.0, topic)
    }

    fn close(self) {
        self.0.close().unwrap();
    }

    fn log(&self) -> Option<&SledStore> {
        Some(&self.0)
    }
}

/// A log-structured merge tree.
pub(crate) struct Fjall(Database, Keyspace);

impl Store for Fjall {
    const NAME: &'static str = "fjall";

    fn open(dir: &Path) -> Self {
        let database = Database::builder(dir).open().unwrap();
        let messages = database.keyspace("messages", KeyspaceCreateOptions::default).unwrap();
        Self(database, messages)
    }

    fn append(&mut self, messages: Messages, first: u64, count: u64) {
        let mut batch = self.0.batch();
        for n in first..first + count {
            batch.insert(&self.1, key(&messages.name(n), n), messages.body());
        }
        batch.commit().unwrap();
        self.0.persist(PersistMode::SyncData).unwrap();
    }

    fn replay(&self, topic: &str) -> u64 {
        let mut count = 0;
        for entry in self.1.prefix(key_prefix(topic)) {
            let (_, body) = entry.into_inner().unwrap();
            count += u64::from(!body.to_vec().is_empty());
        }
        count
    }

    fn close(self) {}
}

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("messages");

/// A copy-on-write B-tree.
pub(crate) struct Redb(redb::Database);

impl Store for Redb {
    const NAME: &'static str = "redb";

    fn open(dir: &Path) -> Self {
        Self(redb::Database::create(dir.join("redb")).unwrap())
    }

    fn append(&mut self, messages: Messages, first: u64, count: u64) {
        let write = self.0.begin_write().unwrap();
        {
            let mut table = write.open_table(TABLE).unwrap();
            for n in first..first + count {
                table.insert(key(&messages.name(n), n).as_slice(), messages.body().as_slice()).unwrap();
            }
        }
        write.commit().unwrap();
    }

    fn replay(&self, topic: &str) -> u64 {
        let read = self.0.begin_read().unwrap();
        let table = read.open_table(TABLE).unwrap();
        let (from, to) = (key(topic, 0), key(topic, u64::MAX));
        let mut count = 0;
        for entry in table.range(from.as_slice()..to.as_slice()).unwrap() {
            count += u64::from(!entry.unwrap().1.value().to_vec().is_empty());
        }
        count
    }

    fn close(self) {}
}

fn key_prefix(topic: &str) -> Vec<u8> {
    [topic.as_bytes(), &[0]].concat()
}

fn key(topic: &str, n: u64) -> Vec<u8> {
    [key_prefix(topic), n.to_be_bytes().to_vec()].concat()
}
