//! `tailwire bench fanout`: one topic, many subscribers, and what one delivery costs.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;

use super::incidents::Incidents;
use super::plan::{Plan, Wire};
use super::publisher::{self, Publisher};
use super::report::{Progress, Report, us_per};
use super::subscribers::{self, Subscribers};
use super::{Clock, Common, Failure, Transport, count, latencies, process, size};

/// The wait for what is still on its way, counted from the last message that came.
const QUIET: Duration = Duration::from_secs(5);
/// How long a subscriber thread may wait for bytes before it looks whether the run is over.
const TURN: Duration = Duration::from_millis(50);
const RATE_DEFAULT: f64 = 20.0;
const IN_FLIGHT_FLAT_OUT: usize = 16;

#[derive(Debug, Args)]
pub(super) struct FanoutArgs {
    #[command(flatten)]
    common: Common,
    /// How the subscribers listen.
    #[arg(long, value_enum, default_value_t = Transport::Ws)]
    transport: Transport,
    /// How many there are.
    #[arg(long, default_value_t = 1000, value_parser = count(100_000))]
    subscribers: u64,
    /// Threads that read for them.
    #[arg(long, default_value_t = 1, value_parser = count(64))]
    threads: u64,
    /// Messages a second; 20 by default.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// Publish as fast as the server acknowledges.
    #[arg(long, conflicts_with = "rate")]
    flat_out: bool,
    /// Publishes under way at a time, each on its own connection: 16 by default when flat out, else 1.
    #[arg(long, value_parser = count(4096))]
    in_flight: Option<u64>,
    /// A message's size in bytes.
    #[arg(long, default_value_t = 128, value_parser = size())]
    size: u64,
}

/// What the threads of a run tell each other.
struct Board {
    opened: AtomicUsize,
    /// Messages that each subscriber should have had at the end; known once publishing is over.
    expected: AtomicU64,
    stop: AtomicBool,
}

const NOT_YET_KNOWN: u64 = u64::MAX;

/// What one run measured.
struct Run {
    published: publisher::Outcome,
    subscribers: Vec<Subscribers>,
    server_cpu: Option<Duration>,
    bench_cpu: Duration,
    start_ns: u64,
}

pub(super) fn run(args: &FanoutArgs) -> Result<ExitCode, Failure> {
    let server = args.common.server()?;
    let clock = Clock::start();
    let (target, topic) = (args.common.target()?, args.common.topic());
    let rate = (!args.flat_out).then_some(args.rate.unwrap_or(RATE_DEFAULT));
    let in_flight = args.in_flight.map_or(if args.flat_out { IN_FLIGHT_FLAT_OUT } else { 1 }, |n| n as usize);
    let size = args.size as usize;
    let readers = subscribers::Plan {
        target: target.clone(),
        topic: topic.clone(),
        transport: args.transport,
        count: args.subscribers as usize,
        publishers: in_flight,
        size,
        clock,
    };
    let writers = Plan {
        target,
        topic,
        wire: Wire::Http,
        connections: in_flight,
        in_flight: 1,
        batch: 1,
        size,
        rate,
        duration: args.common.duration(),
        clock,
    };
    process::reserve_descriptors(readers.count + in_flight)?;
    let threads = (args.threads as usize).min(readers.count);
    let run = measure(&readers, writers, threads, || server.and_then(|server| server.cpu()))?;

    let mut report = Report::default();
    report.text("transport", args.transport.name());
    report.count("subscribers", args.subscribers);
    report.count("size_bytes", args.size);
    report.figure("rate_per_s", rate);
    report.count("in_flight", in_flight as u64);
    let sound = run.describe(&mut report);
    report.figure("server_memory_mb", server.and_then(|one| one.resident()).map(|bytes| bytes as f64 / 1e6));
    report.print(args.common.json)?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Opens the subscribers, publishes, and waits until all is delivered.
fn measure(
    readers: &subscribers::Plan,
    writers: Plan,
    threads: usize,
    server_cpu: impl Fn() -> Option<Duration>,
) -> Result<Run, Failure> {
    let board = Board {
        opened: AtomicUsize::new(0),
        expected: AtomicU64::new(NOT_YET_KNOWN),
        stop: AtomicBool::new(false),
    };
    let mut progress = Progress::new();
    thread::scope(|scope| {
        let (ready, opened) = mpsc::channel();
        let handles: Vec<_> = (0..threads)
            .map(|at| {
                let mut plan = readers.clone();
                plan.count = (readers.count * (at + 1)) / threads - (readers.count * at) / threads;
                let (ready, board) = (ready.clone(), &board);
                scope.spawn(move || listen(plan, board, &ready))
            })
            .collect();
        let published = (|| {
            for _ in 0..threads {
                wait_opened(&opened, &board, readers.count, &mut progress)?;
            }
            let publisher = Publisher::open(writers)?;
            let (server_before, bench_before) = (server_cpu(), process::own_cpu());
            let start_ns = readers.clock.now_ns();
            let outcome =
                publisher.run(|now| progress.show(|| format!("{} messages published", now.messages)))?;
            Ok((outcome, server_before, bench_before, start_ns))
        })();
        match &published {
            Ok((outcome, ..)) => board.expected.store(outcome.messages, Ordering::Release),
            Err(_) => board.stop.store(true, Ordering::Release),
        }
        let joined: Result<Vec<_>, _> = handles.into_iter().map(join).collect();
        // A thread that failed made the publishing fail as well, and knows better why.
        let (subscribers, (published, server_before, bench_before, start_ns)) = (joined?, published?);
        let server_cpu = server_before.zip(server_cpu()).map(|(before, after)| after.saturating_sub(before));
        let bench_cpu = process::own_cpu().saturating_sub(bench_before);
        Ok(Run { published, subscribers, server_cpu, bench_cpu, start_ns })
    })
}

fn join(handle: thread::ScopedJoinHandle<'_, Result<Subscribers, Failure>>) -> Result<Subscribers, Failure> {
    handle.join().unwrap_or_else(|_| Err(Failure("a subscriber thread panicked".to_owned())))
}

/// Waits until one more thread has opened its subscribers.
fn wait_opened(
    opened: &mpsc::Receiver<bool>,
    board: &Board,
    count: usize,
    progress: &mut Progress,
) -> Result<(), Failure> {
    loop {
        match opened.recv_timeout(Duration::from_millis(100)) {
            Ok(true) => return Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let ready = board.opened.load(Ordering::Relaxed);
                progress.show(|| format!("{ready} of {count} subscribed"));
            }
            Ok(false) | Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(Failure("the subscribers could not be opened".to_owned()));
            }
        }
    }
}

/// A subscriber thread.
fn listen(
    plan: subscribers::Plan,
    board: &Board,
    ready: &mpsc::Sender<bool>,
) -> Result<Subscribers, Failure> {
    let opened = Subscribers::open(plan, |more| {
        board.opened.fetch_add(more, Ordering::Relaxed);
    });
    // The other end waits for this; if it has gone, the run is over.
    let _ = ready.send(opened.is_ok());
    let mut subscribers = opened?;
    let mut last = (subscribers.last_ns(), Instant::now());
    while !board.stop.load(Ordering::Acquire) {
        subscribers.turn(TURN)?;
        let expected = board.expected.load(Ordering::Acquire);
        if expected == NOT_YET_KNOWN || subscribers.last_ns() != last.0 {
            last = (subscribers.last_ns(), Instant::now());
        }
        if expected != NOT_YET_KNOWN && (subscribers.have_all(expected) || last.1.elapsed() > QUIET) {
            break;
        }
    }
    Ok(subscribers)
}

impl Run {
    /// Adds the figures; true if every subscriber got every message, once and in order.
    fn describe(&self, report: &mut Report) -> bool {
        let expected = self.published.messages;
        let failed = self.published.errors.values().sum();
        let (mut deliveries, mut lost, mut doubled, mut reordered, mut foreign) = (0, 0, 0, 0, 0);
        let mut orders: BTreeMap<u64, u64> = BTreeMap::new();
        for tally in self.subscribers.iter().flat_map(Subscribers::tallies) {
            deliveries += tally.distinct + tally.doubled;
            // A publish that failed may have been delivered all the same; its number may be missing, others not.
            lost += expected.saturating_sub(tally.distinct).max(tally.missing.saturating_sub(failed));
            doubled += tally.doubled;
            reordered += tally.reordered;
            foreign += tally.foreign;
            if tally.distinct == expected && tally.doubled == 0 {
                *orders.entry(tally.order).or_default() += 1;
            }
        }
        // All who got the same messages should have had them in one order.
        let other_orders = orders.values().sum::<u64>() - orders.values().max().copied().unwrap_or(0);
        let mut latency = latencies();
        let (mut incidents, mut last_ns) = (Incidents::default(), 0);
        for one in &self.subscribers {
            // Both have the same bounds, so nothing is too large to add.
            let _ = latency.add(one.latency());
            incidents.add(one.incidents());
            last_ns = last_ns.max(one.last_ns());
        }
        let seconds = last_ns.saturating_sub(self.start_ns) as f64 / 1e9;
        report.count("messages", expected);
        report.counts("publish_errors", &self.published.errors);
        report.latency("publish_latency_us", &self.published.latency);
        report.count("deliveries", deliveries);
        report.figure("deliveries_per_s", (seconds > 0.0).then(|| deliveries as f64 / seconds));
        report.latency("latency_us", &latency);
        report.count("lost", lost);
        report.count("doubled", doubled);
        report.count("reordered", reordered);
        report.count("other_orders", other_orders);
        report.count("foreign", foreign);
        report.count("gaps", incidents.gaps);
        report.count("byes", incidents.byes);
        report.counts("ended", &incidents.ended);
        report.figure("server_cpu_us_per_delivery", us_per(self.server_cpu, deliveries));
        report.figure("bench_cpu_us_per_delivery", us_per(Some(self.bench_cpu), deliveries));
        expected > 0 && lost + doubled + reordered + other_orders == 0
    }
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1e6).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0.1 to 1,000,000".to_owned()),
    }
}
