//! `tailwire bench`: a load generator that costs less than what it measures.
//!
//! It knows the broker from outside only: its URLs and its wire format, never its crates. Subscribers live in an
//! epoll loop with one shared buffer and a scanner that looks for one pattern of bytes; nothing here parses JSON or
//! allocates per delivery.

pub mod client;
mod commands;
mod error;
pub mod measure;
mod publishing;
mod subscribing;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use commands::{fanout, idle, latency, publish, replay, topics};
use error::LoadError;

/// Measure a broker: delivering, publishing, latency, replay, idle connections, many topics.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    /// Many subscribers: what a delivery costs, and how many there are a second. Every delivery is checked.
    Fanout(fanout::FanoutArgs),
    /// Acknowledged publishes: how many a second, at what latency and cost.
    Publish(publish::PublishArgs),
    /// Messages at a steady rate: how long each takes to its receipt, and to its subscribers.
    Latency(latency::LatencyArgs),
    /// Stored messages: how fast clients read them, and what one costs.
    Replay(replay::ReplayArgs),
    /// A storm of connections that then have nothing to say: what opening one costs, and its memory, also after
    /// messages. A server that has just started tells it best: one that has worked before fills memory that it
    /// already has.
    Idle(idle::IdleArgs),
    /// Many topics: the memory of one, publishing before and after, and listening to all by a pattern; and what many
    /// patterns cost a publish.
    Topics(topics::TopicsArgs),
}

const NOTES: &str = "\
Subscribers and publishers speak HTTP and WebSocket to the server as any client does; it may be on another host.
With --pid of a server on this machine the report has its CPU time and memory. For figures that mean something, pin
the server and this command to cores of their own:

    taskset -c 0 tailwire serve &
    taskset -c 1 tailwire bench fanout --pid $! --seconds 30

HTTP/2 is not measured: SSE, NDJSON and long-polls come over HTTP/1.1 here, each on a connection of its own.

The exit code is 0 if the run was sound: every message acknowledged, and none lost, doubled or out of order. A server
that goes away ends the run: the report has what there was until then, and says so. Ctrl+C ends it without a report.";

/// Runs what was asked for, and prints its report.
pub fn run(args: BenchArgs) -> ExitCode {
    let done = match args.what {
        BenchCommand::Fanout(args) => fanout::run(&args),
        BenchCommand::Publish(args) => publish::run(&args),
        BenchCommand::Latency(args) => latency::run(&args),
        BenchCommand::Replay(args) => replay::run(&args),
        BenchCommand::Idle(args) => idle::run(&args),
        BenchCommand::Topics(args) => topics::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(LoadError(reason)) => {
            eprintln!("tailwire bench: {reason}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_parse() {
        #[derive(clap::Parser)]
        struct BenchCli {
            #[command(flatten)]
            bench: BenchArgs,
        }
        let parse = |line: &str| {
            let words = std::iter::once("tailwire").chain(line.split_whitespace());
            <BenchCli as clap::Parser>::try_parse_from(words).map(|cli| cli.bench)
        };
        assert!(parse("fanout --transport sse --subscribers 10 --rate 5 --seconds 2").is_ok());
        assert!(parse("fanout --flat-out --in-flight 16 --json").is_ok());
        assert!(parse("fanout --flat-out --rate 5").is_err());
        assert!(parse("fanout --size 1").is_err());
        assert!(parse("publish --connections 256 --batch 100 --pid 1").is_ok());
        assert!(parse("publish --transport ws --in-flight 8").is_ok());
        assert!(parse("idle --transport ndjson --connections 5000 --messages 100").is_ok());
        assert!(parse("fanout --topics 100 --pattern --rate 2000").is_ok());
        assert!(parse("fanout --transport page").is_err());
        assert!(parse("latency --publish ws --rate 50 --subscribers 3").is_ok());
        assert!(parse("replay --transport page --messages 1000 --clients 4").is_ok());
        assert!(parse("replay --transport longpoll").is_err());
        assert!(parse("topics --topics 1000000 --subscribers 0 --patterns 10000").is_ok());
    }
}
