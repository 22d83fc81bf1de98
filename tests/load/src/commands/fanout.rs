//! `tailwire bench fanout`: few publishers, many subscribers, and what one delivery costs.

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

const RATE_DEFAULT: f64 = 20.0;

#[derive(Debug, Args)]
pub(crate) struct FanoutArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How the subscribers listen.
    #[arg(long, value_parser = listening(), default_value = "ws")]
    transport: ReadTransport,
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

pub(crate) fn run(args: &FanoutArgs) -> Result<ExitCode, LoadError> {
    let (server, run) = (args.common.server()?, LoadRun::start());
    let (target, size) = (args.common.target()?, args.size as usize);
    let topic_set = TopicSet::new(args.common.topic(), args.topics as usize);
    let rate = (!args.flat_out).then_some(args.rate.unwrap_or(RATE_DEFAULT));
    let in_flight = args.in_flight as usize;
    descriptors::reserve(args.subscribers as usize + in_flight)?;
    let writers = PublishPlan {
        target,
        topic_set,
        wire: PublishTransport::Http,
        connections: in_flight,
        in_flight: 1,
        batch: 1,
        size,
        rate,
        end: PublishEnd::After(args.common.duration()),
        run,
    };
    let subscribers = SubscribePlan::of(&writers, args.transport, args.subscribers as usize);
    let readers = SubscribePlan { pattern: args.pattern, ..subscribers };
    let (outcome, delivered) = run::deliver(&readers, writers, args.threads as usize, server)?;
    let deliveries = Deliveries::of(&delivered);

    let mut report = RunReport::default();
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
