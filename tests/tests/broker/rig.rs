//! A broker without threads of its own that matter: the committer is stepped, the dispatcher is polled, and the log's
//! reads stand before a gate, so that a test says what happens when. Time is tokio's paused clock.

use std::{
    cell::Cell,
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::Duration,
};

use bytes::Bytes;
use tailwire_core::{
    AllowAll, Broker, BrokerParts, Clock, Committer, Encoder, Encoders, Instruments, Interest, LocalOrder,
    Policy, PublishError, Reader, Start, Store, StoreError, View,
    log::{Appended, Bounds, Budget, Feed, Group, LogStats, StorePage, TopicInfo, Window},
    store::{Entry, Outcome, Token, Write},
};
use tailwire_model::{
    Condition, Cursor, Draft, EpochStart, Epochs, Filter, MediaType, Message, Opening, Position, Principal,
    Rules, Term, Timestamp, Topic, Trim, admission::KeyRecord,
};
use tailwire_storage::MemoryStore;
use tokio::runtime::Runtime;

/// 2026-11-21, in milliseconds.
pub(crate) const START: u64 = 1_795_000_000_000;

/// One format: a message's position. It shows which message an encoding is of, and that encodings don't run together.
pub(crate) static ENCODERS: [Encoder; 1] = [encode_position];

fn encode_position(message: &Message, out: &mut Vec<u8>) {
    out.extend_from_slice(&message.position().0.to_be_bytes());
}

/// Bodies are slices of this: a large message costs a test nothing.
static ZEROS: [u8; 2 << 20] = [0; 2 << 20];

thread_local! {
    static BEGUN: Cell<u64> = const { Cell::new(START) };
    static DRAWS: Cell<u64> = const { Cell::new(0) };
}

/// Draws differ from each other, and come in the same order in every run.
fn draw() -> u64 {
    DRAWS.with(|draws| {
        draws.set(draws.get() + 1);
        draws.get().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    })
}

pub(crate) fn now() -> Timestamp {
    Timestamp(BEGUN.with(Cell::get))
}

/// A paused runtime, to be entered. Polls by hand are not part of any task, so that tokio's budget of a task's polls
/// doesn't get between the test and what it polls.
pub(crate) fn paused() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true).build().expect("a runtime")
}

/// Moves the paused clock.
pub(crate) fn advance(runtime: &Runtime, ms: u64) {
    runtime.block_on(tokio::time::advance(Duration::from_millis(ms)));
}

/// See the module.
pub(crate) struct Rig {
    pub(crate) broker: Broker,
    pub(crate) committer: Committer,
    store: Arc<dyn Store>,
    gate: Arc<Gate>,
    dispatcher: Task<()>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::over(MemoryStore::default(), START)
    }

    pub(crate) fn over(store: MemoryStore, begun: u64) -> Self {
        Self::permitting(Arc::new(AllowAll), store, begun)
    }

    /// A broker that begins an epoch in a store, at this time.
    pub(crate) fn permitting(policy: Arc<dyn Policy>, store: MemoryStore, begun: u64) -> Self {
        DRAWS.with(|draws| draws.set(0));
        BEGUN.with(|time| time.set(begun));
        let gate = Arc::new(Gate::default());
        let store: Arc<dyn Store> = Arc::new(Gated { store, gate: gate.clone() });
        let clock = Clock { now, steady: || now().0, random: draw };
        let instruments = Instruments::default();
        let (order, committer) = LocalOrder::begin(store.clone(), clock, &instruments).expect("an epoch");
        BEGUN.with(|time| time.set(START));
        let parts = BrokerParts {
            order: Arc::new(order),
            store: store.clone(),
            instruments,
            encoders: Encoders::whole(&ENCODERS),
            policy,
            clock,
            shards: 1,
            // One thread, so that a read is done when a later one is.
            read_threads: 1,
            read_thread_begins: || (),
            // The order of reads must not depend on how long anything takes.
            read_throttle_factor: 0,
            quotas: Vec::new(),
        };
        let broker = Broker::start(parts).expect("threads");
        let dispatcher = Task::new(broker.dispatcher(0));
        let mut rig = Self { broker, committer, store, gate, dispatcher };
        // Its first poll only waits for the first commit.
        rig.dispatch_round();
        rig
    }

    /// The openings of its log.
    pub(crate) fn starts(&self) -> Vec<EpochStart> {
        self.store.epochs().starts().to_vec()
    }

    /// One round of the dispatcher, if it was woken. Returns whether it was.
    pub(crate) fn dispatch_round(&mut self) -> bool {
        let woken = self.dispatcher.flag.is_set();
        let _ = self.dispatcher.poll_if_woken();
        woken
    }

    pub(crate) fn dispatch(&mut self) {
        while self.dispatch_round() {}
    }

    /// Commits and dispatches all that waits.
    pub(crate) fn settle(&mut self) {
        while self.committer.step() {}
        self.dispatch();
    }

    pub(crate) fn publish(&self, drafts: Vec<Draft>) -> Task<Result<Appended, PublishError>> {
        let group = Group { drafts, key: None, condition: Condition::None };
        Task::new(self.broker.publish(&Principal::ANONYMOUS, group))
    }

    /// Queues a DELETE: its future does so when it is first polled.
    pub(crate) fn delete(&self, name: &str) -> Task<Result<(), PublishError>> {
        let (broker, topic) = (self.broker.clone(), topic(name));
        let mut task = Task::new(async move { broker.delete(&Principal::ANONYMOUS, topic).await });
        let _ = task.poll_if_woken();
        task
    }

    /// Publishes small messages, commits and dispatches them.
    pub(crate) fn publish_now(&mut self, names: &[&str]) {
        let mut answer = self.publish(names.iter().map(|name| draft(name, 1)).collect());
        self.settle();
        assert!(matches!(answer.poll(), Poll::Ready(Ok(Appended::Stored(_)))), "a publish is answered");
    }

    pub(crate) fn delete_now(&mut self, name: &str) {
        let mut answer = self.delete(name);
        self.settle();
        assert_eq!(answer.poll(), Poll::Ready(Ok(())), "a delete is answered");
    }

    /// Opens a reader; what it takes to read for that is let through.
    pub(crate) fn open(&self, terms: &[&str], start: Start, known: Option<Cursor>) -> Reader {
        let interest = Interest { filter: filter(terms), start, known, view: View::whole(0) };
        let opening = self.broker.open(&Principal::ANONYMOUS, interest);
        let reader = if opening_reads(terms, start) { self.through(opening) } else { wait(opening) };
        reader.expect("a reader")
    }

    pub(crate) fn open_following(&self, terms: &[&str], start: Start) -> Reader {
        let mut reader = self.open(terms, start, None);
        reader.follow(0);
        reader
    }

    /// Lets through every read that waits, and returns when all of them are done.
    pub(crate) fn flush_reads(&self) {
        self.through(async {});
    }

    /// From here on commits fail, or work again.
    pub(crate) fn fail_commits(&self, fail: bool) {
        self.gate.fails.store(fail, Ordering::SeqCst);
    }

    /// Waits for something that needs reads, and lets through those that wait too.
    pub(crate) fn through<T>(&self, future: impl Future<Output = T>) -> T {
        self.gate.set(true);
        let value = wait(future);
        // Reads are done in turn: when this one is, so are all before it.
        let interest =
            Interest { filter: filter(&["a"]), start: Start::Last(1), known: None, view: View::whole(0) };
        drop(wait(self.broker.open(&Principal::ANONYMOUS, interest)));
        self.gate.set(false);
        value
    }
}

/// Whether opening a reader lets through the reads that wait: the newest messages are looked for in the log, and a pattern's
/// topics on the threads that read it.
pub(crate) fn opening_reads(terms: &[&str], start: Start) -> bool {
    matches!(start, Start::Last(_)) || terms.iter().any(|term| term.contains('*'))
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.gate.set(true);
        self.broker.close();
    }
}

pub(crate) fn topic(name: &str) -> Topic {
    Topic::parse(name).expect("a topic")
}

pub(crate) fn filter(terms: &[&str]) -> Filter {
    Filter::new(terms.iter().map(|term| Term::parse(term).expect("a term")).collect()).expect("a filter")
}

pub(crate) fn draft(name: &str, size: usize) -> Draft {
    Draft::new(topic(name), MediaType::JSON, Bytes::from_static(&ZEROS[..size]))
}

/// A store whose reads wait until they are let through.
struct Gated {
    store: MemoryStore,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    /// Whether commits fail.
    fails: AtomicBool,
}

impl Gate {
    fn set(&self, open: bool) {
        *self.open.lock().unwrap() = open;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let _open = self.changed.wait_while(self.open.lock().unwrap(), |open| !*open).unwrap();
    }
}

impl Store for Gated {
    fn found(&self) -> Opening {
        self.store.found()
    }

    fn token(&self) -> Token {
        self.store.token()
    }

    fn newest(&self) -> Position {
        self.store.newest()
    }

    fn epochs(&self) -> Arc<Epochs> {
        self.store.epochs()
    }

    fn rules(&self) -> Arc<Rules> {
        self.store.rules()
    }

    fn apply(&self, entries: Vec<Entry>, sync: bool) -> Result<Vec<Outcome>, StoreError> {
        if self.gate.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Unknown("as asked".into()));
        }
        self.store.apply(entries, sync)
    }

    fn due(&self, now: Timestamp) -> Result<(Vec<Write>, Option<u64>), StoreError> {
        self.store.due(now)
    }

    fn tidy(&self) -> Result<Option<u64>, StoreError> {
        self.store.tidy()
    }

    fn follow(&self, feed: Arc<dyn Feed>) -> Position {
        self.store.follow(feed)
    }

    fn keys(&self, visit: &mut dyn FnMut(&str, &KeyRecord)) -> Result<(), StoreError> {
        self.store.keys(visit)
    }

    fn close(&self) -> Result<(), StoreError> {
        self.store.close()
    }

    fn read(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<StorePage, StoreError> {
        self.gate.pass();
        let mut page = self.store.read(filter, after, upto, budget)?;
        // A log need not look beyond the last message that it may give: the one on disk doesn't.
        if let Some(last) = page.messages.last().filter(|_| page.messages.len() >= budget.messages) {
            page.scanned = last.position();
        }
        Ok(page)
    }

    fn before_last(&self, filter: &Filter, upto: Position, budget: Budget) -> Result<Window, StoreError> {
        self.gate.pass();
        self.store.before_last(filter, upto, budget)
    }

    fn before_time(&self, time: Timestamp) -> Result<Position, StoreError> {
        self.gate.pass();
        self.store.before_time(time)
    }

    fn get(&self, position: Position) -> Result<Option<Message>, StoreError> {
        self.gate.pass();
        self.store.get(position)
    }

    fn bounds(&self, filter: &Filter) -> Bounds {
        self.store.bounds(filter)
    }

    fn trimmed(&self, filter: &Filter, after: Position) -> Option<Trim> {
        self.store.trimmed(filter, after)
    }

    fn topics(&self, prefix: &str, from: Option<&str>, limit: usize) -> Vec<TopicInfo> {
        self.store.topics(prefix, from, limit)
    }

    fn stats(&self) -> LogStats {
        self.store.stats()
    }
}

/// A waker that only remembers.
#[derive(Default)]
pub(crate) struct Flag(AtomicBool);

impl Flag {
    pub(crate) fn raised() -> Arc<Self> {
        let flag = Self::default();
        flag.set();
        Arc::new(flag)
    }

    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    pub(crate) fn take(&self) -> bool {
        self.0.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.set();
    }
}

/// A future that is polled by hand.
pub(crate) struct Task<T> {
    future: Pin<Box<dyn Future<Output = T>>>,
    pub(crate) flag: Arc<Flag>,
}

impl<T> Task<T> {
    pub(crate) fn new(future: impl Future<Output = T> + 'static) -> Self {
        Self { future: Box::pin(future), flag: Flag::raised() }
    }

    pub(crate) fn poll(&mut self) -> Poll<T> {
        self.flag.take();
        self.future.as_mut().poll(&mut Context::from_waker(&Waker::from(self.flag.clone())))
    }

    /// As a runtime would: only if something woke it.
    pub(crate) fn poll_if_woken(&mut self) -> Poll<T> {
        if self.flag.is_set() { self.poll() } else { Poll::Pending }
    }
}

/// Blocks this thread until a future is ready. A runtime's `block_on` would move the paused clock meanwhile.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
