//! How publishing went: what was acknowledged, what was not, and whether it kept the pace that was asked for.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::measure::histogram::latencies;
use crate::measure::report::RunReport;
use crate::publishing::answers::PublishVerdict;
use crate::publishing::failed::{FailedPublishes, PublishFate};

/// A publish under way: when it was sent, and which of its publisher's messages it holds.
#[derive(Debug, Clone)]
pub(crate) struct InFlight {
    pub(crate) at: u64,
    pub(crate) from: u32,
    pub(crate) numbers: Range<u32>,
}

#[derive(Debug)]
pub(crate) struct PublishOutcome {
    /// Messages that were acknowledged.
    pub(crate) messages: u64,
    /// Publishes that were acknowledged; fewer than messages if they were batches.
    pub(crate) publishes: u64,
    /// Publishes that were not, by status or reason.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Their messages.
    pub(crate) failed: FailedPublishes,
    /// From the start of a publish to its acknowledgement.
    pub(crate) latency: Histogram<u64>,
    /// From the start to the last acknowledgement.
    pub(crate) elapsed: Duration,
    /// From the start to when nothing more was sent.
    pub(crate) sending: Duration,
    /// Messages that each connection sent, also those that failed: the numbers that can have been delivered.
    pub(crate) sent: Vec<u32>,
    /// Publishes that were due, at the rate that was asked for, and were not sent.
    pub(crate) unsent: u64,
    /// Why no connection could be opened in the place of one that ended.
    pub(crate) gone: Option<String>,
}

impl PublishOutcome {
    pub(crate) fn new() -> PublishOutcome {
        PublishOutcome {
            messages: 0,
            publishes: 0,
            errors: BTreeMap::new(),
            failed: FailedPublishes::default(),
            latency: latencies(),
            elapsed: Duration::ZERO,
            sending: Duration::ZERO,
            sent: Vec::new(),
            unsent: 0,
            gone: None,
        }
    }

    /// Takes note of an answer that came at `now`.
    pub(crate) fn count(&mut self, verdict: PublishVerdict, now: u64, sent: InFlight) {
        match verdict {
            Ok(()) => {
                self.publishes += 1;
                self.messages += u64::from(sent.numbers.end - sent.numbers.start);
                self.latency.saturating_record(now.saturating_sub(sent.at));
                self.elapsed = Duration::from_nanos(now);
            }
            Err(status) => {
                let fate = match status.parse() {
                    Ok(400..=499_u16) => PublishFate::Refused,
                    _ => PublishFate::Unknown,
                };
                self.count_error(&status, sent, fate);
            }
        }
    }

    /// A publish that has no answer, and why.
    pub(crate) fn count_unanswered(&mut self, why: &str, sent: InFlight) {
        self.count_error(why, sent, PublishFate::Unknown);
    }

    fn count_error(&mut self, why: &str, sent: InFlight, fate: PublishFate) {
        *self.errors.entry(why.to_owned()).or_default() += 1;
        self.failed.add(sent.from, sent.numbers, fate);
    }

    /// Messages that were acknowledged a second, while there was publishing.
    pub(crate) fn published_per_s(&self) -> Option<f64> {
        let seconds = self.elapsed.max(self.sending).as_secs_f64();
        (seconds > 0.0).then(|| self.messages as f64 / seconds)
    }

    /// Adds the rate that was reached beside the one that was asked for, and says so if it fell behind.
    pub(crate) fn describe_pace(&self, report: &mut RunReport, asked: Option<f64>) {
        report.figure("rate_per_s", asked);
        report.figure("published_per_s", self.published_per_s());
        let sent = self.publishes + self.errors.values().sum::<u64>();
        // The last one may have become due as time ran out; one in a hundred is no other rate.
        if self.unsent > 1 && self.unsent * 100 > sent {
            let due = sent + self.unsent;
            report.text(
                "fell_behind",
                &format!("of {due} publishes that were due, {} were not sent", self.unsent),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(numbers: Range<u32>) -> InFlight {
        InFlight { at: 0, from: 0, numbers }
    }

    #[test]
    fn only_what_a_client_did_wrong_is_refused() {
        let mut outcome = PublishOutcome::new();
        outcome.count(Ok(()), 5, sent(0..10));
        for (at, why) in (10..).zip(["400", "429", "503", "error", "302"]) {
            outcome.count(Err(why.to_owned()), 5, sent(at..at + 1));
        }
        outcome.count_unanswered("closed", sent(15..17));
        assert_eq!((outcome.messages, outcome.publishes), (10, 1));
        assert_eq!((outcome.failed.refused(), outcome.failed.unknown()), (2, 5));
        assert_eq!(outcome.errors.values().sum::<u64>(), 6);
    }

    #[test]
    fn the_rate_is_that_of_all_the_time_and_falling_behind_is_said() {
        let described = |publishes, unsent| {
            let sending = Duration::from_secs(2);
            let mut report = RunReport::default();
            PublishOutcome { messages: publishes, publishes, unsent, sending, ..PublishOutcome::new() }
                .describe_pace(&mut report, Some(1e5));
            report.into_map()
        };
        let late = described(20_000, 180_000);
        assert_eq!((&late["rate_per_s"], &late["published_per_s"]), (&1e5.into(), &1e4.into()));
        assert_eq!(late["fell_behind"], "of 200000 publishes that were due, 180000 were not sent");
        assert_eq!(described(199_999, 1).get("fell_behind"), None);
        assert_eq!(described(199_000, 1_000).get("fell_behind"), None);
        assert_eq!(described(1, 1).get("fell_behind"), None);
    }
}
