//! One subscriber: the requests that it sends, and what it takes from the bytes that come.

use std::io::{ErrorKind, Read, Write};

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::net::TcpStream;

use super::connect::upgraded;
use super::incidents::Incidents;
use super::scan::{Found, Scanner};
use super::tally::Tally;
use super::{Run, Transport, http};

/// What subscribers have in common while they take bytes, and what they count together.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) transport: Transport,
    pub(super) run: Run,
    pub(super) scanner: Scanner,
    /// By the number of a subscriber's filter.
    pub(super) requests: Vec<Requests>,
    pub(super) ready: usize,
    pub(super) latency: Histogram<u64>,
    pub(super) last_ns: u64,
    pub(super) incidents: Incidents,
}

/// What is sent for one filter.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) subscribe: Vec<u8>,
    /// A poll up to its cursor, and after it.
    pub(super) poll: (Vec<u8>, Vec<u8>),
}

#[derive(Debug)]
pub(super) struct Subscriber {
    stream: TcpStream,
    stage: Stage,
    /// It is subscribed: what is published from here on must reach it.
    ready: bool,
    /// A line came that is no message.
    spoken: bool,
    /// Its filter's number.
    filter: usize,
    /// Bytes that came without their end.
    rest: Vec<u8>,
    cursor: Vec<u8>,
    tally: Tally,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Connecting,
    /// Waiting for a reply's head.
    Head,
    /// On an endless reply.
    Stream,
    /// In a page, with so many bytes to come.
    Page {
        left: usize,
        last: bool,
    },
    /// It has read what there was, and asks no more.
    AtTail,
    Ended,
}

impl Subscriber {
    pub(super) fn new(stream: TcpStream, filter: usize, tally: Tally) -> Subscriber {
        Subscriber {
            stream,
            stage: Stage::Connecting,
            ready: false,
            spoken: false,
            filter,
            rest: Vec::new(),
            cursor: Vec::new(),
            tally,
        }
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(super) fn has_ended(&self) -> bool {
        self.stage == Stage::Ended
    }

    /// Takes a stream that says nothing for one that has nothing to say.
    pub(super) fn take_quiet_as_ready(&mut self, shared: &mut Shared) {
        if self.stage == Stage::Stream && !self.spoken {
            self.now_ready(shared);
        }
    }

    pub(super) fn event(&mut self, event: &Event, buffer: &mut [u8], shared: &mut Shared) {
        if self.stage == Stage::Connecting && event.is_writable() {
            match self.stream.take_error() {
                Ok(None) => {
                    self.stage = Stage::Head;
                    self.send(&shared.requests[self.filter].subscribe, &mut shared.incidents);
                }
                Ok(Some(error)) | Err(error) => {
                    self.end(error.to_string(), &mut shared.incidents);
                }
            }
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(event.is_read_closed(), buffer, shared);
        }
    }

    /// Reads what there is. The events are edge-triggered: it is all there is when less came than was asked for.
    fn read(&mut self, closed: bool, buffer: &mut [u8], shared: &mut Shared) {
        while self.stage != Stage::Ended {
            let had = self.rest.len();
            buffer[..had].copy_from_slice(&self.rest);
            let filled = match self.stream.read(&mut buffer[had..]) {
                Ok(0) => {
                    return self.end("the server closed the connection".to_owned(), &mut shared.incidents);
                }
                Ok(n) => had + n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return self.end(format!("reading: {error}"), &mut shared.incidents),
            };
            match self.take(&buffer[..filled], shared) {
                Ok(used) => {
                    self.rest.clear();
                    self.rest.extend_from_slice(&buffer[used..filled]);
                }
                Err(why) => return self.end(why, &mut shared.incidents),
            }
            if self.rest.len() == buffer.len() {
                return self.end("a message longer than expected".to_owned(), &mut shared.incidents);
            }
            if filled < buffer.len() && !closed {
                return;
            }
        }
    }

    /// Takes what is whole in `bytes`; answers how many bytes that is.
    fn take(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<usize, String> {
        let mut at = 0;
        loop {
            match self.stage {
                Stage::Connecting | Stage::AtTail | Stage::Ended => return Ok(bytes.len()),
                Stage::Head => match http::head(&bytes[at..]) {
                    Err(http::Malformed) => return Err("the answer is not HTTP".to_owned()),
                    Ok(None) => return Ok(at),
                    Ok(Some(head)) => {
                        self.head(&head, &bytes[at..], shared)?;
                        at += head.length;
                    }
                },
                Stage::Stream => return Ok(at + self.stream_bytes(&bytes[at..], shared)?),
                Stage::Page { left, last } => {
                    let part = &bytes[at..bytes.len().min(at + left)];
                    let used = self.scan(part, shared, |scanner, found| Ok(scanner.marks(part, found)))?;
                    if part.len() < left {
                        self.stage = Stage::Page { left: left - used, last };
                        return Ok(at + used);
                    }
                    at += left;
                    if last {
                        self.stage = Stage::AtTail;
                        self.now_ready(shared);
                    } else {
                        self.poll_again(shared);
                    }
                }
            }
        }
    }

    fn head(&mut self, head: &http::Head, bytes: &[u8], shared: &mut Shared) -> Result<(), String> {
        let status = head.status;
        match shared.transport {
            Transport::Ws if upgraded(head, bytes) => self.stage = Stage::Stream,
            Transport::Sse | Transport::Ndjson if status == 200 => {
                self.stage = Stage::Stream;
                self.now_ready(shared);
            }
            Transport::Longpoll | Transport::Page if matches!(status, 200 | 202) => {
                let length = head.body.ok_or("a page without Content-Length")?;
                let cursor = head.cursor.clone().ok_or("a page without Tailwire-Cursor")?;
                self.cursor.clear();
                self.cursor.extend_from_slice(&bytes[cursor]);
                // Nothing there: a long-poll waits for more, who reads what is stored is done.
                let last = status == 202 && shared.transport == Transport::Page;
                self.stage = Stage::Page { left: length, last };
            }
            _ => return Err(format!("the server answered {status}")),
        }
        Ok(())
    }

    fn stream_bytes(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<usize, String> {
        if shared.transport != Transport::Ws {
            return self.scan(bytes, shared, |scanner, found| Ok(scanner.marks(bytes, found)));
        }
        self.scan(bytes, shared, |scanner, found| {
            scanner.frames(bytes, found).map_err(|_| "a malformed WebSocket frame".to_owned())
        })
    }

    /// Runs a scan with what counts its findings. One clock reading is enough for all that one `read` brought.
    fn scan(
        &mut self,
        bytes: &[u8],
        shared: &mut Shared,
        scan: impl FnOnce(&Scanner, &mut dyn FnMut(Found<'_>)) -> Result<usize, String>,
    ) -> Result<usize, String> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let now = shared.run.now_ns();
        let mut pong = Vec::new();
        let (mut spoken, mut caught_up) = (false, false);
        let (latency, incidents, last) = (&mut shared.latency, &mut shared.incidents, &mut shared.last_ns);
        let tally = &mut self.tally;
        let used = scan(&shared.scanner, &mut |found| match found {
            Found::Message(mark) => {
                if tally.record(mark) {
                    latency.saturating_record(now.saturating_sub(mark.at));
                    *last = now;
                }
            }
            Found::Foreign => tally.foreign += 1,
            Found::Other(line) => {
                spoken = true;
                caught_up |= incidents.note(line);
            }
            Found::Ping(payload) => {
                // Masked, as a client must (RFC 6455 §5.3), with a key of zeros: it hides nothing and needs no work.
                pong.extend_from_slice(&[0x8a, 0x80 | payload.len() as u8, 0, 0, 0, 0]);
                pong.extend_from_slice(payload);
            }
            // The end of the connection follows, and is what counts.
            Found::Close => {}
        })?;
        self.spoken |= spoken;
        if caught_up {
            self.now_ready(shared);
        }
        if !pong.is_empty() {
            self.send(&pong, &mut shared.incidents);
        }
        Ok(used)
    }

    fn now_ready(&mut self, shared: &mut Shared) {
        shared.ready += usize::from(!self.ready);
        self.ready = true;
    }

    fn poll_again(&mut self, shared: &mut Shared) {
        let (start, end) = &shared.requests[self.filter].poll;
        let request = [start, self.cursor.as_slice(), end].concat();
        self.stage = Stage::Head;
        self.send(&request, &mut shared.incidents);
        self.now_ready(shared);
    }

    /// Sends something so short that a socket without room for it is as good as closed.
    fn send(&mut self, bytes: &[u8], incidents: &mut Incidents) {
        match self.stream.write(bytes) {
            Ok(sent) if sent == bytes.len() => {}
            Ok(_) => self.end("the server doesn't read".to_owned(), incidents),
            Err(error) => self.end(format!("writing: {error}"), incidents),
        }
    }

    fn end(&mut self, why: String, incidents: &mut Incidents) {
        if self.stage != Stage::Ended {
            self.stage = Stage::Ended;
            incidents.end(why);
        }
    }
}
