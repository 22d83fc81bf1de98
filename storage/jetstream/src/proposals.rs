//! What this node has to say to the stream: writes that wait, and entries that are under way. Knows no network: what is to be
//! sent is handed out as bytes, and what became of it comes back from the feed.

use std::{
    collections::VecDeque,
    mem,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tailwire_core::{WriteError, order::Done, store::Write};
use tailwire_model::limits::{IDEMPOTENCY_WINDOW_MS, QUEUE_BYTES_MAX, QUEUE_COUNT_MAX};

use crate::{
    frame::{Applied, Frame, HEAD_BYTES, LogId, PART_BYTES_MAX, encode_writes, parts},
    replica::ENTRY_MESSAGES_MAX,
};

/// Entries under way: enough that the stream's replicas always have the next one, few enough that what waits shares one.
const IN_FLIGHT_MAX: usize = 4;
/// What an entry gathers, in bytes as [`Write::cost`] counts them: what fits one message of the stream.
const ENTRY_COST_MAX: usize = PART_BYTES_MAX - (16 << 10);
/// What a write counts for that brings no messages.
const CHANGE_BYTES: usize = 512;
/// How long a write waits for its outcome before that counts as unknown.
pub(crate) const OUTCOME_WAIT: Duration = Duration::from_secs(10);
/// How long an entry is sent again and again. Its publishers were told long ago that its outcome is unknown, and may have
/// published by the same key at another node: that key has to be known still when this arrives.
const GIVE_UP_AFTER: Duration = Duration::from_millis(IDEMPOTENCY_WINDOW_MS / 2);
/// How long an entry is under way before it is sent again: a round through three disks takes milliseconds.
const SEND_AGAIN: Duration = Duration::from_millis(1000);
/// How soon one may be sent again where it is known that it did not count.
const SEND_AGAIN_SOON: Duration = Duration::from_millis(50);

/// A write that waits for its turn.
struct QueuedWrite {
    /// None is a question: whatever was ordered before this is applied once it is answered.
    write: Option<Write>,
    cost: usize,
    waiting: Waiting,
}

/// Where an outcome goes.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) done: Done,
    pub(crate) is_write: bool,
    /// Bytes of bodies.
    pub(crate) bytes: usize,
    since: Instant,
}

impl Waiting {
    /// Tells it that nothing was done, or that nobody knows.
    pub(crate) fn fail(self, is_unknown: bool) {
        let error = if is_unknown { WriteError::Unknown } else { WriteError::Overloaded };
        let _ = self.done.send(Err(error));
    }
}

/// An entry that is under way.
struct UnderWay {
    /// The number of its first frame.
    first: u64,
    parts: Vec<Bytes>,
    applied: Applied,
    /// Nobody, once they were told that the outcome is unknown.
    waiting: Vec<Waiting>,
    begun: Instant,
    sent: Instant,
}

impl UnderWay {
    const fn last(&self) -> u64 {
        self.first + self.parts.len() as u64 - 1
    }
}

/// See the module.
pub(crate) struct Proposals {
    log: LogId,
    incarnation: u64,
    /// How many topics there may be, by this node's settings.
    topics_max: u64,
    next_number: u64,
    queue: VecDeque<QueuedWrite>,
    queued_bytes: usize,
    under_way: VecDeque<UnderWay>,
    is_closed: bool,
}

impl Proposals {
    pub(crate) fn new(log: LogId, incarnation: u64, topics_max: u64) -> Self {
        Self {
            log,
            incarnation,
            topics_max,
            next_number: 1,
            queue: VecDeque::new(),
            queued_bytes: 0,
            under_way: VecDeque::new(),
            is_closed: false,
        }
    }

    pub(crate) const fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Takes a write, or a question for the order.
    pub(crate) fn push(&mut self, write: Option<Write>, done: Done, now: Instant) -> Result<(), WriteError> {
        let (cost, bytes) = match &write {
            Some(write @ Write::Publish(group)) => {
                (write.cost(), group.drafts.iter().map(|draft| draft.body.len()).sum())
            }
            _ => (CHANGE_BYTES, 0),
        };
        if self.is_closed {
            return Err(WriteError::Draining);
        }
        if self.queued_bytes + cost > QUEUE_BYTES_MAX || self.queue.len() >= QUEUE_COUNT_MAX {
            return Err(WriteError::Overloaded);
        }
        self.queued_bytes += cost;
        let waiting = Waiting { done, is_write: write.is_some(), bytes, since: now };
        self.queue.push_back(QueuedWrite { write, cost, waiting });
        Ok(())
    }

    /// How full the queue is, in 0..=1.
    pub(crate) fn load(&self) -> f64 {
        let bytes = self.queued_bytes as f64 / QUEUE_BYTES_MAX as f64;
        bytes.max(self.queue.len() as f64 / QUEUE_COUNT_MAX as f64)
    }

    /// Takes nothing more from here on.
    pub(crate) const fn close(&mut self) {
        self.is_closed = true;
    }

    pub(crate) const fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// Whether nothing waits and nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.under_way.is_empty()
    }

    /// Whether an entry is under way.
    pub(crate) fn awaits(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Gathers the next entry, if there is one and it may go: its frames.
    pub(crate) fn next_entry(&mut self, applied: Applied, now: Instant) -> Option<Vec<Bytes>> {
        if self.under_way.len() >= IN_FLIGHT_MAX || self.queue.is_empty() {
            return None;
        }
        let (mut cost, mut messages) = (0, 0);
        let mut fits = |queued: &QueuedWrite| {
            cost += queued.cost;
            messages += match &queued.write {
                Some(Write::Publish(group)) => group.drafts.len(),
                _ => 0,
            };
            cost <= ENTRY_COST_MAX && messages <= ENTRY_MESSAGES_MAX
        };
        let count = self.queue.iter().take_while(|queued| fits(queued)).count().max(1);
        let (mut writes, mut waiting) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for queued in self.queue.drain(..count) {
            self.queued_bytes -= queued.cost;
            writes.extend(queued.write);
            waiting.push(queued.waiting);
        }
        let bytes = encode_writes(writes.iter(), cost + HEAD_BYTES);
        let entry = UnderWay {
            first: self.next_number,
            parts: parts(bytes),
            applied,
            waiting,
            begun: now,
            sent: now,
        };
        self.next_number = entry.last() + 1;
        let frames = self.frames(&entry).collect();
        self.under_way.push_back(entry);
        Some(frames)
    }

    fn frames(&self, entry: &UnderWay) -> impl Iterator<Item = Bytes> {
        let (log, incarnation, topics_max) = (self.log, self.incarnation, self.topics_max);
        let (applied, last) = (entry.applied, entry.last());
        (entry.first..).zip(entry.parts.clone()).map(move |(number, part)| {
            let has_more = number < last;
            Frame { log, incarnation, number, has_more, applied, topics_max, part }.encode()
        })
    }

    /// The frames of all that is under way, if it is time to send them again.
    pub(crate) fn again(&mut self, now: Instant, is_soon: bool) -> Vec<Bytes> {
        let wait = if is_soon { SEND_AGAIN_SOON } else { SEND_AGAIN };
        let oldest = self.under_way.front().is_some_and(|entry| now.duration_since(entry.sent) >= wait);
        if !oldest {
            return Vec::new();
        }
        self.under_way.iter_mut().for_each(|entry| entry.sent = now);
        self.under_way.iter().flat_map(|entry| self.frames(entry)).collect()
    }

    /// A frame of this node's was applied that completes an entry. Answers who waits for what became of it.
    pub(crate) fn applied(&mut self, incarnation: u64, number: u64) -> Vec<Waiting> {
        let is_first = self.under_way.front().is_some_and(|entry| entry.last() == number);
        if incarnation == self.incarnation && is_first {
            self.under_way.pop_front().map_or_else(Vec::new, |entry| entry.waiting)
        } else {
            Vec::new()
        }
    }

    /// Whether the frame that the stream needs next was applied, or given up: this incarnation can't go on.
    pub(crate) fn has_passed(&self, number: u64) -> bool {
        self.under_way.front().map_or(self.next_number, |entry| entry.first) > number
    }

    /// The incarnation counts no more: what is under way is said anew by another one, as of what is applied by now. What
    /// nobody waits for is not.
    pub(crate) fn begin_anew(&mut self, incarnation: u64, applied: Applied) {
        self.incarnation = incarnation;
        self.next_number = 1;
        self.under_way.retain(|entry| !entry.waiting.is_empty());
        for entry in &mut self.under_way {
            (entry.first, entry.applied) = (self.next_number, applied);
            self.next_number = entry.last() + 1;
        }
    }

    /// Gives up all that is under way if the oldest of it has been so for too long, and goes on by another incarnation. It may
    /// count all the same, so nothing of it is said anew. Answers who waits for it, if that is so.
    pub(crate) fn give_up_stale(&mut self, now: Instant, incarnation: u64) -> Option<Vec<Waiting>> {
        let oldest = self.under_way.front()?;
        if now.duration_since(oldest.begun) < GIVE_UP_AFTER {
            return None;
        }
        (self.incarnation, self.next_number) = (incarnation, 1);
        Some(self.under_way.drain(..).flat_map(|entry| entry.waiting).collect())
    }

    /// Those who have waited long enough: of what is under way nobody knows what becomes of it, and it goes on being sent, as
    /// what comes after it has to; of what was queued nothing was done.
    pub(crate) fn expire(&mut self, now: Instant) -> (Vec<Waiting>, Vec<Waiting>) {
        let is_late = |waiting: &Waiting| now.duration_since(waiting.since) >= OUTCOME_WAIT;
        let mut unknown = Vec::new();
        for entry in &mut self.under_way {
            if entry.waiting.first().is_some_and(is_late) {
                // Those who stay without anybody who waits keep their outcomes in order.
                let waiting = mem::take(&mut entry.waiting);
                unknown.extend(waiting);
            }
        }
        let mut undone = Vec::new();
        while self.queue.front().is_some_and(|queued| is_late(&queued.waiting)) {
            if let Some(queued) = self.queue.pop_front() {
                self.queued_bytes -= queued.cost;
                undone.push(queued.waiting);
            }
        }
        (unknown, undone)
    }

    /// Gives up all of it: of what is under way nobody knows what becomes of it.
    pub(crate) fn give_up(&mut self) -> (Vec<Waiting>, Vec<Waiting>) {
        self.is_closed = true;
        let unknown = self.under_way.drain(..).flat_map(|entry| entry.waiting).collect();
        self.queued_bytes = 0;
        (unknown, self.queue.drain(..).map(|queued| queued.waiting).collect())
    }
}

#[cfg(test)]
mod tests;
