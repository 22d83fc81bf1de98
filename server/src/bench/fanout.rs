//! `tailwire bench fanout`: few publishers, many subscribers, and what one delivery costs.

use std::process::ExitCode;

use clap::Args;

use super::connect::Start;
use super::deliveries::Deliveries;
use super::plan::{End, Plan, Wire};
use super::report::Report;
use super::spread::Spread;
use super::{Common, Failure, Run, Transport, count, course, listening, process, rate, size, subscribers};

const RATE_DEFAULT: f64 = 20.0;

#[derive(Debug, Args)]
pub(super) struct FanoutArgs {
    #[command(flatten)]
    common: Common,
    /// How the subscribers listen.
    #[arg(long, value_parser = listening(), default_value = "ws")]
    transport: Transport,
    /// How many there are, over all topics.
    #[arg(long, default_value_t = 1000, value_parser = count(100_000))]
    subscribers: u64,
    /// Topics, which messages and subscribers take in turn.
    #[arg(long, default_value_t = 1, value_parser = count(10_000))]
    topics: u64,
    /// Each subscriber listens to all topics, by a pattern.
    #[arg(long)]
    pattern: bool,
    /// Threads that read for the subscribers.
    #[arg(long, default_value_t = 1, value_parser = count(64))]
    threads: u64,
    /// Messages a second, over all topics; 20 by default.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// Publish as fast as the server acknowledges.
    #[arg(long, conflicts_with = "rate")]
    flat_out: bool,
    /// Publishes under way at a time, each on its own connection.
    #[arg(long, default_value_t = 16, value_parser = count(4096))]
    in_flight: u64,
    /// A message's size in bytes.
    #[arg(long, default_value_t = 128, value_parser = size())]
    size: u64,
}

pub(super) fn run(args: &FanoutArgs) -> Result<ExitCode, Failure> {
    let (server, run) = (args.common.server()?, Run::start());
    let (target, size) = (args.common.target()?, args.size as usize);
    let spread = Spread::new(args.common.topic(), args.topics as usize);
    let rate = (!args.flat_out).then_some(args.rate.unwrap_or(RATE_DEFAULT));
    let in_flight = args.in_flight as usize;
    process::reserve_descriptors(args.subscribers as usize + in_flight)?;
    let readers = subscribers::Plan {
        target: target.clone(),
        spread: spread.clone(),
        pattern: args.pattern,
        transport: args.transport,
        start: Start::Latest,
        which: 0..args.subscribers as usize,
        publishers: in_flight,
        size,
        run,
    };
    let writers = Plan {
        target,
        spread,
        wire: Wire::Http,
        connections: in_flight,
        in_flight: 1,
        batch: 1,
        size,
        rate,
        end: End::After(args.common.duration()),
        run,
    };
    let (outcome, delivered) = course::deliver(&readers, writers, args.threads as usize, server)?;
    let deliveries = Deliveries::of(&delivered);

    let mut report = Report::default();
    report.text("transport", args.transport.name());
    report.count("topics", args.topics);
    report.count("subscribers", args.subscribers);
    report.count("size_bytes", args.size);
    report.count("in_flight", args.in_flight);
    outcome.describe_pace(&mut report, rate);
    report.count("messages", outcome.messages);
    report.counts("publish_errors", &outcome.errors);
    report.latency("publish_latency_us", &outcome.latency);
    report.count("deliveries", deliveries.count);
    report.figure("deliveries_per_s", deliveries.per_s);
    report.latency("latency_us", &deliveries.latency);
    deliveries.describe_faults(&mut report);
    deliveries.describe_cost(&mut report);
    report.memory(server);
    report.print(args.common.json)?;
    Ok(if deliveries.sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
