//! The local order over one store. Its committer is run by the thread that writes.

use std::{cell::Cell, sync::Arc};

use parking_lot::Mutex;
use tailwire_core::{
    Clock, Committer, Instruments, LocalOrder, Order as _, Store, StoreError,
    store::{Outcome, Write},
};
use tailwire_model::{Opening, Timestamp};
use tailwire_storage::{LogSettings, MemoryStore, SledStore};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::{Log, Ordered, outcome};
use crate::common::{Harness, START};

thread_local! {
    /// The time of the thread that writes, by both clocks.
    static NOW: Cell<u64> = const { Cell::new(START) };
}

const CLOCK: Clock = Clock { now: || Timestamp(NOW.get()), steady: || NOW.get(), random: || 0 };

/// A kind of store that can be opened again.
pub(crate) trait Kind: Sized {
    fn new() -> (Self, Arc<dyn Store>);
    /// Opens it again. Nobody else has it any more.
    fn reopen(&mut self) -> Arc<dyn Store>;
}

pub(crate) struct InMemory(Arc<MemoryStore>);

impl Kind for InMemory {
    fn new() -> (Self, Arc<dyn Store>) {
        let store = Arc::new(MemoryStore::default());
        (Self(store.clone()), store)
    }

    fn reopen(&mut self) -> Arc<dyn Store> {
        self.0 = Arc::new(self.0.reopen());
        self.0.clone()
    }
}

pub(crate) struct OnSled(TempDir);

impl Kind for OnSled {
    fn new() -> (Self, Arc<dyn Store>) {
        let mut own = Self(tempfile::tempdir().unwrap());
        let store = own.reopen();
        (own, store)
    }

    fn reopen(&mut self) -> Arc<dyn Store> {
        Arc::new(SledStore::open(self.0.path(), &LogSettings::default()).unwrap())
    }
}

/// A log whose order is local.
pub(crate) struct Local<K> {
    log: Option<Log<LocalWriter>>,
    kind: K,
}

pub(crate) struct LocalWriter {
    order: LocalOrder,
    committer: Mutex<Committer>,
    store: Arc<dyn Store>,
}

impl LocalWriter {
    fn begin(store: Arc<dyn Store>, now: u64) -> Self {
        NOW.set(now);
        let (order, committer) = LocalOrder::begin(store.clone(), CLOCK, &Instruments::default()).unwrap();
        Self { order, committer: Mutex::new(committer), store }
    }
}

impl Ordered for LocalWriter {
    fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn submit(&self, writes: Vec<Write>, now: Timestamp) -> Result<Vec<Outcome>, StoreError> {
        let mut committer = self.committer.lock();
        NOW.set(now.0);
        let mut waiting = Vec::new();
        for write in writes {
            let (done, applied) = oneshot::channel();
            self.order.submit(write, done).unwrap();
            waiting.push(applied);
        }
        while committer.step() {}
        waiting.into_iter().map(outcome).collect()
    }
}

impl<K: Kind> Harness for Local<K> {
    type Store = Log<LocalWriter>;

    fn new() -> Self {
        let (kind, store) = K::new();
        Self { log: Some(Log(LocalWriter::begin(store, START))), kind }
    }

    fn log(&self) -> &Self::Store {
        self.log.as_ref().unwrap()
    }

    fn restart(&mut self, _: bool) -> Opening {
        unreachable!("a local order begins with its store")
    }

    fn reopen(&mut self, close: bool, now: u64) {
        if close {
            self.log().close().unwrap();
        }
        self.log = None;
        self.log = Some(Log(LocalWriter::begin(self.kind.reopen(), now)));
    }
}
