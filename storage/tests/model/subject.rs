//! The log under test, and the ways in which it ends and begins again.

use std::sync::Arc;

use tailwire_core::{Store, order::begin_epoch};
use tailwire_model::Timestamp;
use tailwire_storage::{LogSettings, MemoryStore, SledStore, testing};
use tempfile::TempDir;

use crate::common::copy_files;

/// How a log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// In good order.
    Closed,
    /// Without being closed, but with all that it wrote.
    Dropped,
    /// As if its process were killed: with what it had given to the kernel.
    Killed,
}

/// A log that can be opened again.
pub(crate) trait Subject: Sized {
    fn new(max_bytes: Option<u64>, now: u64) -> Self;
    fn log(&self) -> &dyn Store;
    fn reopen(&mut self, end: End, now: u64);
}

impl Subject for Arc<MemoryStore> {
    fn new(max_bytes: Option<u64>, now: u64) -> Self {
        assert_eq!(max_bytes, None, "it has no such setting");
        let store = MemoryStore::default();
        begin_epoch(&store, Timestamp(now), 0).unwrap();
        Self::new(store)
    }

    fn log(&self) -> &dyn Store {
        self.as_ref()
    }

    fn reopen(&mut self, end: End, now: u64) {
        if end == End::Closed {
            self.close().unwrap();
        }
        *self = Self::new(MemoryStore::reopen(self));
        begin_epoch(self.as_ref(), Timestamp(now), 0).unwrap();
    }
}

pub(crate) struct OnDisk {
    log: Option<SledStore>,
    dir: TempDir,
    settings: LogSettings,
}

impl OnDisk {
    fn open(&mut self, now: u64) {
        self.log = Some(testing::open(self.dir.path(), Timestamp(now), &self.settings).unwrap());
    }
}

impl Subject for OnDisk {
    fn new(max_bytes: Option<u64>, now: u64) -> Self {
        let settings = LogSettings { max_bytes, ..LogSettings::default() };
        let mut subject = Self { log: None, dir: tempfile::tempdir().unwrap(), settings };
        subject.open(now);
        subject
    }

    fn log(&self) -> &dyn Store {
        self.log.as_ref().unwrap()
    }

    fn reopen(&mut self, end: End, now: u64) {
        match end {
            End::Closed => self.log().close().unwrap(),
            End::Dropped => {}
            End::Killed => {
                let left = tempfile::tempdir().unwrap();
                copy_files(self.dir.path(), left.path());
                self.log = None;
                self.dir = left;
            }
        }
        self.log = None;
        self.open(now);
    }
}
