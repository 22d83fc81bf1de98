//! Subscribers in one thread: an epoll loop with one buffer for all of them, one `read` for each that has bytes.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use tailwire_load::measure::histogram::latencies;
use tailwire_load::measure::payload::Stamp;

use crate::payload::PlainScanner;
use crate::progress::Progress;
use crate::protocol::{HandshakeStep, PeerPlace, PeerProtocol, reply};

const BUFFER_BYTES: usize = 128 << 10;
/// Fewer connections under way than what servers let queue for `accept`.
const OPENING_MAX: usize = 100;
const OPENING_WAIT: Duration = Duration::from_secs(20);
/// Nothing came for so long after the publishers ended: what is missing is lost.
const QUIET: Duration = Duration::from_secs(3);
const TURN: Duration = Duration::from_millis(20);

pub(crate) struct PeerSubscribePlan<'a> {
    pub(crate) protocol: PeerProtocol,
    pub(crate) place: &'a PeerPlace,
    /// They read what is stored; else what comes.
    pub(crate) replay: bool,
    pub(crate) count: usize,
    pub(crate) publishers: usize,
    pub(crate) size: usize,
    /// Where deliveries are counted, if publishers wait for them.
    pub(crate) progress: Option<&'a Progress>,
    /// How long they may take for what is left once publishing is over.
    pub(crate) drain: Duration,
    pub(crate) start: Instant,
}

/// The deliveries to all subscribers.
pub(crate) struct Got {
    pub(crate) deliveries: u64,
    /// Of those, such as came before.
    pub(crate) repeated: u64,
    /// Of those, such as came after a later one of their publisher, or were repeated later still.
    pub(crate) reordered: u64,
    pub(crate) ended: usize,
    pub(crate) latency: Histogram<u64>,
    pub(crate) last_ns: u64,
    /// Messages still came when the time to take them was over.
    pub(crate) unfinished: bool,
}

pub(crate) struct PeerSubscribers<'a> {
    plan: PeerSubscribePlan<'a>,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    scanner: PlainScanner,
    all: Vec<PeerSubscriber>,
    ready: usize,
    got: Got,
    /// Why the first one ended.
    why: Option<String>,
}

struct PeerSubscriber {
    stream: TcpStream,
    connected: bool,
    /// Handshake steps still to be taken before it is subscribed; the first of them was sent.
    steps: std::vec::IntoIter<HandshakeStep>,
    until: &'static [u8],
    ready: bool,
    ended: bool,
    rest: Vec<u8>,
    /// For each publisher, the number that should come next.
    next: Box<[u32]>,
    count: u64,
}

impl<'a> PeerSubscribers<'a> {
    /// Opens all of them, and waits until each is subscribed.
    pub(crate) fn open(plan: PeerSubscribePlan<'a>) -> Result<PeerSubscribers<'a>, String> {
        let got = Got {
            deliveries: 0,
            repeated: 0,
            reordered: 0,
            ended: 0,
            latency: latencies(),
            last_ns: 0,
            unfinished: false,
        };
        let mut this = PeerSubscribers {
            poll: Poll::new().map_err(|why| why.to_string())?,
            events: Events::with_capacity(1024),
            buffer: vec![0; BUFFER_BYTES.max(4 * plan.size)],
            scanner: PlainScanner::new(plan.size),
            all: Vec::with_capacity(plan.count),
            ready: 0,
            got,
            why: None,
            plan,
        };
        let mut progressed = Instant::now();
        while this.ready < this.plan.count {
            let before = this.ready;
            while this.all.len() < this.plan.count && this.all.len() - before < OPENING_MAX {
                this.connect().map_err(|why| format!("connecting: {why}"))?;
            }
            this.turn(TURN)?;
            if let Some(why) = &this.why {
                return Err(format!("{} of {} are subscribed: {why}", this.ready, this.plan.count));
            }
            if this.ready > before {
                progressed = Instant::now();
            } else if progressed.elapsed() > OPENING_WAIT {
                return Err(format!("{before} of {} are subscribed, and no more come", this.plan.count));
            }
        }
        Ok(this)
    }

    /// Takes what comes until each has had so many messages, once that is known.
    pub(crate) fn listen(mut self, expected: &AtomicUsize) -> Result<Got, String> {
        let mut last = (self.got.last_ns, Instant::now());
        let mut over: Option<Instant> = None;
        loop {
            let each = expected.load(Ordering::Acquire);
            if each == usize::MAX || self.got.last_ns != last.0 {
                last = (self.got.last_ns, Instant::now());
            }
            if each != usize::MAX {
                let since = *over.get_or_insert_with(Instant::now);
                let has_all = self.all.iter().all(|one| one.ended || one.count >= each as u64);
                self.got.unfinished = !has_all && since.elapsed() > self.plan.drain;
                if has_all || self.got.unfinished || last.1.elapsed() > QUIET {
                    return Ok(self.got);
                }
            }
            self.turn(TURN)?;
        }
    }

    fn connect(&mut self) -> io::Result<()> {
        let mut stream = TcpStream::connect(self.plan.place.subscribe)?;
        stream.set_nodelay(true)?;
        let token = Token(self.all.len());
        self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        let (protocol, place) = (self.plan.protocol, self.plan.place.of(self.all.len()));
        let steps = match protocol.replay {
            Some(replay) if self.plan.replay => replay(&place),
            _ => (protocol.subscribe)(&place),
        };
        self.all.push(PeerSubscriber {
            stream,
            connected: false,
            steps: steps.into_iter(),
            until: b"",
            ready: false,
            ended: false,
            rest: Vec::new(),
            next: vec![0; self.plan.publishers].into(),
            count: 0,
        });
        Ok(())
    }

    fn turn(&mut self, wait: Duration) -> Result<(), String> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(why) if why.kind() != ErrorKind::Interrupted => return Err(format!("epoll: {why}")),
            _ => {}
        }
        for event in &self.events {
            let one = &mut self.all[event.token().0];
            let was_ready = one.ready;
            let done =
                one.event(event.is_writable(), &mut self.buffer, &self.scanner, &self.plan, &mut self.got);
            self.ready += usize::from(one.ready && !was_ready);
            if let Err(why) = done {
                one.ended = true;
                self.got.ended += 1;
                self.why.get_or_insert(why);
            }
        }
        if let Some(progress) = self.plan.progress {
            progress.delivered(self.got.deliveries - self.got.repeated);
        }
        Ok(())
    }
}

impl PeerSubscriber {
    fn event(
        &mut self,
        writable: bool,
        buffer: &mut [u8],
        scanner: &PlainScanner,
        plan: &PeerSubscribePlan<'_>,
        got: &mut Got,
    ) -> Result<(), String> {
        if self.ended {
            return Ok(());
        }
        if !self.connected {
            if let Some(why) = self.stream.take_error().map_err(|why| why.to_string())? {
                return Err(why.to_string());
            }
            if !writable {
                return Ok(());
            }
            self.connected = true;
            self.next_step()?;
        }
        loop {
            let had = self.rest.len();
            buffer[..had].copy_from_slice(&self.rest);
            let filled = match self.stream.read(&mut buffer[had..]) {
                Ok(0) => return Err("the server closed a subscriber's connection".to_owned()),
                Ok(n) => had + n,
                Err(why) if why.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(why) if why.kind() == ErrorKind::Interrupted => continue,
                Err(why) => return Err(why.to_string()),
            };
            let used = self.take(&buffer[..filled], scanner, plan, got)?;
            self.rest.clear();
            self.rest.extend_from_slice(&buffer[used..filled]);
            if self.rest.len() == buffer.len() {
                return Err("a subscriber was sent something too long".to_owned());
            }
            if filled < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Takes what is whole; answers how many bytes that is.
    fn take(
        &mut self,
        bytes: &[u8],
        scanner: &PlainScanner,
        plan: &PeerSubscribePlan<'_>,
        got: &mut Got,
    ) -> Result<usize, String> {
        let mut at = 0;
        while !self.ready {
            let Some(found) = memmem::find(&bytes[at..], self.until) else {
                if bytes[at..].starts_with(b"HTTP/1.1 4") || bytes[at..].starts_with(b"HTTP/1.1 5") {
                    return Err(String::from_utf8_lossy(&bytes[at..])
                        .lines()
                        .next()
                        .unwrap_or("")
                        .to_owned());
                }
                return Ok(at);
            };
            at += found + self.until.len();
            self.next_step()?;
        }
        let now = plan.start.elapsed().as_nanos() as u64;
        let mut deliver = |mark: Stamp| {
            got.deliveries += 1;
            got.latency.saturating_record(now.saturating_sub(mark.at));
            got.last_ns = now;
            if let Some(next) = self.next.get_mut(mark.from as usize) {
                // A number that was jumped over and comes later, or one that comes again.
                got.reordered += u64::from(mark.seq + 1 < *next);
                got.repeated += u64::from(mark.seq + 1 == *next);
                *next = mark.seq.saturating_add(1).max(*next);
                self.count += 1;
            }
        };
        let Some(poll) = plan.protocol.poll else {
            return Ok(at + scanner.scan(&bytes[at..], deliver));
        };
        while let Some((status, head, length)) = reply(&bytes[at..])? {
            if status >= 400 {
                return Err(format!("a poll was answered {status}"));
            }
            scanner.scan(&bytes[at..at + length], &mut deliver);
            at += length;
            // Short enough for any socket that takes bytes at all.
            self.stream.write_all(&poll(plan.place, head)).map_err(|why| why.to_string())?;
        }
        Ok(at)
    }

    /// Says what comes next; with nothing left to say, and nothing to wait for, it is subscribed.
    fn next_step(&mut self) -> Result<(), String> {
        match self.steps.next() {
            Some(step) => {
                self.stream.write_all(&step.send).map_err(|why| why.to_string())?;
                self.until = step.until;
                self.ready = step.until.is_empty();
            }
            None => self.ready = true,
        }
        Ok(())
    }
}
