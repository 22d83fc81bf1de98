//! Forgetting topics that have held nothing for a while: which they are is looked for here, in rounds over all topics, some at
//! a time. It carries nothing out, and knows no store, only a way to look at what there is.

use tailwire_core::store::Write;
use tailwire_model::{Rules, Term, Timestamp};

use crate::retention::RetentionView;

/// How long after a round the next one begins: as long as a topic stays known that holds nothing, and within these bounds.
const ROUND_MS: (u64, u64) = (1_000, 60_000);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Forgetting {
    /// How long a topic that holds nothing is known after its newest message; for good if that isn't set.
    after_ms: Option<u64>,
    /// The number at which the round goes on.
    from: u32,
    next_round: Timestamp,
    /// Topics were trimmed that can be forgotten once that is applied.
    is_again: bool,
}

impl Forgetting {
    pub(crate) fn new(after_ms: Option<u64>) -> Self {
        Self { after_ms, ..Self::default() }
    }

    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn after_ms(&self) -> Option<u64> {
        self.after_ms
    }

    /// One step: adds to `writes`. Returns after how many milliseconds the next one is due, if one is.
    pub(crate) fn step(
        &mut self,
        now: Timestamp,
        rules: &Rules,
        view: &impl RetentionView,
        writes: &mut Vec<Write>,
    ) -> Option<u64> {
        let after_ms = self.after_ms?;
        if self.from == 0 && now < self.next_round {
            return Some(self.next_round.since(now));
        }
        let (idle, next) = view.idle(self.from, now, after_ms);
        for own in idle {
            if view.has_volatile(&own.topic) || !rules.own(&Term::Topic(own.topic.clone())).is_empty() {
                continue;
            }
            let is_empty = || view.oldest(&own.topic, 1).is_ok_and(|oldest| oldest.is_empty());
            if own.is_trimmed {
                writes.push(Write::Forget(own.topic, own.tail));
            } else if view.is_exact() && is_empty() {
                // Its messages were taken one by one, or were never stored.
                writes.push(Write::Retain(own.topic, own.tail));
                self.is_again = true;
            }
        }
        self.from = next.unwrap_or_default();
        if next.is_some() {
            return Some(0);
        }
        let is_again = std::mem::take(&mut self.is_again);
        let wait = if is_again { ROUND_MS.0 } else { after_ms.clamp(ROUND_MS.0, ROUND_MS.1) };
        self.next_round = Timestamp(now.0.saturating_add(wait));
        Some(wait)
    }
}
