//! The order of a log that has one node: a bounded queue, and the one committer that drains it into the store. Many writes
//! share one flush; while it runs, the next entry fills. There is no timer. Positions are dense, and nothing is answered
//! before the store has synced it as durably as its topic asks.

mod queue;

use std::{
    future::ready,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tailwire_model::{
    Position,
    limits::{RETENTION_EVERY_MS, TOPICS_MAX},
};

use self::queue::{Queue, Queued, Waited};
use crate::{
    clock::{Clock, SteadyTime},
    log::Group,
    order::{Answer, Done, Health, Instruments, Order, WriteError, begin_epoch, local_entry},
    store::{Outcome, Store, StoreError, Write},
    tidying::TidySchedule,
};

/// See the module.
pub struct LocalOrder {
    queue: Arc<Queue>,
    store: Arc<dyn Store>,
    condition: Arc<StoreHealth>,
}

/// The only writer of a store. `step` needs no thread of its own, so tests run it inline; `run` is the thread's loop.
pub struct Committer {
    queue: Arc<Queue>,
    store: Arc<dyn Store>,
    clock: Clock,
    steady: SteadyTime,
    instruments: Instruments,
    condition: Arc<StoreHealth>,
    topics_max: u64,
    tidying: TidySchedule,
    /// Writes of the last commit.
    last_count: usize,
}

impl LocalOrder {
    /// Begins an epoch in a store. The committer has to be run by a thread for writes to be answered.
    ///
    /// # Errors
    /// When the epoch can't be stored.
    pub fn begin(
        store: Arc<dyn Store>,
        clock: Clock,
        instruments: &Instruments,
    ) -> Result<(Self, Committer), StoreError> {
        let steady = SteadyTime::begin(clock);
        begin_epoch(&*store, steady.began(), (clock.random)())?;
        let (queue, condition) = (Arc::new(Queue::default()), Arc::new(StoreHealth::default()));
        let committer = Committer {
            queue: queue.clone(),
            store: store.clone(),
            clock,
            steady,
            instruments: instruments.clone(),
            condition: condition.clone(),
            topics_max: TOPICS_MAX,
            tidying: TidySchedule::default(),
            last_count: 0,
        };
        Ok((Self { queue, store, condition }, committer))
    }
}

impl Order for LocalOrder {
    fn submit(&self, write: Write, done: Done) -> Result<(), WriteError> {
        self.queue.push(write, done)
    }

    fn newest(&self) -> Answer<'_, Result<Position, WriteError>> {
        Box::pin(ready(Ok(self.store.newest())))
    }

    fn health(&self) -> Health {
        if self.condition.has_failed.load(Ordering::Relaxed) { Health::Failing } else { Health::Good }
    }

    fn load(&self) -> f64 {
        self.queue.load()
    }

    fn close(&self, within: Duration) {
        self.queue.close();
        self.queue.wait_for_end(Instant::now() + within);
    }
}

/// Whether the store takes what it is given.
#[derive(Debug, Default)]
struct StoreHealth {
    has_failed: AtomicBool,
    /// The failure that was logged last, until something goes through.
    reported: Mutex<Option<String>>,
}

const FULL: &str = "the disk is full";

impl StoreHealth {
    fn recovered(&self) {
        self.has_failed.store(false, Ordering::Relaxed);
        *self.reported.lock() = None;
    }

    /// A failure of the store, for those whose writes it had, and for the order's health.
    fn failed(&self, error: &StoreError) -> WriteError {
        let meaning = match error {
            StoreError::Closed => return WriteError::Draining,
            StoreError::Unknown(_) => WriteError::Unknown,
            StoreError::Failed(_) | StoreError::Corrupt(_) => WriteError::Failed,
        };
        self.has_failed.store(true, Ordering::Relaxed);
        self.tell(error.to_string());
        meaning
    }

    /// Tells the operator, once for as long as it is the same.
    fn tell(&self, error: String) {
        let mut reported = self.reported.lock();
        if reported.as_ref() != Some(&error) {
            tracing::error!(%error, "the log could not be written");
            *reported = Some(error);
        }
    }
}

impl Committer {
    /// With another bound on the number of topics than the default.
    #[must_use]
    pub const fn with_topics_max(mut self, topics_max: u64) -> Self {
        self.topics_max = topics_max;
        self
    }

    /// Commits what waits and answers it. False if nothing waited.
    pub fn step(&mut self) -> bool {
        let batch = self.queue.take();
        if batch.is_empty() {
            return false;
        }
        let started = Instant::now();
        self.instruments.begin();
        let count = batch.len();
        let (writes, waiting) = self.admit(batch);
        let applied = self.apply(writes);
        self.instruments.end(started);
        match applied {
            Ok(outcomes) => {
                self.count(&outcomes, &waiting);
                if outcomes.len() == count {
                    self.condition.recovered();
                }
                outcomes.into_iter().zip(waiting).for_each(|(outcome, waiting)| waiting.answer(Ok(outcome)));
            }
            Err(error) => {
                let error = self.condition.failed(&error);
                waiting.into_iter().for_each(|waiting| waiting.answer(Err(error)));
            }
        }
        self.tidying.committed();
        self.last_count = count;
        true
    }

    /// Runs until the order is closed and the queue is empty, then closes the store.
    ///
    /// # Errors
    /// When the store can't be closed in good order.
    pub fn run(mut self) -> Result<(), StoreError> {
        loop {
            if self.is_tidy_due() {
                self.tidy();
            } else if self.queue.wait(self.tidying.at()) == Waited::Closed {
                return self.store.close();
            }
            // Where one core has to do for all, those who are about to publish go first, and share this commit. A client that
            // publishes alone has nobody to wait for.
            if self.last_count > 1 {
                thread::yield_now();
            }
            self.step();
        }
    }

    fn is_tidy_due(&self) -> bool {
        self.tidying.is_due(|| self.queue.is_idle(), || self.store.needs_tidying())
    }

    /// Has the store decide what is to go, applies that, and has it do a step of its own.
    fn tidy(&mut self) {
        let steps = [self.retain(), self.store.tidy()].map(|step| {
            step.unwrap_or_else(|error| {
                self.condition.failed(&error);
                Some(RETENTION_EVERY_MS)
            })
        });
        self.tidying.done(steps.into_iter().flatten().min());
    }

    fn retain(&self) -> Result<Option<u64>, StoreError> {
        if !self.store.has_room_to_tidy() {
            return Ok(Some(RETENTION_EVERY_MS));
        }
        let (writes, again_ms) = self.store.due(self.steady.now())?;
        self.apply(writes)?;
        Ok(again_ms)
    }

    fn apply(&self, writes: Vec<Write>) -> Result<Vec<Outcome>, StoreError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let mut entry = local_entry(&*self.store, (self.clock.now)(), self.steady.now(), writes);
        entry.place.topics_max = self.topics_max;
        self.store.apply(vec![entry], true)
    }

    /// Parts a batch into its writes and what waits for them. Without room on the disk all publishes are refused, and what
    /// makes room goes on for longer.
    fn admit(&self, batch: Vec<Queued>) -> (Vec<Write>, Vec<PendingWrite>) {
        let (mut publishes, mut changes) = (0, false);
        for queued in &batch {
            match queued.write {
                Write::Publish(_) => publishes += queued.cost,
                _ => changes = true,
            }
        }
        let refuses_publishes = publishes > 0 && !self.store.has_room(publishes);
        let refuses_changes = changes && !self.store.has_room_to_tidy();
        if refuses_publishes || refuses_changes {
            self.condition.tell(FULL.to_owned());
        }
        let (mut writes, mut waiting) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Queued { write, done, .. } in batch {
            let (is_refused, bytes) = match &write {
                Write::Publish(group) => (refuses_publishes, body_bytes(group)),
                _ => (refuses_changes, 0),
            };
            if is_refused {
                let _ = done.send(Err(WriteError::Full));
            } else {
                writes.push(write);
                waiting.push(PendingWrite { done, bytes });
            }
        }
        (writes, waiting)
    }

    fn count(&self, outcomes: &[Outcome], waiting: &[PendingWrite]) {
        let counted = outcomes.iter().zip(waiting);
        let messages: u64 =
            counted.map(|(outcome, waiting)| self.instruments.count(outcome, waiting.bytes)).sum();
        self.instruments.metrics.commit_messages.observe(messages as f64);
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        // Also when its thread panics: nobody is to wait for it, and what is queued has no outcome.
        self.queue.close();
        while !self.queue.take().is_empty() {}
        self.queue.end();
    }
}

fn body_bytes(group: &Group) -> usize {
    group.drafts.iter().map(|draft| draft.body.len()).sum()
}

/// A write that is being applied: where its outcome goes, and the bytes of its bodies.
struct PendingWrite {
    done: Done,
    bytes: usize,
}

impl PendingWrite {
    /// A client that went away meanwhile has its message in the log all the same.
    fn answer(self, outcome: Result<Outcome, WriteError>) {
        let outcome = match outcome {
            Ok(Outcome::TooManyOptions) => Err(WriteError::TooManyOptions),
            Ok(Outcome::TooManyTopics) => Err(WriteError::TooManyTopics),
            outcome => outcome,
        };
        let _ = self.done.send(outcome);
    }
}

#[cfg(test)]
mod tests;
