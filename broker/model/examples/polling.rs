//! Prints what following a topic costs a client that obeys Retry-After, as CSV: `tests/bench/retry.py` plots it.

#![allow(clippy::print_stdout, missing_docs, unreachable_pub, reason = "a program that prints")]

#[path = "../tests/support/polling.rs"]
mod polling;

use polling::{Arrivals, follow};

fn main() {
    println!("arrivals,interval_s,wait_s,polls_per_message,latency_mean_s");
    for arrivals in [Arrivals::Steady, Arrivals::Scattered] {
        for interval_s in [1, 2, 5, 10, 20, 30, 60, 120, 300, 900, 3_600] {
            for wait_s in [0, 25, 55] {
                let outcome = follow(arrivals, interval_s * 1000, wait_s * 1000, 5_000, 7);
                let (polls, latency) = (outcome.polls_per_message, outcome.latency_mean_s);
                println!("{arrivals:?},{interval_s},{wait_s},{polls:.3},{latency:.3}");
            }
        }
    }
}
