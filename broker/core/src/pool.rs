//! A few threads that read the log, so that no runtime ever waits for a disk. One job is one bounded page, first come
//! first served: a reader asks for its next page only when the last one is written, so all of them take turns.
//!
//! Those who read old data, page upon page, rest between their turns while others publish; meanwhile those who want a page
//! and no more pass them.
//!
//! Pages that are read and not yet written count against one budget of bytes; while it is spent, jobs wait.

use std::{
    collections::VecDeque,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread,
    time::Instant,
};

use parking_lot::{Condvar, Mutex};
use tailwire_model::limits::READ_BYTES_IN_FLIGHT_MAX;
use tokio::sync::oneshot;

use crate::{
    log::Log,
    rest::{Activity, Turns},
};

/// The threads' shared side.
pub(crate) struct Pool {
    activity: Arc<Activity>,
    /// Rests are so many times as long as what they follow.
    rests: u32,
    state: Mutex<State>,
    changed: Condvar,
}

/// How soon a job is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Haste {
    /// When those before it are done.
    Soon,
    /// Not before the rest after the last such job is over, either.
    Rested,
}

struct State {
    jobs: VecDeque<(Haste, usize, Job)>,
    turns: Turns,
    bytes_free: usize,
    closed: bool,
}

type Job = Box<dyn FnOnce(&dyn Log, Lease) + Send>;

/// A share of the budget, given back when dropped.
pub(crate) struct Lease {
    pool: Arc<Pool>,
    bytes: usize,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.state.lock().bytes_free += self.bytes;
        self.pool.changed.notify_one();
    }
}

impl Pool {
    /// Starts `threads` threads over a log, each with a call of `begins`.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(
        log: &Arc<dyn Log>,
        activity: &Arc<Activity>,
        threads: usize,
        begins: fn(),
        rests: u32,
    ) -> std::io::Result<Arc<Self>> {
        let (jobs, turns) = (VecDeque::new(), Turns::new());
        let state = State { jobs, turns, bytes_free: READ_BYTES_IN_FLIGHT_MAX, closed: false };
        let (activity, state) = (activity.clone(), Mutex::new(state));
        let pool = Arc::new(Self { activity, rests, state, changed: Condvar::new() });
        for index in 0..threads {
            let (pool, log) = (pool.clone(), log.clone());
            let work = move || {
                begins();
                pool.work(&*log);
            };
            thread::Builder::new().name(format!("log-read-{index}")).spawn(work)?;
        }
        Ok(pool)
    }

    /// Runs one read of at most `bytes`. The receiver fails only when the pool is closed.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        bytes: usize,
        haste: Haste,
        read: impl FnOnce(&dyn Log, Lease) -> T + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (reply, result) = oneshot::channel();
        let job: Job = Box::new(move |log, lease| {
            // A reader that went away meanwhile doesn't cost a read.
            if !reply.is_closed() {
                let _ = reply.send(read(log, lease));
            }
        });
        let mut state = self.state.lock();
        if !state.closed {
            state.jobs.push_back((haste, bytes.min(READ_BYTES_IN_FLIGHT_MAX), job));
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

    fn work(self: Arc<Self>, log: &dyn Log) {
        while let Some((haste, lease, job)) = self.next() {
            let began = Instant::now();
            // An engine may panic over a damaged store: that read fails, and the thread goes on.
            if panic::catch_unwind(AssertUnwindSafe(|| job(log, lease))).is_err() {
                tracing::error!("a read of the log panicked");
            }
            if haste == Haste::Rested {
                let now = Instant::now();
                let rest = self.activity.rest(now, now - began, self.rests);
                self.state.lock().turns.rest(now, rest);
            }
        }
    }

    /// Waits for a job that can be done; `None` when the pool is closed.
    fn next(self: &Arc<Self>) -> Option<(Haste, Lease, Job)> {
        let mut state = self.state.lock();
        while !state.closed {
            if let Some((haste, bytes, job)) = state.pop(Instant::now()) {
                state.bytes_free -= bytes;
                return Some((haste, Lease { pool: self.clone(), bytes }, job));
            }
            if state.is_resting() {
                let until = state.turns.next;
                self.changed.wait_until(&mut state, until);
            } else {
                self.changed.wait(&mut state);
            }
        }
        None
    }
}

impl State {
    /// The next job, if there are bytes left for it. One that has to wait for them is not passed by any other.
    fn pop(&mut self, now: Instant) -> Option<(Haste, usize, Job)> {
        let rested = self.turns.next <= now;
        let index = self.jobs.iter().position(|(haste, ..)| rested || *haste == Haste::Soon)?;
        let fits = self.jobs[index].1 <= self.bytes_free;
        if fits { self.jobs.remove(index) } else { None }
    }

    /// Whether there is one that waits for nothing but a rest.
    fn is_resting(&self) -> bool {
        self.jobs.iter().all(|(haste, ..)| *haste == Haste::Rested)
            && self.jobs.front().is_some_and(|(_, bytes, _)| *bytes <= self.bytes_free)
    }
}

#[cfg(test)]
mod tests;
