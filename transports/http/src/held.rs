//! What stuck connections hold that nobody else does: copies, and the rests of pages that were read for one of them. It can't
//! be let go of, as a frame or a response that has begun must be ended; so there is a bound for all of them together.

use std::sync::atomic::{AtomicUsize, Ordering};

use tailwire_model::limits::HELD_BYTES_MAX;

/// Of all connections of the process.
static BYTES: AtomicUsize = AtomicUsize::new(0);

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
