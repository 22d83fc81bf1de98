//! The sum of a run's deliveries: how many there were, how late, and how many were wrong.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::commands::run::Delivered;
use crate::measure::histogram::latencies;
use crate::measure::payload::Stamp;
use crate::measure::report::{RunReport, us_per};
use crate::measure::topic_set::TopicShare;
use crate::publishing::failed::{FailedPublishes, PublishFate};
use crate::subscribing::incidents::Incidents;
use crate::subscribing::received::{ReceivedMessages, ReceivedSet};
use crate::subscribing::subscribers::LoadSubscribers;

/// Sums over all subscribers.
pub(crate) struct Deliveries {
    pub(crate) count: u64,
    pub(crate) latency: Histogram<u64>,
    pub(crate) per_s: Option<f64>,
    pub(crate) server_cpu_us: Option<f64>,
    pub(crate) bench_cpu_us: Option<f64>,
    lost: u64,
    doubled: u64,
    reordered: u64,
    /// Subscribers that had all messages of their share, but in another order than most.
    other_orders: u64,
    foreign: u64,
    refused: u64,
    unknown: u64,
    incidents: Incidents,
    pub(crate) gone: Option<String>,
}

impl Deliveries {
    pub(crate) fn of(run: &Delivered) -> Deliveries {
        let mut sums = Deliveries {
            count: 0,
            latency: latencies(),
            per_s: None,
            server_cpu_us: None,
            bench_cpu_us: None,
            lost: 0,
            doubled: 0,
            reordered: 0,
            other_orders: 0,
            foreign: 0,
            refused: run.failed.refused(),
            unknown: run.failed.unknown(),
            incidents: Incidents::default(),
            gone: run.gone.clone(),
        };
        let mut shares: BTreeMap<TopicShare, Alike<'_>> = BTreeMap::new();
        for received in run.subscribers.iter().flat_map(LoadSubscribers::all_received) {
            sums.count += received.distinct + received.doubled;
            sums.doubled += received.doubled;
            sums.reordered += received.reordered;
            sums.foreign += received.foreign;
            shares.entry(received.share).or_default().entry(&received.seen).or_default().push(received);
        }
        let failed = by_share(run.parts, &run.failed);
        for (share, alike) in &shares {
            let failed = failed.get(share).map_or(&[][..], Vec::as_slice);
            let (lost, other_orders) = judge(alike, run.expected(*share), failed);
            sums.lost += lost;
            sums.other_orders += other_orders;
        }
        let mut last_ns = 0;
        for one in &run.subscribers {
            // Both have the same bounds, so nothing is too large to add.
            let _ = sums.latency.add(one.latency());
            sums.incidents.add(one.incidents());
            last_ns = last_ns.max(one.last_ns());
        }
        let seconds = last_ns.saturating_sub(run.start_ns) as f64 / 1e9;
        sums.per_s = (seconds > 0.0).then(|| sums.count as f64 / seconds);
        sums.server_cpu_us = us_per(run.cpu.server, sums.count);
        sums.bench_cpu_us = us_per(Some(run.cpu.bench), sums.count);
        sums
    }

    /// Whether every message was acknowledged, and each subscriber got all of its share, once and in the one order.
    pub(crate) fn sound(&self) -> bool {
        let faults = self.lost + self.doubled + self.reordered + self.other_orders;
        self.count > 0 && faults + self.refused + self.unknown == 0 && self.gone.is_none()
    }

    /// Whether, beside that, nobody got anything that was for others.
    pub(crate) fn exact(&self) -> bool {
        self.sound() && self.foreign == 0
    }

    /// Adds what was wrong.
    pub(crate) fn describe_faults(&self, report: &mut RunReport) {
        report.count("lost", self.lost);
        report.count("doubled", self.doubled);
        report.count("reordered", self.reordered);
        report.count("other_orders", self.other_orders);
        report.count("foreign", self.foreign);
        report.count("gaps", self.incidents.gaps);
        report.count("byes", self.incidents.byes);
        report.counts("ended", &self.incidents.ended);
        report.count("messages_refused", self.refused);
        report.count("messages_unknown", self.unknown);
        report.gone(self.gone.as_deref());
    }

    /// Adds what a delivery took.
    pub(crate) fn describe_cost(&self, report: &mut RunReport) {
        report.figure("server_cpu_us_per_delivery", self.server_cpu_us);
        report.figure("bench_cpu_us_per_delivery", self.bench_cpu_us);
    }
}

/// The subscribers of a share, by what each has seen: which is mostly the same.
type Alike<'a> = BTreeMap<&'a ReceivedSet, Vec<&'a ReceivedMessages>>;
/// A message that failed, by its publisher and its ordinal within a share.
type Unacknowledged = (u32, u32, PublishFate);

/// The messages that failed, for each share that they belong to.
fn by_share(parts: usize, failed: &FailedPublishes) -> BTreeMap<TopicShare, Vec<Unacknowledged>> {
    let mut shares: BTreeMap<TopicShare, Vec<Unacknowledged>> = BTreeMap::new();
    for (from, seq, fate) in failed.messages() {
        let mark = Stamp { seq, from, at: 0 };
        for share in [TopicShare::All, TopicShare::of(parts, mark)] {
            if let Some(ordinal) = share.ordinal(parts, mark) {
                shares.entry(share).or_default().push((from, ordinal, fate));
            }
        }
    }
    shares
}

/// How many messages the subscribers of a share lack, and how many of them had all in another order than most.
fn judge(alike: &Alike<'_>, expected: u64, failed: &[Unacknowledged]) -> (u64, u64) {
    let (mut lost, mut orders) = (0, BTreeMap::new());
    // A message that one subscriber got was published, whatever the answer: then nobody may lack it.
    let excused: Vec<_> = (failed.iter())
        .filter(|(from, at, fate)| {
            *fate == PublishFate::Refused || !alike.keys().any(|seen| seen.has(*from, *at))
        })
        .collect();
    for (seen, all_received) in alike {
        let lacking = excused.iter().filter(|(from, at, _)| !seen.has(*from, *at)).count() as u64;
        for received in all_received {
            let lacks = expected.saturating_sub(received.distinct + lacking);
            lost += lacks;
            if lacks == 0 && received.doubled == 0 {
                *orders.entry(received.order).or_default() += 1;
            }
        }
    }
    (lost, all_but_most(&orders))
}

/// Of those who got the same messages, how many had them in another order than most.
fn all_but_most(orders: &BTreeMap<u64, u64>) -> u64 {
    orders.values().sum::<u64>() - orders.values().max().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on subscribers that saw these messages of two publishers, which sent three each.
    fn judged(subscribers: &[&[(u32, u32)]], failed: &[Unacknowledged]) -> (u64, u64) {
        let all_received: Vec<ReceivedMessages> = (subscribers.iter())
            .map(|marks| {
                let mut received = ReceivedMessages::new(TopicShare::All, 1, 2);
                marks.iter().for_each(|&(from, seq)| _ = received.record(Stamp { seq, from, at: 0 }));
                received
            })
            .collect();
        let mut alike = Alike::new();
        all_received.iter().for_each(|received| alike.entry(&received.seen).or_default().push(received));
        judge(&alike, 6, failed)
    }

    #[test]
    fn a_failure_excuses_its_own_message_only() {
        let all = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];
        let but_last = &all[..5];
        assert_eq!(judged(&[&all, &all], &[]), (0, 0));
        assert_eq!(judged(&[but_last, but_last], &[]), (2, 0));
        assert_eq!(judged(&[but_last, but_last], &[(1, 2, PublishFate::Refused)]), (0, 0));
        assert_eq!(judged(&[but_last, but_last], &[(0, 1, PublishFate::Refused)]), (2, 0));
        assert_eq!(judged(&[&all[1..], but_last], &[(1, 2, PublishFate::Refused)]), (1, 0));
    }

    #[test]
    fn a_message_of_unknown_fate_is_for_all_or_for_none() {
        let all = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];
        let unknown = [(1, 2, PublishFate::Unknown)];
        assert_eq!(judged(&[&all, &all], &unknown), (0, 0));
        assert_eq!(judged(&[&all[..5], &all[..5]], &unknown), (0, 0));
        assert_eq!(judged(&[&all, &all[..5]], &unknown), (1, 0));
    }

    #[test]
    fn a_failure_belongs_to_its_topic() {
        let mut failed = FailedPublishes::default();
        failed.add(1, 3..5, PublishFate::Unknown);
        let shares = by_share(3, &failed);
        assert_eq!(shares[&TopicShare::Part(1)], [(1, 1, PublishFate::Unknown)]);
        assert_eq!(shares[&TopicShare::Part(2)], [(1, 1, PublishFate::Unknown)]);
        assert_eq!(shares.get(&TopicShare::Part(0)), None);
        assert_eq!(shares[&TopicShare::All].len(), 2);
    }

    #[test]
    fn those_in_another_order_than_most_are_counted() {
        assert_eq!(all_but_most(&BTreeMap::from([(7, 10), (8, 1), (9, 2)])), 3);
        assert_eq!(all_but_most(&BTreeMap::from([(7, 10)])), 0);
        assert_eq!(all_but_most(&BTreeMap::new()), 0);
    }
}
