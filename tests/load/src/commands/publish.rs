//! `tailwire bench publish`: how many publishes a second are acknowledged, how fast, and at what cost.

use std::process::ExitCode;

use clap::Args;

use crate::commands::args::CommonArgs;
use crate::commands::args::count;
use crate::commands::args::rate;
use crate::commands::args::size;
use crate::error::LoadError;
use crate::measure::clock::LoadRun;
use crate::measure::descriptors;
use crate::measure::process::CpuMeter;
use crate::measure::report::{Progress, RunReport, us_per};
use crate::measure::topic_set::TopicSet;
use crate::publishing::plan::{PublishEnd, PublishPlan, PublishTransport};
use crate::publishing::publisher::LoadPublisher;

#[derive(Debug, Args)]
pub(crate) struct PublishArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How publishes are sent.
    #[arg(long, value_enum, default_value_t = PublishTransport::Http)]
    transport: PublishTransport,
    /// Connections that publish.
    #[arg(long, default_value_t = 1, value_parser = count(10_000))]
    connections: u64,
    /// Publishes under way on each connection. By HTTP they are sent together, but the server takes those of one
    /// connection one after the other: what it is to take at the same time needs --connections.
    #[arg(long, default_value_t = 1, value_parser = count(4096))]
    in_flight: u64,
    /// Messages of one publish, sent as an NDJSON batch; HTTP only.
    #[arg(long, default_value_t = 1, value_parser = count(10_000))]
    batch: u64,
    /// Publishes a second over all connections; flat out by default.
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
    /// Topics, which messages take in turn.
    #[arg(long, default_value_t = 1, value_parser = count(10_000_000))]
    topics: u64,
    /// A message's size in bytes.
    #[arg(long, default_value_t = 128, value_parser = size())]
    size: u64,
}

pub(crate) fn run(args: &PublishArgs) -> Result<ExitCode, LoadError> {
    if args.transport == PublishTransport::Ws && args.batch > 1 {
        return Err(LoadError("--batch is for HTTP; on a WebSocket, --in-flight does the same".to_owned()));
    }
    let server = args.common.server()?;
    descriptors::reserve(args.connections as usize)?;
    let mut progress = Progress::new();
    let publisher = LoadPublisher::open(PublishPlan {
        target: args.common.target()?,
        topic_set: TopicSet::new(args.common.topic(), args.topics as usize),
        wire: args.transport,
        connections: args.connections as usize,
        in_flight: args.in_flight as usize,
        batch: args.batch as usize,
        size: args.size as usize,
        rate: args.rate,
        end: PublishEnd::After(args.common.duration()),
        run: LoadRun::start(),
    })?;
    let meter = CpuMeter::start(server);
    let outcome = publisher.run(|now| progress.show(|| format!("{} messages published", now.messages)))?;
    let used = meter.used();
    drop(progress);

    let mut report = RunReport::default();
    report.text("transport", args.transport.name());
    report.count("connections", args.connections);
    report.count("in_flight", args.in_flight);
    report.count("batch", args.batch);
    report.count("topics", args.topics);
    report.count("size_bytes", args.size);
    outcome.describe_pace(&mut report, args.rate);
    report.count("messages", outcome.messages);
    report.latency("latency_us", &outcome.latency);
    report.counts("errors", &outcome.errors);
    report.count("messages_refused", outcome.failed.refused());
    report.count("messages_unknown", outcome.failed.unknown());
    report.figure("server_cpu_us_per_message", us_per(used.server, outcome.messages));
    report.figure("bench_cpu_us_per_message", us_per(Some(used.bench), outcome.messages));
    report.memory(server);
    report.gone(outcome.gone.as_deref());
    report.print(args.common.json)?;
    let sound = outcome.messages > 0 && outcome.failed.is_empty() && outcome.gone.is_none();
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
