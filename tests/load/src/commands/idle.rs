//! `tailwire bench idle`: a storm of connections that then hear nothing but heartbeats; what it costs to open one of
//! them, and the memory that each takes, also once all of them have been delivered messages.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::client::transport::ReadTransport;
use crate::commands::args::CommonArgs;
use crate::commands::args::count;
use crate::commands::args::listening;
use crate::commands::deliveries::Deliveries;
use crate::commands::run;
use crate::error::LoadError;
use crate::measure::clock::LoadRun;
use crate::measure::descriptors;
use crate::measure::process::{CpuMeter, MeasuredServer};
use crate::measure::report::{Progress, RunReport, us_per};
use crate::measure::topic_set::TopicSet;
use crate::publishing::plan::PublishPlan;
use crate::subscribing::incidents::Incidents;
use crate::subscribing::subscribers::{LoadSubscribers, SubscribePlan};

/// Time for the server to let go of what opening took, before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);
const TURN: Duration = Duration::from_millis(250);
/// A server whose memory is the same for so long has started and is ready to serve.
const STILL: Duration = Duration::from_millis(300);
/// One whose memory never stands still is measured all the same.
const STILL_WAIT: Duration = Duration::from_secs(5);
const GLANCE: Duration = Duration::from_millis(25);
const SIZE_BYTES: usize = 128;

#[derive(Debug, Args)]
pub(crate) struct IdleArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// How they listen.
    #[arg(long, value_parser = listening(), default_value = "ws")]
    transport: ReadTransport,
    /// How many to open.
    #[arg(long, default_value_t = 5000, value_parser = count(100_000))]
    connections: u64,
    /// Messages of 128 bytes that all of them are then delivered, to see what memory stays behind.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    messages: u64,
}

pub(crate) fn run(args: &IdleArgs) -> Result<ExitCode, LoadError> {
    let server = args.common.server()?;
    let resident = || server.as_ref().and_then(MeasuredServer::resident);
    // With the first one, and the one that publishes.
    descriptors::reserve(args.connections as usize + 2)?;
    let (readers, writers) = plans(args)?;
    let target = readers.target.clone();
    let mut progress = Progress::new();
    let mut ready = 0;
    // The first connection makes the server ready to serve, and to deliver; what that takes is not every connection's.
    let mut first = vec![LoadSubscribers::open(SubscribePlan { which: 0..1, ..readers.clone() }, |_| {})?];
    if args.messages > 0 {
        first = run::deliver_to(first, writers.clone(), server)?.subscribers;
    }
    let before = rested(&mut first, resident)?;
    let (meter, start) = (CpuMeter::start(server), Instant::now());
    let mut subscribers = vec![LoadSubscribers::open(readers, |more| {
        ready += more;
        progress.show(|| format!("{ready} of {} open", args.connections));
    })?];
    let (opening, opening_cpu) = (start.elapsed(), meter.used().server);
    hold(&mut subscribers, SETTLE)?;
    let open = resident();
    progress.show(|| format!("holding for {} s", args.common.seconds));
    let meter = CpuMeter::start(server);
    hold(&mut subscribers, args.common.duration())?;
    let cpu_held = meter.used().server;
    let held = resident();
    drop(progress);

    let mb = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64 / 1e6);
    let each = |later: Option<u64>| {
        let grown = later.zip(before).map(|(later, before)| later.saturating_sub(before));
        grown.map(|bytes| bytes as f64 / args.connections as f64)
    };
    let mut report = RunReport::default();
    report.text("transport", args.transport.name());
    report.count("connections", args.connections);
    report.figure("opening_s", Some(opening.as_secs_f64()));
    report.figure("connections_per_s", Some(args.connections as f64 / opening.as_secs_f64()));
    report.figure("server_cpu_us_per_connection", us_per(opening_cpu, args.connections));
    report.figure("server_memory_before_mb", mb(before));
    report.figure("server_memory_open_mb", mb(open));
    report.figure("server_memory_held_mb", mb(held));
    report.figure("open_bytes_per_connection", each(open));
    report.figure("held_bytes_per_connection", each(held));
    report.figure("server_cpu_held_ms", cpu_held.map(|cpu| cpu.as_secs_f64() * 1e3));
    let gone = run::gone(&target, &subscribers);
    let sound = if gone.is_none() && args.messages > 0 {
        let mut delivered = run::deliver_to(subscribers, writers, server)?;
        hold(&mut delivered.subscribers, SETTLE)?;
        let after = rested(&mut delivered.subscribers, resident)?;
        let deliveries = Deliveries::of(&delivered);
        report.count("messages", args.messages);
        report.count("deliveries", deliveries.count);
        report.figure("server_memory_after_mb", mb(after));
        report.figure("after_bytes_per_connection", each(after));
        deliveries.describe_faults(&mut report);
        deliveries.sound()
    } else {
        let mut all = Incidents::default();
        subscribers.iter().for_each(|one| all.add(one.incidents()));
        report.counts("ended", &all.ended);
        report.gone(gone.as_deref());
        all.ended.is_empty()
    };
    report.print(args.common.json)?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The connections, and what is published to them.
fn plans(args: &IdleArgs) -> Result<(SubscribePlan, PublishPlan), LoadError> {
    let (target, run) = (args.common.target()?, LoadRun::start());
    let topic_set = TopicSet::one(args.common.topic());
    // Each is a publish of its own, as most are, and not one large batch.
    let fill = PublishPlan::fill(target, topic_set, args.messages, SIZE_BYTES, run);
    let readers = SubscribePlan::of(&fill, args.transport, args.connections as usize);
    Ok((readers, PublishPlan { batch: 1, ..fill }))
}

/// The server's memory, once it stands still.
fn rested(
    open: &mut [LoadSubscribers],
    resident: impl Fn() -> Option<u64>,
) -> Result<Option<u64>, LoadError> {
    let start = Instant::now();
    let (mut memory, mut since) = (resident(), start);
    while memory.is_some() && since.elapsed() < STILL && start.elapsed() < STILL_WAIT {
        hold(open, GLANCE)?;
        let now = resident();
        if now != memory {
            (memory, since) = (now, Instant::now());
        }
    }
    Ok(memory)
}

/// Lets time pass, and takes what comes meanwhile; no longer than there is anybody to hold.
fn hold(open: &mut [LoadSubscribers], time: Duration) -> Result<(), LoadError> {
    let start = Instant::now();
    while let Some(left) = time.checked_sub(start.elapsed()).filter(|left| !left.is_zero()) {
        if open.iter().all(LoadSubscribers::have_ended) {
            break;
        }
        for one in &mut *open {
            one.turn(left.min(TURN))?;
        }
    }
    Ok(())
}
