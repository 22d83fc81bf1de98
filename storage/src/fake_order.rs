//! An order that several nodes share, seeded, in one thread: what a cluster's order does to stores, with a network that
//! drops, repeats and reorders. Writes become proposals; a stream gives each proposal that reaches it a place; every node
//! applies the stream in its order, as many entries in one call as chance wants.
//!
//! A proposal carries its proposer's number. Numbers make repeats harmless and keep a proposer's writes in order: the
//! next one is applied, a smaller one is a repeat, and a greater one came too early, so that its proposer sends it again.

use std::{collections::VecDeque, future::ready, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tailwire_core::{
    Order, Store, StoreError, WriteError,
    order::{Answer, Done, Health},
    store::{Entry, Outcome, Place, Token, Write},
};
use tailwire_model::{Position, Timestamp};

/// Bits of a position that number the messages of an entry.
const NUMBER_BITS: u32 = 14;
/// Writes of a proposal, and entries that are applied in one call, at most.
const PROPOSAL_WRITES_MAX: usize = 4;
const CHUNK_ENTRIES_MAX: usize = 5;

/// A small generator (SplitMix64), so that a seed is the same run everywhere.
#[derive(Debug, Clone)]
pub struct Chance(pub u64);

impl Chance {
    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.draw() % bound.max(1) as u64) as usize
    }

    /// True in so many of a hundred cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// The whole of it: the nodes, the network between them, and the stream.
pub struct FakeOrder {
    chance: Chance,
    now: u64,
    nodes: Vec<FakeNode>,
    /// Proposals under way; one may be there twice.
    network: Vec<Proposal>,
    stream: Vec<Streamed>,
    /// The faults of the network: lost, repeated and overtaken, of a hundred.
    trouble: usize,
    topics_max: u64,
}

/// A node: a proposer, and the replica that it applies to.
struct FakeNode {
    store: Arc<dyn Store>,
    inbox: Arc<Mutex<VecDeque<(Write, Done)>>>,
    /// Numbers of this proposer that are not known to be applied, with their writes and who waits.
    unapplied: VecDeque<(u64, Vec<Write>, Vec<Done>)>,
    next_number: u64,
    /// Entries of the stream that this node has gone through, and each proposer's last number among them.
    seen: usize,
    numbers: Vec<u64>,
}

#[derive(Clone)]
struct Proposal {
    proposer: usize,
    number: u64,
    writes: Vec<Write>,
}

struct Streamed {
    time: Timestamp,
    proposal: Proposal,
}

/// The order as one node's broker has it.
pub struct NodeOrder {
    inbox: Arc<Mutex<VecDeque<(Write, Done)>>>,
    newest: Arc<Mutex<Position>>,
}

impl FakeOrder {
    /// An order over the stores of so many nodes, with so much trouble, of a hundred, in the network between them.
    pub fn new(seed: u64, now: u64, stores: Vec<Arc<dyn Store>>, trouble: usize) -> Self {
        let count = stores.len();
        let nodes = stores.into_iter().map(|store| FakeNode {
            store,
            inbox: Arc::default(),
            unapplied: VecDeque::new(),
            next_number: 1,
            seen: 0,
            numbers: vec![0; count],
        });
        Self {
            chance: Chance(seed),
            now,
            nodes: nodes.collect(),
            network: Vec::new(),
            stream: Vec::new(),
            trouble,
            topics_max: u64::MAX,
        }
    }

    /// With so many topics at most.
    #[must_use]
    pub fn with_topics_max(mut self, topics_max: u64) -> Self {
        self.topics_max = topics_max;
        self
    }

    /// The order for a node's broker. It knows how far the stream is as of this call.
    pub fn of(&self, node: usize) -> NodeOrder {
        let newest = Arc::new(Mutex::new(self.newest()));
        NodeOrder { inbox: self.nodes[node].inbox.clone(), newest }
    }

    /// A position that no message lies beyond which any node has applied.
    pub fn newest(&self) -> Position {
        self.nodes.iter().map(|node| node.store.newest()).max().unwrap_or_default()
    }

    /// The chance by which it runs.
    pub fn chance(&mut self) -> &mut Chance {
        &mut self.chance
    }

    /// The store of a node.
    pub fn store(&self, node: usize) -> &Arc<dyn Store> {
        &self.nodes[node].store
    }

    /// The time of the stream, which no node's clock is.
    pub fn now(&self) -> Timestamp {
        Timestamp(self.now)
    }

    /// Lets the stream's clock stand elsewhere.
    pub fn set_now(&mut self, now: u64) {
        self.now = now;
    }

    /// Ends a node, which forgets all but its store, and begins it again over that store, opened anew. The order of its
    /// writes begins again, too: as another proposer would, it goes on from the last number that was applied.
    pub fn restart(&mut self, node: usize, reopen: impl FnOnce(&dyn Store) -> Arc<dyn Store>) {
        let own = &mut self.nodes[node];
        let store = reopen(&*own.store);
        let (seen, numbers) = from_token(&store.token(), own.numbers.len());
        let kept = own.inbox.clone();
        *own = FakeNode { store, inbox: kept, unapplied: VecDeque::new(), next_number: 0, seen, numbers };
        // Nothing that it had sent before counts as the new one's.
        self.network.retain(|proposal| proposal.proposer != node);
        let mut last = 0;
        for Streamed { proposal, .. } in &self.stream {
            if proposal.proposer == node && proposal.number == last + 1 {
                last = proposal.number;
            }
        }
        self.nodes[node].next_number = last + 1;
    }

    /// One thing happens: a proposal is made or sent again, reaches the stream or is lost; or a node applies.
    ///
    /// # Errors
    /// A store failed.
    pub fn step(&mut self) -> Result<(), StoreError> {
        let node = self.chance.below(self.nodes.len());
        match self.chance.below(10) {
            0..=2 => self.propose(node),
            3 => self.send_again(node),
            4..=6 => self.deliver(),
            _ => self.apply(node)?,
        }
        Ok(())
    }

    /// Everything happens that is under way, without trouble: all is proposed, and every node applies all of it.
    ///
    /// # Errors
    /// A store failed.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        self.settle_without(None)
    }

    /// The same, but one node gets nothing of it.
    ///
    /// # Errors
    /// A store failed.
    pub fn settle_without(&mut self, behind: Option<usize>) -> Result<(), StoreError> {
        let trouble = std::mem::take(&mut self.trouble);
        for _ in 0..4 {
            for node in 0..self.nodes.len() {
                while !self.nodes[node].inbox.lock().is_empty() {
                    self.propose(node);
                }
                self.send_again(node);
                while !self.network.is_empty() {
                    self.deliver();
                }
            }
            for node in (0..self.nodes.len()).filter(|node| Some(*node) != behind) {
                while self.nodes[node].seen < self.stream.len() {
                    self.apply(node)?;
                }
            }
        }
        self.trouble = trouble;
        let is_idle = self.nodes.iter().all(|node| node.unapplied.is_empty());
        assert!(is_idle, "a write is forgotten");
        Ok(())
    }

    /// Takes some of the writes that wait at a node, in their order, as its next proposal.
    fn propose(&mut self, node: usize) {
        let count = 1 + self.chance.below(PROPOSAL_WRITES_MAX);
        let own = &mut self.nodes[node];
        let mut inbox = own.inbox.lock();
        let count = count.min(inbox.len());
        let (writes, waiting): (Vec<Write>, Vec<Done>) = inbox.drain(..count).unzip();
        drop(inbox);
        if writes.is_empty() {
            return;
        }
        let number = own.next_number;
        own.next_number += 1;
        own.unapplied.push_back((number, writes.clone(), waiting));
        self.send(Proposal { proposer: node, number, writes });
    }

    /// Sends all that a node has no outcome of.
    fn send_again(&mut self, node: usize) {
        let unapplied = self.nodes[node].unapplied.iter();
        let proposals: Vec<Proposal> = unapplied
            .map(|(number, writes, _)| Proposal { proposer: node, number: *number, writes: writes.clone() })
            .collect();
        proposals.into_iter().for_each(|proposal| self.send(proposal));
    }

    fn send(&mut self, proposal: Proposal) {
        if self.chance.percent(self.trouble) {
            return;
        }
        if self.chance.percent(self.trouble) {
            self.network.push(proposal.clone());
        }
        self.network.push(proposal);
    }

    /// A proposal reaches the stream: mostly the oldest.
    fn deliver(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let count = self.network.len();
        let at = if self.chance.percent(self.trouble) { self.chance.below(count) } else { 0 };
        let proposal = self.network.remove(at);
        if self.trouble > 0 {
            self.now += self.chance.below(40) as u64;
        }
        // The stream's own clock may be put back; what it gives never is.
        let last = self.stream.last().map_or(0, |last| last.time.0);
        self.stream.push(Streamed { time: Timestamp(self.now.max(last)), proposal });
    }

    /// A node applies some of what it has not seen, in one call.
    fn apply(&mut self, node: usize) -> Result<(), StoreError> {
        let count = 1 + self.chance.below(CHUNK_ENTRIES_MAX);
        let own = &mut self.nodes[node];
        let (mut entries, mut mine) = (Vec::new(), Vec::new());
        let streamed = self.stream.iter().enumerate().skip(own.seen).take(count);
        for (sequence, Streamed { time, proposal }) in streamed {
            own.seen = sequence + 1;
            let Proposal { proposer, number, writes } = proposal;
            if *number != own.numbers[*proposer] + 1 {
                continue;
            }
            own.numbers[*proposer] = *number;
            let first = Position((sequence as u64 + 1) << NUMBER_BITS);
            let place = Place {
                first,
                time: *time,
                steady: *time,
                token: to_token(own.seen, &own.numbers),
                topics_max: self.topics_max,
            };
            mine.push((*proposer == node).then_some((*number, writes.len())).ok_or(writes.len()));
            entries.push(Entry { place, writes: writes.clone() });
        }
        let mut outcomes = own.store.apply(entries, false)?.into_iter();
        for entry in mine {
            match entry {
                Ok((number, count)) => own.answer(number, outcomes.by_ref().take(count).collect()),
                Err(count) => drop(outcomes.by_ref().take(count).collect::<Vec<_>>()),
            }
        }
        Ok(())
    }
}

impl FakeNode {
    fn answer(&mut self, number: u64, outcomes: Vec<Outcome>) {
        let is_first = self.unapplied.front().is_some_and(|(first, ..)| *first == number);
        // Otherwise those who wait went with a restart.
        if is_first && let Some((_, _, waiting)) = self.unapplied.pop_front() {
            for (done, outcome) in waiting.into_iter().zip(outcomes) {
                let _ = done.send(Ok(outcome));
            }
        }
    }
}

/// How far a node is, as a token.
fn to_token(seen: usize, numbers: &[u64]) -> Token {
    let words = std::iter::once(seen as u64).chain(numbers.iter().copied());
    Token(words.flat_map(u64::to_le_bytes).collect::<Vec<u8>>().into())
}

fn from_token(Token(bytes): &Token, nodes: usize) -> (usize, Vec<u64>) {
    let words: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
    match words.split_first() {
        Some((seen, numbers)) => (*seen as usize, numbers.to_vec()),
        None => (0, vec![0; nodes]),
    }
}

impl Order for NodeOrder {
    fn submit(&self, write: Write, done: Done) -> Result<(), WriteError> {
        self.inbox.lock().push_back((write, done));
        Ok(())
    }

    fn newest(&self) -> Answer<'_, Result<Position, WriteError>> {
        Box::pin(ready(Ok(*self.newest.lock())))
    }

    fn health(&self) -> Health {
        Health::Good
    }

    fn load(&self) -> f64 {
        0.0
    }

    fn close(&self, _: Duration) {}
}
