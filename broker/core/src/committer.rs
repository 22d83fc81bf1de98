//! Publishing: a bounded queue, and the one committer that drains it. Many publishes share one flush; while it runs,
//! the next batch fills. There is no timer.

use std::{
    mem,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tailwire_model::{
    Options, Term, Timestamp, Topic, TrimReason,
    limits::{COMMIT_BYTES_MAX, QUEUE_BYTES_MAX, QUEUE_COUNT_MAX, RETENTION_EVERY_MS},
};
use tokio::sync::oneshot;

use crate::{
    clock::Clock,
    log::{Appended, Group, Log, LogError},
    metrics::Metrics,
    rest::Activity,
};

/// Why a write was not done, or may not have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The queue is full; nothing was done.
    #[error("the broker has more to commit than it can hold")]
    Overloaded,
    /// The broker is going away; nothing was done.
    #[error("the broker is shutting down")]
    Draining,
    /// The disk is full; nothing was done.
    #[error("the disk is full")]
    Full,
    /// The store failed before anything was done.
    #[error("the store failed")]
    Failed,
    /// The store failed while committing.
    #[error("the outcome is unknown")]
    Unknown,
    /// There are as many options as there may be; nothing was done.
    #[error("options are set for as many topics and patterns as there may be")]
    TooManyOptions,
}

/// Room that the queue keeps for what comes during a commit.
const NEXT_WRITES_MAX: usize = 256;

pub(crate) type WriteResult = Result<Appended, WriteError>;
type ChangeResult = Result<(), WriteError>;
type PublishReply = oneshot::Sender<WriteResult>;

/// Writes that wait for the committer.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    writes: Vec<Write>,
    bytes: usize,
    closed: bool,
}

enum Write {
    Publish { group: Group, cost: usize, reply: PublishReply },
    Change { change: Change, reply: oneshot::Sender<ChangeResult> },
}

/// A write that is no publish.
#[derive(Debug)]
pub(crate) enum Change {
    /// Remove the messages of a topic.
    Delete(Topic),
    /// Set the options of a term.
    Options(Term, Options),
}

/// What a wait for the queue ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waited {
    /// There is something to commit.
    Filled,
    /// There is nothing yet.
    InVain,
    /// There is nothing, and never will be.
    Closed,
}

impl Write {
    const fn cost(&self) -> usize {
        match self {
            Self::Publish { cost, .. } => *cost,
            Self::Change { .. } => 64,
        }
    }
}

impl Queue {
    pub(crate) fn publish(&self, group: Group) -> Result<oneshot::Receiver<WriteResult>, WriteError> {
        let cost = group.drafts.iter().map(tailwire_model::Draft::cost).sum();
        let (reply, result) = oneshot::channel();
        self.push(Write::Publish { group, cost, reply })?;
        Ok(result)
    }

    pub(crate) fn change(&self, change: Change) -> Result<oneshot::Receiver<ChangeResult>, WriteError> {
        let (reply, result) = oneshot::channel();
        self.push(Write::Change { change, reply })?;
        Ok(result)
    }

    fn push(&self, write: Write) -> Result<(), WriteError> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(WriteError::Draining);
        }
        if state.bytes + write.cost() > QUEUE_BYTES_MAX || state.writes.len() >= QUEUE_COUNT_MAX {
            return Err(WriteError::Overloaded);
        }
        state.bytes += write.cost();
        state.writes.push(write);
        let first = state.writes.len() == 1;
        drop(state);
        if first {
            self.filled.notify_one();
        }
        Ok(())
    }

    /// How full it is, in 0..=1.
    pub(crate) fn load(&self) -> f64 {
        let state = self.state.lock();
        (state.bytes as f64 / QUEUE_BYTES_MAX as f64).max(state.writes.len() as f64 / QUEUE_COUNT_MAX as f64)
    }

    /// Refuses writes from here on; what is queued is still committed.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_all();
    }

    /// What one commit takes: all that waits, unless that is very much.
    fn take(&self) -> Vec<Write> {
        let mut state = self.state.lock();
        let mut bytes = 0;
        let mut fits = |write: &Write| {
            bytes += write.cost();
            bytes <= COMMIT_BYTES_MAX
        };
        let count = state.writes.iter().take_while(|write| fits(write)).count();
        let count = count.max(1).min(state.writes.len());
        let mut rest = state.writes.split_off(count);
        // As many as came during this commit may come during the next.
        rest.reserve(count.min(NEXT_WRITES_MAX));
        let batch = mem::replace(&mut state.writes, rest);
        state.bytes -= batch.iter().map(Write::cost).sum::<usize>();
        batch
    }

    /// Waits for a write, or until a time.
    fn wait(&self, until: Option<Instant>) -> Waited {
        let mut state = self.state.lock();
        while state.writes.is_empty() && !state.closed {
            match until {
                None => self.filled.wait(&mut state),
                Some(until) if self.filled.wait_until(&mut state, until).timed_out() => break,
                Some(_) => {}
            }
        }
        match (state.writes.is_empty(), state.closed) {
            (false, _) => Waited::Filled,
            (true, true) => Waited::Closed,
            (true, false) => Waited::InVain,
        }
    }

    /// Whether there is time for something else. Who is about to close has none.
    fn is_idle(&self) -> bool {
        let state = self.state.lock();
        state.writes.is_empty() && !state.closed
    }
}

/// The only writer of the log. `step` needs no thread of its own, so tests run it inline; `run` is the thread's loop.
pub struct Committer {
    pub(crate) queue: Arc<Queue>,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Clock,
    pub(crate) health: Arc<Health>,
    /// Told of each commit.
    pub(crate) activity: Arc<Activity>,
    /// When the log wants to be tidied next.
    pub(crate) tidy_at: Option<Instant>,
    pub(crate) commits_untidied: usize,
}

/// Under steady load the log is tidied a step every so many commits, and more often when it owes that.
const COMMITS_PER_TIDY: usize = 64;

/// Whether the log takes what it is given.
#[derive(Debug, Default)]
pub(crate) struct Health {
    has_failed: AtomicBool,
    /// What the operator was told last, until something goes through.
    told: Mutex<Option<LogError>>,
}

impl Health {
    pub(crate) fn is_good(&self) -> bool {
        !self.has_failed.load(Ordering::Relaxed)
    }

    fn recovered(&self) {
        self.has_failed.store(false, Ordering::Relaxed);
        *self.told.lock() = None;
    }

    /// What was to be written may not have been.
    fn failed(&self, error: &LogError) {
        self.has_failed.store(true, Ordering::Relaxed);
        self.tell(error);
    }

    /// What a refusal means to the client, and to the log's health: some are only about what was asked.
    fn refused(&self, error: &LogError) -> WriteError {
        let meaning = match error {
            LogError::TooManyOptions(_) => return WriteError::TooManyOptions,
            LogError::Closed => return WriteError::Draining,
            LogError::Full => {
                self.tell(error);
                return WriteError::Full;
            }
            LogError::Unknown(_) => WriteError::Unknown,
            LogError::Failed(_) | LogError::Corrupt(_) => WriteError::Failed,
        };
        self.failed(error);
        meaning
    }

    /// Tells the operator, once for as long as it is the same.
    fn tell(&self, error: &LogError) {
        let mut told = self.told.lock();
        if told.as_ref() != Some(error) {
            tracing::error!(%error, "the log could not be written");
            *told = Some(error.clone());
        }
    }
}

impl Committer {
    /// Commits what waits and answers it. False if nothing waited.
    pub fn step(&mut self) -> bool {
        let batch = self.queue.take();
        if batch.is_empty() {
            return false;
        }
        let started = Instant::now();
        self.activity.begin();
        let pending = self.append(batch);
        let committed = self.log.commit().map_err(|error| {
            self.health.failed(&error);
            WriteError::Unknown
        });
        self.metrics.commits.inc();
        self.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        if committed.is_ok() {
            self.count(&pending);
        }
        if committed.is_ok() && !pending.iter().any(Pending::is_refused) {
            self.health.recovered();
        }
        for write in pending {
            write.answer(committed.err());
        }
        self.activity.end(Instant::now());
        self.commits_untidied += 1;
        self.tidy_at = Some(Instant::now());
        true
    }

    /// Runs until the queue is closed and empty, then closes the log.
    ///
    /// # Errors
    /// When the log can't be closed in good order.
    pub fn run(mut self) -> Result<(), LogError> {
        loop {
            if self.is_tidy_due() {
                self.tidy();
            } else if self.queue.wait(self.tidy_at) == Waited::Closed {
                return self.log.close();
            }
            // Where one core has to do for all, those who are about to publish go first, and share this commit.
            thread::yield_now();
            self.step();
        }
    }

    fn is_tidy_due(&self) -> bool {
        let due = self.tidy_at.is_some_and(|at| at <= Instant::now());
        let is_time = || self.queue.is_idle() || self.commits_untidied >= COMMITS_PER_TIDY;
        due && (is_time() || self.log.owes_tidying())
    }

    /// Has the log do a step of its own.
    pub(crate) fn tidy(&mut self) {
        self.commits_untidied = 0;
        let again_ms = self.log.tidy((self.clock.now)()).unwrap_or_else(|error| {
            self.health.failed(&error);
            Some(RETENTION_EVERY_MS)
        });
        self.tidy_at = again_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
    }

    /// Hands the batch to the log, in order; publishes that stand together go in one call.
    fn append(&mut self, batch: Vec<Write>) -> Vec<Pending> {
        let now = (self.clock.now)();
        let mut pending = Vec::with_capacity(batch.len());
        let mut publishes = Vec::with_capacity(batch.len());
        for write in batch {
            match write {
                Write::Publish { group, reply, .. } => publishes.push((group, reply)),
                Write::Change { change, reply } => {
                    self.append_groups(mem::take(&mut publishes), now, &mut pending);
                    let result = match change {
                        Change::Delete(topic) => self.log.trim(&topic, TrimReason::Deleted),
                        Change::Options(term, options) => self.log.set_options(&term, options),
                    };
                    let result = result.map_err(|error| self.health.refused(&error));
                    pending.push(Pending::Change { result, reply });
                }
            }
        }
        self.append_groups(publishes, now, &mut pending);
        pending
    }

    fn append_groups(
        &self,
        publishes: Vec<(Group, PublishReply)>,
        now: Timestamp,
        pending: &mut Vec<Pending>,
    ) {
        if publishes.is_empty() {
            return;
        }
        let bytes: Vec<usize> = publishes.iter().map(|(group, _)| body_bytes(group)).collect();
        let (groups, replies): (Vec<Group>, Vec<PublishReply>) = publishes.into_iter().unzip();
        let results: Vec<WriteResult> = match self.log.append(groups, now) {
            Ok(results) => results.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(self.health.refused(&error)); replies.len()],
        };
        let answers = results.into_iter().zip(bytes).zip(replies);
        pending.extend(answers.map(|((result, bytes), reply)| Pending::Publish { result, bytes, reply }));
    }

    fn count(&self, pending: &[Pending]) {
        let mut messages = 0;
        for write in pending {
            match write {
                Pending::Publish { result: Ok(Appended::Stored(stored)), bytes, .. } => {
                    messages += u64::from(stored.count);
                    self.metrics.bytes_in.inc_by(*bytes as u64);
                }
                Pending::Publish { result: Ok(Appended::Replayed(_)), .. } => {
                    self.metrics.replayed.inc();
                }
                _ => {}
            }
        }
        self.metrics.messages_in.inc_by(messages);
        self.metrics.commit_messages.observe(messages as f64);
    }
}

fn body_bytes(group: &Group) -> usize {
    group.drafts.iter().map(|draft| draft.body.len()).sum()
}

/// Written and not yet committed.
enum Pending {
    Publish { result: WriteResult, bytes: usize, reply: PublishReply },
    Change { result: ChangeResult, reply: oneshot::Sender<ChangeResult> },
}

impl Pending {
    /// Whether the log would not take it.
    const fn is_refused(&self) -> bool {
        match self {
            Self::Publish { result, .. } => result.is_err(),
            Self::Change { result, .. } => result.is_err(),
        }
    }

    /// Answers after the commit. A client that went away meanwhile has its message in the log all the same.
    fn answer(self, failed: Option<WriteError>) {
        match self {
            Self::Publish { result, reply, .. } => {
                let _ = reply.send(result.and_then(|done| outcome(done, failed)));
            }
            Self::Change { result, reply } => {
                let _ = reply.send(result.and_then(|()| failed.map_or(Ok(()), Err)));
            }
        }
    }
}

/// A failed commit makes unknown what was written, also what a key found in the same commit; a refusal stays one.
const fn outcome(done: Appended, failed: Option<WriteError>) -> WriteResult {
    match (done, failed) {
        (Appended::Stored(_) | Appended::Replayed(_), Some(error)) => Err(error),
        (done, _) => Ok(done),
    }
}

#[cfg(test)]
mod tests;
