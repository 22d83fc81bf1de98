//! What one of a group of long-polls waits with: whom to wake, and the socket that it lends.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use parking_lot::Mutex;
use tokio::net::tcp::OwnedWriteHalf;

use super::found::{Found, Served};
use crate::api::guard::Cors;

/// See the module.
pub(crate) struct Ticket(Mutex<Standing>);

enum Standing {
    Waits { waker: Waker, socket: Option<Arc<OwnedWriteHalf>> },
    Served(Option<Served>),
}

impl Default for Ticket {
    fn default() -> Self {
        Self(Mutex::new(Standing::Waits { waker: Waker::noop().clone(), socket: None }))
    }
}

impl Ticket {
    /// The answer may be written to a socket of HTTP/1.1 to which nobody else writes meanwhile.
    pub(crate) fn lend(&self, to: &Arc<OwnedWriteHalf>) {
        if let Standing::Waits { socket, .. } = &mut *self.0.lock() {
            *socket = Some(to.clone());
        }
    }

    /// Wakes its task, which looks.
    pub(super) fn call(&self) {
        if let Standing::Waits { waker, .. } = &*self.0.lock() {
            waker.wake_by_ref();
        }
    }

    /// Gives the answer: writes it, where there is a socket, and wakes the task for what comes behind it. Answers how many bytes
    /// were written.
    pub(super) fn serve(&self, found: Option<&Arc<Found>>, cors: &Cors) -> usize {
        let mut standing = self.0.lock();
        let Standing::Waits { waker, socket } = &mut *standing else { return 0 };
        let (waker, socket) = (mem::replace(waker, Waker::noop().clone()), socket.take());
        let served = found.map(|found| {
            let write = |socket: &Arc<OwnedWriteHalf>| socket.try_write(&found.wire(cors).bytes).unwrap_or(0);
            // What is wrong with a socket, its task comes to by itself.
            Served { found: found.clone(), written: socket.as_ref().map_or(0, write) }
        });
        let written = served.as_ref().map_or(0, |served| served.written);
        // Whoever finds itself served has its socket for itself.
        drop(socket);
        *standing = Standing::Served(served);
        drop(standing);
        waker.wake();
        written
    }

    /// What it was served; else the task to wake is this one.
    pub(super) fn poll_served(&self, cx: &Context<'_>) -> Poll<Option<Served>> {
        match &mut *self.0.lock() {
            Standing::Served(served) => Poll::Ready(served.take()),
            Standing::Waits { waker, .. } => {
                waker.clone_from(cx.waker());
                Poll::Pending
            }
        }
    }

    /// Ends the waiting: from here on nobody writes to its socket. Ready if it had been served.
    pub(super) fn end(&self) -> Poll<Option<Served>> {
        match mem::replace(&mut *self.0.lock(), Standing::Served(None)) {
            Standing::Served(served) => Poll::Ready(served),
            Standing::Waits { .. } => Poll::Pending,
        }
    }
}
