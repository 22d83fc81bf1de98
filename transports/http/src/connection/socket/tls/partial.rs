//! Part of a TLS record: nothing of it can be read before it is whole, so a client that sends one and no end would keep its memory. It
//! counts against what all clients together are sending, waits for room there, and has the time of a body.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tailwire_model::limits::REQUEST_BODY_MS_MAX;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connection::budget::Charge;

/// See the module.
pub(super) struct PartialRecord {
    charge: Charge,
    /// Since when a record has not been whole.
    since: Option<Instant>,
    /// Ends when patience with it does. It is a runtime's.
    late: Option<Pin<Box<Sleep>>>,
}

impl PartialRecord {
    /// Nothing yet.
    pub(super) const fn new(charge: Charge) -> Self {
        Self { charge, since: None, late: None }
    }

    /// Whether more may be read at once.
    pub(super) fn has_room(&self) -> bool {
        self.charge.budget().has_room()
    }

    /// So much was received and not read, of whole records and of one that is not.
    pub(super) fn is(&mut self, bytes: usize, is_partial: bool) {
        self.charge.set(bytes);
        match (is_partial, self.since) {
            (true, None) => self.since = Some(Instant::now()),
            (false, Some(_)) => (self.since, self.late) = (None, None),
            _ => {}
        }
    }

    /// Ready when more may be read. Fails when that has taken too long.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(since) = self.since else { return Poll::Ready(Ok(())) };
        let end = since + Duration::from_millis(REQUEST_BODY_MS_MAX);
        let late = self.late.get_or_insert_with(|| Box::pin(sleep_until(end)));
        if late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "a TLS record took too long")));
        }
        ready!(self.charge.poll_room(cx));
        Poll::Ready(Ok(()))
    }

    /// Leaves its runtime, for another one.
    pub(super) fn leave(&mut self) {
        self.late = None;
    }
}
