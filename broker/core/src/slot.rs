//! How a shard reaches a reader: its subscriber slot, which every tail of the reader has. As a rule that is by waking the
//! task that polls it. But a connection that has written everything and waits at the tail *lends* its sink to the slot,
//! and then the dispatcher writes what comes straight to that: a direct write. Waking a thousand tasks, so that each
//! finds one shared message and hands it to its socket, costs a fifth of a sparse delivery, most of it in fetching the
//! tasks' memory; a slot is two lines of it.
//!
//! While the sink is lent the task does nothing. It takes the sink back whenever it is polled, whatever for, and lends it
//! again when it has nothing more to do. A sink is lent on the thread of its shard, where its task and the dispatcher run
//! in turn.

use std::{
    io::{self, IoSlice},
    mem,
    sync::Arc,
    task::{Context, Waker},
};

use parking_lot::Mutex;
use smallvec::SmallVec;
use tailwire_model::Position;
use tokio::time::Instant;

use crate::segment::{Slice, Slices, View};

/// A destination that bytes can be written to without waiting; of a connection, its socket.
pub trait Sink: Send + Sync {
    /// Writes as much as it takes at once.
    ///
    /// # Errors
    /// When it takes nothing at the moment, or is broken. The task that owns it finds out which.
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<Accepted>;
}

/// Outcome of a direct write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Bytes that are the sink's from here on, and may not be given again.
    pub bytes: usize,
    /// Whether the sink has passed all of them on. One that has a rest of its own, as TLS has of a record, is its task's.
    pub is_clear: bool,
}

/// See the module.
#[derive(Default)]
pub(crate) struct SubscriberSlot(Mutex<SlotState>);

#[derive(Default)]
struct SlotState {
    waker: Option<Waker>,
    /// Whether the task has looked for messages since it was last called for some. One that hasn't, as its socket is full, need
    /// not be called again.
    has_looked: bool,
    lent: Option<Lent>,
    /// The policy's answers have changed since the task last asked for them.
    review: bool,
}

struct Lent {
    sink: Arc<dyn Sink>,
    view: View,
    /// Everything up to here has been written.
    position: Position,
    /// The time of the last write.
    last_write: Instant,
    /// It has not taken all of something: what comes behind that is its task's.
    stopped: bool,
    /// The remainder of a partial write.
    remainder: Option<Box<Remainder>>,
}

/// The remainder of a partial write: messages of which only the beginning was written.
pub struct Remainder {
    /// The messages.
    pub slices: Slices,
    /// How many bytes of their encoding were written.
    pub written: usize,
}

/// State that comes back with a lent sink.
pub(crate) struct Returned {
    pub(crate) position: Position,
    pub(crate) last_write: Instant,
    pub(crate) remainder: Option<Box<Remainder>>,
}

/// One round's messages for the readers of one tail.
pub(crate) struct Fresh<'a> {
    /// All of it, in log order.
    pub(crate) slices: &'a [Slice],
    /// Where a reader stands that has been given it.
    pub(crate) upto: Position,
    pub(crate) now: Instant,
}

impl SubscriberSlot {
    /// The task to wake from here on: at once, if it has to ask the policy.
    pub(crate) fn register(&self, cx: &Context<'_>) {
        let mut state = self.0.lock();
        if !state.waker.as_ref().is_some_and(|own| own.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        state.has_looked = true;
        if state.review {
            state.wake();
        }
    }

    /// Has the task ask the policy again. Nothing more is written to a lent sink before it has.
    pub(crate) fn call_for_review(&self) {
        self.0.lock().review = true;
        self.give_back();
    }

    /// Whether the policy has to be asked again. Says so once.
    pub(crate) fn take_review(&self) -> bool {
        mem::take(&mut self.0.lock().review)
    }

    pub(crate) fn wake(&self) {
        self.0.lock().wake();
    }

    /// Lends a sink, which has been given everything up to a position. The task is registered.
    pub(crate) fn lend(&self, sink: Arc<dyn Sink>, view: View, position: Position, last_write: Instant) {
        let lent = Lent { sink, view, position, last_write, stopped: false, remainder: None };
        let mut state = self.0.lock();
        // One that has to ask the policy first keeps it.
        state.lent = Some(lent).filter(|_| !state.review);
    }

    /// Takes the sink back, if it is lent.
    pub(crate) fn take_back(&self) -> Option<Returned> {
        let Lent { position, last_write, remainder, .. } = self.0.lock().lent.take()?;
        Some(Returned { position, last_write, remainder })
    }

    /// Calls the task for messages, unless its sink is lent and has been given everything up to `floor`. Answers whether it is so.
    pub(crate) fn call_unless_lent(&self, floor: Position) -> bool {
        let mut state = self.0.lock();
        let is_lent = state.lent.as_ref().is_some_and(|lent| !lent.stopped && lent.position >= floor);
        if !is_lent && mem::take(&mut state.has_looked) {
            state.wake();
        }
        is_lent
    }

    /// Writes messages to the sink, if it is lent and they are new to it. Answers how many messages those are.
    pub(crate) fn deliver(&self, fresh: &Fresh<'_>) -> usize {
        let mut state = self.0.lock();
        // Its task may have had its turn meanwhile: then it has seen them, or was woken for them.
        let Some(lent) = &mut state.lent else { return 0 };
        if lent.stopped || lent.position >= fresh.upto {
            return 0;
        }
        let given = lent.take(fresh);
        if lent.stopped {
            state.wake();
        }
        given
    }

    /// Wakes the task, which has to see by itself what there is for it.
    pub(crate) fn give_back(&self) {
        let mut state = self.0.lock();
        state.lent.iter_mut().for_each(|lent| lent.stopped = true);
        state.wake();
    }
}

impl Lent {
    fn take(&mut self, fresh: &Fresh<'_>) -> usize {
        // A turn's bytes are a few segments: far fewer parts than a call may have.
        let parts: SmallVec<[IoSlice<'_>; 4]> =
            fresh.slices.iter().map(|slice| IoSlice::new(slice.bytes(self.view))).collect();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let nothing = Accepted { bytes: 0, is_clear: false };
        let Accepted { bytes: written, is_clear } = self.sink.write(&parts).unwrap_or(nothing);
        self.stopped = written < length || !is_clear;
        if written == 0 {
            // Its task comes to the same messages, and to whatever is wrong with the sink, by itself.
            return 0;
        }
        (self.position, self.last_write) = (fresh.upto, fresh.now);
        if written < length {
            self.remainder = Some(Box::new(Remainder { slices: fresh.slices.into(), written }));
        }
        fresh.slices.iter().map(Slice::len).sum()
    }
}

impl SlotState {
    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests;
