//! The bounded queue of a local order: writes that wait for the committer.

use std::{mem, time::Instant};

use parking_lot::{Condvar, Mutex};
use tailwire_model::limits::{COMMIT_BYTES_MAX, QUEUE_BYTES_MAX, QUEUE_COUNT_MAX};

use crate::{
    order::{Done, WriteError},
    store::Write,
};

/// Room that the queue keeps for what comes during a commit.
const NEXT_WRITES_MAX: usize = 256;
/// The bytes that a write without messages counts for.
const CHANGE_BYTES: usize = 64;

/// See the module.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<OrderQueueState>,
    filled: Condvar,
    ended: Condvar,
}

#[derive(Default)]
struct OrderQueueState {
    writes: Vec<Queued>,
    bytes: usize,
    is_closed: bool,
    /// The committer is done with all of it, or gone.
    has_ended: bool,
}

/// A write and its receipt.
pub(super) struct Queued {
    pub(super) write: Write,
    pub(super) cost: usize,
    pub(super) done: Done,
}

/// The end of a wait for the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waited {
    /// There is something to commit.
    Filled,
    /// There is nothing yet.
    InVain,
    /// There is nothing, and never will be.
    Closed,
}

impl Queue {
    pub(super) fn push(&self, write: Write, done: Done) -> Result<(), WriteError> {
        let cost = if matches!(write, Write::Publish(_)) { write.cost() } else { CHANGE_BYTES };
        let mut state = self.state.lock();
        if state.is_closed {
            return Err(WriteError::Draining);
        }
        if state.bytes + cost > QUEUE_BYTES_MAX || state.writes.len() >= QUEUE_COUNT_MAX {
            return Err(WriteError::Overloaded);
        }
        state.bytes += cost;
        state.writes.push(Queued { write, cost, done });
        let first = state.writes.len() == 1;
        drop(state);
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// How full it is, in 0..=1.
    pub(super) fn load(&self) -> f64 {
        let state = self.state.lock();
        (state.bytes as f64 / QUEUE_BYTES_MAX as f64).max(state.writes.len() as f64 / QUEUE_COUNT_MAX as f64)
    }

    /// Refuses writes from here on; what is queued is still committed.
    pub(super) fn close(&self) {
        self.state.lock().is_closed = true;
        self.filled.notify_all();
    }

    /// Nothing is taken any more.
    pub(super) fn end(&self) {
        self.state.lock().has_ended = true;
        self.ended.notify_all();
    }

    /// Waits for the end, or until a time.
    pub(super) fn wait_for_end(&self, until: Instant) {
        let mut state = self.state.lock();
        while !state.has_ended && !self.ended.wait_until(&mut state, until).timed_out() {}
    }

    /// The writes of one commit: all that wait, unless that is very much.
    pub(super) fn take(&self) -> Vec<Queued> {
        let mut state = self.state.lock();
        let mut bytes = 0;
        let mut fits = |queued: &Queued| {
            bytes += queued.cost;
            bytes <= COMMIT_BYTES_MAX
        };
        let count = state.writes.iter().take_while(|queued| fits(queued)).count();
        let count = count.max(1).min(state.writes.len());
        let mut left = state.writes.split_off(count);
        // As many as came during this commit may come during the next.
        left.reserve(count.min(NEXT_WRITES_MAX));
        let batch = mem::replace(&mut state.writes, left);
        state.bytes -= batch.iter().map(|queued| queued.cost).sum::<usize>();
        batch
    }

    /// Waits for a write, or until a time.
    pub(super) fn wait(&self, until: Option<Instant>) -> Waited {
        let mut state = self.state.lock();
        while state.writes.is_empty() && !state.is_closed {
            match until {
                None => self.filled.wait(&mut state),
                Some(until) if self.filled.wait_until(&mut state, until).timed_out() => break,
                Some(_) => {}
            }
        }
        match (state.writes.is_empty(), state.is_closed) {
            (false, _) => Waited::Filled,
            (true, true) => Waited::Closed,
            (true, false) => Waited::InVain,
        }
    }

    /// Whether there is time for something else. A committer that is about to end has none.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.writes.is_empty() && !state.is_closed
    }
}
