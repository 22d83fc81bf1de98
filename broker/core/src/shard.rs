//! A shard: the tails of the terms whose readers live on one delivery runtime, and the dispatcher that feeds them.
//!
//! The committing thread only puts a commit into the inbox and wakes the dispatcher once. The dispatcher takes all
//! commits that came meanwhile in one round, so that while a thousand sockets are written the next round grows, and
//! each socket gets it in one write.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use slab::Slab;
use tailwire_model::{
    Message, Position, Term,
    limits::{SEGMENT_BYTES_MAX, TAILS_BYTES_MAX},
};
use tokio::sync::Notify;

use crate::{
    log::Commit,
    routes::Routes,
    segment::{Encoders, Segment},
    tail::{Tail, Wake},
};

/// See the module.
pub(crate) struct Shard {
    /// Every tail is complete up to here.
    dispatched: AtomicU64,
    routes: Mutex<Routes>,
    inbox: Mutex<Vec<Arc<Commit>>>,
    filled: Notify,
    readers: Mutex<Slab<Arc<Wake>>>,
    /// Who wants to know of the next round, whatever is in it.
    next_round: Mutex<Vec<Arc<Wake>>>,
    draining: AtomicBool,
    encoders: Encoders,
}

/// The dispatcher's own memory between rounds.
#[derive(Default)]
struct Round {
    /// For each tail's number, which messages of the round it gets.
    picked: Vec<Vec<u32>>,
    /// The tails that get any.
    touched: Vec<usize>,
    /// Which segments exist, oldest first: (tail, last position, cost).
    kept: VecDeque<(usize, Position, usize)>,
    kept_cost: usize,
}

impl Shard {
    pub(crate) fn new(committed: Position, encoders: Encoders) -> Arc<Self> {
        Arc::new(Self {
            dispatched: AtomicU64::new(committed.0),
            routes: Mutex::default(),
            inbox: Mutex::default(),
            filled: Notify::new(),
            readers: Mutex::default(),
            next_round: Mutex::default(),
            draining: AtomicBool::new(false),
            encoders,
        })
    }

    /// The shard's watermark.
    pub(crate) fn dispatched(&self) -> Position {
        Position(self.dispatched.load(Ordering::Acquire))
    }

    /// A term's tail, and the reader's place in it.
    pub(crate) fn attach(&self, term: &Term, wake: &Arc<Wake>) -> (Arc<Tail>, usize) {
        let mut routes = self.routes.lock();
        let tail = routes.tail_of(term, self.dispatched());
        let key = tail.join(wake.clone());
        (tail, key)
    }

    pub(crate) fn detach(&self, term: &Term, tail: &Arc<Tail>, key: usize) {
        let mut routes = self.routes.lock();
        if tail.leave(key) {
            routes.remove(term, tail);
        }
    }

    pub(crate) fn enter(&self, wake: Arc<Wake>) -> usize {
        self.readers.lock().insert(wake)
    }

    pub(crate) fn leave(&self, key: usize) {
        self.readers.lock().try_remove(key);
    }

    /// Wakes once after the next round.
    pub(crate) fn wake_next_round(&self, wake: Arc<Wake>) {
        let mut waiting = self.next_round.lock();
        if !waiting.iter().any(|own| Arc::ptr_eq(own, &wake)) {
            waiting.push(wake);
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        for (_, wake) in &*self.readers.lock() {
            wake.wake();
        }
    }

    /// Takes a commit from the committing thread.
    pub(crate) fn push(&self, commit: &Arc<Commit>) {
        let mut inbox = self.inbox.lock();
        // Nobody listens on this shard: don't wake its thread for nothing.
        if inbox.is_empty()
            && let Some(routes) = self.routes.try_lock()
            && routes.is_empty()
        {
            self.dispatched.store(commit.watermark.0, Ordering::Release);
            return;
        }
        inbox.push(commit.clone());
        drop(inbox);
        self.filled.notify_one();
    }

    /// The dispatcher: runs on the shard's runtime for as long as that lives.
    pub(crate) async fn dispatch(self: Arc<Self>) {
        let mut round = Round::default();
        loop {
            self.filled.notified().await;
            while self.dispatch_pending(&mut round) {
                // Let the readers run; what is committed meanwhile is the next round.
                tokio::task::yield_now().await;
            }
        }
    }

    /// One round over everything in the inbox. False if there was nothing.
    fn dispatch_pending(&self, round: &mut Round) -> bool {
        let routes = self.routes.lock();
        let commits = mem::take(&mut *self.inbox.lock());
        let Some(newest) = commits.last() else { return false };
        let messages: Vec<&Message> = commits.iter().flat_map(|commit| &commit.messages).collect();
        round.pick(&routes, &messages);
        self.append(&routes, round, &messages);
        for (topic, trim) in commits.iter().flat_map(|commit| &commit.trims) {
            routes.matching(topic, |id| routes.tail(id).into_iter().for_each(|tail| tail.trim(trim.upto)));
        }
        self.dispatched.store(newest.watermark.0, Ordering::Release);
        for id in round.touched.drain(..) {
            routes.tail(id).into_iter().for_each(|tail| tail.wake_all());
        }
        self.next_round.lock().drain(..).for_each(|wake| wake.wake());
        true
    }

    /// Gives each touched tail its segments. Tails that get the same messages share them, and so their encodings.
    fn append(&self, routes: &Routes, round: &mut Round, messages: &[&Message]) {
        let mut shared: HashMap<Vec<u32>, Vec<Arc<Segment>>> = HashMap::new();
        for &id in &round.touched {
            let picked = mem::take(&mut round.picked[id]);
            let segments =
                shared.entry(picked).or_insert_with_key(|picked| segments(messages, picked, self.encoders));
            let Some(tail) = routes.tail(id) else { continue };
            for segment in segments {
                round.kept.push_back((id, segment.last(), segment.cost()));
                round.kept_cost += segment.cost();
                tail.append(segment.clone());
            }
        }
        while round.kept_cost > TAILS_BYTES_MAX
            && let Some((id, last, cost)) = round.kept.pop_front()
        {
            round.kept_cost -= cost;
            routes.tail(id).into_iter().for_each(|tail| tail.evict(last));
        }
    }
}

impl Round {
    /// Sorts the messages by the tails that they go to.
    fn pick(&mut self, routes: &Routes, messages: &[&Message]) {
        self.picked.resize_with(routes.capacity().max(self.picked.len()), Vec::new);
        for (index, message) in messages.iter().enumerate() {
            routes.matching(message.topic(), |id| {
                let picked = &mut self.picked[id];
                if picked.is_empty() {
                    self.touched.push(id);
                }
                picked.push(index as u32);
            });
        }
    }
}

/// The picked messages as segments of bounded size.
fn segments(messages: &[&Message], picked: &[u32], encoders: Encoders) -> Vec<Arc<Segment>> {
    let mut segments = Vec::with_capacity(1);
    let mut part = Vec::with_capacity(picked.len());
    let mut cost = 0;
    for &index in picked {
        let message = messages[index as usize];
        if cost + message.draft.cost() > SEGMENT_BYTES_MAX && !part.is_empty() {
            segments.push(Segment::new(mem::take(&mut part), encoders, None));
            cost = 0;
        }
        cost += message.draft.cost();
        part.push(message.clone());
    }
    segments.push(Segment::new(part, encoders, None));
    segments
}

#[cfg(test)]
mod tests;
