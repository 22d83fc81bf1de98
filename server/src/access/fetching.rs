//! The state of fetching issuers' keys: when each is due, and who waits for it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

/// How long fetched keys are taken for those of today.
const FRESH: Duration = Duration::from_secs(600);
/// A token with an unknown key has them fetched again, but not sooner than this.
const PAUSE: Duration = Duration::from_secs(30);
/// The first wait after a failure; each is twice as long as the one before, up to [`FRESH`].
const BACK_OFF: Duration = Duration::from_secs(2);

/// The fetching of all issuers' keys.
#[derive(Default)]
pub(super) struct Fetching {
    states: Mutex<HashMap<String, Fetched>>,
    wanted: Notify,
    /// Counts the rounds.
    rounds: watch::Sender<u64>,
}

#[derive(Clone, Copy)]
struct Fetched {
    begun: Instant,
    due: Instant,
    failures: u32,
}

impl Fetching {
    /// Asks for an issuer's keys. Gives how to wait for them, if they are fetched now, and not just were.
    pub(super) fn want(&self, issuer: &str) -> Option<watch::Receiver<u64>> {
        let now = Instant::now();
        let rounds = self.rounds.subscribe();
        if let Some(state) = self.states.lock().get_mut(issuer) {
            if state.failures > 0 || now < state.begun + PAUSE {
                return None;
            }
            state.due = now;
        }
        self.wanted.notify_one();
        Some(rounds)
    }

    /// Has it looked at once what is due.
    pub(super) fn wake(&self) {
        self.wanted.notify_one();
    }

    /// Ends when somebody wants keys.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Whether it is an issuer's turn.
    pub(super) fn is_due(&self, issuer: &str) -> bool {
        self.states.lock().get(issuer).is_none_or(|state| state.due <= Instant::now())
    }

    /// Notes how a fetch ended that began then.
    pub(super) fn ended(&self, issuer: String, begun: Instant, is_good: bool) {
        let mut states = self.states.lock();
        let before = states.get(&issuer).map_or(0, |state| state.failures);
        let (failures, wait) = match is_good {
            true => (0, FRESH),
            false => (before + 1, BACK_OFF.saturating_mul(1 << before.min(16)).min(FRESH)),
        };
        states.insert(issuer, Fetched { begun, due: begun + wait, failures });
    }

    /// Tells those who wait that all that was due was fetched, or could not be.
    pub(super) fn end_round(&self) {
        self.rounds.send_modify(|rounds| *rounds += 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_has_keys_fetched_twice_in_a_row() {
        let fetching = Fetching::default();
        assert!(fetching.is_due("a") && fetching.want("a").is_some(), "never fetched");
        let now = Instant::now();
        fetching.ended("a".to_owned(), now, true);
        assert!(!fetching.is_due("a") && fetching.want("a").is_none());
        let Some(earlier) = now.checked_sub(PAUSE) else { return };
        fetching.ended("a".to_owned(), earlier, true);
        assert!(!fetching.is_due("a") && fetching.want("a").is_some());
        assert!(fetching.is_due("a"), "somebody wanted it");
    }

    #[test]
    fn failures_are_further_and_further_apart() {
        let fetching = Fetching::default();
        let begun = Instant::now();
        let mut waits = Vec::new();
        for _ in 0..12 {
            fetching.ended("a".to_owned(), begun, false);
            waits.push((fetching.states.lock()["a"].due - begun).as_secs());
        }
        assert_eq!(waits[..5], [2, 4, 8, 16, 32]);
        assert_eq!(waits[11], 600);
        assert!(fetching.want("a").is_none(), "it has its own pace");
    }
}
