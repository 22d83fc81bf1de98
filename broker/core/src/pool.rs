//! A few threads that read the log, so that no runtime ever waits for a disk. One job is one bounded page, first come
//! first served: a reader asks for its next page only when the last one is written, so all of them take turns.
//!
//! Readers of old data, page upon page, are throttled between their turns while others publish, though none of them for long;
//! meanwhile requests for a page and no more pass them.
//!
//! Pages that are read and not yet written count against one budget of bytes; while it is spent, jobs wait. Streams, which
//! hold theirs until slow clients take them, leave some of it to others.

use std::{
    collections::VecDeque,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::{Condvar, Mutex};
use tailwire_model::limits::{CATCH_UP_WAIT_MS_MAX, READ_BYTES_IN_FLIGHT_MAX, READ_BYTES_KEPT};
use tokio::sync::oneshot;

use crate::{
    store::Store,
    throttle::{Activity, Turns},
};

/// The threads' shared side.
pub(crate) struct Pool {
    activity: Arc<Activity>,
    /// Throttling pauses are so many times as long as the reads that they follow.
    throttle_factor: u32,
    state: Mutex<PoolState>,
    changed: Condvar,
}

/// How soon a job is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Somebody waits for this and no more. When those before it are done, or wait.
    Answer,
    /// For a stream: when those before it are done.
    Soon,
    /// The same, and not before the pause after the last such job is over.
    Throttled,
}

impl Priority {
    /// The budget for jobs of this priority, and of lower ones.
    const fn budget(self) -> usize {
        match self {
            Self::Answer => READ_BYTES_IN_FLIGHT_MAX,
            Self::Soon | Self::Throttled => READ_BYTES_IN_FLIGHT_MAX - READ_BYTES_KEPT,
        }
    }
}

struct PoolState {
    jobs: VecDeque<QueuedJob>,
    turns: Turns,
    /// Bytes that are leased. A job may turn out to need more than there is.
    leased: usize,
    closed: bool,
}

/// A job, since when it waits, and the bytes that it needs.
struct QueuedJob {
    priority: Priority,
    since: Instant,
    bytes: usize,
    job: Job,
}

type Job = Box<dyn FnOnce(&dyn Store, Lease) + Send>;

/// A share of the budget, given back when dropped.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    bytes: usize,
}

impl Lease {
    /// Sets the share once it is known.
    pub(crate) fn set(&mut self, bytes: usize) {
        let mut state = self.pool.state.lock();
        state.leased = state.leased - self.bytes + bytes;
        drop(state);
        if bytes < self.bytes {
            self.pool.changed.notify_one();
        }
        self.bytes = bytes;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.set(0);
    }
}

impl Pool {
    /// Starts `threads` threads over a store, each with a call of `begins`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(
        store: &Arc<dyn Store>,
        activity: &Arc<Activity>,
        threads: usize,
        begins: fn(),
        throttle_factor: u32,
    ) -> std::io::Result<Arc<Self>> {
        let (jobs, turns) = (VecDeque::new(), Turns::new());
        let state = PoolState { jobs, turns, leased: 0, closed: false };
        let (activity, state) = (activity.clone(), Mutex::new(state));
        let pool = Arc::new(Self { activity, throttle_factor, state, changed: Condvar::new() });
        for index in 0..threads {
            let (pool, store) = (pool.clone(), store.clone());
            let work = move || {
                begins();
                pool.work(&*store);
            };
            thread::Builder::new().name(format!("log-read-{index}")).spawn(work)?;
        }
        Ok(pool)
    }

    /// Runs one read of at most `bytes`. The receiver fails only when the pool is closed.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        priority: Priority,
        read: impl FnOnce(&dyn Store, Lease) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (reply, result) = oneshot::channel();
        let job: Job = Box::new(move |store, lease| {
            // A reader that went away meanwhile doesn't cost a read.
            if !reply.is_closed() {
                let _ = reply.send(read(store, lease));
            }
        });
        let mut state = self.state.lock();
        if !state.closed {
            let bytes = bytes.min(priority.budget());
            state.jobs.push_back(QueuedJob { priority, since: Instant::now(), bytes, job });
            drop(state);
            self.changed.notify_one();
        }
        result
    }

    /// Ends the threads; jobs that wait are dropped.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.jobs.clear();
        drop(state);
        self.changed.notify_all();
    }

    fn work(self: Arc<Self>, store: &dyn Store) {
        while let Some((priority, lease, job)) = self.next() {
            let began = Instant::now();
            // An engine may panic over a damaged store: that read fails, and the thread goes on.
            if panic::catch_unwind(AssertUnwindSafe(|| job(store, lease))).is_err() {
                tracing::error!("a read of the log panicked");
            }
            if priority == Priority::Throttled {
                let now = Instant::now();
                let throttle = self.activity.throttle(now, now - began, self.throttle_factor);
                self.state.lock().turns.throttle(now, throttle);
            }
        }
    }

    /// Waits for a job that can be done; `None` when the pool is closed.
    fn next(self: &Arc<Self>) -> Option<(Priority, Lease, Job)> {
        let mut state = self.state.lock();
        while !state.closed {
            let now = Instant::now();
            if let Some(QueuedJob { priority, bytes, job, .. }) = state.pop(now) {
                state.leased += bytes;
                return Some((priority, Lease { pool: self.clone(), bytes }, job));
            }
            match state.next_throttled() {
                Some(until) if until > now => {
                    self.changed.wait_until(&mut state, until);
                }
                _ => self.changed.wait(&mut state),
            }
        }
        None
    }
}

impl PoolState {
    /// The next job, if there are bytes left for it. A stream's that has to wait for them is passed by no other stream's.
    fn pop(&mut self, now: Instant) -> Option<QueuedJob> {
        let mut streams_wait = false;
        let index = self.jobs.iter().position(|waiting| {
            if waiting.priority != Priority::Answer && streams_wait {
                return false;
            }
            let may_begin = waiting.priority != Priority::Throttled || self.throttled_until(waiting) <= now;
            let fits = self.leased + waiting.bytes <= waiting.priority.budget();
            streams_wait |= may_begin && !fits && waiting.priority != Priority::Answer;
            may_begin && fits
        })?;
        self.jobs.remove(index)
    }

    /// Until when a job is throttled.
    fn throttled_until(&self, waiting: &QueuedJob) -> Instant {
        self.turns.next.min(waiting.since + Duration::from_millis(CATCH_UP_WAIT_MS_MAX))
    }

    /// When the first of the throttled jobs may begin.
    fn next_throttled(&self) -> Option<Instant> {
        let first = self.jobs.iter().find(|waiting| waiting.priority == Priority::Throttled)?;
        Some(self.throttled_until(first))
    }
}

#[cfg(test)]
mod tests;
