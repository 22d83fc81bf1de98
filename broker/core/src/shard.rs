//! A shard: the tails of the terms whose readers live on one delivery runtime, and the dispatcher that feeds them.
//!
//! The committing thread only puts a commit into the inbox and wakes the dispatcher once. The dispatcher takes all
//! commits that came meanwhile in one round, so that while a thousand sockets are written the next round grows, and
//! each socket gets it in one write.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use slab::Slab;
use smallvec::SmallVec;
use tailwire_model::{
    Message, Position, Principal, Term, Topic, Trim,
    limits::{BATCH_READ_BYTES_MAX, SEGMENT_BYTES_MAX, TAILS_BYTES_MAX},
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    log::Commit,
    metrics::Metrics,
    routes::TermRoutes,
    segment::{Encoders, Segment, Slice, Slices},
    slot::{Fresh, SubscriberSlot},
    tail::Tail,
};

/// Sinks that the dispatcher writes to, or gives back, before others on its runtime have a turn. A debug build takes few,
/// so that tests come between them.
const SINKS_PER_TURN: usize = if cfg!(debug_assertions) { 2 } else { 256 };

/// See the module.
pub(crate) struct Shard {
    /// Every tail is complete up to here.
    dispatched: AtomicU64,
    routes: Mutex<TermRoutes>,
    inbox: Mutex<ShardInbox>,
    filled: Notify,
    /// Each reader's slot, and whose it is.
    readers: Mutex<Slab<(Arc<SubscriberSlot>, Principal)>>,
    /// Wakers of those who wait for the next round, of any messages.
    next_round: Mutex<Vec<Arc<SubscriberSlot>>>,
    draining: AtomicBool,
    encoders: Encoders,
    metrics: Arc<Metrics>,
}

/// What was committed and not dispatched. Where that is more than the tails would keep, the oldest messages are left to the log.
#[derive(Default)]
struct ShardInbox {
    commits: VecDeque<Arc<Commit>>,
    /// What their messages take.
    cost: usize,
    /// Everything up to here was left to the log.
    left: Position,
    /// What it trimmed.
    trims: Vec<(Topic, Trim)>,
}

/// The dispatcher's own memory between rounds.
#[derive(Default)]
struct Round {
    /// For each tail's number, which messages of the round it gets.
    picked: Vec<Vec<u32>>,
    /// The tails that get any.
    touched: Vec<usize>,
    /// The slices for each of them.
    fresh: Vec<(usize, Slices)>,
    /// Slots with a lent sink, one tail after the other; and of each tail the slices for them, and their range.
    lent: Vec<Arc<SubscriberSlot>>,
    services: Vec<(Slices, Range<usize>)>,
    /// Where a reader stands that has been given the round.
    upto: Position,
    /// The segments that tails were given, oldest first: those tails, the last position, and the cost, which they share.
    kept: VecDeque<(SmallVec<[usize; 2]>, Position, usize)>,
    kept_cost: usize,
}

impl Shard {
    /// A shard without a feed; then comes [`Shard::begin`].
    pub(crate) fn new(encoders: Encoders, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            dispatched: AtomicU64::default(),
            routes: Mutex::default(),
            inbox: Mutex::default(),
            filled: Notify::new(),
            readers: Mutex::default(),
            next_round: Mutex::default(),
            draining: AtomicBool::new(false),
            encoders,
            metrics,
        })
    }

    /// The feed is complete from here on; some of it may have come already.
    pub(crate) fn begin(&self, complete_from: Position) {
        self.dispatched.fetch_max(complete_from.0, Ordering::AcqRel);
    }

    /// The shard's watermark.
    pub(crate) fn dispatched(&self) -> Position {
        Position(self.dispatched.load(Ordering::Acquire))
    }

    /// A term's tail, and the reader's place in it.
    pub(crate) fn attach(&self, term: &Term, slot: &Arc<SubscriberSlot>) -> (Arc<Tail>, usize) {
        let mut routes = self.routes.lock();
        let tail = routes.tail_of(term, self.dispatched());
        let key = tail.join(slot.clone());
        (tail, key)
    }

    pub(crate) fn detach(&self, term: &Term, tail: &Arc<Tail>, key: usize) {
        let mut routes = self.routes.lock();
        if tail.leave(key) {
            routes.remove(term, tail);
        }
    }

    pub(crate) fn enter(&self, slot: Arc<SubscriberSlot>, principal: Principal) -> usize {
        self.readers.lock().insert((slot, principal))
    }

    /// From here on the reader at a place is this principal's.
    pub(crate) fn assign(&self, key: usize, principal: Principal) {
        if let Some((_, own)) = self.readers.lock().get_mut(key) {
            *own = principal;
        }
    }

    /// Has readers ask the policy again: those of the principals that are concerned.
    pub(crate) fn review(&self, concerned: &dyn Fn(&Principal) -> bool) {
        // Apart from the lock: a slot may be just being written to.
        let readers = self.readers.lock();
        let slots = readers.iter().filter(|(_, (_, principal))| concerned(principal));
        let slots: Vec<_> = slots.map(|(_, (slot, _))| slot.clone()).collect();
        drop(readers);
        slots.iter().for_each(|slot| slot.call_for_review());
    }

    pub(crate) fn leave(&self, key: usize) {
        self.readers.lock().try_remove(key);
    }

    /// Wakes once after the next round.
    pub(crate) fn wake_next_round(&self, slot: Arc<SubscriberSlot>) {
        let mut waiting = self.next_round.lock();
        if !waiting.iter().any(|own| Arc::ptr_eq(own, &slot)) {
            waiting.push(slot);
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        // Apart from the lock: a slot may be just being written to.
        let slots: Vec<_> = self.readers.lock().iter().map(|(_, (slot, _))| slot.clone()).collect();
        slots.iter().for_each(|slot| slot.wake());
    }

    /// Takes a commit from the committing thread.
    pub(crate) fn push(&self, commit: &Arc<Commit>) {
        let mut inbox = self.inbox.lock();
        // Nobody listens on this shard: don't wake its thread for nothing.
        if inbox.commits.is_empty()
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
                self.serve(&mut round).await;
                // Let the readers run; what is committed meanwhile is the next round.
                tokio::task::yield_now().await;
            }
        }
    }

    /// One round over everything in the inbox. False if there was nothing.
    fn dispatch_pending(&self, round: &mut Round) -> bool {
        let routes = self.routes.lock();
        let ShardInbox { commits, left, trims, .. } = mem::take(&mut *self.inbox.lock());
        let Some(newest) = commits.back() else { return false };
        if left > Position::ZERO {
            routes.tails().for_each(|tail| tail.trim(left));
        }
        let messages: Vec<&Message> = commits.iter().flat_map(|commit| &commit.messages).collect();
        round.pick(&routes, &messages);
        self.append(&routes, round, &messages);
        let trims = trims.iter().chain(commits.iter().flat_map(|commit| &commit.trims));
        let trims = trims.map(|(topic, trim)| (topic, trim.upto));
        // A reader that has yet to read a removed message reads the log, where it gets the gap.
        let removed = commits.iter().flat_map(|commit| &commit.removed).map(|(topic, at)| (topic, *at));
        for (topic, upto) in trims.chain(removed) {
            routes.matching(topic, |id| routes.tail(id).into_iter().for_each(|tail| tail.trim(upto)));
        }
        self.dispatched.store(newest.watermark.0, Ordering::Release);
        round.touched.clear();
        round.upto = newest.watermark;
        if left > Position::ZERO {
            // There may be something in the log for readers of any tail. Who has lent a sink is behind, and gets it back.
            routes.tails().for_each(|tail| tail.call(&mut round.lent));
            round.lent.clear();
        }
        for (id, slices) in round.fresh.drain(..) {
            let before = round.lent.len();
            routes.tail(id).into_iter().for_each(|tail| tail.call(&mut round.lent));
            round.services.push((slices, before..round.lent.len()));
        }
        // Few readers don't wait for many.
        round.services.sort_by_key(|(_, slots)| slots.len());
        self.next_round.lock().drain(..).for_each(|slot| slot.wake());
        true
    }

    /// Writes what the round has for readers that have lent their sinks, holding no lock but the slot's own. More than a
    /// sink takes in one turn is left to their tasks, which take turns as well.
    async fn serve(&self, round: &mut Round) {
        let (now, mut turn) = (Instant::now(), 0);
        for (slices, slots) in round.services.drain(..) {
            let fits = slices.iter().map(Slice::cost).sum::<usize>() <= BATCH_READ_BYTES_MAX;
            let fresh = Fresh { slices: &slices, upto: round.upto, now };
            let mut delivered = 0;
            for slot in &round.lent[slots] {
                if fits {
                    delivered += slot.deliver(&fresh);
                } else {
                    slot.give_back();
                }
                turn += 1;
                if turn % SINKS_PER_TURN == 0 {
                    tokio::task::yield_now().await;
                }
            }
            self.metrics.messages_out.inc_by(delivered as u64);
        }
        round.lent.clear();
    }

    /// Gives each touched tail its segments. Tails that get the same messages share them, and so their encodings.
    fn append(&self, routes: &TermRoutes, round: &mut Round, messages: &[&Message]) {
        let mut sharing: BTreeMap<Vec<u32>, SmallVec<[usize; 2]>> = BTreeMap::new();
        for &id in &round.touched {
            sharing.entry(mem::take(&mut round.picked[id])).or_default().push(id);
        }
        for (picked, ids) in sharing {
            let segments = segments(messages, &picked, self.encoders);
            for &id in &ids {
                let Some(tail) = routes.tail(id) else { continue };
                segments.iter().for_each(|segment| tail.append(segment.clone()));
                round.fresh.push((id, segments.iter().cloned().map(Slice::whole).collect()));
            }
            for segment in &segments {
                round.kept.push_back((ids.clone(), segment.last(), segment.cost()));
                round.kept_cost += segment.cost();
            }
        }
        while round.kept_cost > TAILS_BYTES_MAX
            && let Some((ids, last, cost)) = round.kept.pop_front()
        {
            round.kept_cost -= cost;
            ids.iter().filter_map(|&id| routes.tail(id)).for_each(|tail| tail.evict(last));
        }
    }
}

impl ShardInbox {
    fn push(&mut self, commit: Arc<Commit>) {
        self.cost += commit.cost;
        self.commits.push_back(commit);
        while self.cost > TAILS_BYTES_MAX
            && self.commits.len() > 1
            && let Some(oldest) = self.commits.pop_front()
        {
            self.cost -= oldest.cost;
            self.left = oldest.watermark;
            self.trims.extend(oldest.trims.iter().cloned());
        }
    }
}

impl Round {
    /// Sorts the messages by the tails that they go to.
    fn pick(&mut self, routes: &TermRoutes, messages: &[&Message]) {
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
            segments.push(Segment::new(mem::take(&mut part), encoders));
            cost = 0;
        }
        cost += message.draft.cost();
        part.push(message.clone());
    }
    segments.push(Segment::new(part, encoders));
    segments
}

#[cfg(test)]
mod tests;
