//! A few threads that read the log, so that no runtime ever waits for a disk. One job is one bounded page, first come
//! first served: a reader asks for its next page only when the last one is written, so all of them take turns.
//!
//! Pages that are read and not yet written count against one budget of bytes; while it is spent, jobs wait.

use std::{
    collections::VecDeque,
    panic::{self, AssertUnwindSafe},
    sync::Arc,
    thread,
};

use parking_lot::{Condvar, Mutex};
use tailwire_model::limits::READ_BYTES_IN_FLIGHT_MAX;
use tokio::sync::oneshot;

use crate::log::Log;

/// The threads' shared side.
pub(crate) struct Pool {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    jobs: VecDeque<(usize, Job)>,
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
    /// Starts `threads` threads over a log.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub(crate) fn start(log: &Arc<dyn Log>, threads: usize) -> std::io::Result<Arc<Self>> {
        let state = State { jobs: VecDeque::new(), bytes_free: READ_BYTES_IN_FLIGHT_MAX, closed: false };
        let pool = Arc::new(Self { state: Mutex::new(state), changed: Condvar::new() });
        for index in 0..threads {
            let (pool, log) = (pool.clone(), log.clone());
            thread::Builder::new().name(format!("log-read-{index}")).spawn(move || pool.work(&*log))?;
        }
        Ok(pool)
    }

    /// Runs one read of at most `bytes`. The receiver fails only when the pool is closed.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        bytes: usize,
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
            state.jobs.push_back((bytes.min(READ_BYTES_IN_FLIGHT_MAX), job));
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
        loop {
            let mut state = self.state.lock();
            let (bytes, job) = loop {
                if state.closed {
                    return;
                }
                let free = state.bytes_free;
                if let Some((bytes, job)) = state.jobs.pop_front_if(|(bytes, _)| *bytes <= free) {
                    state.bytes_free -= bytes;
                    break (bytes, job);
                }
                self.changed.wait(&mut state);
            };
            drop(state);
            let lease = Lease { pool: self.clone(), bytes };
            // An engine may panic over a damaged store: that read fails, and the thread goes on.
            if panic::catch_unwind(AssertUnwindSafe(|| job(log, lease))).is_err() {
                tracing::error!("a read of the log panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;
