//! The hot tail of one term: its newest segments, shared by all of its readers.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use slab::Slab;
use smallvec::SmallVec;
use tailwire_model::{Position, limits::TAIL_BYTES_MAX};

use crate::{
    segment::{Segment, Slice, Slices},
    slot::SubscriberSlot,
};

/// The newest messages of one term. Every match after `floor` and up to the shard's watermark is in the segments.
pub(crate) struct Tail(Mutex<TailState>);

struct TailState {
    floor: Position,
    segments: VecDeque<Arc<Segment>>,
    cost: usize,
    readers: Slab<Arc<SubscriberSlot>>,
}

impl Tail {
    /// An empty tail: it will hold all that comes after `floor`.
    pub(crate) fn new(floor: Position) -> Self {
        Self(Mutex::new(TailState { floor, segments: VecDeque::new(), cost: 0, readers: Slab::new() }))
    }

    pub(crate) fn join(&self, slot: Arc<SubscriberSlot>) -> usize {
        self.0.lock().readers.insert(slot)
    }

    /// Returns whether nobody is left.
    pub(crate) fn leave(&self, key: usize) -> bool {
        let mut state = self.0.lock();
        state.readers.try_remove(key);
        state.readers.is_empty()
    }

    pub(crate) fn append(&self, segment: Arc<Segment>) {
        let mut state = self.0.lock();
        state.cost += segment.cost();
        state.segments.push_back(segment);
        while state.cost > TAIL_BYTES_MAX && state.segments.len() > 1 {
            state.drop_oldest();
        }
    }

    /// Drops the segments up to `position`; who is behind reads from the log, and sees there what is gone.
    pub(crate) fn evict(&self, position: Position) {
        let mut state = self.0.lock();
        while state.segments.front().is_some_and(|segment| segment.last() <= position) {
            state.drop_oldest();
        }
    }

    /// Like [`Tail::evict`], for messages that may no longer be read at all.
    pub(crate) fn trim(&self, position: Position) {
        self.evict(position);
        let mut state = self.0.lock();
        state.floor = state.floor.max(position);
    }

    /// Calls all readers: wakes them, but for those whose sinks are lent, which it adds to `lent`.
    pub(crate) fn call(&self, lent: &mut Vec<Arc<SubscriberSlot>>) {
        let state = self.0.lock();
        let served = state.readers.iter().filter(|(_, slot)| slot.call_unless_lent(state.floor));
        lent.extend(served.map(|(_, slot)| slot.clone()));
    }

    /// The matches after `after` and up to `upto`; `None` when the tail doesn't reach back that far.
    pub(crate) fn between(&self, after: Position, upto: Position) -> Option<Slices> {
        let state = self.0.lock();
        if after < state.floor {
            return None;
        }
        // Readers stand near the end: look from there.
        let fresh = state.segments.iter().rev().take_while(|segment| segment.last() > after).count();
        let mut slices = Slices::new();
        for segment in state.segments.range(state.segments.len() - fresh..) {
            let start = segment.index_after(after);
            let end =
                if segment.last() <= upto { segment.messages().len() } else { segment.index_after(upto) };
            if start < end {
                slices.push(Slice::new(segment.clone(), start, end));
            }
        }
        Some(slices)
    }
}

impl TailState {
    fn drop_oldest(&mut self) {
        if let Some(segment) = self.segments.pop_front() {
            self.cost -= segment.cost();
            self.floor = self.floor.max(segment.last());
        }
    }
}

/// Merges the slices of several tails into log order; a message that several terms match comes once.
pub(crate) fn merge(mut tails: SmallVec<[Slices; 2]>) -> Slices {
    tails.retain(|slices| !slices.is_empty());
    if tails.len() <= 1 {
        return tails.pop().unwrap_or_default();
    }
    let mut runs: Vec<Run> = tails.into_iter().map(Run::new).collect();
    let mut merged = Slices::new();
    let mut given = Position::ZERO;
    loop {
        runs.retain_mut(|run| run.skip_to(given));
        let Some(lowest) = (0..runs.len()).min_by_key(|&i| runs[i].next) else { return merged };
        let mut run = runs.swap_remove(lowest);
        // Terms that match the same messages share their segments: those are compared as a whole, not by message.
        runs.retain_mut(|other| !other.shares_front(&mut run) || other.skip_front());
        // The other runs' next position bounds how much of this one comes at once.
        let bound = runs.iter().map(|other| other.next).min();
        let slice = run.take_before(bound.unwrap_or(Position::MAX));
        given = slice.last();
        merged.push(slice);
        runs.push(run);
    }
}

/// The slices of one tail that are left while merging.
struct Run {
    slices: std::iter::Peekable<smallvec::IntoIter<[Slice; 4]>>,
    index: usize,
    next: Position,
}

impl Run {
    fn new(slices: Slices) -> Self {
        Self { slices: slices.into_iter().peekable(), index: 0, next: Position::ZERO }
    }

    /// Passes over what was given already; false when nothing is left.
    fn skip_to(&mut self, given: Position) -> bool {
        while let Some(slice) = self.slices.peek() {
            let messages = slice.messages();
            while self.index < messages.len() && messages[self.index].position() <= given {
                self.index += 1;
            }
            if let Some(message) = messages.get(self.index) {
                self.next = message.position();
                return true;
            }
            self.slices.next();
            self.index = 0;
        }
        false
    }

    /// Whether both stand at the same message of the same slice.
    fn shares_front(&mut self, other: &mut Self) -> bool {
        let same = self.slices.peek().zip(other.slices.peek()).is_some_and(|(own, other)| own.is_same(other));
        same && self.index == other.index
    }

    /// Passes over the current slice; false when nothing is left.
    fn skip_front(&mut self) -> bool {
        self.slices.next();
        self.index = 0;
        self.skip_to(Position::ZERO)
    }

    /// The messages of the current slice before `bound`; the first is taken in any case.
    fn take_before(&mut self, bound: Position) -> Slice {
        let Some(slice) = self.slices.peek() else { unreachable!("skip_to said that there is a next one") };
        let count =
            slice.messages()[self.index..].partition_point(|message| message.position() < bound).max(1);
        slice.run(self.index, self.index + count)
    }
}

#[cfg(test)]
mod tests;
