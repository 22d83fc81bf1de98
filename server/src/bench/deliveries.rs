//! What a run's deliveries add up to: how many there were, how late, and what was wrong with them.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::course::Delivered;
use super::incidents::Incidents;
use super::latencies;
use super::report::{Report, us_per};
use super::spread::Share;
use super::subscribers::Subscribers;

/// Sums over all subscribers.
pub(super) struct Deliveries {
    pub(super) count: u64,
    pub(super) latency: Histogram<u64>,
    pub(super) per_s: Option<f64>,
    pub(super) server_cpu_us: Option<f64>,
    pub(super) bench_cpu_us: Option<f64>,
    lost: u64,
    doubled: u64,
    reordered: u64,
    /// Subscribers that had all messages of their share, but in another order than most.
    other_orders: u64,
    foreign: u64,
    incidents: Incidents,
}

impl Deliveries {
    pub(super) fn of(run: &Delivered) -> Deliveries {
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
            incidents: Incidents::default(),
        };
        let mut orders: BTreeMap<Share, BTreeMap<u64, u64>> = BTreeMap::new();
        for tally in run.subscribers.iter().flat_map(Subscribers::tallies) {
            let expected = run.expected(tally.share);
            sums.count += tally.distinct + tally.doubled;
            // A publish that failed may have been delivered all the same, or not.
            sums.lost += expected.saturating_sub(tally.distinct + run.failed);
            sums.doubled += tally.doubled;
            sums.reordered += tally.reordered;
            sums.foreign += tally.foreign;
            if tally.distinct == expected && tally.doubled == 0 {
                *orders.entry(tally.share).or_default().entry(tally.order).or_default() += 1;
            }
        }
        sums.other_orders = orders.values().map(all_but_most).sum();
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

    /// Whether each subscriber got every message of its share, once and in the one order.
    pub(super) fn sound(&self) -> bool {
        self.count > 0 && self.lost + self.doubled + self.reordered + self.other_orders == 0
    }

    /// Whether, beside that, nobody got anything that was for others.
    pub(super) fn exact(&self) -> bool {
        self.sound() && self.foreign == 0
    }

    /// Adds what was wrong.
    pub(super) fn describe_faults(&self, report: &mut Report) {
        report.count("lost", self.lost);
        report.count("doubled", self.doubled);
        report.count("reordered", self.reordered);
        report.count("other_orders", self.other_orders);
        report.count("foreign", self.foreign);
        report.count("gaps", self.incidents.gaps);
        report.count("byes", self.incidents.byes);
        report.counts("ended", &self.incidents.ended);
    }

    /// Adds what a delivery took.
    pub(super) fn describe_cost(&self, report: &mut Report) {
        report.figure("server_cpu_us_per_delivery", self.server_cpu_us);
        report.figure("bench_cpu_us_per_delivery", self.bench_cpu_us);
    }
}

/// Of those who got the same messages, how many had them in another order than most.
fn all_but_most(orders: &BTreeMap<u64, u64>) -> u64 {
    orders.values().sum::<u64>() - orders.values().max().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_in_another_order_than_most_are_counted() {
        assert_eq!(all_but_most(&BTreeMap::from([(7, 10), (8, 1), (9, 2)])), 3);
        assert_eq!(all_but_most(&BTreeMap::from([(7, 10)])), 0);
        assert_eq!(all_but_most(&BTreeMap::new()), 0);
    }
}
