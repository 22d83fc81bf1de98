//! SSE and NDJSON: one protocol, with the format as its only variant.
//!
//! On our own socket each message is an HTTP chunk of its own, prebuilt with its encoding, so that what is pending is a
//! list of shared bytes whatever its framing.

use bytes::Bytes;
use tailwire_core::{Event, ReadError, Reader};
use tailwire_model::Filter;
use tailwire_wire::{
    Format, framing,
    representation::{Control, StreamFormat},
};

use crate::{
    api::metrics::{HttpMetrics, Transport},
    connection::{
        driver::Connection,
        input::Input,
        protocol::{Io, Protocol},
        socket::Socket,
    },
    limiter::Hold,
};

/// How a stream speaks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Codec {
    pub(crate) stream: &'static StreamFormat,
    /// Whether the body is in chunks (HTTP/1.1 on our own socket), or bare (HTTP/1.0, and where hyper frames it).
    pub(crate) chunked: bool,
}

impl Codec {
    /// The slot of a message's encoding.
    pub(crate) const fn format(self) -> Format {
        self.stream.slot(self.chunked)
    }

    pub(crate) fn transport(self) -> Transport {
        Transport::named(self.stream.name)
    }

    /// An event that is not messages. `opening`: the stream's first, which tells what is `permitted` if that is less than was asked.
    pub(crate) fn control(self, event: &Event, opening: Option<u64>, permitted: Option<&Filter>) -> Bytes {
        let control = match (event, opening) {
            (Event::Messages(_), _) => return Bytes::new(),
            (Event::Heartbeat(cursor), Some(retry_ms)) => Control::Open(*cursor, retry_ms, permitted),
            (Event::Heartbeat(cursor), None) => Control::Heartbeat(*cursor),
            (Event::Gap(gap), retry_ms) => Control::Gap(gap, retry_ms),
            (Event::CaughtUp(cursor), _) => Control::CaughtUp(*cursor),
            (Event::Bye(bye), _) => Control::Bye(*bye),
        };
        let mut out = Vec::with_capacity(160);
        self.stream.control(&control, &mut out);
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

/// The start of a stream.
pub(crate) struct StreamStart {
    /// The response's head, as on the wire.
    pub(crate) head: Vec<u8>,
    pub(crate) reader: Reader,
    pub(crate) stream: EventStream,
    pub(crate) metrics: HttpMetrics,
    /// The stream as its principal's connection.
    pub(crate) hold: Hold,
}

impl StreamStart {
    /// The connection that writes it to a socket of its own.
    pub(crate) fn on(self, socket: Socket, shard: usize, connection: Hold) -> Connection<EventStream> {
        let Self { head, reader, stream, metrics, hold } = self;
        let connected = metrics.connected(stream.codec.transport()).holding([connection, hold]);
        let mut io = Io::new(reader, shard);
        io.send(head);
        Connection::new(socket, connected, io, Input::Ignored, stream)
    }
}

/// The protocol of a stream over HTTP.
pub(crate) struct EventStream {
    pub(crate) codec: Codec,
    /// The `retry:` of `EventSource`, until it was sent with the first event.
    retry_ms: Option<u64>,
    #[expect(dead_code, reason = "it counts as long as the stream is there")]
    subscription: Hold,
}

impl EventStream {
    pub(crate) const fn new(codec: Codec, retry_ms: u64, subscription: Hold) -> Self {
        Self { codec, retry_ms: Some(retry_ms), subscription }
    }

    fn end(&self, io: &mut Io) {
        if self.codec.chunked {
            io.send(Bytes::from_static(framing::LAST_CHUNK));
        }
        io.end();
    }
}

impl Protocol for EventStream {
    fn event(&mut self, event: Event, io: &mut Io) {
        match event {
            Event::Messages(slices) => io.send_messages(slices),
            Event::Heartbeat(_) => match self.retry_ms.take() {
                Some(retry_ms) => {
                    let opening = self.codec.control(&event, Some(retry_ms), io.live().narrowed());
                    io.send(opening);
                }
                None => io.send_heartbeat(self.codec.control(&event, None, None)),
            },
            Event::Gap(_) | Event::CaughtUp(_) => {
                io.send(self.codec.control(&event, self.retry_ms.take(), None));
            }
            Event::Bye(bye) => {
                io.said_bye(bye.reason);
                io.send(self.codec.control(&event, None, None));
                self.end(io);
            }
        }
    }

    fn half_closed(&mut self, io: &mut Io) {
        let event = Event::Heartbeat(io.live().cursor());
        io.send_heartbeat(self.codec.control(&event, None, None));
    }

    fn failed(&mut self, _error: ReadError, io: &mut Io) {
        self.end(io);
    }
}
