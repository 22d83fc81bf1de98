//! Three replicas of one order: whatever the network does to proposals, however many entries a node applies in one call,
//! and wherever it is ended and begun again, all end in the same state.
//!
//! `SEEDS` sets how many runs there are over stores in memory, and `SEED` a single one.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test is told its seeds by the environment"
)]

use std::{
    collections::VecDeque,
    env,
    path::Path,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use tailwire_core::{
    Order, Store, StoreError,
    log::Group,
    store::{Outcome, Write},
};
use tailwire_model::{
    Bound, Condition, Draft, Durability, Epoch, Fingerprint, IdempotencyKey, Keep, MediaType, Opening,
    Options, Position, Term, Topic, TrimReason, message::Extras,
};
use tailwire_storage::{
    LogSettings, MemoryStore, SledStore, digest,
    fake_order::{Chance, FakeOrder},
};
use tempfile::TempDir;
use tokio::sync::oneshot;

const START: u64 = 1_795_000_000_000;
const NODES: usize = 3;
const SEEDS: u64 = if cfg!(debug_assertions) { 2_000 } else { 10_000 };
const SEEDS_ON_DISK: u64 = 200;
/// One less than there are, so that some publishes are refused.
const TOPICS_MAX: u64 = 4;
/// Messages are older than that here and there.
const FORGET_AFTER_MS: u64 = 2_000;
const TOPICS: [&str; 5] = ["a/x", "a/y", "b", "c/d/e", "keyed"];
const TERMS: [&str; 5] = ["a/*", "b", "**", "keyed", "c/d/e"];

/// Writes that clients hand in at some node, and what they wait for.
struct Clients {
    order: FakeOrder,
    waiting: Vec<oneshot::Receiver<Result<Outcome, tailwire_core::WriteError>>>,
}

impl Clients {
    fn new(seed: u64, stores: Vec<Arc<dyn Store>>) -> Self {
        let order = FakeOrder::new(seed, START, stores, 20).with_topics_max(TOPICS_MAX);
        let opening = Write::Opening(Epoch::opening(START, None, 0).unwrap(), Opening::Created);
        let mut clients = Self { waiting: Vec::new(), order };
        clients.submit(0, opening);
        clients.order.settle().unwrap();
        clients
    }

    fn submit(&mut self, node: usize, write: Write) {
        let (done, outcome) = oneshot::channel();
        self.order.of(node).submit(write, done).unwrap();
        self.waiting.push(outcome);
    }

    fn act(&mut self, reopen: &mut dyn FnMut(&dyn Store) -> Arc<dyn Store>, restarts: bool) {
        let chance = self.order.chance();
        let node = chance.below(NODES);
        match chance.below(40) {
            0..=9 => {
                let write = Write::Publish(group(chance));
                self.submit(node, write);
            }
            10 => {
                let topic = topic(TOPICS[chance.below(TOPICS.len())]);
                self.submit(node, Write::Delete(topic));
            }
            17 | 18 => {
                let draw = chance.below(1 << 30) as u64;
                let position = Position(draw % (self.order.store(node).newest().0 + 2));
                let cursor = self.order.store(node).epochs().cursor_at(position);
                self.submit(node, Write::Remove(cursor, TrimReason::Deleted));
            }
            // It is mostly nothing that may be forgotten.
            19 | 20 => {
                let topic = topic(TOPICS[chance.below(TOPICS.len())]);
                let (is_late, deletes) = (chance.percent(20), chance.percent(60));
                let upto = Position(self.order.store(node).newest().0 >> u32::from(is_late));
                if deletes {
                    self.submit(node, Write::Delete(topic.clone()));
                }
                self.submit(node, Write::Forget(topic, upto));
            }
            11 => {
                let (term, options) = options(chance);
                self.submit(node, Write::Options(term, options));
            }
            // The owner of a lease decides what has to go; sometimes two believe that they do.
            12 | 13 => {
                let holder = if chance.percent(70) { 0 } else { node };
                self.retain(holder);
            }
            14 => drop(self.order.store(node).tidy().unwrap()),
            15 if chance.percent(20) => {
                let later = [0, 5_000, 700_000][chance.below(3)];
                let now = self.order.now().0;
                // A stream's clock may also be put back.
                self.order.set_now(if later == 0 { now - 60_000 } else { now + later });
            }
            16 if restarts && chance.percent(30) => self.order.restart(node, reopen),
            _ => self.order.step().unwrap(),
        }
    }

    fn retain(&mut self, holder: usize) {
        let (writes, _) = self.order.store(holder).due(self.order.now()).unwrap();
        writes.into_iter().for_each(|write| self.submit(holder, write));
    }

    /// All is applied everywhere, and nothing is due any more.
    fn settle(&mut self) {
        for _ in 0..1000 {
            self.order.settle().unwrap();
            let (writes, again) = self.order.store(0).due(self.order.now()).unwrap();
            if writes.is_empty() && again != Some(0) {
                break;
            }
            writes.into_iter().for_each(|write| self.submit(0, write));
        }
    }

    fn check(&self) {
        let [first, others @ ..] = [0, 1, 2].map(|node| digest(&**self.order.store(node)).unwrap());
        others.into_iter().for_each(|other| assert_eq!(first, other));
        let tokens = [0, 1, 2].map(|node| self.order.store(node).token());
        assert_eq!(tokens[0], tokens[1]);
        assert_eq!(tokens[0], tokens[2]);
    }
}

fn topic(name: &str) -> Topic {
    Topic::parse(name).unwrap()
}

fn group(chance: &mut Chance) -> Group {
    let count = if chance.percent(70) { 1 } else { 1 + chance.below(8) };
    let drafts = (0..count).map(|_| {
        let name = TOPICS[chance.below(TOPICS.len())];
        let size = if chance.percent(5) { 5000 } else { chance.below(60) };
        let body = char::from(b'a' + chance.below(26) as u8).to_string().repeat(size);
        let mut draft = Draft::new(topic(name), MediaType::JSON, body.into());
        if chance.percent(60) {
            let key = Some(format!("k{}", chance.below(4)));
            let is_deletion = chance.percent(10);
            draft.extras = Some(Box::new(Extras { key, is_deletion, ..Extras::default() }));
        }
        if chance.percent(10) {
            draft.extras.get_or_insert_default().max_age_ms = Some(1 + chance.below(10_000) as u64);
        }
        draft
    });
    let drafts = drafts.collect();
    let key = chance.percent(30).then(|| IdempotencyKey {
        scoped: format!("key {}", chance.below(6)),
        request: Fingerprint([chance.below(2) as u8; 16]),
    });
    let condition = if chance.percent(10) { Condition::NeverWritten } else { Condition::None };
    Group { drafts, key, condition }
}

fn options(chance: &mut Chance) -> (Term, Options) {
    let term = Term::parse(TERMS[chance.below(TERMS.len())]).unwrap();
    let some = |chance: &mut Chance, value: u64| chance.percent(30).then_some(Bound(value));
    let options = Options {
        durability: chance.percent(30).then_some(Durability::Relaxed),
        max_messages: some(chance, 3),
        max_bytes: some(chance, 900),
        max_age_ms: some(chance, 4_000),
        keep: chance.percent(50).then(|| [Keep::All, Keep::Compact, Keep::Last][chance.below(3)]),
        title: chance.percent(20).then(|| "Chat".into()),
        ..Options::default()
    };
    (term, options)
}

fn run(
    seed: u64,
    stores: Vec<Arc<dyn Store>>,
    reopen: &mut dyn FnMut(&dyn Store) -> Arc<dyn Store>,
    steps: usize,
    restarts: bool,
) {
    let mut clients = Clients::new(seed, stores);
    (0..steps).for_each(|_| clients.act(reopen, restarts));
    clients.settle();
    clients.check();
    let newest = clients.order.newest();
    assert!((0..NODES).all(|node| clients.order.store(node).newest() == newest));
    // Those who still wait were with a node that was ended: all others know what became of their writes.
    clients.waiting.iter_mut().for_each(|outcome| {
        assert!(
            !matches!(outcome.try_recv(), Err(oneshot::error::TryRecvError::Empty)),
            "nobody was answered"
        );
    });
}

/// Stores in memory, which keep all that was applied over a restart.
fn in_memory(seed: u64) {
    let store = |_| Arc::new(MemoryStore::forgetting_after(FORGET_AFTER_MS));
    let stores: Vec<Arc<MemoryStore>> = (0..NODES).map(store).collect();
    let open = Mutex::new(stores.clone());
    let mut reopen = |store: &dyn Store| -> Arc<dyn Store> {
        let mut open = open.lock().unwrap();
        let at = open.iter().position(|own| std::ptr::addr_eq(Arc::as_ptr(own), store)).unwrap();
        open[at] = Arc::new(open[at].reopen());
        open[at].clone()
    };
    run(seed, stores.into_iter().map(|store| store as Arc<dyn Store>).collect(), &mut reopen, 400, true);
}

#[test]
fn replicas_in_memory_end_in_the_same_state() {
    if let Some(seed) = env::var("SEED").ok().and_then(|seed| seed.parse().ok()) {
        return in_memory(seed);
    }
    let seeds = env::var("SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(SEEDS);
    for seed in 0..seeds {
        let run = std::panic::catch_unwind(|| in_memory(seed));
        assert!(run.is_ok(), "SEED={seed}");
    }
}

/// Stores on disk.
fn on_disk(seed: u64) {
    let dirs: Vec<TempDir> = (0..NODES).map(|_| tempfile::tempdir().unwrap()).collect();
    let settings = LogSettings { forget_after_ms: Some(FORGET_AFTER_MS), ..LogSettings::default() };
    let open = |at: usize| Arc::new(SledStore::open(dirs[at].path(), &settings).unwrap());
    let stores: Vec<Arc<SledStore>> = (0..NODES).map(open).collect();
    let own = stores.iter().cloned().map(|store| store as Arc<dyn Store>).collect();
    drop(stores);
    let mut none = |_: &dyn Store| -> Arc<dyn Store> { unreachable!("they run on") };
    run(seed, own, &mut none, 150, false);
    if seed.is_multiple_of(8) {
        is_made_again(dirs[0].path());
    }
}

/// A store that is made of the dump of another one opens as that one does.
fn is_made_again(dir: &Path) {
    let open = |dir: &Path| SledStore::open(dir, &LogSettings::default()).unwrap();
    let state = |store: &SledStore| (digest(store).unwrap(), store.token(), store.newest());
    open(dir).close().unwrap();
    let own = open(dir);
    let before = state(&own);
    own.close().unwrap();
    let mut parts = VecDeque::new();
    let give = |part: &[u8]| {
        parts.push_back(Bytes::copy_from_slice(part));
        Ok::<_, StoreError>(())
    };
    own.dump(1000, give).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("made");
    SledStore::restore(&made, || Ok(parts.pop_front())).unwrap();
    assert_eq!(state(&open(&made)), before);
}

#[test]
fn replicas_on_disk_end_in_the_same_state() {
    for seed in 0..SEEDS_ON_DISK {
        let run = std::panic::catch_unwind(|| on_disk(seed));
        assert!(run.is_ok(), "seed {seed} on disk");
    }
}

#[test]
fn a_digest_tells_states_apart() {
    let stores =
        || -> Vec<Arc<dyn Store>> { (0..NODES).map(|_| Arc::<MemoryStore>::default() as _).collect() };
    let mut clients = Clients::new(1, stores());
    let before = digest(&**clients.order.store(0)).unwrap();
    let mut seen = vec![before];
    let publish = |clients: &mut Clients, write| {
        clients.submit(1, write);
        clients.order.settle().unwrap();
        digest(&**clients.order.store(2)).unwrap()
    };
    let mut chance = Chance(7);
    let mut keyed = group(&mut chance);
    keyed.key = Some(IdempotencyKey { scoped: "k".into(), request: Fingerprint([1; 16]) });
    let term = Term::parse("a/*").unwrap();
    let set = Options { max_messages: Some(Bound(9)), ..Options::default() };
    let first = topic(keyed.drafts[0].topic.as_str());
    let next = Epoch::opening(START + 60_000, None, 0).unwrap();
    for write in [
        Write::Publish(keyed),
        Write::Options(term, set),
        Write::Retain(first, Position::MAX),
        Write::Opening(next, Opening::Unclean),
    ] {
        let after = publish(&mut clients, write);
        assert!(!seen.contains(&after));
        seen.push(after);
    }
    assert!(clients.order.store(0).newest().0 >> 14 >= 2, "positions are of the stream");
}
