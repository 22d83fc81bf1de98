//! A connection whose socket is full: it holds no page for long, keeps no memory from others without taking some of what it
//! holds, and is given up in the end.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tailwire_core::{Slice, Timer};
use tailwire_model::{
    Position,
    limits::{PINNED_RATE_MIN, STALL_RELEASE_MS},
};
use tokio::time::Instant;

use super::{Outgoing, Piece, PieceContent, SendError};
use crate::connection::{
    patience::{Patience, Wait},
    pinned::Pinned,
};

/// Bytes that are copied rather than shared.
const COPY_BYTES_MAX: usize = 16 << 10;
/// How often it is looked whether others wait for what a connection holds.
const LOOK: Duration = Duration::from_millis(STALL_RELEASE_MS);

/// Since when the pending pieces have been held, and since when the socket has taken nothing.
pub(super) struct Stall {
    held: Instant,
    stuck: Patience,
    /// When it was last looked how much the client takes, and how much it has taken since then.
    looked: Instant,
    taken: usize,
}

impl Stall {
    fn new(now: Instant) -> Self {
        Self { held: now, stuck: Patience::since(Wait::Write, now), looked: now, taken: 0 }
    }

    /// The kernel took so much.
    pub(super) fn took(&mut self, bytes: usize) {
        if bytes > 0 {
            self.stuck.progress();
            self.taken += bytes;
        }
    }

    /// Whether too little was taken since the last look, which lies a while back.
    fn is_too_slow(&mut self, now: Instant) -> bool {
        let Some(elapsed) = now.checked_duration_since(self.looked).filter(|elapsed| *elapsed >= LOOK) else {
            return false;
        };
        let least = PINNED_RATE_MIN as u64 * elapsed.as_millis() as u64 / 1000;
        let is_too_slow = (self.taken as u64) < least;
        (self.looked, self.taken) = (now, 0);
        is_too_slow
    }
}

impl Outgoing {
    /// For a connection whose socket is full: sees to it that it holds no page for long, and gives up in the end.
    ///
    /// Ready with a position when the messages behind it were let go of: the reader goes back there.
    pub(crate) fn poll_stall(
        &mut self,
        timer: &mut Timer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Position, SendError>> {
        let now = Instant::now();
        let stall = self.stall.get_or_insert_with(|| Box::new(Stall::new(now)));
        if stall.stuck.is_over(now) {
            return Poll::Ready(Err(SendError::Stalled));
        }
        let release = stall.held + LOOK;
        let mut next = if now < release { release } else { stall.stuck.deadline() };
        if now >= release {
            let is_too_slow = stall.is_too_slow(now);
            let look = stall.looked + LOOK;
            if let Some(position) = self.release() {
                return Poll::Ready(Ok(position));
            }
            if self.pins() {
                if is_too_slow && self.is_contended() {
                    return Poll::Ready(Err(SendError::Stalled));
                }
                next = next.min(look);
            }
        }
        match timer.poll_until(cx, next) {
            // Time has passed since `now`: look again.
            Poll::Ready(()) => self.poll_stall(timer, cx),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Lets go of the messages behind the last piece that must be kept, all but the one that is being written, of which
    /// it keeps a copy. Returns where the reader goes back to; `None` when there is nothing to let go of.
    fn release(&mut self) -> Option<Position> {
        for piece in &mut self.pieces[self.done..] {
            if let PieceContent::Own(_, slices) = &mut piece.content {
                *slices = Box::default();
            }
        }
        let kept = self.pieces.iter().rposition(|piece| !piece.content.may_go());
        let from = kept.map_or(self.done, |index| (index + 1).max(self.done));
        let dropped = self.pieces.get(from..)?;
        let (slice, view) = dropped.iter().find_map(|piece| match &piece.content {
            PieceContent::Messages(slice, view) => Some((slice, *view)),
            _ => None,
        })?;
        let first = &dropped[0];
        let partly_written = from == self.done && self.offset > 0;
        let (rest, position) = match &first.content {
            PieceContent::Messages(..) if partly_written => {
                let (end, last) = slice.message_end(view, self.offset);
                (Some(&first.bytes[self.offset..end]), last)
            }
            _ if partly_written => (Some(&first.bytes[self.offset..]), before(slice)),
            _ => (None, before(slice)),
        };
        let rest = rest.map(|rest| {
            let bytes = keep(&first.bytes, rest);
            let is_shared = matches!(&first.content, PieceContent::Messages(slice, _) if slice.is_shared());
            let pinned = match (rest.len() > COPY_BYTES_MAX, is_shared) {
                (false, _) => bytes.len(),
                // The whole is kept for the rest's sake; unless it is everybody's.
                (true, false) => first.bytes.len(),
                (true, true) => 0,
            };
            Piece { bytes, content: PieceContent::Own(Pinned::of(pinned), Box::default()) }
        });
        self.pieces.truncate(from);
        if partly_written {
            self.clear();
        }
        self.pieces.extend(rest);
        let pending: usize = self.pieces[self.done..].iter().map(|piece| piece.bytes.len()).sum();
        self.bytes = pending - self.offset;
        if self.pieces.len() == self.done {
            self.clear();
        }
        Some(position)
    }

    fn pins(&self) -> bool {
        self.pieces.iter().any(|piece| piece.content.pinned().is_some())
    }

    fn is_contended(&self) -> bool {
        self.pieces.iter().filter_map(|piece| piece.content.pinned()).any(Pinned::is_contended)
    }
}

/// A part of some bytes that is kept for longer than they need be: a copy if it is small, so that it doesn't keep a whole
/// page alive, or a connection's buffer; else shared.
pub(crate) fn keep(bytes: &Bytes, rest: &[u8]) -> Bytes {
    if rest.len() <= COPY_BYTES_MAX { Bytes::copy_from_slice(rest) } else { bytes.slice_ref(rest) }
}

fn before(slice: &Slice) -> Position {
    slice.messages().first().map_or(Position::ZERO, |message| message.position().previous())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{future::poll_fn, sync::Arc};

    use tailwire_model::limits::PINNED_BYTES_MAX;

    use super::*;
    use crate::connection::{
        pinned::{ALONE, Common},
        socket::sealed,
    };

    /// How many seconds the patience with a connection lasts that takes nothing.
    async fn patience(out: &mut Outgoing) -> u64 {
        out.stall = None;
        let (began, mut timer) = (Instant::now(), Timer::default());
        let end = poll_fn(|cx| out.poll_stall(&mut timer, cx)).await;
        assert!(matches!(end, Err(SendError::Stalled)));
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_of_pinned_memory_is_not_waited_for_where_others_need_it() {
        let _alone = ALONE.lock().await;
        let mut other = Outgoing::default();
        other.push("kept");
        let mut small = Outgoing::default();
        small.push_own(vec![0; 1000], []);
        assert_eq!(patience(&mut small).await, 30);
        let mut large = Outgoing::default();
        large.push_own(vec![0; PINNED_BYTES_MAX], []);
        assert_eq!(patience(&mut small).await, 1, "it is too much from the first byte");
        assert_eq!(patience(&mut other).await, 30, "it holds nothing of its own");
        drop(large);
        assert_eq!(patience(&mut small).await, 30);
        // Bytes that several are stuck with count once.
        let common = Arc::new(Common::new(vec![0; PINNED_BYTES_MAX * 3 / 4]));
        let mut outs = [Outgoing::default(), Outgoing::default()];
        for out in &mut outs {
            out.push_common(common.clone(), 1);
            assert_eq!(patience(out).await, 30);
        }
        outs[0].push_own(vec![0; PINNED_BYTES_MAX / 2], []);
        assert_eq!(patience(&mut outs[0]).await, 1);
        assert_eq!(patience(&mut outs[1]).await, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_need_that_comes_later_is_seen() {
        let _alone = ALONE.lock().await;
        let mut out = Outgoing::default();
        out.push_own(vec![0; 1000], []);
        let waiting = tokio::spawn(async move { patience(&mut out).await });
        tokio::time::sleep(Duration::from_millis(5500)).await;
        let large = Pinned::of(PINNED_BYTES_MAX);
        assert_eq!(waiting.await.unwrap(), 6);
        drop(large);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_enough_is_waited_for_and_one_that_takes_drops_is_not() {
        let _alone = ALONE.lock().await;
        let _large = Pinned::of(PINNED_BYTES_MAX);
        for (taken, patience) in [(2 * PINNED_RATE_MIN, None), (PINNED_RATE_MIN / 2, Some(1))] {
            let (socket, mut far) = sealed::pair(64 << 10);
            let mut out = Outgoing::default();
            out.push_own(vec![0; 1 << 20], []);
            let (began, mut timer) = (Instant::now(), Timer::default());
            let client = tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    far.receive(taken / 2);
                }
            });
            let end = poll_fn(|cx| match out.poll_write(&socket, cx, |_| {}) {
                Poll::Ready(written) => Poll::Ready(written),
                Poll::Pending => out.poll_stall(&mut timer, cx).map(|end| end.map(drop)),
            })
            .await;
            assert_eq!(end.err().map(|_| began.elapsed().as_secs()), patience);
            client.abort();
        }
    }
}
