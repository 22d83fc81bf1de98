//! The load generator of `tests/bench`: one way to measure all peers, each in its own protocol.
//!
//! It speaks just enough of each to subscribe and to publish, and counts as a delivery a payload that has come whole.
//! Its caller measures the resources that the server used meanwhile, so a run goes by lines: it prints `ready`
//! once all connections are open, begins when it reads a line, and prints its figures as one JSON object. The end of
//! its input instead of a line ends it: connections that are only opened are idle ones.
//!
//! `peers fanout --protocol nchan-ws --address 127.0.0.1:9000 --subscribers 1000 --rate 20 --seconds 10`

mod payload;
mod progress;
mod protocol;
mod publishers;
mod subscribers;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use progress::Progress;
use protocol::{PeerPlace, PeerProtocol};
use publishers::PeerPublishers;
use subscribers::PeerSubscribers;

/// Measures a broker in its own protocol.
#[derive(Debug, Parser)]
struct PeersCli {
    #[command(subcommand)]
    run: PeersCommand,
}

#[derive(Debug, Subcommand)]
enum PeersCommand {
    /// Subscribers, and publishers at a rate or flat out.
    Fanout(Arguments),
    /// Publishers alone.
    Publish(Arguments),
    /// Subscribers that read what is stored.
    Replay(Arguments),
}

#[derive(Debug, Args)]
struct Arguments {
    #[arg(long, value_parser = PeerProtocol::parse)]
    protocol: PeerProtocol,
    #[arg(long)]
    address: SocketAddr,
    /// Where publishers connect to, if not there.
    #[arg(long)]
    publish_address: Option<SocketAddr>,
    #[arg(long, default_value = "bench")]
    topic: String,
    #[arg(long, default_value_t = 1)]
    subscribers: usize,
    /// Connections that publish.
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Publishes under way on each.
    #[arg(long, default_value_t = 1)]
    in_flight: usize,
    /// Messages a second; flat out without.
    #[arg(long)]
    rate: Option<f64>,
    /// Messages that may be published and not delivered to everybody yet; without, publishers don't wait for subscribers.
    #[arg(long)]
    undelivered: Option<u64>,
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds that subscribers may take for what is left once publishing is over.
    #[arg(long, default_value_t = 60.0)]
    drain: f64,
    /// Messages to publish at most, or to read.
    #[arg(long)]
    messages: Option<u64>,
    #[arg(long, default_value_t = 128)]
    size: usize,
}

impl std::fmt::Debug for PeerProtocol {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

fn main() -> ExitCode {
    let done = match PeersCli::parse().run {
        PeersCommand::Fanout(args) => args.checked().and_then(|()| fanout(&args)),
        PeersCommand::Publish(args) => args.checked().and_then(|()| publish(&args)),
        PeersCommand::Replay(args) => args.checked().and_then(|()| replay(&args)),
    };
    match done {
        Ok(figures) => {
            say(&figures.to_string());
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("peers: {why}");
            ExitCode::FAILURE
        }
    }
}

impl Arguments {
    fn checked(&self) -> Result<(), String> {
        if self.size < payload::SIZE_MIN || self.connections > payload::PUBLISHERS_MAX {
            return Err(format!(
                "a message has {} bytes or more, and there are {} publishers or fewer",
                payload::SIZE_MIN,
                payload::PUBLISHERS_MAX
            ));
        }
        Ok(())
    }

    fn place(&self) -> PeerPlace {
        PeerPlace {
            subscribe: self.address,
            publish: self.publish_address.unwrap_or(self.address),
            topic: self.topic.clone(),
            number: 0,
        }
    }

    fn subscribers<'a>(
        &self,
        place: &'a PeerPlace,
        replay: bool,
        progress: Option<&'a Progress>,
        start: Instant,
    ) -> subscribers::PeerSubscribePlan<'a> {
        subscribers::PeerSubscribePlan {
            progress,
            protocol: self.protocol,
            place,
            replay,
            count: self.subscribers,
            publishers: self.connections,
            size: self.size,
            drain: Duration::from_secs_f64(self.drain),
            start,
        }
    }

    fn publishers<'a>(
        &self,
        place: &'a PeerPlace,
        progress: Option<&'a Progress>,
        start: Instant,
    ) -> publishers::PeerPublishPlan<'a> {
        publishers::PeerPublishPlan {
            progress,
            protocol: self.protocol,
            place,
            connections: self.connections,
            in_flight: self.in_flight,
            size: self.size,
            rate: self.rate,
            duration: Duration::from_secs_f64(self.seconds),
            messages: self.messages.unwrap_or(u64::MAX),
            start,
        }
    }
}

fn fanout(args: &Arguments) -> Result<Value, String> {
    let (place, clock) = (args.place(), Instant::now());
    let progress = args.undelivered.map(|undelivered| Progress::new(undelivered, args.subscribers as u64));
    let subscribers = PeerSubscribers::open(args.subscribers(&place, false, progress.as_ref(), clock))?;
    let publishers = PeerPublishers::open(args.publishers(&place, progress.as_ref(), clock))?;
    if !told_to_begin()? {
        return Ok(json!({}));
    }
    let begun = clock.elapsed();
    let expected = AtomicUsize::new(usize::MAX);
    let (published, got) = thread::scope(|scope| {
        let listening = scope.spawn(|| subscribers.listen(&expected));
        let published = publishers.run();
        let each = published.as_ref().map_or(0, |outcome| outcome.taken as usize);
        expected.store(each, Ordering::Release);
        let got = listening.join().unwrap_or_else(|_| Err("the subscribers' thread panicked".to_owned()));
        (published, got)
    });
    let (published, got) = (published?, got?);
    let seconds = (Duration::from_nanos(got.last_ns).saturating_sub(begun)).as_secs_f64();
    let missing = (published.taken * args.subscribers as u64).saturating_sub(got.deliveries - got.repeated);
    Ok(json!({
        "messages": published.taken,
        "refused": published.refused,
        "deliveries": got.deliveries,
        "seconds": seconds,
        "lost": if got.unfinished { 0 } else { missing },
        "unfinished": if got.unfinished { missing } else { 0 },
        "repeated": got.repeated,
        "reordered": got.reordered,
        "ended": got.ended,
        "receipt_us": percentiles(&published.latency),
        "delivery_us": percentiles(&got.latency),
    }))
}

fn publish(args: &Arguments) -> Result<Value, String> {
    let (place, clock) = (args.place(), Instant::now());
    let publishers = PeerPublishers::open(args.publishers(&place, None, clock))?;
    if !told_to_begin()? {
        return Ok(json!({}));
    }
    let published = publishers.run()?;
    Ok(json!({
        "messages": published.taken,
        "refused": published.refused,
        "seconds": published.elapsed.as_secs_f64(),
        "receipt_us": percentiles(&published.latency),
    }))
}

fn replay(args: &Arguments) -> Result<Value, String> {
    if args.protocol.replay.is_none() {
        return Err(format!("{} stores nothing", args.protocol.name));
    }
    let messages = args.messages.ok_or("how many --messages are stored?")?;
    let place = args.place();
    // Nothing can be opened beforehand: what is stored comes at once.
    if !told_to_begin()? {
        return Ok(json!({}));
    }
    let clock = Instant::now();
    let subscribers = PeerSubscribers::open(args.subscribers(&place, true, None, clock))?;
    let got = subscribers.listen(&AtomicUsize::new(messages as usize))?;
    let missing = (messages * args.subscribers as u64).saturating_sub(got.deliveries - got.repeated);
    Ok(json!({
        "deliveries": got.deliveries,
        "seconds": got.last_ns as f64 / 1e9,
        "lost": if got.unfinished { 0 } else { missing },
        "unfinished": if got.unfinished { missing } else { 0 },
        "repeated": got.repeated,
        "reordered": got.reordered,
        "ended": got.ended,
    }))
}

/// Says that all is open, and waits for a line; false if the input ends instead.
fn told_to_begin() -> Result<bool, String> {
    say("ready");
    let mut line = String::new();
    io::stdin().read_line(&mut line).map(|n| n > 0).map_err(|why| why.to_string())
}

#[allow(clippy::print_stdout)] // Its caller reads it there, line by line.
fn say(line: &str) {
    println!("{line}");
}

fn percentiles(all: &Histogram<u64>) -> Value {
    let us = |quantile| all.value_at_quantile(quantile) as f64 / 1000.0;
    json!({ "p50": us(0.5), "p99": us(0.99), "p99.9": us(0.999), "max": us(1.0) })
}
