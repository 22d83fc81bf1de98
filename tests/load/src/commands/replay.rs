//! `tailwire bench replay`: how fast stored messages are read, and what one of them costs.

use std::process::ExitCode;

use clap::Args;

use crate::client::connect::{LoadTarget, StartAt};
use crate::client::transport::ReadTransport;
use crate::commands::args::CommonArgs;
use crate::commands::args::count;
use crate::commands::args::size;
use crate::commands::deliveries::Deliveries;
use crate::commands::run;
use crate::error::LoadError;
use crate::measure::clock::LoadRun;
use crate::measure::descriptors;
use crate::measure::report::{Progress, RunReport};
use crate::measure::topic_set::TopicSet;
use crate::publishing::plan::PublishPlan;
use crate::publishing::publisher::LoadPublisher;
use crate::subscribing::subscribers::SubscribePlan;

#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How the messages are read: at one go, or as pages of 1,000.
    #[arg(long, value_parser = crate::commands::args::transports(&["ws", "sse", "ndjson", "page"]), default_value = "ndjson")]
    transport: ReadTransport,
    /// How many messages. A topic without any is filled first; one that has some must be from such a run.
    #[arg(long, default_value_t = 100_000, value_parser = count(100_000_000))]
    messages: u64,
    /// Clients that read all of them at the same time.
    #[arg(long, default_value_t = 1, value_parser = count(10_000))]
    clients: u64,
    /// A message's size in bytes.
    #[arg(long, default_value_t = 128, value_parser = size())]
    size: u64,
}

pub(crate) fn run(args: &ReplayArgs) -> Result<ExitCode, LoadError> {
    let (server, run) = (args.common.server()?, LoadRun::shared());
    let (target, topic) = (args.common.target()?, args.common.topic());
    descriptors::reserve(args.clients as usize)?;
    let topic_set = TopicSet::one(topic.clone());
    let stored = stored(&target, &topic)?;
    let mut filling = None;
    let fill = PublishPlan::fill(target, topic_set, args.messages, args.size as usize, run);
    if stored == 0 {
        let mut progress = Progress::new();
        let outcome = LoadPublisher::open(fill.clone())?
            .run(|now| progress.show(|| format!("{} stored", now.messages)))?;
        if outcome.messages != args.messages {
            let errors = outcome.errors.iter().map(|(why, count)| format!("{why}: {count}"));
            let why = outcome.gone.into_iter().chain(errors).collect::<Vec<_>>().join(", ");
            let (messages, wanted) = (outcome.messages, args.messages);
            return Err(LoadError(format!("only {messages} of {wanted} messages could be stored: {why}")));
        }
        filling = Some(outcome.elapsed);
    } else if stored != args.messages {
        return Err(LoadError(format!(
            "{topic} is not empty (messages: {stored}): ask for as many with --messages, or for another topic"
        )));
    }
    let subscribers = SubscribePlan::of(&fill, args.transport, args.clients as usize);
    let readers = SubscribePlan { start: StartAt::Earliest, ..subscribers };
    let deliveries = Deliveries::of(&run::replay(&readers, args.messages as u32, 1, server)?);

    let mut report = RunReport::default();
    report.text("transport", args.transport.name());
    report.text("topic", &topic);
    report.count("messages", args.messages);
    report.count("clients", args.clients);
    report.count("size_bytes", args.size);
    let rate = |time: std::time::Duration| args.messages as f64 / time.as_secs_f64();
    report.figure("stored_per_s", filling.map(rate));
    report.count("reads", deliveries.count);
    report.figure("reads_per_s", deliveries.per_s);
    deliveries.describe_faults(&mut report);
    report.figure("server_cpu_us_per_message", deliveries.server_cpu_us);
    report.figure("bench_cpu_us_per_message", deliveries.bench_cpu_us);
    report.memory(server);
    report.print(args.common.json)?;
    Ok(if deliveries.sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// How many messages a topic holds.
fn stored(target: &LoadTarget, topic: &str) -> Result<u64, LoadError> {
    let listed = target.topics(topic)?;
    let of_topic = |one: &&serde_json::Value| one["topic"].as_str() == Some(topic);
    let found = listed["topics"].as_array().and_then(|all| all.iter().find(of_topic));
    Ok(found.and_then(|one| one["messages"].as_u64()).unwrap_or(0))
}
