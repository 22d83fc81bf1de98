//! Three replicas of one order: what is read of the first, all of them have.

use std::sync::Arc;

use parking_lot::Mutex;
use tailwire_core::{
    Order as _, Store, StoreError,
    log::{Commit, Feed},
    store::{Outcome, Write},
};
use tailwire_model::{Epoch, Message, Opening, Position, Timestamp};
use tailwire_storage::{MemoryStore, digest, fake_order::FakeOrder};
use tokio::sync::oneshot;

use super::{Log, Ordered, outcome};
use crate::common::{Harness, START};

const NODES: usize = 3;

/// The positions of all messages, in their order.
#[derive(Default)]
struct Positions(Mutex<Vec<Position>>);

impl Feed for Positions {
    fn committed(&self, commit: Arc<Commit>) {
        self.0.lock().extend(commit.messages.iter().map(Message::position));
    }
}

/// A log that three nodes share.
pub(crate) struct Replicas {
    log: Log<Shared>,
    /// Each node's store, to be opened again.
    stores: [Arc<MemoryStore>; NODES],
}

pub(crate) struct Shared {
    order: Mutex<FakeOrder>,
    /// The first node's.
    store: Arc<dyn Store>,
    positions: Arc<Positions>,
}

impl Shared {
    fn begin(&self, now: u64, opening: Opening) {
        let last = (opening != Opening::Created).then(|| self.store.epochs().current().epoch);
        let epoch = Epoch::opening(now, last, 0).unwrap();
        self.submit(vec![Write::Opening(epoch, opening)], Timestamp(now)).unwrap();
    }
}

impl Ordered for Shared {
    fn store(&self) -> &dyn Store {
        &*self.store
    }

    fn submit(&self, writes: Vec<Write>, now: Timestamp) -> Result<Vec<Outcome>, StoreError> {
        let mut order = self.order.lock();
        order.set_now(now.0);
        let mut outcomes = Vec::new();
        for write in writes {
            let (done, applied) = oneshot::channel();
            let node = order.chance().below(NODES);
            order.of(node).submit(write, done).unwrap();
            order.settle()?;
            outcomes.push(outcome(applied)?);
        }
        Ok(outcomes)
    }

    fn tidy(&self) -> Result<Option<u64>, StoreError> {
        let order = self.order.lock();
        let again = (0..NODES).map(|node| order.store(node).tidy()).collect::<Result<Vec<_>, _>>()?;
        Ok(again.into_iter().flatten().min())
    }

    fn number(&self, position: Position) -> Position {
        Position(self.positions.0.lock().partition_point(|known| *known <= position) as u64)
    }

    fn position(&self, number: Position) -> Position {
        match number {
            Position::ZERO | Position::MAX => number,
            Position(number) => {
                let known = self.positions.0.lock();
                // One that no message has lies beyond all of them.
                known.get(number as usize - 1).copied().unwrap_or(Position(u64::MAX / 2 + number))
            }
        }
    }
}

impl Harness for Replicas {
    type Store = Log<Shared>;

    fn new() -> Self {
        let stores = [(); NODES].map(|()| Arc::new(MemoryStore::default()));
        let positions = Arc::new(Positions::default());
        stores[0].follow(positions.clone());
        let all = stores.iter().map(|store| store.clone() as Arc<dyn Store>).collect();
        let order = Mutex::new(FakeOrder::new(1, START, all, 20));
        let shared = Shared { order, store: stores[0].clone(), positions };
        shared.begin(START, Opening::Created);
        Self { log: Log(shared), stores }
    }

    fn log(&self) -> &Self::Store {
        &self.log
    }

    fn restart(&mut self, _: bool) -> Opening {
        unreachable!("replicas are opened again all together")
    }

    fn reopen(&mut self, close: bool, now: u64) {
        let shared = &mut self.log.0;
        for (node, store) in self.stores.iter_mut().enumerate() {
            if close {
                store.close().unwrap();
            }
            *store = Arc::new(store.reopen());
            shared.order.lock().restart(node, |_| store.clone());
        }
        shared.store = self.stores[0].clone();
        shared.store.follow(shared.positions.clone());
        shared.begin(now, if close { Opening::Clean } else { Opening::Unclean });
    }
}

impl Drop for Replicas {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let digests = self.stores.each_ref().map(|store| digest(&**store).unwrap());
            assert!(digests.iter().all(|other| *other == digests[0]), "{digests:#?}");
        }
    }
}
