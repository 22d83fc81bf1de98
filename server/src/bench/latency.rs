//! `tailwire bench latency`: how long a message takes at a given rate, to its receipt and to its subscribers.

use std::process::ExitCode;

use clap::Args;

use super::connect::Start;
use super::deliveries::Deliveries;
use super::plan::{End, Plan, Wire};
use super::report::Report;
use super::spread::Spread;
use super::{Common, Failure, Run, Transport, count, course, listening, process, rate, size, subscribers};

#[derive(Debug, Args)]
pub(super) struct LatencyArgs {
    #[command(flatten)]
    common: Common,
    /// How the subscribers listen.
    #[arg(long, value_parser = listening(), default_value = "ws")]
    transport: Transport,
    /// How many there are.
    #[arg(long, default_value_t = 10, value_parser = count(100_000))]
    subscribers: u64,
    /// How publishes are sent.
    #[arg(long, value_enum, default_value_t = Wire::Http)]
    publish: Wire,
    /// Messages a second.
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    rate: f64,
    /// Connections that publish in turn: enough that no message waits for one.
    #[arg(long, default_value_t = 16, value_parser = count(4096))]
    connections: u64,
    /// A message's size in bytes.
    #[arg(long, default_value_t = 128, value_parser = size())]
    size: u64,
}

pub(super) fn run(args: &LatencyArgs) -> Result<ExitCode, Failure> {
    let (run, target, size) = (Run::start(), args.common.target()?, args.size as usize);
    let spread = Spread::one(args.common.topic());
    let connections = args.connections as usize;
    process::reserve_descriptors(args.subscribers as usize + connections)?;
    let readers = subscribers::Plan {
        target: target.clone(),
        spread: spread.clone(),
        pattern: false,
        transport: args.transport,
        start: Start::Latest,
        which: 0..args.subscribers as usize,
        publishers: connections,
        size,
        run,
    };
    let writers = Plan {
        target,
        spread,
        wire: args.publish,
        connections,
        in_flight: 1,
        batch: 1,
        size,
        rate: Some(args.rate),
        end: End::After(args.common.duration()),
        run,
    };
    let server = args.common.server()?;
    let (outcome, delivered) = course::deliver(&readers, writers, 1, server)?;
    let deliveries = Deliveries::of(&delivered);

    let mut report = Report::default();
    report.text("transport", args.transport.name());
    report.text("publish", args.publish.name());
    report.count("subscribers", args.subscribers);
    report.count("size_bytes", args.size);
    outcome.describe_pace(&mut report, Some(args.rate));
    report.count("messages", outcome.messages);
    report.counts("publish_errors", &outcome.errors);
    report.count("deliveries", deliveries.count);
    report.latency("receipt_us", &outcome.latency);
    report.latency("delivery_us", &deliveries.latency);
    deliveries.describe_faults(&mut report);
    deliveries.describe_cost(&mut report);
    report.memory(server);
    report.print(args.common.json)?;
    Ok(if deliveries.sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
