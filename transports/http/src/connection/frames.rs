//! Frames that a WebSocket client sends, made messages by tungstenite, over a buffer that all connections of a thread
//! share. An idle connection holds nothing: the protocol state lives only while a message is incomplete.

use std::{
    cell::RefCell,
    io::{self, Read, Write},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tailwire_core::Timer;
use tailwire_model::limits::{RECEIVE_WAIT_MS_MAX, SOCKET_LINE_BYTES_MAX};
use tailwire_wire::framing::frame_close;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{
    Error, Message, Utf8Bytes,
    error::CapacityError,
    protocol::{Role, WebSocketConfig, WebSocketContext, frame::FrameHeader},
};

use super::{
    budget::{Charge, READ_BYTES, READ_BYTES_SCARCE, ReceiveBudget, ReceivePace},
    socket::{Socket, is_for_later},
};

const CLOSE: u8 = 8;
/// The status code at the beginning of a close frame's payload (RFC 6455 §5.5.1).
const CODE_BYTES: usize = 2;
const CLOSE_BAD_GATEWAY: u16 = 1014;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// See the module.
pub(crate) struct Frames {
    state: Option<Box<FrameDecoder>>,
    budget: ReceiveBudget,
}

struct FrameDecoder {
    context: WebSocketContext,
    boundary: Boundary,
    /// Received and not yet looked at: the protocol has enough to do.
    unread: Bytes,
    /// Received since the last whole message.
    held: usize,
    /// The part of that which is kept beyond the task's turn.
    charge: Charge,
    /// Of a message that is not whole.
    pace: Option<ReceivePace>,
    /// Since when there is no room for more of it.
    waits: Option<Instant>,
}

/// Why nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UnreadFrames {
    Ended,
    /// A message takes too long.
    Late,
    /// All clients together hold too much of messages that are not whole.
    NoRoom,
}

/// An event of the client's.
pub(crate) enum Received {
    Text(Utf8Bytes),
    Binary(Bytes),
    /// The client closes.
    Close,
    /// Nothing more for now.
    Nothing,
}

/// Why the connection can't go on, as a close code (RFC 6455 §7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken(pub(crate) u16);

impl Frames {
    /// Begins with the bytes that the client sent right behind its handshake.
    pub(crate) fn new(received: Bytes, budget: ReceiveBudget) -> Self {
        let mut frames = Self { state: None, budget };
        if !received.is_empty() {
            frames.take(received);
        }
        frames
    }

    fn take(&mut self, received: Bytes) {
        let state = self.state();
        state.held += received.len();
        state.pace.iter_mut().for_each(|pace| pace.add(received.len()));
        state.unread = received;
    }

    fn state(&mut self) -> &mut FrameDecoder {
        let budget = &self.budget;
        self.state.get_or_insert_with(|| {
            let config = WebSocketConfig::default()
                .read_buffer_size(8 << 10)
                .write_buffer_size(0)
                .max_message_size(Some(SOCKET_LINE_BYTES_MAX))
                .max_frame_size(Some(SOCKET_LINE_BYTES_MAX));
            let context = WebSocketContext::new(Role::Server, Some(config));
            let (boundary, unread, charge) = (Boundary::default(), Bytes::new(), budget.charge());
            Box::new(FrameDecoder { context, boundary, unread, held: 0, charge, pace: None, waits: None })
        })
    }

    /// Whether something was received that has not been looked at, or makes no whole message yet.
    pub(crate) fn has_unread(&self) -> bool {
        self.state.is_some()
    }

    /// Waits for something, and reads once. What was received before has been looked at.
    pub(crate) fn poll_read(
        &mut self,
        socket: &Socket,
        mut timer: Option<&mut Timer>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), UnreadFrames>> {
        if self.is_late(timer.as_deref_mut(), cx) {
            return Poll::Ready(Err(UnreadFrames::Late));
        }
        if ready!(socket.poll_readable(cx)).is_err() {
            return Poll::Ready(Err(UnreadFrames::Ended));
        }
        let bytes = match &mut self.state {
            Some(state) => {
                if ready!(state.poll_room(timer, cx)).is_err() {
                    self.state = None;
                    return Poll::Ready(Err(UnreadFrames::NoRoom));
                }
                READ_BYTES
            }
            None if self.budget.has_room() => READ_BYTES,
            None => READ_BYTES_SCARCE,
        };
        Poll::Ready(BUFFER.with_borrow_mut(|buffer| match socket.try_read(&mut buffer[..bytes]) {
            Ok(0) => Err(UnreadFrames::Ended),
            Ok(count) => {
                self.take(Bytes::copy_from_slice(&buffer[..count]));
                Ok(())
            }
            Err(error) if is_for_later(&error) => Ok(()),
            Err(_) => Err(UnreadFrames::Ended),
        }))
    }

    /// Whether a message takes too long. What has come of it is let go of.
    pub(crate) fn is_late(&mut self, timer: Option<&mut Timer>, cx: &mut Context<'_>) -> bool {
        let Some(pace) = self.state.as_ref().and_then(|state| state.pace.as_ref()) else { return false };
        let is_late = timer.is_some_and(|timer| timer.poll_until(cx, pace.deadline()).is_ready());
        if is_late {
            self.state = None;
        }
        is_late
    }

    /// The client is not read from, for a reason of ours: its message has its time from the beginning.
    pub(crate) fn excuse(&mut self) {
        if let Some(state) = &mut self.state {
            state.pace = None;
        }
    }

    /// The next message of what was received. `answer` is given what the protocol itself has to say: pongs, and the
    /// reply to a close.
    pub(crate) fn next(&mut self, answer: &mut Vec<u8>) -> Result<Received, Broken> {
        let Some(state) = &mut self.state else { return Ok(Received::Nothing) };
        loop {
            let before = answer.len();
            let mut wire = FrameStream { unread: &mut state.unread, boundary: &mut state.boundary, answer };
            let result = state.context.read(&mut wire);
            // A pong is written with the next read or flush; this is the flush.
            let _ = state.context.flush(&mut wire);
            return match result {
                Ok(Message::Text(text)) => {
                    state.is_whole();
                    Ok(Received::Text(text))
                }
                Ok(Message::Binary(data)) => {
                    state.is_whole();
                    Ok(Received::Binary(data))
                }
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => continue,
                Ok(Message::Close(_)) => {
                    // Registered (IANA, "Bad Gateway"), and taken for a violation by tungstenite.
                    if state.boundary.close_code() == Some(CLOSE_BAD_GATEWAY) {
                        answer.truncate(before);
                        frame_close(CLOSE_BAD_GATEWAY, "", answer);
                    }
                    Ok(Received::Close)
                }
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    if state.unread.is_empty() && state.boundary.is_clean() {
                        self.state = None;
                    } else {
                        state.is_begun();
                    }
                    Ok(Received::Nothing)
                }
                Err(Error::ConnectionClosed | Error::AlreadyClosed) => Ok(Received::Close),
                Err(Error::Capacity(CapacityError::MessageTooLong { .. })) => Err(Broken(1009)),
                Err(Error::Utf8(_)) => Err(Broken(1007)),
                Err(_) => Err(Broken(1002)),
            };
        }
    }
}

/// There was no room in time.
struct NoFrameRoom;

impl FrameDecoder {
    /// A message has come whole. What lies behind it is held only if the protocol has no time for it.
    fn is_whole(&mut self) {
        (self.held, self.pace) = (self.unread.len(), None);
        self.charge.set(self.held);
    }

    /// A message has begun to come.
    fn is_begun(&mut self) {
        self.charge.set(self.held);
        let held = self.held;
        self.pace.get_or_insert_with(|| {
            let mut pace = ReceivePace::new(Instant::now());
            pace.add(held);
            pace
        });
    }

    /// Ready when there is room for more of a message that has begun.
    fn poll_room(
        &mut self,
        timer: Option<&mut Timer>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), NoFrameRoom>> {
        let Some(timer) = timer else { return Poll::Ready(Ok(())) };
        if self.charge.poll_room(cx).is_ready() {
            self.waits = None;
            return Poll::Ready(Ok(()));
        }
        let since = *self.waits.get_or_insert_with(Instant::now);
        let patience = since + Duration::from_millis(RECEIVE_WAIT_MS_MAX);
        timer.poll_until(cx, patience).map(|()| Err(NoFrameRoom))
    }
}

/// The received bytes as a stream, and the answer as its other side.
struct FrameStream<'a> {
    unread: &'a mut Bytes,
    boundary: &'a mut Boundary,
    answer: &'a mut Vec<u8>,
}

impl Read for FrameStream<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.unread.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = buf.len().min(self.unread.len());
        self.unread.copy_to_slice(&mut buf[..count]);
        self.boundary.pass(&buf[..count]);
        Ok(count)
    }
}

impl Write for FrameStream<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.answer.extend_from_slice(buf);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Follows the frames that pass, to know when the protocol state holds nothing worth keeping: between messages; and with
/// which code the client closes.
#[derive(Default)]
struct Boundary {
    /// The part of a frame's header that has come.
    header: Vec<u8>,
    /// The missing bytes of the frame's payload.
    payload_left: u64,
    /// Between the fragments of a message.
    in_message: bool,
    /// The mask of a close frame, and the beginning of its payload.
    closing: Option<([u8; 4], Vec<u8>)>,
}

impl Boundary {
    fn is_clean(&self) -> bool {
        self.header.is_empty() && self.payload_left == 0 && !self.in_message
    }

    /// The code of a close frame that has passed.
    fn close_code(&self) -> Option<u16> {
        let (mask, begun) = self.closing.as_ref()?;
        let bytes: [u8; CODE_BYTES] = begun.get(..CODE_BYTES)?.try_into().ok()?;
        Some(u16::from_be_bytes([bytes[0] ^ mask[0], bytes[1] ^ mask[1]]))
    }

    fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skip = bytes.len().min(usize::try_from(self.payload_left).unwrap_or(usize::MAX));
            if let Some((_, begun)) = &mut self.closing {
                let left = CODE_BYTES - begun.len();
                begun.extend(&bytes[..skip.min(left)]);
            }
            self.payload_left -= skip as u64;
            bytes = &bytes[skip..];
            let Some(&byte) = bytes.first() else { return };
            self.header.push(byte);
            bytes = &bytes[1..];
            let mut cursor = io::Cursor::new(&self.header);
            // A header that tungstenite refuses ends the connection anyway.
            if let Ok(Some((header, length))) = FrameHeader::parse(&mut cursor) {
                self.payload_left = length;
                match u8::from(header.opcode) {
                    0..8 => self.in_message = !header.is_final,
                    CLOSE => self.closing = header.mask.map(|mask| (mask, Vec::new())),
                    _ => {}
                }
                self.header.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]
    use tokio_tungstenite::tungstenite::protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    };

    use super::*;

    fn masked(payload: &[u8], opcode: Data, last: bool) -> Vec<u8> {
        let mut frame = Frame::message(payload.to_vec(), OpCode::Data(opcode), last);
        frame.header_mut().mask = Some([1, 2, 3, 4]);
        let mut out = Vec::new();
        frame.format(&mut out).unwrap();
        out
    }

    fn lines(parts: impl Iterator<Item = Vec<u8>>) -> (Vec<String>, bool) {
        let mut frames = Frames::new(Bytes::new(), ReceiveBudget::new(None));
        let mut lines = Vec::new();
        for part in parts {
            frames.take(part.into());
            loop {
                match frames.next(&mut Vec::new()).unwrap() {
                    Received::Text(line) => lines.push(line.to_string()),
                    Received::Nothing => break,
                    Received::Binary(_) | Received::Close => panic!("not sent"),
                }
            }
        }
        (lines, frames.has_unread())
    }

    #[test]
    fn holds_nothing_between_messages_however_they_are_split() {
        let long = "x".repeat(70_000);
        let mut bytes = masked(b"one", Data::Text, true);
        bytes.extend(masked(b"tw", Data::Text, false));
        bytes.extend(masked(b"o", Data::Continue, true));
        bytes.extend(masked(long.as_bytes(), Data::Text, true));
        for size in [1, 2, 3, 7, 1000, 100_000] {
            let (lines, unread) = lines(bytes.chunks(size).map(<[u8]>::to_vec));
            assert_eq!(lines, ["one", "two", &long], "in parts of {size}");
            assert!(!unread, "in parts of {size}");
        }
    }

    #[test]
    fn keeps_an_incomplete_message() {
        let bytes = masked(b"one", Data::Text, false);
        let (lines, unread) = lines(std::iter::once(bytes));
        assert!(lines.is_empty() && unread);
    }

    #[test]
    fn says_what_is_wrong() {
        let mut frames =
            Frames::new(masked(&[0xff, 0xfe], Data::Text, true).into(), ReceiveBudget::new(None));
        assert_eq!(frames.next(&mut Vec::new()).err(), Some(Broken(1007)));
        let mut frames = Frames::new(Bytes::from_static(b"\x81\x03abc"), ReceiveBudget::new(None));
        assert_eq!(frames.next(&mut Vec::new()).err(), Some(Broken(1002)));
        let mut head = vec![0x81, 0xff];
        head.extend((SOCKET_LINE_BYTES_MAX as u64 + 1).to_be_bytes());
        head.extend([0; 4]);
        let mut frames = Frames::new(head.into(), ReceiveBudget::new(None));
        assert_eq!(frames.next(&mut Vec::new()).err(), Some(Broken(1009)));
    }
}
