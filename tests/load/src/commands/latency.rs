//! `tailwire bench latency`: how long a message takes at a given rate, to its receipt and to its subscribers.

use std::process::ExitCode;

use clap::Args;

use crate::client::transport::ReadTransport;
use crate::commands::args::CommonArgs;
use crate::commands::args::count;
use crate::commands::args::listening;
use crate::commands::args::rate;
use crate::commands::args::size;
use crate::commands::deliveries::Deliveries;
use crate::commands::run;
use crate::error::LoadError;
use crate::measure::clock::LoadRun;
use crate::measure::descriptors;
use crate::measure::report::RunReport;
use crate::measure::topic_set::TopicSet;
use crate::publishing::plan::{PublishEnd, PublishPlan, PublishTransport};
use crate::subscribing::subscribers::SubscribePlan;

#[derive(Debug, Args)]
pub(crate) struct LatencyArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How the subscribers listen.
    #[arg(long, value_parser = listening(), default_value = "ws")]
    transport: ReadTransport,
    /// How many there are.
    #[arg(long, default_value_t = 10, value_parser = count(100_000))]
    subscribers: u64,
    /// How publishes are sent.
    #[arg(long, value_enum, default_value_t = PublishTransport::Http)]
    publish: PublishTransport,
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

pub(crate) fn run(args: &LatencyArgs) -> Result<ExitCode, LoadError> {
    let (run, target, size) = (LoadRun::start(), args.common.target()?, args.size as usize);
    let topic_set = TopicSet::one(args.common.topic());
    let connections = args.connections as usize;
    descriptors::reserve(args.subscribers as usize + connections)?;
    let writers = PublishPlan {
        target,
        topic_set,
        wire: args.publish,
        connections,
        in_flight: 1,
        batch: 1,
        size,
        rate: Some(args.rate),
        end: PublishEnd::After(args.common.duration()),
        run,
    };
    let server = args.common.server()?;
    let readers = SubscribePlan::of(&writers, args.transport, args.subscribers as usize);
    let (outcome, delivered) = run::deliver(&readers, writers, 1, server)?;
    let deliveries = Deliveries::of(&delivered);

    let mut report = RunReport::default();
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
