//! Publishers in one thread: connections that each keep some publishes under way, flat out or at a rate, for a time or
//! for a number of messages.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use memchr::memmem;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use tailwire_load::client::requests;
use tailwire_load::measure::histogram::latencies;
use tailwire_load::measure::payload::Stamp;

use crate::payload;
use crate::progress::Progress;
use crate::protocol::{PeerPlace, PeerProtocol};

/// The wait for the last answers.
const DRAIN: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(50);
/// `epoll` waits whole milliseconds; what is shorter is slept.
const EPOLL_STEP: Duration = Duration::from_millis(1);
/// No connection's: there may be room for more messages.
const PROGRESSED: Token = Token(usize::MAX);

pub(crate) struct PeerPublishPlan<'a> {
    pub(crate) protocol: PeerProtocol,
    pub(crate) place: &'a PeerPlace,
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
    pub(crate) size: usize,
    /// Where they wait for subscribers.
    pub(crate) progress: Option<&'a Progress>,
    /// Messages a second; none is flat out.
    pub(crate) rate: Option<f64>,
    pub(crate) duration: Duration,
    /// Messages to send at most.
    pub(crate) messages: u64,
    pub(crate) start: Instant,
}

pub(crate) struct PeerPublished {
    pub(crate) taken: u64,
    pub(crate) refused: u64,
    pub(crate) latency: Histogram<u64>,
    /// From the first publish to the last answer.
    pub(crate) elapsed: Duration,
}

pub(crate) struct PeerPublishers<'a> {
    plan: PeerPublishPlan<'a>,
    poll: Poll,
    lines: Vec<PeerPublisher>,
    outcome: PeerPublished,
    payload: Vec<u8>,
    left: u64,
}

struct PeerPublisher {
    stream: TcpStream,
    place: PeerPlace,
    mark: Stamp,
    input: Vec<u8>,
    output: Vec<u8>,
    /// When the publishes under way were sent, which are answered in order.
    sent: VecDeque<u64>,
}

impl<'a> PeerPublishers<'a> {
    pub(crate) fn open(plan: PeerPublishPlan<'a>) -> Result<PeerPublishers<'a>, String> {
        let poll = Poll::new().map_err(|why| why.to_string())?;
        let connect = |from| line(&plan, &poll, from).map_err(|why| format!("connecting a publisher: {why}"));
        if let Some(progress) = plan.progress {
            progress.wake_by(Waker::new(poll.registry(), PROGRESSED).map_err(|why| why.to_string())?);
        }
        let lines = (0..plan.connections).map(connect).collect::<Result<_, _>>()?;
        let outcome = PeerPublished { taken: 0, refused: 0, latency: latencies(), elapsed: Duration::ZERO };
        Ok(PeerPublishers { lines, poll, outcome, payload: Vec::new(), left: plan.messages, plan })
    }

    pub(crate) fn run(mut self) -> Result<PeerPublished, String> {
        let start = Instant::now();
        let interval = self.plan.rate.map(|rate| Duration::from_secs_f64(1.0 / rate));
        let mut due = start;
        let mut events = Events::with_capacity(1024);
        if interval.is_none() {
            (0..self.lines.len()).try_for_each(|at| self.fill(at))?;
        }
        let mut deadline = None;
        loop {
            let over = start.elapsed() >= self.plan.duration || self.left == 0;
            if over {
                let deadline = *deadline.get_or_insert_with(|| Instant::now() + DRAIN);
                if self.lines.iter().all(|line| line.sent.is_empty()) || Instant::now() > deadline {
                    break;
                }
            }
            let wait = match interval {
                Some(interval) if !over => self.publish_due(&mut due, interval)?,
                _ => TICK,
            };
            match self.poll.poll(&mut events, Some(wait)) {
                Err(why) if why.kind() != ErrorKind::Interrupted => return Err(format!("epoll: {why}")),
                _ => {}
            }
            for event in &events {
                if event.token() == PROGRESSED {
                    if start.elapsed() < self.plan.duration {
                        (0..self.lines.len()).try_for_each(|at| self.fill(at))?;
                    }
                    continue;
                }
                let at = event.token().0;
                self.flush(at)?;
                self.read(at, start)?;
                if interval.is_none() && start.elapsed() < self.plan.duration {
                    self.fill(at)?;
                }
            }
        }
        let unanswered: usize = self.lines.iter().map(|line| line.sent.len()).sum();
        self.outcome.refused += unanswered as u64;
        Ok(self.outcome)
    }

    /// Publishes what is due, if a connection is free; answers how long there is nothing to do.
    fn publish_due(&mut self, due: &mut Instant, interval: Duration) -> Result<Duration, String> {
        if *due <= Instant::now() {
            let free = self.lines.iter().position(|line| line.sent.len() < self.plan.in_flight);
            let Some(at) = free else { return Ok(TICK) };
            *due += interval;
            self.publish(at);
            self.flush(at)?;
        }
        let wait = due.saturating_duration_since(Instant::now());
        if wait >= EPOLL_STEP {
            return Ok(wait.min(TICK) - EPOLL_STEP);
        }
        std::thread::sleep(wait);
        Ok(Duration::ZERO)
    }

    fn fill(&mut self, at: usize) -> Result<(), String> {
        while self.left > 0 && self.lines[at].sent.len() < self.plan.in_flight && self.has_room() {
            self.publish(at);
        }
        self.flush(at)
    }

    fn has_room(&self) -> bool {
        let published = self.plan.messages - self.left;
        self.plan.progress.is_none_or(|progress| progress.has_room(published))
    }

    fn publish(&mut self, at: usize) {
        let line = &mut self.lines[at];
        line.mark.at = self.plan.start.elapsed().as_nanos() as u64;
        self.payload.clear();
        payload::write(&mut self.payload, line.mark, self.plan.size);
        (self.plan.protocol.publish)(&mut line.output, &line.place, &self.payload);
        line.sent.push_back(line.mark.at);
        line.mark.seq += 1;
        self.left -= 1;
    }

    fn flush(&mut self, at: usize) -> Result<(), String> {
        let line = &mut self.lines[at];
        while !line.output.is_empty() {
            match line.stream.write(&line.output) {
                Ok(n) => drop(line.output.drain(..n)),
                // A writable event follows.
                Err(why) if why.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return Err(format!("publishing: {why}")),
            }
        }
        Ok(())
    }

    fn read(&mut self, at: usize, start: Instant) -> Result<(), String> {
        let line = &mut self.lines[at];
        let mut buffer = [0; 16 << 10];
        loop {
            match line.stream.read(&mut buffer) {
                Ok(0) => return Err("the server closed a publisher's connection".to_owned()),
                Ok(n) => line.input.extend_from_slice(&buffer[..n]),
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return Err(format!("publishing: {why}")),
            }
        }
        let answers = (self.plan.protocol.answers)(&line.input)?;
        line.input.drain(..answers.length);
        let now = self.plan.start.elapsed().as_nanos() as u64;
        for sent in line.sent.drain(..(answers.taken + answers.refused).min(line.sent.len())) {
            self.outcome.latency.saturating_record(now.saturating_sub(sent));
            self.outcome.elapsed = start.elapsed();
        }
        self.outcome.taken += answers.taken as u64;
        self.outcome.refused += answers.refused as u64;
        Ok(())
    }
}

/// A connection that has said what it must, and can publish.
fn line(plan: &PeerPublishPlan<'_>, poll: &Poll, from: usize) -> io::Result<PeerPublisher> {
    let mut stream = requests::connect(plan.place.publish)?;
    let mut input = Vec::new();
    let place = plan.place.of(from);
    for step in (plan.protocol.open)(&place) {
        stream.write_all(&step.send)?;
        let end = loop {
            if let Some(found) = memmem::find(&input, step.until) {
                break found + step.until.len();
            }
            let mut buffer = [0; 4096];
            match stream.read(&mut buffer)? {
                0 => return Err(io::Error::other("closed")),
                n => input.extend_from_slice(&buffer[..n]),
            }
        };
        input.drain(..end);
    }
    // The frame whose beginning ended the last step goes on; a line of answers begins after it.
    input.clear();
    stream.set_nonblocking(true)?;
    let mut stream = TcpStream::from_std(stream);
    poll.registry().register(&mut stream, Token(from), Interest::READABLE | Interest::WRITABLE)?;
    let mark = Stamp { seq: 0, from: from as u32, at: 0 };
    Ok(PeerPublisher { stream, place, mark, input, output: Vec::new(), sent: VecDeque::new() })
}
