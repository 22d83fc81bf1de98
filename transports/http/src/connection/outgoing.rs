//! The pending bytes of a connection: prebuilt bytes, shared with every other connection that gets them. Everything
//! that is pending goes out in one vectored write, and nothing is copied.

mod stall;

use std::{
    io::{self, IoSlice},
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use smallvec::SmallVec;
use tailwire_core::{Remainder, Slice, View};
use tailwire_model::limits::BATCH_READ_BYTES_MAX;

use self::stall::Stall;
use super::{
    pinned::{Common, Pinned},
    socket::{Socket, WrittenBytes, is_for_later},
};

/// How many pieces one call writes, at most; the kernel takes 1,024.
const PIECES_PER_WRITE: usize = 64;

/// See the module.
#[derive(Default)]
pub(crate) struct Outgoing {
    pieces: Vec<Piece>,
    /// How many pieces are written whole.
    done: usize,
    /// How much of the next one is.
    offset: usize,
    bytes: usize,
    /// Bytes that were written since the task was polled.
    turn: usize,
    stall: Option<Box<Stall>>,
}

struct Piece {
    bytes: Bytes,
    content: PieceContent,
}

/// The content of a piece, for when the connection has to release memory.
enum PieceContent {
    /// Messages of the connection's reader, encoded so: they can be had again.
    Messages(Slice, View),
    /// A sign of life, which may be left out.
    Heartbeat,
    /// Bytes that only this connection has; of messages, with the slices that they were made of, which count against what
    /// may be read for as long as the client takes something.
    Own(Pinned, Box<[Slice]>),
    /// Bytes that others have, too.
    Common(Arc<Common>),
    /// Anything else, which is small: it is kept, and what stands before it too.
    Kept,
}

impl PieceContent {
    const fn may_go(&self) -> bool {
        matches!(self, Self::Messages(..) | Self::Heartbeat)
    }

    fn pinned(&self) -> Option<&Pinned> {
        match self {
            Self::Own(pinned, _) => Some(pinned),
            Self::Common(common) => Some(&common.pinned),
            Self::Messages(..) | Self::Heartbeat | Self::Kept => None,
        }
    }
}

/// Why nothing more can be written.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The client has not taken anything for too long, or too little while others wait for the memory.
    Stalled,
    /// The connection is broken.
    Closed,
}

/// A socket that pieces are written to.
pub(crate) trait PartSocket {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<WrittenBytes>;
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Bytes that are committed and not yet sent: see [`Socket`].
    fn tail(&self) -> usize;
}

impl PartSocket for Socket {
    fn try_write(&self, parts: &[IoSlice<'_>]) -> io::Result<WrittenBytes> {
        Self::try_write(self, parts)
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Self::poll_writable(self, cx)
    }

    fn tail(&self) -> usize {
        Self::tail(self)
    }
}

impl Outgoing {
    /// Whether no pieces are pending. The socket may have a tail of its own.
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
        self.push_piece(Piece { bytes: bytes.into(), content: PieceContent::Kept });
    }

    /// Something large that only this connection has; and the slices that it was made of, if it was read.
    pub(crate) fn push_own(&mut self, bytes: impl Into<Bytes>, slices: impl IntoIterator<Item = Slice>) {
        let bytes = bytes.into();
        let content = PieceContent::Own(Pinned::of(bytes.len()), slices.into_iter().collect());
        self.push_piece(Piece { bytes, content });
    }

    /// The same, where room was taken for it before it was made.
    pub(crate) fn push_pinned(&mut self, bytes: impl Into<Bytes>, mut pinned: Pinned) {
        let bytes = bytes.into();
        pinned.set(bytes.len());
        self.push_piece(Piece { bytes, content: PieceContent::Own(pinned, Box::default()) });
    }

    /// A part of a message's shared encoding, which can't be had again by itself.
    pub(crate) fn push_part(&mut self, bytes: Bytes, slice: Slice) {
        // Slices that others share belong to the tail.
        let pinned = Pinned::of(if slice.is_shared() { 0 } else { bytes.len() });
        self.push_piece(Piece { bytes, content: PieceContent::Own(pinned, Box::new([slice])) });
    }

    /// Something large that others are given, too, and so much of it is written.
    pub(crate) fn push_common(&mut self, common: Arc<Common>, written: usize) {
        let bytes = common.bytes.slice(written..);
        self.push_piece(Piece { bytes, content: PieceContent::Common(common) });
    }

    pub(crate) fn push_heartbeat(&mut self, bytes: impl Into<Bytes>) {
        self.push_piece(Piece { bytes: bytes.into(), content: PieceContent::Heartbeat });
    }

    pub(crate) fn push_messages(&mut self, slice: Slice, view: View) {
        let bytes = slice.encoded(view);
        self.push_piece(Piece { bytes, content: PieceContent::Messages(slice, view) });
    }

    /// When the task is polled: the remainder of a partial write that others made for it meanwhile goes out first.
    pub(crate) fn begin_turn(&mut self, remainder: Option<Box<Remainder>>, view: View) {
        if let Some(remainder) = remainder {
            remainder.slices.into_iter().for_each(|slice| self.push_messages(slice, view));
            self.advance(remainder.written);
        }
        self.turn = 0;
    }

    /// Whether so much was written in this poll of the task that it is others' turn.
    pub(crate) fn has_had_its_turn(&self) -> bool {
        self.turn >= BATCH_READ_BYTES_MAX
    }

    /// The bytes of all that is pending, for a caller that frames and writes them by itself. The slices that they were made of are released.
    pub(crate) fn take_bytes(&mut self) -> SmallVec<[Bytes; 2]> {
        let bytes = self.pieces.drain(..).map(|piece| piece.bytes).collect();
        self.clear();
        bytes
    }

    fn push_piece(&mut self, piece: Piece) {
        if !piece.bytes.is_empty() {
            self.bytes += piece.bytes.len();
            self.pieces.push(piece);
        }
    }

    /// Writes until nothing is pending, here and in the socket, or the socket is full. `written` hears how many bytes were
    /// committed.
    pub(crate) fn poll_write(
        &mut self,
        socket: &impl PartSocket,
        cx: &mut Context<'_>,
        mut written: impl FnMut(usize),
    ) -> Poll<Result<(), SendError>> {
        while !self.pieces.is_empty() || socket.tail() > 0 {
            match self.try_write(socket) {
                Ok(WrittenBytes { committed: 0, taken: 0 }) => return Poll::Ready(Err(SendError::Closed)),
                Ok(WrittenBytes { committed, taken }) => {
                    written(committed);
                    self.advance(committed);
                    self.stall.iter_mut().for_each(|stall| stall.took(taken));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The readiness is cleared, so that this registers, unless it came back meanwhile.
                Err(error) if is_for_later(&error) => match socket.poll_writable(cx) {
                    Poll::Ready(Ok(())) => {}
                    Poll::Ready(Err(_)) => return Poll::Ready(Err(SendError::Closed)),
                    Poll::Pending => return Poll::Pending,
                },
                Err(_) => return Poll::Ready(Err(SendError::Closed)),
            }
        }
        self.stall = None;
        Poll::Ready(Ok(()))
    }

    fn try_write(&self, socket: &impl PartSocket) -> io::Result<WrittenBytes> {
        let Some(first) = self.pieces.get(self.done) else { return socket.try_write(&[]) };
        let first = IoSlice::new(&first.bytes[self.offset..]);
        let rest = &self.pieces[self.done + 1..];
        if rest.is_empty() {
            return socket.try_write(&[first]);
        }
        let mut slices: SmallVec<[IoSlice<'_>; 8]> = SmallVec::new();
        slices.push(first);
        slices.extend(rest.iter().take(PIECES_PER_WRITE - 1).map(|piece| IoSlice::new(&piece.bytes)));
        socket.try_write(&slices)
    }

    fn advance(&mut self, mut count: usize) {
        self.bytes -= count;
        self.turn += count;
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
        self.pieces = Vec::new();
        (self.done, self.offset, self.bytes) = (0, 0, 0);
    }
}

pub(crate) use self::stall::keep;
