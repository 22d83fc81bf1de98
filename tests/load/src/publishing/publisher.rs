//! Publishers in one thread: connections that each have some publishes under way, flat out or at a rate.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::client::frames;
use crate::error::LoadError;
use crate::measure::payload::Stamp;
use crate::measure::scan::StampScanner;
use crate::publishing::answers::{self, ServerLine};
use crate::publishing::encode::PublishEncoder;
use crate::publishing::outcome::{InFlight, PublishOutcome};
use crate::publishing::plan::{PublishEnd, PublishPlan, PublishTransport};

/// How long to wait, at the end, for answers that are still due.
const DRAIN_NS: u64 = 10_000_000_000;
const BUFFER_BYTES: usize = 64 << 10;
/// How often the caller is told how it goes.
const TICK: Duration = Duration::from_millis(100);
/// `epoll` waits whole milliseconds; what is shorter is slept.
const EPOLL_STEP: Duration = Duration::from_millis(1);

/// Open connections, ready to publish.
#[derive(Debug)]
pub(crate) struct LoadPublisher {
    poll: Poll,
    lines: Vec<PublishConnection>,
    encoder: PublishEncoder,
    scanner: StampScanner,
    plan: PublishPlan,
    outcome: PublishOutcome,
    /// When to stop, by the run's clock.
    end: u64,
    /// Messages to send until then.
    left: u64,
}

#[derive(Debug)]
struct PublishConnection {
    stream: TcpStream,
    /// Which publisher it is, and its next message.
    mark: Stamp,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    /// The connection ended, and there is none in its place.
    gone: bool,
    /// The publish in each slot, if one is under way; its slot is its `id` on a WebSocket.
    sent: Vec<Option<InFlight>>,
    free: Vec<usize>,
    /// The order in which HTTP answers.
    order: VecDeque<usize>,
}

impl LoadPublisher {
    pub(crate) fn open(plan: PublishPlan) -> Result<LoadPublisher, LoadError> {
        let poll = Poll::new().map_err(LoadError::during("epoll"))?;
        let mut this = LoadPublisher {
            poll,
            lines: Vec::with_capacity(plan.connections),
            encoder: PublishEncoder::new(&plan),
            scanner: StampScanner::new(plan.run.id),
            outcome: PublishOutcome::new(),
            end: 0,
            left: 0,
            plan,
        };
        for from in 0..this.plan.connections {
            let line = this.connect(from, 0).map_err(|why| this.plan.target.unreached(&why))?;
            this.lines.push(line);
        }
        Ok(this)
    }

    /// Publishes until its end, then waits for the answers that are due.
    pub(crate) fn run(mut self, mut tick: impl FnMut(&PublishOutcome)) -> Result<PublishOutcome, LoadError> {
        let start = self.plan.run.now_ns();
        (self.end, self.left) = match self.plan.end {
            PublishEnd::After(duration) => (start + duration.as_nanos() as u64, u64::MAX),
            // Time ends when they are all sent.
            PublishEnd::Messages(messages) => (u64::MAX - DRAIN_NS, messages),
        };
        let mut pace = self.plan.rate.map(|rate| PublishSchedule {
            due: start,
            interval: (1e9 / rate) as u64,
            late: false,
        });
        let mut events = Events::with_capacity(self.plan.connections.min(1024));
        let mut buffer = vec![0; BUFFER_BYTES];
        if pace.is_none() {
            for at in 0..self.lines.len() {
                self.fill(at)?;
            }
        }
        loop {
            let now = self.plan.run.now_ns();
            if now >= self.end
                && (self.lines.iter().all(PublishConnection::is_idle) || now > self.end + DRAIN_NS)
            {
                break;
            }
            let wait = match &mut pace {
                Some(pace) if now < self.end => self.publish_due(pace, now)?,
                _ => TICK,
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(LoadError(format!("epoll: {error}")));
                }
                _ => {}
            }
            for event in &events {
                self.event(event.token().0, event.is_read_closed(), &mut buffer)?;
                if pace.is_none() {
                    self.fill(event.token().0)?;
                }
            }
            tick(&self.outcome);
        }
        if let Some(pace) = pace.filter(|pace| pace.due < self.end) {
            self.outcome.unsent = (self.end - pace.due).div_ceil(pace.interval);
        }
        for at in 0..self.lines.len() {
            self.give_up(at, "unanswered");
        }
        self.outcome.sent = self.lines.iter().map(|line| line.mark.seq).collect();
        let last = self.outcome.elapsed;
        self.outcome.elapsed = last.saturating_sub(Duration::from_nanos(start));
        self.outcome.sending = Duration::from_nanos(self.end.saturating_sub(start));
        Ok(self.outcome)
    }

    /// Publishes what is due, as far as connections are free; answers how long there is nothing to do.
    fn publish_due(&mut self, pace: &mut PublishSchedule, now: u64) -> Result<Duration, LoadError> {
        if pace.due <= now {
            let Some(at) = self.lines.iter().position(|line| !line.free.is_empty()) else {
                pace.late = true;
                return Ok(TICK);
            };
            // A publish that had to wait for the server began when it was due; one that is late because the
            // operating system woke us late begins now.
            let sent = if pace.late { pace.due } else { now };
            pace.due += pace.interval;
            pace.late &= pace.due <= now;
            self.publish(at, sent);
            self.flush(at)?;
        }
        let wait = Duration::from_nanos(pace.due.saturating_sub(self.plan.run.now_ns()));
        if wait >= EPOLL_STEP {
            return Ok(wait.min(TICK) - EPOLL_STEP);
        }
        std::thread::sleep(wait);
        Ok(Duration::ZERO)
    }

    /// Keeps the connection's publishes under way, until the end.
    fn fill(&mut self, at: usize) -> Result<(), LoadError> {
        let now = self.plan.run.now_ns();
        while now < self.end && !self.lines[at].free.is_empty() {
            self.publish(at, now);
        }
        self.flush(at)
    }

    fn publish(&mut self, at: usize, now: u64) {
        let line = &mut self.lines[at];
        if let Some(slot) = line.free.pop() {
            let messages = self.left.min(self.plan.batch as u64);
            let first = line.mark.seq;
            if self.plan.wire == PublishTransport::Http {
                line.order.push_back(slot);
            }
            line.mark.at = now;
            self.encoder.append(&mut line.output, &mut line.mark, slot, messages);
            line.sent[slot] = Some(InFlight { at: now, from: line.mark.from, numbers: first..line.mark.seq });
            self.left -= messages;
            if self.left == 0 {
                self.end = now;
            }
        }
    }

    fn flush(&mut self, at: usize) -> Result<(), LoadError> {
        let line = &mut self.lines[at];
        while line.written < line.output.len() {
            match line.stream.write(&line.output[line.written..]) {
                Ok(n) => line.written += n,
                // A writable event follows.
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.lost(at, &error.to_string());
                    return Ok(());
                }
            }
        }
        line.output.clear();
        line.written = 0;
        Ok(())
    }

    /// Sends and reads what can be. The events are edge-triggered: it is all there is when less came than was asked for,
    /// unless the connection's end came with it.
    fn event(&mut self, at: usize, closed: bool, buffer: &mut [u8]) -> Result<(), LoadError> {
        self.flush(at)?;
        loop {
            let line = &mut self.lines[at];
            if line.gone {
                return Ok(());
            }
            match line.stream.read(buffer) {
                Ok(0) => {
                    self.lost(at, "closed");
                    return Ok(());
                }
                Ok(n) => {
                    line.input.extend_from_slice(&buffer[..n]);
                    if self.answers(at)? {
                        self.lost(at, "closed");
                        return Ok(());
                    }
                    if n < buffer.len() && !closed {
                        return Ok(());
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.lost(at, &error.to_string());
                    return Ok(());
                }
            }
        }
    }

    /// Takes the whole answers that came; true if the connection ends with them.
    fn answers(&mut self, at: usize) -> Result<bool, LoadError> {
        let now = self.plan.run.now_ns();
        let line = &mut self.lines[at];
        let input = std::mem::take(&mut line.input);
        let taken = match self.plan.wire {
            PublishTransport::Http => answers::of_http(&input, |verdict| {
                if let Some(slot) = line.order.pop_front()
                    && let Some(sent) = line.sent[slot].take()
                {
                    self.outcome.count(verdict, now, sent);
                    line.free.push(slot);
                }
            }),
            PublishTransport::Ws => answers::of_websocket(&self.scanner, &input, |heard| match heard {
                ServerLine::Answer(slot, verdict) => {
                    // One to a request that nobody made says nothing.
                    if let Some(sent) = line.sent.get_mut(slot).and_then(Option::take) {
                        self.outcome.count(verdict, now, sent);
                        line.free.push(slot);
                    }
                }
                ServerLine::Ping(payload) => {
                    frames::append_masked(&mut line.output, frames::PONG, |out| {
                        out.extend_from_slice(payload);
                    });
                }
            })
            .map(|used| (used, false)),
        };
        let (used, ends) = taken.map_err(|why| LoadError(why.to_owned()))?;
        line.input = input;
        line.input.drain(..used);
        Ok(ends)
    }

    /// A connection ended: its publishes have no answer, and another takes its place. If none can, the server is gone:
    /// nothing more is published, and what the other connections still hear is taken.
    fn lost(&mut self, at: usize, why: &str) {
        self.give_up(at, why);
        let Stamp { seq, from, .. } = self.lines[at].mark;
        if self.outcome.gone.is_none() {
            match self.connect(from as usize, seq) {
                Ok(line) => return self.lines[at] = line,
                Err(why) => {
                    self.outcome.gone = Some(why.to_string());
                    self.end = self.end.min(self.plan.run.now_ns());
                }
            }
        }
        let line = &mut self.lines[at];
        line.gone = true;
        line.output.clear();
        line.written = 0;
    }

    /// Expects no answer to what is under way on a connection.
    fn give_up(&mut self, at: usize, why: &str) {
        let line = &mut self.lines[at];
        line.order.clear();
        for (slot, sent) in line.sent.iter_mut().enumerate() {
            if let Some(sent) = sent.take() {
                self.outcome.count_unanswered(why, sent);
                line.free.push(slot);
            }
        }
    }

    fn connect(&self, from: usize, seq: u32) -> io::Result<PublishConnection> {
        let (stream, input) = match self.plan.wire {
            PublishTransport::Http => (self.plan.target.connect()?, Vec::new()),
            PublishTransport::Ws => self.plan.target.connect_websocket()?,
        };
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(from), interest)?;
        Ok(PublishConnection {
            stream,
            mark: Stamp { seq, from: from as u32, at: 0 },
            input,
            output: Vec::new(),
            written: 0,
            gone: false,
            sent: vec![None; self.plan.in_flight],
            free: (0..self.plan.in_flight).collect(),
            order: VecDeque::new(),
        })
    }
}

/// When publishes are due.
struct PublishSchedule {
    due: u64,
    interval: u64,
    /// The next one is due and waits for a connection.
    late: bool,
}

impl PublishConnection {
    fn is_idle(&self) -> bool {
        self.free.len() == self.sent.len()
    }
}
