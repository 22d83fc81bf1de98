//! The answers of a connection that are not written yet, in the order of their requests. Small ones are copied together: that costs
//! less than to write several.

use std::{
    mem,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use tailwire_core::Timer;

use crate::connection::{
    outgoing::Outgoing,
    pinned::{Common, Pinned},
    socket::Socket,
};

/// Bodies that are copied behind their heads.
const COPIED_BYTES_MAX: usize = 1024;
/// Beyond this small ones are written apart after all.
const OPEN_BYTES_MAX: usize = 16 << 10;
/// Answers of so many bytes count as pinned memory; smaller ones are bounded by their number.
const SMALL_BYTES: usize = 16 << 10;

/// The client is gone, or has taken nothing for too long.
#[derive(Debug)]
pub(crate) struct Gone;

/// See the module.
#[derive(Default)]
pub(super) struct Answers {
    out: Outgoing,
    /// Small answers that are written as one, behind all others.
    open: Vec<u8>,
}

impl Answers {
    /// Whether enough is there for one write.
    pub(super) fn is_full(&self) -> bool {
        self.out.is_full()
    }

    /// Adds an answer, with the room that was taken for it.
    pub(super) fn push(&mut self, mut head: Vec<u8>, body: Bytes, room: Option<Pinned>) {
        if body.len() > COPIED_BYTES_MAX {
            self.open.extend_from_slice(&head);
            self.close();
            return match room {
                Some(room) => self.out.push_pinned(body, room),
                None if body.len() > SMALL_BYTES => self.out.push_own(body, []),
                None => self.out.push(body),
            };
        }
        if self.open.is_empty() {
            head.extend_from_slice(&body);
            self.open = head;
        } else {
            self.open.extend_from_slice(&head);
            self.open.extend_from_slice(&body);
        }
        if self.open.len() > OPEN_BYTES_MAX {
            self.close();
        }
    }

    /// Adds an answer that others are given too.
    pub(super) fn push_common(&mut self, common: Arc<Common>) {
        self.close();
        self.out.push_common(common, 0);
    }

    /// Nothing more is added to the small ones.
    fn close(&mut self) {
        self.out.push(mem::take(&mut self.open));
    }

    /// Writes until nothing is left, for as long as the client takes some of it.
    pub(super) fn poll_write(
        &mut self,
        socket: &Socket,
        timer: &mut Timer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Gone>> {
        self.close();
        match self.out.poll_write(socket, cx, |_| {}) {
            Poll::Ready(written) => Poll::Ready(written.map_err(|_| Gone)),
            // Nothing of an answer that has begun can be let go of, so that a stall has only one end.
            Poll::Pending => self.out.poll_stall(timer, cx).map(|_| Err(Gone)),
        }
    }
}
