//! `tailwire bench`: a load generator that costs less than what it measures.
//!
//! It knows the broker from outside only: its URLs and its wire format, never its crates. Subscribers live in an
//! epoll loop with one shared buffer and a scanner that looks for one pattern of bytes; nothing here parses JSON or
//! allocates per delivery.

mod answers;
mod connect;
mod course;
mod deliveries;
mod encode;
mod failed;
mod fanout;
mod http;
mod idle;
mod incidents;
mod latency;
mod outcome;
mod payload;
mod plan;
mod process;
mod publish;
mod publisher;
mod replay;
mod report;
mod scan;
mod spread;
mod subscriber;
mod subscribers;
mod tally;
mod topics;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use hdrhistogram::Histogram;

use connect::Target;
use process::Server;

/// Measure a broker: delivering, publishing, latency, replay, idle connections, many topics.
#[derive(Debug, Args)]
#[command(after_help = NOTES)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
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

#[derive(Debug, Args)]
struct Common {
    /// The server.
    #[arg(long, default_value = "http://127.0.0.1:8245")]
    url: String,
    /// The topic; by default one that nobody else has.
    #[arg(long)]
    topic: Option<String>,
    /// How long to load it, or to hold idle connections. A replay ends when all is read.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// The server's process, on this machine, to report its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Print the report as one JSON object.
    #[arg(long)]
    json: bool,
}

impl Common {
    fn target(&self) -> Result<Target, Failure> {
        Target::parse(&self.url)
    }

    fn server(&self) -> Result<Option<Server>, Failure> {
        self.pid.map(Server::new).transpose()
    }

    fn topic(&self) -> String {
        self.topic.clone().unwrap_or_else(|| format!("bench/{}", uuid::Uuid::new_v4()))
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// How messages are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Ws,
    Sse,
    Ndjson,
    Longpoll,
    /// One page after another up to the tail, for what is stored.
    Page,
}

impl Transport {
    const ALL: [Transport; 5] =
        [Transport::Ws, Transport::Sse, Transport::Ndjson, Transport::Longpoll, Transport::Page];

    fn name(self) -> &'static str {
        match self {
            Transport::Ws => "ws",
            Transport::Sse => "sse",
            Transport::Ndjson => "ndjson",
            Transport::Longpoll => "longpoll",
            Transport::Page => "page",
        }
    }
}

/// Why a run can't be done; it ends the command, so all that it holds is what to tell the user.
#[derive(Debug)]
struct Failure(String);

impl Failure {
    /// For `map_err`: what was being done when the system said no.
    fn during(doing: &str) -> impl FnOnce(io::Error) -> Failure {
        move |error| Failure(format!("{doing}: {error}"))
    }
}

/// What the messages of a run tell of it: whose they are, and its clock.
#[derive(Debug, Clone, Copy)]
struct Run {
    id: payload::RunId,
    began: Instant,
}

impl Run {
    fn start() -> Run {
        Run { id: payload::RunId::random(), began: Instant::now() }
    }

    /// A run whose messages are those of all others like it.
    fn shared() -> Run {
        Run { id: payload::RunId::SHARED, began: Instant::now() }
    }

    /// Nanoseconds since it began, so that they take few digits.
    fn now_ns(self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Latencies beyond this count as this; no run should wait longer for one message.
const LATENCY_NS_MAX: u64 = 120_000_000_000;

/// An empty histogram of latencies, in nanoseconds and to three digits.
fn latencies() -> Histogram<u64> {
    // The bounds are constants that satisfy what the constructor asks for; the other arm is never taken.
    Histogram::new_with_bounds(1_000, LATENCY_NS_MAX, 3).unwrap_or_else(|_| unreachable!("constant bounds"))
}

/// One of the transports with these names.
fn transports(names: &'static [&'static str]) -> impl TypedValueParser<Value = Transport> {
    PossibleValuesParser::new(names)
        .try_map(|name| Transport::ALL.into_iter().find(|one| one.name() == name).ok_or("no such transport"))
}

/// One of the transports that wait for messages to come.
fn listening() -> impl TypedValueParser<Value = Transport> {
    transports(&["ws", "sse", "ndjson", "longpoll"])
}

/// A rate a second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.1..=1e6).contains(&rate) => Ok(rate),
        _ => Err("expected a number from 0.1 to 1,000,000".to_owned()),
    }
}

/// A number of things, so many at most.
fn count(most: u64) -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=most)
}

/// A message's size in bytes.
fn size() -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(payload::SIZE_MIN as u64..=payload::SIZE_MAX as u64)
}

/// Runs what was asked for, and prints its report.
pub(crate) fn run(args: BenchArgs) -> ExitCode {
    let done = match args.what {
        What::Fanout(args) => fanout::run(&args),
        What::Publish(args) => publish::run(&args),
        What::Latency(args) => latency::run(&args),
        What::Replay(args) => replay::run(&args),
        What::Idle(args) => idle::run(&args),
        What::Topics(args) => topics::run(&args),
    };
    match done {
        Ok(code) => code,
        Err(Failure(reason)) => {
            eprintln!("tailwire bench: {reason}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_keep_three_digits_and_the_last_bucket_takes_the_rest() {
        let mut all = latencies();
        (1..=1000).for_each(|us| all.saturating_record(us * 1000));
        all.saturating_record(u64::MAX);
        let p50 = all.value_at_quantile(0.5) as f64;
        assert!((p50 - 501_000.0).abs() < 1_000.0, "{p50}");
        let p99 = all.value_at_quantile(0.99) as f64;
        assert!((p99 - 991_000.0).abs() < 1_000.0, "{p99}");
        assert!(all.max() >= LATENCY_NS_MAX);
    }

    #[test]
    fn the_commands_parse() {
        #[derive(clap::Parser)]
        struct Cli {
            #[command(flatten)]
            bench: BenchArgs,
        }
        let parse = |line: &str| {
            let words = std::iter::once("tailwire").chain(line.split_whitespace());
            <Cli as clap::Parser>::try_parse_from(words).map(|cli| cli.bench)
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
