//! `tailwire bench topics`: what many topics cost, in memory, to those who publish, and to those who listen to all.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;

use super::connect::Start;
use super::deliveries::Deliveries;
use super::plan::{End, Plan, Wire};
use super::process::{self, Meter, Server};
use super::publisher::{Outcome, Publisher};
use super::report::{Progress, Report, us_per};
use super::spread::Spread;
use super::{Clock, Common, Failure, Transport, count, course, listening, rate, size, subscribers};

/// Time for the server to let go of what creating took, before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
pub(super) struct TopicsArgs {
    #[command(flatten)]
    common: Common,
    /// Topics to create, each with one message.
    #[arg(long, default_value_t = 100_000, value_parser = count(10_000_000))]
    topics: u64,
    /// Connections that publish to one topic before and after, and to all topics for the subscribers.
    #[arg(long, default_value_t = 16, value_parser = count(4096))]
    connections: u64,
    /// Subscribers that listen to all topics by a pattern; 0 for none.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    subscribers: u64,
    /// How the subscribers listen.
    #[arg(long, value_parser = listening(), default_value = "ws")]
    transport: Transport,
    /// Messages a second for the subscribers, each to another topic.
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    rate: f64,
    /// A message's size in bytes.
    #[arg(long, default_value_t = 128, value_parser = size())]
    size: u64,
}

/// What all parts of the run have in common.
struct Bench<'a> {
    args: &'a TopicsArgs,
    /// The topic that is published to before and after.
    probe: Spread,
    many: Spread,
    server: Option<Server>,
    clock: Clock,
}

pub(super) fn run(args: &TopicsArgs) -> Result<ExitCode, Failure> {
    let base = args.common.topic();
    let bench = Bench {
        args,
        probe: Spread::one(format!("{base}/probe")),
        many: Spread::new(format!("{base}/of"), args.topics as usize),
        server: args.common.server()?,
        clock: Clock::start(),
    };
    process::reserve_descriptors((args.connections + args.subscribers) as usize)?;
    let resident = || bench.server.and_then(|server| server.resident());

    let before = bench.publish(bench.at(bench.probe.clone(), None)?, "before")?;
    let memory_before = resident();
    let fill =
        Plan::fill(args.common.target()?, bench.many.clone(), args.topics, args.size as usize, bench.clock);
    let created = bench.publish(fill, "topics")?;
    if created.0.messages != args.topics {
        return Err(Failure(format!("not all topics could be created: {:?}", created.0.errors)));
    }
    thread::sleep(SETTLE);
    let memory_after = resident();
    let after = bench.publish(bench.at(bench.probe.clone(), None)?, "after")?;
    let listened = (args.subscribers > 0).then(|| bench.listen()).transpose()?;

    let grown = memory_after.zip(memory_before).map(|(after, before)| after as f64 - before as f64);
    let mut report = Report::default();
    report.count("topics", args.topics);
    report.count("connections", args.connections);
    report.count("size_bytes", args.size);
    report.figure("created_per_s", per_second(&created.0));
    report.figure("server_cpu_us_per_topic", us_per(created.1.server, args.topics));
    report.figure("server_memory_before_mb", memory_before.map(|bytes| bytes as f64 / 1e6));
    report.figure("server_memory_after_mb", memory_after.map(|bytes| bytes as f64 / 1e6));
    report.figure("server_bytes_per_topic", grown.map(|bytes| bytes / args.topics as f64));
    describe(&mut report, "publish_before", &before);
    describe(&mut report, "publish_after", &after);
    let mut sound = before.0.errors.is_empty() && after.0.errors.is_empty();
    if let Some(deliveries) = listened {
        report.text("transport", args.transport.name());
        report.count("pattern_subscribers", args.subscribers);
        report.figure("rate_per_s", Some(args.rate));
        report.count("deliveries", deliveries.count);
        report.latency("latency_us", &deliveries.latency);
        deliveries.describe_faults(&mut report);
        deliveries.describe_cost(&mut report);
        sound &= deliveries.sound();
    }
    report.print(args.common.json)?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Bench<'_> {
    /// Publishes over the connections: flat out, or at a rate.
    fn at(&self, spread: Spread, rate: Option<f64>) -> Result<Plan, Failure> {
        Ok(Plan {
            target: self.args.common.target()?,
            spread,
            wire: Wire::Http,
            connections: self.args.connections as usize,
            in_flight: 1,
            batch: 1,
            size: self.args.size as usize,
            rate,
            end: End::After(self.args.common.duration()),
            clock: self.clock,
        })
    }

    fn publish(&self, plan: Plan, what: &str) -> Result<(Outcome, process::Used), Failure> {
        let mut progress = Progress::new();
        let publisher = Publisher::open(plan)?;
        let meter = Meter::start(self.server);
        let outcome = publisher.run(|now| progress.show(|| format!("{what}: {}", now.messages)))?;
        Ok((outcome, meter.used()))
    }

    /// Pattern subscribers, while messages go to one topic after the other.
    fn listen(&self) -> Result<Deliveries, Failure> {
        let readers = subscribers::Plan {
            target: self.args.common.target()?,
            spread: self.many.clone(),
            pattern: true,
            transport: self.args.transport,
            start: Start::Latest,
            which: 0..self.args.subscribers as usize,
            publishers: self.args.connections as usize,
            size: self.args.size as usize,
            clock: self.clock,
        };
        let writers = self.at(self.many.clone(), Some(self.args.rate))?;
        let (_, delivered) = course::deliver(&readers, writers, 1, self.server)?;
        Ok(Deliveries::of(&delivered))
    }
}

fn per_second(outcome: &Outcome) -> Option<f64> {
    let seconds = outcome.elapsed.as_secs_f64();
    (seconds > 0.0).then(|| outcome.messages as f64 / seconds)
}

fn describe(report: &mut Report, name: &'static str, (outcome, used): &(Outcome, process::Used)) {
    let quantile = |at| Some(outcome.latency.value_at_quantile(at) as f64 / 1e3);
    report.figures(
        name,
        &[
            ("messages_per_s", per_second(outcome)),
            ("latency_us_p50", quantile(0.5)),
            ("latency_us_p99", quantile(0.99)),
            ("server_cpu_us_per_message", us_per(used.server, outcome.messages)),
        ],
    );
}
