//! `tailwire bench topics`: what many topics cost, in memory, to those who publish, and to those who listen to all; and
//! what many patterns cost those whose topics none of them matches.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use clap::Args;

use crate::client::connect::StartAt;
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
use crate::measure::process::{self, CpuMeter, MeasuredServer};
use crate::measure::report::{Progress, RunReport, us_per};
use crate::measure::topic_set::TopicSet;
use crate::publishing::outcome::PublishOutcome;
use crate::publishing::plan::{PublishEnd, PublishPlan, PublishTransport};
use crate::publishing::publisher::LoadPublisher;
use crate::subscribing::subscribers::{self, LoadSubscribers};

/// Time for the server to let go of what creating took, before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);
/// One subscription takes no more.
const PATTERNS_EACH: u64 = 100;
/// Short measurements with patterns and without take turns: a machine that slows down slows both, and the median forgets
/// what slowed only one.
const PAIRS: usize = 11;
/// Published in large batches, so that the search is much of what a message costs.
const PAIR_MESSAGES: u64 = 50_000;

#[derive(Debug, Args)]
pub(crate) struct TopicsArgs {
    #[command(flatten)]
    common: CommonArgs,
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
    transport: ReadTransport,
    /// Patterns that are listened to, 100 on each WebSocket, of which each matches one topic: what they cost a publish
    /// that none of them matches. 0 for none.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=1_000_000))]
    patterns: u64,
    /// Messages a second for the subscribers, each to another topic.
    #[arg(long, default_value_t = 100.0, value_parser = rate)]
    rate: f64,
    /// A message's size in bytes.
    #[arg(long, default_value_t = 128, value_parser = size())]
    size: u64,
}

/// State that all parts of the run have in common.
struct TopicsRun<'a> {
    args: &'a TopicsArgs,
    /// The topic that is published to before and after.
    probe: TopicSet,
    many: TopicSet,
    /// A topic beside those, which patterns match but for its last segment.
    unmatched: TopicSet,
    server: Option<MeasuredServer>,
    run: LoadRun,
}

pub(crate) fn run(args: &TopicsArgs) -> Result<ExitCode, LoadError> {
    if !args.patterns.is_multiple_of(PATTERNS_EACH) || args.patterns > args.topics {
        return Err(LoadError("--patterns: a multiple of 100, and no more than --topics".to_owned()));
    }
    let base = args.common.topic();
    let bench = TopicsRun {
        args,
        probe: TopicSet::one(format!("{base}/probe")),
        many: TopicSet::new(format!("{base}/of"), args.topics as usize),
        unmatched: TopicSet::one(format!("{base}/of/none")),
        server: args.common.server()?,
        run: LoadRun::start(),
    };
    let readers = args.subscribers.max(args.patterns / PATTERNS_EACH);
    descriptors::reserve((args.connections + readers) as usize)?;
    let mut report = RunReport::default();
    report.count("topics", args.topics);
    report.count("connections", args.connections);
    report.count("size_bytes", args.size);
    let before = bench.publish(bench.at(bench.probe.clone(), None)?, "before")?;
    describe(&mut report, "publish_before", &before);
    let sound = match bench.measure(&mut report) {
        Ok(sound) => sound && before.0.failed.is_empty(),
        // Figures measured until then are worth having, if the server's end is why there are no more.
        Err(failure) => match args.common.target()?.gone() {
            Some(why) => {
                report.gone(Some(&why));
                false
            }
            None => return Err(failure),
        },
    };
    report.print(args.common.json)?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl TopicsRun<'_> {
    /// All that follows the publishing before; whether it was sound.
    fn measure(&self, report: &mut RunReport) -> Result<bool, LoadError> {
        let (args, size) = (self.args, self.args.size as usize);
        let resident = || self.server.and_then(|server| server.resident());
        let memory_before = resident();
        let fill = PublishPlan::fill(args.common.target()?, self.many.clone(), args.topics, size, self.run);
        let created = self.publish(fill, "topics")?;
        if created.0.messages != args.topics {
            return Err(LoadError(format!("not all topics could be created: {:?}", created.0.errors)));
        }
        thread::sleep(SETTLE);
        let memory_after = resident();
        let grown = memory_after.zip(memory_before).map(|(after, before)| after as f64 - before as f64);
        report.figure("created_per_s", created.0.published_per_s());
        report.figure("server_cpu_us_per_topic", us_per(created.1.server, args.topics));
        report.figure("server_memory_before_mb", memory_before.map(|bytes| bytes as f64 / 1e6));
        report.figure("server_memory_after_mb", memory_after.map(|bytes| bytes as f64 / 1e6));
        report.figure("server_bytes_per_topic", grown.map(|bytes| bytes / args.topics as f64));

        let after = self.publish(self.at(self.probe.clone(), None)?, "after")?;
        describe(report, "publish_after", &after);
        if let Some(why) = &after.0.gone {
            report.gone(Some(why));
            return Ok(false);
        }
        let mut sound = after.0.failed.is_empty();
        if args.patterns > 0 {
            let search = self.search()?;
            report.count("patterns", args.patterns);
            report.figures("patterns_server_cpu_us_per_message", &search.figures());
        }
        if args.subscribers > 0 {
            let (outcome, deliveries) = self.listen()?;
            report.text("transport", args.transport.name());
            report.count("pattern_subscribers", args.subscribers);
            outcome.describe_pace(report, Some(args.rate));
            report.count("deliveries", deliveries.count);
            report.latency("latency_us", &deliveries.latency);
            deliveries.describe_faults(report);
            deliveries.describe_cost(report);
            sound &= deliveries.sound();
        }
        Ok(sound)
    }

    /// Publishes over the connections: flat out, or at a rate.
    fn at(&self, topic_set: TopicSet, rate: Option<f64>) -> Result<PublishPlan, LoadError> {
        Ok(PublishPlan {
            target: self.args.common.target()?,
            topic_set,
            wire: PublishTransport::Http,
            connections: self.args.connections as usize,
            in_flight: 1,
            batch: 1,
            size: self.args.size as usize,
            rate,
            end: PublishEnd::After(self.args.common.duration()),
            run: self.run,
        })
    }

    fn publish(
        &self,
        plan: PublishPlan,
        what: &str,
    ) -> Result<(PublishOutcome, process::CpuUsed), LoadError> {
        let mut progress = Progress::new();
        let publisher = LoadPublisher::open(plan)?;
        let meter = CpuMeter::start(self.server);
        let outcome = publisher.run(|now| progress.show(|| format!("{what}: {}", now.messages)))?;
        Ok((outcome, meter.used()))
    }

    /// The cost of patterns to a publish whose topic none of them matches.
    fn search(&self) -> Result<PatternCost, LoadError> {
        let connections = (self.args.patterns / PATTERNS_EACH) as usize;
        let each_its_topic = TopicSet::new(self.many.base().to_owned(), connections);
        let patterns =
            TopicSet::new(self.many.base().to_owned(), self.args.patterns as usize).in_parts(connections);
        self.check(&patterns)?;
        let mut search = PatternCost::default();
        for _ in 0..PAIRS {
            // The connections are there either way, and a server with readers: only the patterns are the difference.
            search.without.extend(self.beside(each_its_topic.clone())?);
            search.with.extend(self.beside(patterns.clone())?);
        }
        Ok(search)
    }

    /// One message to each topic that a pattern matches goes to whom that belongs, and to nobody else.
    fn check(&self, patterns: &TopicSet) -> Result<(), LoadError> {
        let messages = patterns.count() as u64;
        let target = self.args.common.target()?;
        let writers =
            PublishPlan::fill(target, patterns.clone(), messages, self.args.size as usize, self.run);
        let (_, delivered) = run::deliver(&self.readers(patterns.clone())?, writers, 1, self.server)?;
        let deliveries = Deliveries::of(&delivered);
        if !deliveries.exact() || deliveries.count != messages {
            let came = deliveries.count;
            return Err(LoadError(format!(
                "of {messages} messages that match a pattern each, {came} came, or elsewhere"
            )));
        }
        Ok(())
    }

    /// A WebSocket for each part of these topics.
    fn readers(&self, topic_set: TopicSet) -> Result<subscribers::SubscribePlan, LoadError> {
        Ok(subscribers::SubscribePlan {
            target: self.args.common.target()?,
            which: 0..topic_set.parts(),
            topic_set,
            pattern: false,
            transport: ReadTransport::Ws,
            start: StartAt::Latest,
            publishers: 1,
            size: self.args.size as usize,
            run: self.run,
        })
    }

    /// The server's CPU time for a publish while these are listened to, in microseconds.
    fn beside(&self, listened: TopicSet) -> Result<Option<f64>, LoadError> {
        let _readers = LoadSubscribers::open(self.readers(listened)?, |_| {})?;
        let (target, size) = (self.args.common.target()?, self.args.size as usize);
        let plan = PublishPlan::fill(target, self.unmatched.clone(), PAIR_MESSAGES, size, self.run);
        let (outcome, used) = self.publish(plan, "beside patterns")?;
        Ok(us_per(used.server, outcome.messages))
    }

    /// Pattern subscribers, while messages go to one topic after the other.
    fn listen(&self) -> Result<(PublishOutcome, Deliveries), LoadError> {
        let readers = subscribers::SubscribePlan {
            pattern: true,
            transport: self.args.transport,
            which: 0..self.args.subscribers as usize,
            publishers: self.args.connections as usize,
            ..self.readers(self.many.clone())?
        };
        let writers = self.at(self.many.clone(), Some(self.args.rate))?;
        let (outcome, delivered) = run::deliver(&readers, writers, 1, self.server)?;
        Ok((outcome, Deliveries::of(&delivered)))
    }
}

/// The cost of publishes in microseconds, in pairs: without patterns and with them.
#[derive(Debug, Default)]
struct PatternCost {
    without: Vec<f64>,
    with: Vec<f64>,
}

impl PatternCost {
    fn figures(&self) -> [(&'static str, Option<f64>); 3] {
        let added = self.with.iter().zip(&self.without).map(|(with, without)| with - without);
        [
            ("without", median(self.without.iter().copied())),
            ("with", median(self.with.iter().copied())),
            ("added", median(added)),
        ]
    }
}

/// The one in the middle; none of none.
fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = figures.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied()
}

fn describe(
    report: &mut RunReport,
    name: &'static str,
    (outcome, used): &(PublishOutcome, process::CpuUsed),
) {
    let quantile = |at| Some(outcome.latency.value_at_quantile(at) as f64 / 1e3);
    report.figures(
        name,
        &[
            ("messages_per_s", outcome.published_per_s()),
            ("latency_us_p50", quantile(0.5)),
            ("latency_us_p99", quantile(0.99)),
            ("server_cpu_us_per_message", us_per(used.server, outcome.messages)),
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_patterns_add_is_the_median_of_pairs() {
        // The machine slows down from pair to pair, which is not the patterns' doing; once it stutters.
        let search = PatternCost { without: vec![10.0, 20.0, 30.0], with: vec![11.0, 29.0, 31.0] };
        assert_eq!(search.figures(), [("without", Some(20.0)), ("with", Some(29.0)), ("added", Some(1.0))]);
        assert_eq!(PatternCost::default().figures().map(|(_, figure)| figure), [None; 3]);
    }
}
