//! Incidents of subscribers: gaps, byes, lost connections.

use std::collections::BTreeMap;

use memchr::memmem;

/// Counts over all subscribers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Incidents {
    pub(crate) gaps: u64,
    pub(crate) byes: u64,
    /// Subscribers that ended, by why.
    pub(crate) ended: BTreeMap<String, u64>,
}

impl Incidents {
    /// Takes note of a line, event or block that is no message; true if it says that the subscriber has caught up.
    pub(crate) fn note(&mut self, line: &[u8]) -> bool {
        let says = |word: &str| memmem::find(line, word.as_bytes()).is_some();
        self.gaps += u64::from(says(r#""kind":"gap""#) || says("event: tailwire.gap"));
        self.byes += u64::from(says(r#""kind":"bye""#) || says("event: tailwire.bye"));
        says(r#""kind":"caught_up""#)
    }

    pub(crate) fn end(&mut self, why: String) {
        *self.ended.entry(why).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Incidents) {
        self.gaps += other.gaps;
        self.byes += other.byes;
        for (why, count) in &other.ended {
            *self.ended.entry(why.clone()).or_default() += count;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_events_are_told_apart() {
        let mut incidents = Incidents::default();
        assert!(incidents.note(br#"{"kind":"caught_up","cursor":"x"}"#));
        assert!(!incidents.note(br#"{"kind":"heartbeat","cursor":"x"}"#));
        assert!(!incidents.note(br#"{"kind":"gap","from":"x","to":"y","reason":"retention"}"#));
        assert!(!incidents.note(b"event: tailwire.gap\ndata: {}\n\n"));
        assert!(!incidents.note(b"event: tailwire.bye\ndata: {}\n\n"));
        incidents.end("closed".to_owned());
        let mut sum = incidents.clone();
        sum.add(&incidents);
        assert_eq!((sum.gaps, sum.byes, sum.ended["closed"]), (4, 2, 2));
    }
}
