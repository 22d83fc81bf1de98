//! Many subscribers in one thread: an epoll loop, one buffer for all of them, one `read` for each that has bytes.

use std::io::ErrorKind;
use std::ops::Range;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::client::connect::{LoadTarget, StartAt};
use crate::client::transport::ReadTransport;
use crate::error::LoadError;
use crate::measure::clock::LoadRun;
use crate::measure::histogram::latencies;
use crate::measure::scan::StampScanner;
use crate::measure::topic_set::{TopicSet, TopicShare};
use crate::publishing::plan::PublishPlan;
use crate::subscribing::incidents::Incidents;
use crate::subscribing::received::ReceivedMessages;
use crate::subscribing::subscriber::{LoadSubscriber, SubscribeRequests, SubscriberContext};

/// Half of a usual second-level cache: large enough for a burst, and still warm at the next read.
const BUFFER_BYTES: usize = 128 << 10;
/// Connections that are being opened at a time: fewer than what servers let queue for `accept`.
const OPENING_MAX: usize = 100;
/// Nothing opens for so long: the server won't.
const OPENING_WAIT: Duration = Duration::from_secs(20);
/// A WebSocket that was upgraded and says nothing for so long has no welcome to wait for.
const QUIET: Duration = Duration::from_secs(1);

/// The plan of some subscribers: how many, of which topics.
#[derive(Debug, Clone)]
pub(crate) struct SubscribePlan {
    pub(crate) target: LoadTarget,
    pub(crate) topic_set: TopicSet,
    /// Each listens to all topics by a pattern; else they take the topics's parts in turn, one each.
    pub(crate) pattern: bool,
    pub(crate) transport: ReadTransport,
    pub(crate) start: StartAt,
    /// Which of the run's subscribers these are.
    pub(crate) which: Range<usize>,
    /// How many publishers number their messages.
    pub(crate) publishers: usize,
    /// The size of a payload, which the buffer has to hold.
    pub(crate) size: usize,
    pub(crate) run: LoadRun,
}

impl SubscribePlan {
    /// So many subscribers of what a plan publishes, from the tail on; each takes one of the topics.
    pub(crate) fn of(published: &PublishPlan, transport: ReadTransport, subscribers: usize) -> SubscribePlan {
        SubscribePlan {
            target: published.target.clone(),
            topic_set: published.topic_set.clone(),
            pattern: false,
            transport,
            start: StartAt::Latest,
            which: 0..subscribers,
            publishers: published.connections,
            size: published.size,
            run: published.run,
        }
    }

    fn share(&self, at: usize) -> TopicShare {
        if self.pattern { TopicShare::All } else { TopicShare::Part(at % self.topic_set.parts()) }
    }

    /// The different shares of these subscribers.
    fn shares(&self) -> usize {
        if self.pattern { 1 } else { self.topic_set.parts() }
    }
}

/// Open subscribers and what they have seen.
#[derive(Debug)]
pub(crate) struct LoadSubscribers {
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    all: Vec<LoadSubscriber>,
    plan: SubscribePlan,
    shared: SubscriberContext,
}

impl LoadSubscribers {
    /// Opens all of them and waits until each is subscribed.
    pub(crate) fn open(
        plan: SubscribePlan,
        mut opened: impl FnMut(usize),
    ) -> Result<LoadSubscribers, LoadError> {
        let poll = Poll::new().map_err(LoadError::during("epoll"))?;
        let requests = |filters: Vec<String>| SubscribeRequests {
            subscribe: plan.target.subscribe(plan.transport, &filters, plan.start),
            poll: plan.target.poll(plan.transport, &filters),
        };
        let shared = SubscriberContext {
            transport: plan.transport,
            run: plan.run,
            scanner: StampScanner::new(plan.run.id),
            requests: (0..plan.shares()).map(|at| requests(plan.topic_set.filters(plan.share(at)))).collect(),
            ready: 0,
            latency: latencies(),
            last_ns: 0,
            incidents: Incidents::default(),
        };
        let mut this = LoadSubscribers {
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
                    None => LoadError(format!("subscribing: {why}")),
                });
            }
            if this.shared.ready > before || this.shared.last_ns > last_ns {
                progressed = Instant::now();
                opened(this.shared.ready - before);
            } else if progressed.elapsed() > OPENING_WAIT {
                let (ready, count) = (before, this.plan.which.len());
                return Err(LoadError(format!(
                    "only {ready} of {count} are subscribed after {OPENING_WAIT:?}"
                )));
            }
        }
        Ok(this)
    }

    /// Waits for bytes, for so long at most, and takes them; answers how many subscribers had some.
    pub(crate) fn turn(&mut self, wait: Duration) -> Result<usize, LoadError> {
        match self.poll.poll(&mut self.events, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => {
                return Err(LoadError(format!("epoll: {error}")));
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
    pub(crate) fn have_all(&self, messages: impl Fn(TopicShare) -> u64) -> bool {
        self.all
            .iter()
            .all(|one| one.has_ended() || one.received().distinct >= messages(one.received().share))
    }

    /// Whether none is there any more.
    pub(crate) fn have_ended(&self) -> bool {
        self.all.iter().all(LoadSubscriber::has_ended)
    }

    pub(crate) fn all_received(&self) -> impl Iterator<Item = &ReceivedMessages> {
        self.all.iter().map(LoadSubscriber::received)
    }

    pub(crate) fn latency(&self) -> &Histogram<u64> {
        &self.shared.latency
    }

    pub(crate) fn incidents(&self) -> &Incidents {
        &self.shared.incidents
    }

    /// When the last message came, by the run's clock.
    pub(crate) fn last_ns(&self) -> u64 {
        self.shared.last_ns
    }

    fn connect(&mut self) -> Result<(), LoadError> {
        let mut stream =
            TcpStream::connect(self.plan.target.address).map_err(|why| self.plan.target.unreached(&why))?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut stream, Token(self.all.len()), interest);
        registered.map_err(LoadError::during("epoll"))?;
        let at = self.plan.which.start + self.all.len();
        let received =
            ReceivedMessages::new(self.plan.share(at), self.plan.topic_set.parts(), self.plan.publishers);
        self.all.push(LoadSubscriber::new(stream, at % self.plan.shares(), received));
        Ok(())
    }

    fn take_quiet_as_ready(&mut self) {
        for one in &mut self.all {
            one.take_quiet_as_ready(&mut self.shared);
        }
    }
}
