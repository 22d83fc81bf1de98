//! How far subscribers are behind publishers, for a closed loop: publishers wait while too many messages are not
//! delivered to everybody yet.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use mio::Waker;

/// What publishers and subscribers, each in a thread, know of each other.
#[derive(Debug)]
pub(crate) struct Progress {
    undelivered_max: u64,
    subscribers: u64,
    deliveries: AtomicU64,
    is_waiting: AtomicBool,
    publishers: OnceLock<Waker>,
}

impl Progress {
    pub(crate) fn new(undelivered_max: u64, subscribers: u64) -> Progress {
        Progress {
            undelivered_max,
            subscribers,
            deliveries: AtomicU64::new(0),
            is_waiting: AtomicBool::new(false),
            publishers: OnceLock::new(),
        }
    }

    /// The publishers are woken by this.
    pub(crate) fn wake_by(&self, waker: Waker) {
        drop(self.publishers.set(waker));
    }

    /// Subscribers have had so many deliveries in all.
    pub(crate) fn delivered(&self, deliveries: u64) {
        self.deliveries.store(deliveries, Ordering::SeqCst);
        if self.is_waiting.swap(false, Ordering::SeqCst)
            && let Some(waker) = self.publishers.get()
        {
            // A full pipe wakes, too.
            drop(waker.wake());
        }
    }

    /// Whether one more message may be published after so many; else the waker wakes when that may have changed.
    pub(crate) fn has_room(&self, published: u64) -> bool {
        let has_room = || {
            published * self.subscribers
                < self.deliveries.load(Ordering::SeqCst) + self.undelivered_max * self.subscribers
        };
        if has_room() {
            return true;
        }
        self.is_waiting.store(true, Ordering::SeqCst);
        // A delivery may have come in between, and woken nobody.
        has_room()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_wait_while_too_much_is_undelivered() {
        let progress = Progress::new(2, 3);
        assert!(progress.has_room(1));
        assert!(!progress.has_room(2));
        progress.delivered(3);
        assert!(progress.has_room(2));
        assert!(!progress.has_room(3));
    }
}
