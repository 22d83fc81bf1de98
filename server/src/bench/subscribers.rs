//! Many subscribers in one thread: an epoll loop, one buffer for all of them, one `read` for each that has bytes.

use std::io::{ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::connect::{Target, upgraded};
use super::incidents::Incidents;
use super::scan::{Found, Scanner};
use super::tally::Tally;
use super::{Clock, Failure, Transport, http, latencies};

/// Half of a usual second-level cache: large enough for a burst, and still warm at the next read.
const BUFFER_BYTES: usize = 128 << 10;
/// Connections that are being opened at a time: fewer than what servers let queue for `accept`.
const OPENING_MAX: usize = 100;
/// Nothing opens for so long: the server won't.
const OPENING_WAIT: Duration = Duration::from_secs(20);
/// A WebSocket that was upgraded and says nothing for so long has no welcome to wait for.
const QUIET: Duration = Duration::from_secs(1);

/// What subscribers to open, and to what.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) target: Target,
    pub(super) topic: String,
    pub(super) transport: Transport,
    pub(super) count: usize,
    /// How many publishers number their messages.
    pub(super) publishers: usize,
    /// The size of a payload, which the buffer has to hold.
    pub(super) size: usize,
    pub(super) clock: Clock,
}

/// Open subscribers and what they have seen.
#[derive(Debug)]
pub(super) struct Subscribers {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    all: Vec<Subscriber>,
    shared: Shared,
}

/// What a subscriber needs from the outside while it takes bytes.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    scanner: Scanner,
    request: Vec<u8>,
    poll_request: (Vec<u8>, Vec<u8>),
    ready: usize,
    latency: Histogram<u64>,
    last_ns: u64,
    incidents: Incidents,
}

#[derive(Debug)]
struct Subscriber {
    stream: TcpStream,
    stage: Stage,
    /// It is subscribed: what is published from here on must reach it.
    ready: bool,
    /// A line came that is no message.
    spoken: bool,
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
    Page(usize),
    Ended,
}

impl Subscribers {
    /// Opens all of them and waits until each is subscribed.
    pub(super) fn open(plan: Plan, mut opened: impl FnMut(usize)) -> Result<Subscribers, Failure> {
        let poll = Poll::new().map_err(Failure::during("epoll"))?;
        let shared = Shared {
            scanner: Scanner::new(),
            request: plan.target.subscribe(plan.transport, &plan.topic),
            poll_request: plan.target.poll(&plan.topic),
            ready: 0,
            latency: latencies(),
            last_ns: 0,
            incidents: Incidents::default(),
            plan,
        };
        let mut this = Subscribers {
            poll,
            events: Events::with_capacity(1024),
            buffer: vec![0; BUFFER_BYTES.max(2 * shared.plan.size)],
            all: Vec::with_capacity(shared.plan.count),
            shared,
        };
        let mut progressed = Instant::now();
        while this.shared.ready < this.shared.plan.count {
            let before = this.shared.ready;
            while this.all.len() < this.shared.plan.count && this.all.len() - before < OPENING_MAX {
                this.connect()?;
            }
            if this.turn(QUIET)? == 0 {
                this.take_quiet_as_ready();
            }
            if let Some((why, _)) = this.shared.incidents.ended.first_key_value() {
                let (number, ready) = (this.all.len(), this.shared.ready);
                return Err(Failure(format!("subscribing: {why} ({ready} of {number} are subscribed)")));
            }
            if this.shared.ready > before {
                progressed = Instant::now();
                opened(this.shared.ready - before);
            } else if progressed.elapsed() > OPENING_WAIT {
                let (ready, count) = (before, this.shared.plan.count);
                return Err(Failure(format!(
                    "only {ready} of {count} are subscribed after {OPENING_WAIT:?}"
                )));
            }
        }
        Ok(this)
    }

    /// Waits for bytes, for so long at most, and takes them; answers how many subscribers had some.
    pub(super) fn turn(&mut self, wait: Duration) -> Result<usize, Failure> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(Failure(format!("epoll: {error}")));
            }
            _ => {}
        }
        let mut count = 0;
        for event in &self.events {
            count += 1;
            if let Some(one) = self.all.get_mut(event.token().0) {
                one.event(event, &mut self.buffer, &mut self.shared);
            }
        }
        Ok(count)
    }

    /// Whether each that is still there has had so many messages.
    pub(super) fn have_all(&self, messages: u64) -> bool {
        self.all.iter().all(|one| one.stage == Stage::Ended || one.tally.distinct >= messages)
    }

    pub(super) fn tallies(&self) -> impl Iterator<Item = &Tally> {
        self.all.iter().map(|one| &one.tally)
    }

    pub(super) fn latency(&self) -> &Histogram<u64> {
        &self.shared.latency
    }

    pub(super) fn incidents(&self) -> &Incidents {
        &self.shared.incidents
    }

    /// When the last message came, by the run's clock.
    pub(super) fn last_ns(&self) -> u64 {
        self.shared.last_ns
    }

    fn connect(&mut self) -> Result<(), Failure> {
        let mut stream =
            TcpStream::connect(self.shared.plan.target.address).map_err(Failure::during("connecting"))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut stream, Token(self.all.len()), interest);
        registered.map_err(Failure::during("epoll"))?;
        self.all.push(Subscriber {
            stream,
            stage: Stage::Connecting,
            ready: false,
            spoken: false,
            rest: Vec::new(),
            cursor: Vec::new(),
            tally: Tally::new(self.shared.plan.publishers),
        });
        Ok(())
    }

    fn take_quiet_as_ready(&mut self) {
        for one in &mut self.all {
            if one.stage == Stage::Stream && !one.spoken {
                one.now_ready(&mut self.shared);
            }
        }
    }
}

impl Subscriber {
    fn event(&mut self, event: &Event, buffer: &mut [u8], shared: &mut Shared) {
        if self.stage == Stage::Connecting && event.is_writable() {
            match self.stream.take_error() {
                Ok(None) => {
                    self.stage = Stage::Head;
                    self.send(&shared.request, &mut shared.incidents);
                }
                Ok(Some(error)) | Err(error) => {
                    self.end(format!("connecting: {error}"), &mut shared.incidents);
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
                Stage::Connecting | Stage::Ended => return Ok(bytes.len()),
                Stage::Head => match http::head(&bytes[at..]) {
                    Err(http::Malformed) => return Err("the answer is not HTTP".to_owned()),
                    Ok(None) => return Ok(at),
                    Ok(Some(head)) => {
                        self.head(&head, &bytes[at..], shared)?;
                        at += head.length;
                    }
                },
                Stage::Stream => return Ok(at + self.stream_bytes(&bytes[at..], shared)?),
                Stage::Page(left) => {
                    let part = &bytes[at..bytes.len().min(at + left)];
                    let used = self.scan(part, shared, |scanner, found| Ok(scanner.marks(part, found)))?;
                    if part.len() < left {
                        self.stage = Stage::Page(left - used);
                        return Ok(at + used);
                    }
                    at += left;
                    self.poll_again(shared);
                }
            }
        }
    }

    fn head(&mut self, head: &http::Head, bytes: &[u8], shared: &mut Shared) -> Result<(), String> {
        let status = head.status;
        match shared.plan.transport {
            Transport::Ws if upgraded(head, bytes) => self.stage = Stage::Stream,
            Transport::Sse | Transport::Ndjson if status == 200 => {
                self.stage = Stage::Stream;
                self.now_ready(shared);
            }
            Transport::Longpoll if matches!(status, 200 | 202) => {
                let length = head.body.ok_or("a page without Content-Length")?;
                let cursor = head.cursor.clone().ok_or("a page without Tailwire-Cursor")?;
                self.cursor.clear();
                self.cursor.extend_from_slice(&bytes[cursor]);
                self.stage = Stage::Page(length);
            }
            _ => return Err(format!("the server answered {status}")),
        }
        Ok(())
    }

    fn stream_bytes(&mut self, bytes: &[u8], shared: &mut Shared) -> Result<usize, String> {
        if shared.plan.transport != Transport::Ws {
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
        let now = shared.plan.clock.now_ns();
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
        let (start, end) = &shared.poll_request;
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
