//! What is kept for stuck connections: copies, the rests of pages that were read for one of them, and what they share. It can't
//! be let go of, as a frame or a response that has begun must be ended; so there is a bound for all of them together.

use std::sync::atomic::{AtomicUsize, Ordering};

use tailwire_model::limits::HELD_BYTES_MAX;

/// Of all connections of the process.
static BYTES: AtomicUsize = AtomicUsize::new(0);

/// For tests that count what is held: it is all of the process's.
#[cfg(test)]
pub(crate) static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// So many bytes, until it is dropped.
pub(crate) struct Held(usize);

impl Held {
    pub(crate) fn new(bytes: usize) -> Self {
        BYTES.fetch_add(bytes, Ordering::Relaxed);
        Self(bytes)
    }

    /// Whether more is held than may be.
    pub(crate) fn is_too_much() -> bool {
        BYTES.load(Ordering::Relaxed) > HELD_BYTES_MAX
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        BYTES.fetch_sub(self.0, Ordering::Relaxed);
    }
}
