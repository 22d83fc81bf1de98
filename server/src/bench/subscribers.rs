//! Many subscribers in one thread: an epoll loop, one buffer for all of them, one `read` for each that has bytes.

use std::io::ErrorKind;
use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::connect::{Start, Target};
use super::incidents::Incidents;
use super::scan::Scanner;
use super::spread::{Share, Spread};
use super::subscriber::{Requests, Shared, Subscriber};
use super::tally::Tally;
use super::{Failure, Run, Transport, latencies};

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
    pub(super) spread: Spread,
    /// Each listens to all topics by a pattern; else they take the spread's parts in turn, one each.
    pub(super) pattern: bool,
    pub(super) transport: Transport,
    pub(super) start: Start,
    /// Which of the run's subscribers these are.
    pub(super) which: Range<usize>,
    /// How many publishers number their messages.
    pub(super) publishers: usize,
    /// The size of a payload, which the buffer has to hold.
    pub(super) size: usize,
    pub(super) run: Run,
}

impl Plan {
    fn share(&self, at: usize) -> Share {
        if self.pattern { Share::All } else { Share::Part(at % self.spread.parts()) }
    }

    /// The different shares of these subscribers.
    fn shares(&self) -> usize {
        if self.pattern { 1 } else { self.spread.parts() }
    }
}

/// Open subscribers and what they have seen.
#[derive(Debug)]
pub(super) struct Subscribers {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    all: Vec<Subscriber>,
    plan: Plan,
    shared: Shared,
}

impl Subscribers {
    /// Opens all of them and waits until each is subscribed.
    pub(super) fn open(plan: Plan, mut opened: impl FnMut(usize)) -> Result<Subscribers, Failure> {
        let poll = Poll::new().map_err(Failure::during("epoll"))?;
        let requests = |filters: Vec<String>| Requests {
            subscribe: plan.target.subscribe(plan.transport, &filters, plan.start),
            poll: plan.target.poll(plan.transport, &filters),
        };
        let shared = Shared {
            transport: plan.transport,
            run: plan.run,
            scanner: Scanner::new(plan.run.id),
            requests: (0..plan.shares()).map(|at| requests(plan.spread.filters(plan.share(at)))).collect(),
            ready: 0,
            latency: latencies(),
            last_ns: 0,
            incidents: Incidents::default(),
        };
        let mut this = Subscribers {
            poll,
            events: Events::with_capacity(1024),
            buffer: vec![0; BUFFER_BYTES.max(2 * plan.size)],
            all: Vec::with_capacity(plan.which.len()),
            plan,
            shared,
        };
        let mut progressed = Instant::now();
        while this.shared.ready < this.plan.which.len() {
            let (before, last_ns) = (this.shared.ready, this.shared.last_ns);
            while this.all.len() < this.plan.which.len() && this.all.len() - before < OPENING_MAX {
                this.connect()?;
            }
            if this.turn(QUIET)? == 0 {
                this.take_quiet_as_ready();
            }
            if let Some((why, _)) = this.shared.incidents.ended.first_key_value() {
                let (number, ready) = (this.plan.which.len(), this.shared.ready);
                let why = format!("{why}; {ready} of {number} are subscribed");
                return Err(match this.plan.target.gone() {
                    Some(_) => this.plan.target.unreached(&why),
                    None => Failure(format!("subscribing: {why}")),
                });
            }
            if this.shared.ready > before || this.shared.last_ns > last_ns {
                progressed = Instant::now();
                opened(this.shared.ready - before);
            } else if progressed.elapsed() > OPENING_WAIT {
                let (ready, count) = (before, this.plan.which.len());
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

    /// Whether each that is still there has had as many messages as its share has.
    pub(super) fn have_all(&self, messages: impl Fn(Share) -> u64) -> bool {
        self.all.iter().all(|one| one.has_ended() || one.tally().distinct >= messages(one.tally().share))
    }

    /// Whether none is there any more.
    pub(super) fn have_ended(&self) -> bool {
        self.all.iter().all(Subscriber::has_ended)
    }

    pub(super) fn tallies(&self) -> impl Iterator<Item = &Tally> {
        self.all.iter().map(Subscriber::tally)
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
            TcpStream::connect(self.plan.target.address).map_err(|why| self.plan.target.unreached(&why))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut stream, Token(self.all.len()), interest);
        registered.map_err(Failure::during("epoll"))?;
        let at = self.plan.which.start + self.all.len();
        let tally = Tally::new(self.plan.share(at), self.plan.spread.parts(), self.plan.publishers);
        self.all.push(Subscriber::new(stream, at % self.plan.shares(), tally));
        Ok(())
    }

    fn take_quiet_as_ready(&mut self) {
        for one in &mut self.all {
            one.take_quiet_as_ready(&mut self.shared);
        }
    }
}
