//! SSE and NDJSON on a taken-over socket: one loop over a reader, with the format as its only variant.
//!
//! Each message is an HTTP chunk of its own, prebuilt with its encoding, so that what is pending for a socket is a list
//! of shared bytes whatever its framing.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tailwire_core::{Event, Reader};
use tailwire_model::ByeReason;
use tailwire_wire::{Format, framing, line, sse};
use tokio::net::TcpStream;

use crate::{
    api::metrics::{Metrics, Transport},
    connection::outgoing::{HangUp, Outgoing, Outlet, WriteError, poll_closed},
};

/// How a stream speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Codec {
    /// Lines, events, or events with the line in their data.
    pub(crate) dialect: Dialect,
    /// Whether the body is in chunks (HTTP/1.1 on our own socket), or bare (HTTP/1.0, and where hyper frames it).
    pub(crate) chunked: bool,
}

/// See [`Codec`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Ndjson,
    Sse,
    SseEnvelope,
}

impl Codec {
    /// The slot of a message's encoding.
    pub(crate) const fn format(self) -> Format {
        match (self.dialect, self.chunked) {
            (Dialect::Ndjson, true) => Format::LineChunk,
            (Dialect::Ndjson, false) => Format::Line,
            (Dialect::Sse, true) => Format::SseChunk,
            (Dialect::Sse, false) => Format::Sse,
            (Dialect::SseEnvelope, true) => Format::SseEnvelopeChunk,
            (Dialect::SseEnvelope, false) => Format::SseEnvelope,
        }
    }

    pub(crate) const fn transport(self) -> Transport {
        match self.dialect {
            Dialect::Ndjson => Transport::Ndjson,
            Dialect::Sse | Dialect::SseEnvelope => Transport::Sse,
        }
    }

    /// An event that is not messages. `opening`: the stream's first.
    pub(crate) fn control(self, event: &Event, opening: Option<u64>) -> Bytes {
        let mut out = Vec::with_capacity(96);
        match self.dialect {
            Dialect::Ndjson => {
                match event {
                    Event::Messages(_) => return Bytes::new(),
                    Event::Gap(gap) => line::gap(gap, None, &mut out),
                    Event::CaughtUp(cursor) => line::caught_up(*cursor, None, &mut out),
                    Event::Heartbeat(cursor) => line::heartbeat(*cursor, &mut out),
                    Event::Bye(bye) => line::bye(bye.reason, bye.retry_after_ms, &mut out),
                }
                out.push(b'\n');
            }
            Dialect::Sse | Dialect::SseEnvelope => match (event, opening) {
                (Event::Messages(_), _) => return Bytes::new(),
                (Event::Heartbeat(cursor), Some(retry_ms)) => sse::open(retry_ms, *cursor, &mut out),
                (Event::Heartbeat(cursor), None) => sse::heartbeat(*cursor, &mut out),
                (Event::Gap(gap), _) => {
                    if let Some(retry_ms) = opening {
                        sse::retry(retry_ms, &mut out);
                        out.push(b'\n');
                    }
                    sse::gap(gap, &mut out);
                }
                (Event::CaughtUp(cursor), _) => sse::caught_up(*cursor, &mut out),
                (Event::Bye(bye), _) => sse::bye(bye.reason, bye.retry_after_ms, &mut out),
            },
        }
        self.framed(out)
    }

    fn framed(self, data: Vec<u8>) -> Bytes {
        if !self.chunked {
            return data.into();
        }
        let mut out = Vec::with_capacity(data.len() + 8);
        framing::chunk(&data, &mut out);
        out.into()
    }
}

/// What a stream begins with.
pub(crate) struct Start {
    /// The response's head, as on the wire.
    pub(crate) head: Vec<u8>,
    pub(crate) reader: Reader,
    pub(crate) codec: Codec,
    /// What `EventSource` is told to wait before it reconnects.
    pub(crate) retry_ms: u64,
    pub(crate) metrics: Metrics,
}

/// A stream, as a task of the delivery runtime. It is its own future, so that it takes no more than it holds.
pub(crate) struct Connection {
    outlet: Arc<Outlet>,
    reader: Reader,
    codec: Codec,
    out: Outgoing,
    /// Told with the first event.
    retry_ms: Option<u64>,
    /// Nothing comes behind what is pending.
    ending: Option<HangUp>,
}

impl Future for Connection {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        connection.out.take_back(&mut connection.reader, connection.codec.format() as usize);
        let over = connection.poll_stream(cx);
        if over.is_pending() {
            connection.out.lend(&connection.outlet, &connection.reader, connection.ending.is_some());
        }
        over
    }
}

impl Connection {
    pub(crate) fn new(stream: TcpStream, shard: usize, start: Start) -> Self {
        let Start { head, mut reader, codec, retry_ms, metrics } = start;
        reader.follow(shard);
        let mut out = Outgoing::default();
        out.push(head);
        let connected = metrics.connected(codec.transport());
        let outlet = Arc::new(Outlet { stream, connected });
        Self { outlet, reader, codec, out, retry_ms: Some(retry_ms), ending: None }
    }

    /// Ready when the connection is over.
    fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            // What follows is gathered when that is written: a stuck connection holds no more than one write.
            let at_tail = self.out.is_empty() && self.gather(cx).is_pending();
            let Outlet { stream, connected } = &*self.outlet;
            match (self.out.poll_write(stream, cx, |bytes| connected.wrote(bytes)), &mut self.ending) {
                (Poll::Ready(Ok(())), Some(ending)) => {
                    return ending.poll(stream, self.reader.timer(), cx);
                }
                // It has asked for an endless response, and has nothing more to say.
                (Poll::Ready(Ok(())), None) if at_tail => return poll_closed(stream, cx),
                (Poll::Ready(Ok(())), None) if self.out.has_had_its_turn() => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                (Poll::Ready(Ok(())), None) => {}
                (Poll::Ready(Err(_)), _) => return Poll::Ready(()),
                (Poll::Pending, _) => match ready!(self.poll_stalled(cx)) {
                    Ok(()) => {}
                    Err(_) => return Poll::Ready(()),
                },
            }
        }
    }

    /// Takes from the reader what makes up one write. Pending when the reader has nothing more, and will wake the task.
    fn gather(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while self.ending.is_none() && !self.out.is_full() {
            match ready!(self.reader.poll_next(cx)) {
                Ok(event) => self.take(event),
                // The cursor stays good: the client comes back with it.
                Err(_) => self.end(),
            }
        }
        Poll::Ready(())
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Messages(slices) => {
                let format = self.codec.format() as usize;
                slices.into_iter().for_each(|slice| self.out.push_messages(slice, format));
            }
            Event::Heartbeat(_) => match self.retry_ms.take() {
                Some(retry_ms) => self.out.push(self.codec.control(&event, Some(retry_ms))),
                None => self.out.push_heartbeat(self.codec.control(&event, None)),
            },
            Event::Gap(_) | Event::CaughtUp(_) => {
                self.out.push(self.codec.control(&event, self.retry_ms.take()));
            }
            Event::Bye(bye) => {
                self.out.push(self.codec.control(&event, None));
                self.outlet.connected.ended(bye.reason);
                self.end();
            }
        }
    }

    fn end(&mut self) {
        if self.codec.chunked {
            self.out.push(Bytes::from_static(framing::LAST_CHUNK));
        }
        self.ending = Some(HangUp::default());
    }

    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let Some(timer) = self.reader.timer() else { return Poll::Pending };
        match ready!(self.out.poll_stall(timer, cx)) {
            Ok(position) => {
                self.reader.rewind(position);
                Poll::Ready(Ok(()))
            }
            Err(error) => {
                self.outlet.connected.ended(ByeReason::Slow);
                Poll::Ready(Err(error))
            }
        }
    }
}
