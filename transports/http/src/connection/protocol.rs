//! A protocol: what a long-lived connection makes of its reader's events, and of what its client sends. SSE, NDJSON and every
//! WebSocket subprotocol are protocols; the [driver](super::driver) has all the rest, which is the same for each: the socket,
//! patience, lending, turns, the end.

use std::task::Context;

use bytes::Bytes;
use tailwire_core::{Event, ReadError, Reader, Slices};
use tailwire_model::{ByeReason, Message};
use tailwire_wire::framing;

use super::{ending::Ending, outgoing::Outgoing, pinned::Pinned};

/// Up to here a message's shared encoding is copied behind its prefix, which costs less than one piece more in a write.
const COPY_BYTES_MAX: usize = 4 << 10;

/// See the module. Its methods are called on the runtime of one shard, and none of them may wait.
pub trait Protocol: Send {
    /// Looks whether what its readers are permitted has changed, before any of them is asked.
    fn review(&mut self, _io: &mut Io) {}

    /// Takes an event of the connection's live reader.
    fn event(&mut self, event: Event, io: &mut Io);

    /// The log can't be read on for the live reader. The cursor stays good, so that a client comes back with it.
    fn failed(&mut self, error: ReadError, io: &mut Io);

    /// Takes a message of the client's. Never called for a stream over HTTP, whose client has asked once.
    fn received(&mut self, _message: Incoming<'_>, _io: &mut Io, _cx: &mut Context<'_>) {}

    /// Says what it has beside that, up to what makes up one write ([`Io::is_full`]), and has the task woken for what is yet to
    /// come.
    fn poll_more(&mut self, _io: &mut Io, _cx: &mut Context<'_>) {}

    /// Whether it takes another message now; else nothing is read from the client.
    fn may_receive(&self) -> bool {
        true
    }

    /// Whether the dispatcher of the shard may write messages to the socket: if nothing has to be said but what the live reader
    /// gives, in the shared encoding as it is.
    fn is_lendable(&self) -> bool {
        true
    }

    /// The client sends nothing more, and may still read: a sign of life shows whether it does. Never called for a WebSocket, which
    /// is over then.
    fn half_closed(&mut self, _io: &mut Io) {}

    /// The client takes nothing: what others could use meanwhile is let go of.
    fn stalled(&mut self, _cx: &mut Context<'_>) {}
}

impl<P: Protocol + ?Sized> Protocol for Box<P> {
    fn review(&mut self, io: &mut Io) {
        (**self).review(io);
    }

    fn event(&mut self, event: Event, io: &mut Io) {
        (**self).event(event, io);
    }

    fn failed(&mut self, error: ReadError, io: &mut Io) {
        (**self).failed(error, io);
    }

    fn received(&mut self, message: Incoming<'_>, io: &mut Io, cx: &mut Context<'_>) {
        (**self).received(message, io, cx);
    }

    fn poll_more(&mut self, io: &mut Io, cx: &mut Context<'_>) {
        (**self).poll_more(io, cx);
    }

    fn may_receive(&self) -> bool {
        (**self).may_receive()
    }

    fn is_lendable(&self) -> bool {
        (**self).is_lendable()
    }

    fn half_closed(&mut self, io: &mut Io) {
        (**self).half_closed(io);
    }

    fn stalled(&mut self, cx: &mut Context<'_>) {
        (**self).stalled(cx);
    }
}

/// A whole message of the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// UTF-8.
    Text(&'a str),
    /// Anything.
    Binary(&'a [u8]),
}

/// A connection as its protocol sees it: the live reader, and what is to be written.
pub struct Io {
    pub(crate) live: Reader,
    pub(crate) out: Outgoing,
    pub(crate) ending: Option<Ending>,
    /// A goodbye that has yet to be counted.
    pub(crate) bye: Option<ByeReason>,
    shard: usize,
}

impl Io {
    /// For a reader, which follows the tails of the shard from here on.
    pub(crate) fn new(mut live: Reader, shard: usize) -> Self {
        live.follow(shard);
        Self { live, out: Outgoing::default(), ending: None, bye: None, shard }
    }

    /// The reader at whose position the connection stands: it gives heartbeats, the broker's goodbye, and live messages.
    pub const fn live(&mut self) -> &mut Reader {
        &mut self.live
    }

    /// The shard whose runtime this is.
    pub const fn shard(&self) -> usize {
        self.shard
    }

    /// Whether enough is pending for one write: what follows is to be given later.
    pub fn is_full(&self) -> bool {
        self.out.is_full()
    }

    /// Whether nothing comes behind what is pending.
    pub const fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Bytes as they go over the wire.
    pub fn send(&mut self, bytes: impl Into<Bytes>) {
        self.out.push(bytes);
    }

    /// A text frame of a WebSocket.
    pub fn send_text(&mut self, text: &[u8]) {
        self.out.push(text_frame(text));
    }

    /// An answer of any size as a text frame of a WebSocket, for which room was taken.
    pub(crate) fn send_answer(&mut self, text: &[u8], pinned: Pinned) {
        self.out.push_pinned(text_frame(text), pinned);
    }

    /// A binary frame of a WebSocket.
    pub fn send_binary(&mut self, data: &[u8]) {
        let mut frame = Vec::with_capacity(data.len() + 10);
        framing::frame_binary(data, &mut frame);
        self.out.push(frame);
    }

    /// A sign of life, as it goes over the wire. It is left out where the client doesn't take what came before.
    pub fn send_heartbeat(&mut self, bytes: impl Into<Bytes>) {
        self.out.push_heartbeat(bytes);
    }

    /// The same, as a text frame of a WebSocket.
    pub fn send_heartbeat_text(&mut self, text: &[u8]) {
        self.out.push_heartbeat(text_frame(text));
    }

    /// Messages as the live reader has them.
    pub fn send_messages(&mut self, slices: Slices) {
        let view = self.live.view();
        slices.into_iter().for_each(|slice| self.out.push_messages(slice, view));
    }

    /// Messages whose encodings are frames of a WebSocket, each with a prefix of this receiver's put before it within its frame.
    /// `prefix` writes that, and answers how many bytes of the shared encoding it stands in place of.
    pub fn send_prefixed(&mut self, slices: Slices, mut prefix: impl FnMut(&Message, &mut Vec<u8>) -> usize) {
        let view = self.live.view();
        let mut frames = Vec::new();
        for slice in &slices {
            let encoded = slice.encoded(view);
            frames.reserve(encoded.len().min(slice.len() * COPY_BYTES_MAX));
            for (message, frame) in slice.messages().iter().zip(framing::frames(&encoded)) {
                let rest =
                    framing::prefix_frame(frame, |out| prefix(message, out), COPY_BYTES_MAX, &mut frames);
                if let Some(rest) = rest {
                    self.out.push_own(std::mem::take(&mut frames), []);
                    self.out.push_part(encoded.slice_ref(rest), slice.clone());
                }
            }
        }
        self.out.push_own(frames, slices);
    }

    /// Closes a WebSocket: nothing comes behind that.
    pub fn close(&mut self, code: u16, reason: &str) {
        if !self.is_ending() {
            let mut frame = Vec::new();
            framing::frame_close(code, reason, &mut frame);
            self.out.push(frame);
            self.end();
        }
    }

    /// Counts a goodbye of the broker's.
    pub const fn said_bye(&mut self, reason: ByeReason) {
        self.bye = Some(reason);
    }

    /// Ends the connection: nothing comes behind what is pending.
    pub fn end(&mut self) {
        self.ending.get_or_insert_with(Ending::default);
    }
}

fn text_frame(text: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(text.len() + 10);
    framing::frame_text(text, &mut frame);
    frame
}
