//! One subscriber: the requests that it sends, and what it takes from the bytes that come.

use std::io::{ErrorKind, Read, Write};

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::net::TcpStream;

use crate::client::frames;
use crate::client::http;
use crate::client::requests::upgraded;
use crate::client::transport::ReadTransport;
use crate::measure::clock::LoadRun;
use crate::measure::scan::{Scanned, StampScanner};
use crate::subscribing::incidents::Incidents;
use crate::subscribing::received::ReceivedMessages;

/// State that the subscribers of a thread share: their scanner, and the counts of all together.
#[derive(Debug)]
pub(crate) struct SubscriberContext {
    pub(crate) transport: ReadTransport,
    pub(crate) run: LoadRun,
    pub(crate) scanner: StampScanner,
    /// By the number of a subscriber's filter.
    pub(crate) requests: Vec<SubscribeRequests>,
    pub(crate) ready: usize,
    pub(crate) latency: Histogram<u64>,
    pub(crate) last_ns: u64,
    pub(crate) incidents: Incidents,
}

/// The requests for one filter.
#[derive(Debug)]
pub(crate) struct SubscribeRequests {
    pub(crate) subscribe: Vec<u8>,
    /// A poll up to its cursor, and after it.
    pub(crate) poll: (Vec<u8>, Vec<u8>),
}

#[derive(Debug)]
pub(crate) struct LoadSubscriber {
    stream: TcpStream,
    stage: SubscriberStage,
    /// It is subscribed: what is published from here on must reach it.
    ready: bool,
    /// A line came that is no message.
    spoken: bool,
    /// Its filter's number.
    filter: usize,
    /// Bytes that came without their end.
    rest: Vec<u8>,
    cursor: Vec<u8>,
    received: ReceivedMessages,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SubscriberStage {
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

impl LoadSubscriber {
    pub(crate) fn new(stream: TcpStream, filter: usize, received: ReceivedMessages) -> LoadSubscriber {
        LoadSubscriber {
            stream,
            stage: SubscriberStage::Connecting,
            ready: false,
            spoken: false,
            filter,
            rest: Vec::new(),
            cursor: Vec::new(),
            received,
        }
    }

    pub(crate) fn received(&self) -> &ReceivedMessages {
        &self.received
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.stage == SubscriberStage::Ended
    }

    /// Takes a stream that says nothing for one that has nothing to say.
    pub(crate) fn take_quiet_as_ready(&mut self, shared: &mut SubscriberContext) {
        if self.stage == SubscriberStage::Stream && !self.spoken {
            self.now_ready(shared);
        }
    }

    pub(crate) fn event(&mut self, event: &Event, buffer: &mut [u8], shared: &mut SubscriberContext) {
        if self.stage == SubscriberStage::Connecting && event.is_writable() {
            match self.stream.take_error() {
                Ok(None) => {
                    self.stage = SubscriberStage::Head;
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
    fn read(&mut self, closed: bool, buffer: &mut [u8], shared: &mut SubscriberContext) {
        while self.stage != SubscriberStage::Ended {
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
    fn take(&mut self, bytes: &[u8], shared: &mut SubscriberContext) -> Result<usize, String> {
        let mut at = 0;
        loop {
            match self.stage {
                SubscriberStage::Connecting | SubscriberStage::AtTail | SubscriberStage::Ended => {
                    return Ok(bytes.len());
                }
                SubscriberStage::Head => match http::head(&bytes[at..]) {
                    Err(http::MalformedReply) => return Err("the answer is not HTTP".to_owned()),
                    Ok(None) => return Ok(at),
                    Ok(Some(head)) => {
                        self.head(&head, &bytes[at..], shared)?;
                        at += head.length;
                    }
                },
                SubscriberStage::Stream => return Ok(at + self.stream_bytes(&bytes[at..], shared)?),
                SubscriberStage::Page { left, last } => {
                    let part = &bytes[at..bytes.len().min(at + left)];
                    let used = self.scan(part, shared, |scanner, found| Ok(scanner.marks(part, found)))?;
                    if part.len() < left {
                        self.stage = SubscriberStage::Page { left: left - used, last };
                        return Ok(at + used);
                    }
                    at += left;
                    if last {
                        self.stage = SubscriberStage::AtTail;
                        self.now_ready(shared);
                    } else {
                        self.poll_again(shared);
                    }
                }
            }
        }
    }

    fn head(
        &mut self,
        head: &http::ReplyHead,
        bytes: &[u8],
        shared: &mut SubscriberContext,
    ) -> Result<(), String> {
        let status = head.status;
        match shared.transport {
            ReadTransport::Ws if upgraded(head, bytes) => self.stage = SubscriberStage::Stream,
            ReadTransport::Sse | ReadTransport::Ndjson if status == 200 => {
                self.stage = SubscriberStage::Stream;
                self.now_ready(shared);
            }
            ReadTransport::Longpoll | ReadTransport::Page if matches!(status, 200 | 202) => {
                let length = head.body.ok_or("a page without Content-Length")?;
                let cursor = head.cursor.clone().ok_or("a page without Tailwire-Cursor")?;
                self.cursor.clear();
                self.cursor.extend_from_slice(&bytes[cursor]);
                // Nothing there: a long-poll waits for more, who reads what is stored is done.
                let last = status == 202 && shared.transport == ReadTransport::Page;
                self.stage = SubscriberStage::Page { left: length, last };
            }
            _ => return Err(format!("the server answered {status}")),
        }
        Ok(())
    }

    fn stream_bytes(&mut self, bytes: &[u8], shared: &mut SubscriberContext) -> Result<usize, String> {
        if shared.transport != ReadTransport::Ws {
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
        shared: &mut SubscriberContext,
        scan: impl FnOnce(&StampScanner, &mut dyn FnMut(Scanned<'_>)) -> Result<usize, String>,
    ) -> Result<usize, String> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let now = shared.run.now_ns();
        let mut pong = Vec::new();
        let (mut spoken, mut caught_up) = (false, false);
        let (latency, incidents, last) = (&mut shared.latency, &mut shared.incidents, &mut shared.last_ns);
        let received = &mut self.received;
        let used = scan(&shared.scanner, &mut |found| match found {
            Scanned::Message(mark) => {
                if received.record(mark) {
                    latency.saturating_record(now.saturating_sub(mark.at));
                    *last = now;
                }
            }
            Scanned::Foreign => received.foreign += 1,
            Scanned::Other(line) => {
                spoken = true;
                caught_up |= incidents.note(line);
            }
            Scanned::Ping(payload) => {
                frames::append_masked(&mut pong, frames::PONG, |out| out.extend_from_slice(payload));
            }
            // The end of the connection follows, and is what counts.
            Scanned::Close => {}
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

    fn now_ready(&mut self, shared: &mut SubscriberContext) {
        shared.ready += usize::from(!self.ready);
        self.ready = true;
    }

    fn poll_again(&mut self, shared: &mut SubscriberContext) {
        let (start, end) = &shared.requests[self.filter].poll;
        let request = [start, self.cursor.as_slice(), end].concat();
        self.stage = SubscriberStage::Head;
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
        if self.stage != SubscriberStage::Ended {
            self.stage = SubscriberStage::Ended;
            incidents.end(why);
        }
    }
}
