//! Cursors of another node that are ahead of this one, by an order over three stores.

use std::{sync::Arc, task::Poll};

use tailwire_core::{
    AllowAll, Broker, BrokerParts, Clock, Encoders, Event, Instruments, Interest, Order, ReadError, Reader,
    ReaderError, Start, Store, View,
    log::{Appended, Group},
    store::{Outcome, Write},
};
use tailwire_model::{Condition, Cursor, Epoch, GapReason, Opening, Position, Principal};
use tailwire_storage::{MemoryStore, fake_order::FakeOrder};
use tokio::sync::oneshot;

use crate::rig::{START, Task, advance, draft, filter, now, paused};

/// The node that clients publish to, and the one that is behind.
const AHEAD: usize = 0;
const BEHIND: usize = 1;

fn three_nodes() -> FakeOrder {
    let stores = (0..3).map(|_| Arc::<MemoryStore>::default() as Arc<dyn Store>).collect();
    let mut order = FakeOrder::new(7, START, stores, 0);
    let epoch = Epoch::opening(START, None, 0).unwrap();
    drop(submit(&order, Write::Opening(epoch, Opening::Created)));
    order.settle().unwrap();
    order
}

fn submit(order: &FakeOrder, write: Write) -> oneshot::Receiver<Result<Outcome, tailwire_core::WriteError>> {
    let (done, outcome) = oneshot::channel();
    order.of(AHEAD).submit(write, done).unwrap();
    outcome
}

/// Publishes a message that one node does not hear of.
fn publish_ahead(order: &mut FakeOrder) -> Cursor {
    let group = Group { drafts: vec![draft("a", 1)], key: None, condition: Condition::None };
    let mut outcome = submit(order, Write::Publish(group));
    order.settle_without(Some(BEHIND)).unwrap();
    match outcome.try_recv().unwrap() {
        Ok(Outcome::Published(Appended::Stored(stored))) => stored.first,
        other => panic!("{other:?}"),
    }
}

/// The broker of the node that is behind.
fn broker(order: &FakeOrder) -> Broker {
    let parts = BrokerParts {
        order: Arc::new(order.of(BEHIND)),
        store: order.store(BEHIND).clone(),
        instruments: Instruments::default(),
        encoders: Encoders::whole(&[]),
        policy: Arc::new(AllowAll),
        clock: Clock { now, steady: || 0, random: || 0 },
        shards: 1,
        read_threads: 1,
        read_thread_begins: || (),
        read_throttle_factor: 0,
        quotas: Vec::new(),
    };
    Broker::start(parts).unwrap()
}

fn open(broker: &Broker, cursor: Cursor) -> Task<Result<Reader, ReaderError>> {
    let (broker, filter) = (broker.clone(), filter(&["a"]));
    let interest = Interest { filter, start: Start::After(cursor), known: None, view: View::whole(0) };
    Task::new(async move { broker.open(&Principal::ANONYMOUS, interest).await })
}

#[test]
fn a_cursor_that_is_ahead_of_a_node_is_waited_for() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut order = three_nodes();
    let cursor = publish_ahead(&mut order);
    let broker = broker(&order);
    let mut opening = open(&broker, cursor);
    assert!(opening.poll().is_pending());
    advance(&runtime, 1_500);
    assert!(opening.poll().is_pending());
    order.settle().unwrap();
    let Poll::Ready(Ok(mut reader)) = opening.poll_if_woken() else { panic!("it is there") };
    reader.follow(0);
    let mut first = Task::new(async move { reader.next().await });
    assert!(matches!(first.poll(), Poll::Ready(Ok(Event::Heartbeat(at))) if at == cursor), "no gap");
    broker.close();
}

#[test]
fn it_is_not_waited_for_longer_than_two_seconds_and_never_rewound() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut order = three_nodes();
    let cursor = publish_ahead(&mut order);
    let broker = broker(&order);
    let mut opening = open(&broker, cursor);
    assert!(opening.poll().is_pending());
    advance(&runtime, 2_001);
    assert_eq!(opening.poll().map(Result::err), Poll::Ready(Some(ReaderError::Read(ReadError::Behind))));
    // Nor is a message that it names.
    let own = broker.clone();
    let mut message = Task::new(async move { own.message(&Principal::ANONYMOUS, cursor).await });
    assert!(message.poll().is_pending());
    broker.close();
}

#[test]
fn a_cursor_that_is_ahead_of_the_order_is_rewound_at_once() {
    let runtime = paused();
    let _entered = runtime.enter();
    let mut order = three_nodes();
    let cursor = publish_ahead(&mut order);
    let broker = broker(&order);
    let beyond = Cursor { position: Position(cursor.position.0 + 1), ..cursor };
    let Poll::Ready(Ok(mut reader)) = open(&broker, beyond).poll() else { panic!("nothing to wait for") };
    reader.follow(0);
    let mut first = Task::new(async move { reader.next().await });
    assert!(matches!(first.poll(), Poll::Ready(Ok(Event::Gap(gap))) if gap.reason == GapReason::Rewound));
    broker.close();
}
