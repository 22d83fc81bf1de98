//! A client that obeys Retry-After, on virtual time: how many polls a message costs it, and how late it has the message.

use tailwire_model::retry::{Pace, Poll, retry_after_ms};

/// How messages come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrivals {
    /// One after each interval, give or take a tenth.
    Steady,
    /// Each by itself, as many in the mean (a Poisson process).
    Scattered,
}

/// What following a topic came to.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub polls_per_message: f64,
    pub latency_mean_s: f64,
}

/// Follows a topic of so many messages, with polls that wait so long.
pub fn follow(arrivals: Arrivals, interval_ms: u64, wait_ms: u64, messages: usize, seed: u64) -> Outcome {
    let mut draw = Draw(seed);
    let mut at = 0.0;
    let times: Vec<u64> = (0..messages)
        .map(|_| {
            at += match arrivals {
                Arrivals::Steady => interval_ms as f64 * (0.9 + draw.next() / 5.0),
                Arrivals::Scattered => -(1.0 - draw.next()).ln() * interval_ms as f64,
            };
            at as u64
        })
        .collect();
    // The broker's own measure: a moving mean in which the latest eight intervals weigh most.
    let mut means = Vec::with_capacity(messages);
    for (index, time) in times.iter().enumerate() {
        let latest = index.checked_sub(1).map(|before| time - times[before]);
        let mean: Option<u64> = means.last().copied().flatten();
        means.push(latest.map(|latest| mean.map_or(latest, |mean| (mean * 7 + latest + 4) / 8)));
    }
    let (mut now, mut seen, mut polls, mut late_ms) = (0, 0, 0, 0);
    while seen < messages {
        polls += 1;
        let end = times
            .get(seen)
            .filter(|next| **next <= now + wait_ms)
            .map_or(now + wait_ms, |next| now.max(*next));
        let upto = times.partition_point(|time| *time <= end);
        late_ms += times[seen..upto].iter().map(|time| end - time).sum::<u64>();
        let newest = upto.checked_sub(1);
        let pace = Pace {
            interval_ms: newest.and_then(|newest| means[newest]),
            age_ms: newest.map(|newest| end - times[newest]),
        };
        let poll = Poll { pace, wait_ms, has_found: upto > seen, load: 0.0 };
        seen = upto;
        // The header has whole seconds.
        now = end + retry_after_ms(&poll, draw.next()).div_ceil(1000) * 1000;
        // No answer comes back in no time.
        now = now.max(end + 1);
    }
    let messages = messages as f64;
    Outcome {
        polls_per_message: f64::from(polls) / messages,
        latency_mean_s: late_ms as f64 / 1000.0 / messages,
    }
}

/// Numbers from 0 to 1, the same for the same seed (xorshift).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}
