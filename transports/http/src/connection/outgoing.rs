//! What a connection has yet to write: prebuilt bytes, shared with every other connection that gets them. Everything
//! that is pending goes out in one vectored write; nothing is copied, and nothing is allocated by a message.

use std::{
    io::{self, IoSlice},
    net::Shutdown,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use smallvec::SmallVec;
use socket2::SockRef;
use tailwire_core::{Accepted, Reader, Sink, Slice, Timer};
use tailwire_model::{
    Position,
    limits::{BATCH_READ_BYTES_MAX, STALL_CLOSE_MS, STALL_RELEASE_MS},
};
use tokio::{net::TcpStream, time::Instant};

use super::held::{Common, Held};
use crate::api::metrics::Connected;

/// How many pieces one call writes, at most; the kernel takes 1,024.
const PIECES_PER_WRITE: usize = 64;

/// What is copied rather than shared.
const COPY_BYTES_MAX: usize = 16 << 10;
/// How long a client may take to close its side.
const HANG_UP: Duration = Duration::from_secs(2);

/// The socket of a stream or a WebSocket. Its task lends it to the shard while it has nothing to say; only one of the two
/// writes at a time, and both write whole frames, or tell the other what is left.
///
/// What the shard writes passes by tokio, which knows the socket for writable: when it is full, or broken, the task that is
/// woken for that finds out by its own next write, and only then waits for it to be writable again.
pub(crate) struct Outlet {
    pub(crate) stream: TcpStream,
    pub(crate) connected: Connected,
}

impl Sink for Outlet {
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<Accepted> {
        let socket = SockRef::from(&self.stream);
        let written = match parts {
            [part] => socket.send(part),
            parts => socket.send_vectored(parts),
        };
        let bytes = written?;
        self.connected.wrote(bytes);
        Ok(Accepted { bytes, is_clear: true })
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Outgoing {
    pieces: SmallVec<[Piece; 2]>,
    /// How many pieces are written whole.
    done: usize,
    /// How much of the next one is.
    offset: usize,
    bytes: usize,
    /// What was written since the task was polled.
    turn: usize,
    stall: Option<Stall>,
}

struct Piece {
    bytes: Bytes,
    content: Content,
}

/// What a piece is, for when the connection has to let go of what it holds.
enum Content {
    /// Messages of the connection's reader, in this format: they can be had again.
    Messages(Slice, usize),
    /// A sign of life, which may be left out.
    Heartbeat,
    /// What only this connection has; of messages, with the slices that it was made of, so that it counts as they do against
    /// what may be read. Once these are let go of, it is held.
    Own(#[expect(dead_code, reason = "they count as long as they are there")] Box<[Slice]>),
    /// What others have, too.
    Common(Arc<Common>),
    /// What only this connection has, and its client is stuck.
    Held(#[expect(dead_code, reason = "it counts as long as it is there")] Held),
    /// Anything else: it is kept, and what stands before it too.
    Kept,
}

impl Content {
    const fn may_go(&self) -> bool {
        matches!(self, Self::Messages(..) | Self::Heartbeat)
    }
}

/// Since when the socket has taken nothing, and since when the pending pieces have been held.
struct Stall {
    held: Instant,
    stuck: Instant,
}

/// The client has not taken anything for too long.
#[derive(Debug)]
pub(crate) enum WriteError {
    /// See [`STALL_CLOSE_MS`].
    Stalled,
    /// The connection is broken.
    Closed,
}

impl Outgoing {
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// How many pieces are pending.
    pub(crate) fn len(&self) -> usize {
        self.pieces.len() - self.done
    }

    /// Whether enough is pending for one write.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= BATCH_READ_BYTES_MAX || self.pieces.len() >= PIECES_PER_WRITE
    }

    pub(crate) fn push(&mut self, bytes: impl Into<Bytes>) {
        self.push_piece(Piece { bytes: bytes.into(), content: Content::Kept });
    }

    /// Something large that only this connection has; and what it was made of, if that was read.
    pub(crate) fn push_own(&mut self, bytes: impl Into<Bytes>, slices: impl IntoIterator<Item = Slice>) {
        let content = Content::Own(slices.into_iter().collect());
        self.push_piece(Piece { bytes: bytes.into(), content });
    }

    /// Something large that others are given, too, and so much of it is written.
    pub(crate) fn push_common(&mut self, common: Arc<Common>, written: usize) {
        let bytes = common.bytes.slice(written..);
        self.push_piece(Piece { bytes, content: Content::Common(common) });
    }

    pub(crate) fn push_heartbeat(&mut self, bytes: impl Into<Bytes>) {
        self.push_piece(Piece { bytes: bytes.into(), content: Content::Heartbeat });
    }

    pub(crate) fn push_messages(&mut self, slice: Slice, format: usize) {
        let bytes = slice.encoded(format);
        self.push_piece(Piece { bytes, content: Content::Messages(slice, format) });
    }

    /// Lends the socket, if there is nothing to write and nothing will be but what the reader gives.
    pub(crate) fn lend(&self, outlet: &Arc<Outlet>, reader: &Reader, is_ending: bool) {
        if self.is_empty() && !is_ending {
            reader.lend(outlet.clone());
        }
    }

    /// Whether so much was written in this poll of the task that it is others' turn.
    pub(crate) fn has_had_its_turn(&self) -> bool {
        self.turn >= BATCH_READ_BYTES_MAX
    }

    /// When the task is polled: takes back a socket that its reader has lent, and what it is still owed.
    pub(crate) fn take_back(&mut self, reader: &mut Reader, format: usize) {
        if let Some(owed) = reader.take_back() {
            owed.slices.into_iter().for_each(|slice| self.push_messages(slice, format));
            self.advance(owed.written);
        }
        self.turn = 0;
    }

    fn push_piece(&mut self, piece: Piece) {
        if !piece.bytes.is_empty() {
            self.bytes += piece.bytes.len();
            self.pieces.push(piece);
        }
    }

    /// Writes until nothing is pending or the socket is full. `written` is told how many bytes went out.
    pub(crate) fn poll_write(
        &mut self,
        socket: &TcpStream,
        cx: &mut Context<'_>,
        mut written: impl FnMut(usize),
    ) -> Poll<Result<(), WriteError>> {
        while !self.pieces.is_empty() {
            match self.try_write(socket) {
                Ok(0) => return Poll::Ready(Err(WriteError::Closed)),
                Ok(count) => {
                    written(count);
                    self.advance(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // `try_write` has cleared the readiness, so this registers, unless it came back meanwhile.
                    match socket.poll_write_ready(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(_)) => return Poll::Ready(Err(WriteError::Closed)),
                        Poll::Pending => return Poll::Pending,
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Poll::Ready(Err(WriteError::Closed)),
            }
        }
        self.stall = None;
        Poll::Ready(Ok(()))
    }

    fn try_write(&self, socket: &TcpStream) -> io::Result<usize> {
        let first = &self.pieces[self.done].bytes[self.offset..];
        let rest = &self.pieces[self.done + 1..];
        if rest.is_empty() {
            return socket.try_write(first);
        }
        let mut slices: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
        slices.push(IoSlice::new(first));
        slices.extend(rest.iter().take(PIECES_PER_WRITE - 1).map(|piece| IoSlice::new(&piece.bytes)));
        socket.try_write_vectored(&slices)
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        self.turn += count;
        if let Some(stall) = &mut self.stall {
            stall.stuck = Instant::now();
        }
        while let Some(piece) = self.pieces.get(self.done) {
            let left = piece.bytes.len() - self.offset;
            if count < left {
                self.offset += count;
                return;
            }
            count -= left;
            self.done += 1;
            self.offset = 0;
        }
        self.clear();
    }

    /// Forgets all pieces, and gives back what an idle connection needs not hold.
    fn clear(&mut self) {
        self.pieces = SmallVec::new();
        (self.done, self.offset, self.bytes) = (0, 0, 0);
    }

    /// For a connection whose socket is full: sees to it that it holds no page for long, and gives up in the end.
    ///
    /// Ready with a position when the messages behind it were let go of: the reader goes back there.
    pub(crate) fn poll_stall(
        &mut self,
        timer: &mut Timer,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Position, WriteError>> {
        let now = Instant::now();
        let stall = self.stall.get_or_insert(Stall { held: now, stuck: now });
        let close = stall.stuck + Duration::from_millis(STALL_CLOSE_MS);
        if now >= close {
            return Poll::Ready(Err(WriteError::Stalled));
        }
        let release = stall.held + Duration::from_millis(STALL_RELEASE_MS);
        if now >= release {
            if let Some(position) = self.release() {
                return Poll::Ready(Ok(position));
            }
            if Held::is_too_much() && self.holds_something() {
                return Poll::Ready(Err(WriteError::Stalled));
            }
        }
        let deadline = if now >= release { close } else { release };
        match timer.poll_until(cx, deadline) {
            // Time has passed since `now`: look again.
            Poll::Ready(()) => self.poll_stall(timer, cx),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Lets go of the messages behind the last piece that must be kept, all but the one that is being written, of which
    /// it keeps a copy. Returns where the reader goes back to; `None` when there is nothing to let go of.
    fn release(&mut self) -> Option<Position> {
        for piece in &mut self.pieces[self.done..] {
            match &piece.content {
                Content::Own(_) => piece.content = Content::Held(Held::new(piece.bytes.len())),
                Content::Common(common) => common.hold(),
                _ => {}
            }
        }
        let kept = self.pieces.iter().rposition(|piece| !piece.content.may_go());
        let from = kept.map_or(self.done, |index| (index + 1).max(self.done));
        let dropped = self.pieces.get(from..)?;
        let (slice, format) = dropped.iter().find_map(|piece| match &piece.content {
            Content::Messages(slice, format) => Some((slice, *format)),
            _ => None,
        })?;
        let first = &dropped[0];
        let partly_written = from == self.done && self.offset > 0;
        let (rest, position) = match &first.content {
            Content::Messages(..) if partly_written => {
                let (end, last) = slice.message_end(format, self.offset);
                (Some(&first.bytes[self.offset..end]), last)
            }
            _ if partly_written => (Some(&first.bytes[self.offset..]), before(slice)),
            _ => (None, before(slice)),
        };
        let rest = rest.map(|rest| {
            let bytes = keep(&first.bytes, rest);
            let is_own = matches!(&first.content, Content::Messages(slice, _) if !slice.is_shared());
            let is_held = is_own && rest.len() > COPY_BYTES_MAX;
            let content = if is_held { Content::Held(Held::new(first.bytes.len())) } else { Content::Kept };
            Piece { bytes, content }
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

    fn holds_something(&self) -> bool {
        self.pieces.iter().any(|piece| matches!(piece.content, Content::Held(_) | Content::Common(_)))
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

/// Ready when the client has closed its side. What it may send until then is thrown away.
pub(crate) fn poll_closed(socket: &TcpStream, cx: &mut Context<'_>) -> Poll<()> {
    let mut waste = [0; 512];
    loop {
        if ready!(socket.poll_read_ready(cx)).is_err() {
            return Poll::Ready(());
        }
        match socket.try_read(&mut waste) {
            Ok(0) => return Poll::Ready(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Poll::Ready(()),
        }
    }
}

/// The end of a connection in good order: the client is told that nothing comes any more, and has a moment to close. A
/// socket that is closed with unread input would take back what was written last.
#[derive(Default)]
pub(crate) struct HangUp {
    deadline: Option<Instant>,
}

impl HangUp {
    pub(crate) fn poll(
        &mut self,
        socket: &TcpStream,
        timer: Option<&mut Timer>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        if self.deadline.is_none() && SockRef::from(socket).shutdown(Shutdown::Write).is_err() {
            return Poll::Ready(());
        }
        let deadline = *self.deadline.get_or_insert_with(|| Instant::now() + HANG_UP);
        match timer.map(|timer| timer.poll_until(cx, deadline)) {
            Some(Poll::Pending) => poll_closed(socket, cx),
            Some(Poll::Ready(())) | None => Poll::Ready(()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::future::poll_fn;

    use tailwire_model::limits::HELD_BYTES_MAX;

    use super::super::held;
    use super::*;

    /// How many seconds the patience with a connection lasts that takes nothing.
    async fn patience(out: &mut Outgoing) -> u64 {
        let (began, mut timer) = (Instant::now(), Timer::default());
        let end = poll_fn(|cx| out.poll_stall(&mut timer, cx)).await;
        assert!(matches!(end, Err(WriteError::Stalled)));
        began.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_what_all_may_hold_together_is_not_waited_for() {
        let _alone = held::ALONE.lock().await;
        let mut other = Outgoing::default();
        other.push("kept");
        let mut small = Outgoing::default();
        small.push_own(vec![0; 1000], []);
        assert_eq!(patience(&mut small).await, 30);
        let mut large = Outgoing::default();
        large.push_own(vec![0; HELD_BYTES_MAX + 1], []);
        assert!(!Held::is_too_much(), "it may yet be taken");
        assert_eq!(patience(&mut large).await, 1);
        small.stall = None;
        assert_eq!(patience(&mut small).await, 1);
        assert_eq!(patience(&mut other).await, 30, "it holds nothing of its own");
        drop(large);
        assert!(!Held::is_too_much());
        // What several are stuck with counts once.
        let common = Arc::new(Common::new(vec![0; HELD_BYTES_MAX * 3 / 4]));
        let mut outs = [Outgoing::default(), Outgoing::default()];
        for out in &mut outs {
            out.push_common(common.clone(), 1);
            assert_eq!(patience(out).await, 30);
        }
        outs[0].push_own(vec![0; HELD_BYTES_MAX / 2], []);
        outs.iter_mut().for_each(|out| out.stall = None);
        assert_eq!(patience(&mut outs[0]).await, 1);
        assert_eq!(patience(&mut outs[1]).await, 1);
    }
}
