//! The reference when a log tidies: all that bounds and compaction ask for.

use tailwire_model::{Bound, Trim, TrimReason};

use super::{Entry, Reference, takes_place};

impl Reference {
    /// Does all that retention and compaction ask for at a time.
    pub(crate) fn tidy(&mut self, now: u64) {
        for topic in self.names.keys().cloned().collect::<Vec<_>>() {
            self.bound(&topic, now);
        }
        // The bound of the whole log waits for compaction, which may make room without taking what is wanted.
        self.compact_all();
        while self.max_bytes.is_some_and(|max| self.bytes(|entry| !entry.volatile) > max) {
            let oldest = self.alive(|_| true).into_iter().find(|entry| !entry.volatile).cloned();
            let oldest = oldest.expect("there are bytes");
            self.trim(&oldest.draft.topic, oldest.position, TrimReason::Retention);
        }
    }

    /// Does what compaction asks for.
    pub(crate) fn compact_all(&mut self) {
        for topic in self.names.keys().cloned().collect::<Vec<_>>() {
            self.compact(&topic);
        }
    }

    /// Takes over how far a log has got with it: no topic further than asked for.
    pub(crate) fn tidied_partly(&mut self, now: u64, trimmed: impl Fn(&str) -> Option<Trim>) {
        let mut done = self.clone();
        done.tidy(now);
        let upto = |trim: Option<Trim>| trim.map_or(0, |trim| trim.upto.0);
        for (topic, name) in &mut self.names {
            // Where a topic began is told in the same way as how far it was trimmed.
            let found = trimmed(topic).filter(|trim| trim.upto.0 > name.floor).or(name.trimmed);
            let (least, most) = (upto(name.trimmed), upto(done.names[topic].trimmed));
            assert!((least..=most).contains(&upto(found)), "{topic} is trimmed up to {}", upto(found));
            if found != name.trimmed {
                name.trimmed = found;
                name.history.push(found);
            }
        }
    }

    /// The bounds of one topic, each on what is stored and what is in memory.
    fn bound(&mut self, topic: &str, now: u64) {
        let rule = self.rule(topic);
        for volatile in [false, true] {
            let held = self.alive(|name| name == topic);
            let held: Vec<(u64, u64, u64)> = held
                .iter()
                .filter(|entry| entry.volatile == volatile)
                .map(|entry| (entry.position, entry.time, entry.draft.cost()))
                .collect();
            let (mut count, mut bytes, mut upto) = (0, 0, 0);
            for &(position, time, cost) in held.iter().rev() {
                (count, bytes) = (count + 1, bytes + cost);
                let over = |bound: Option<Bound>, value: u64| {
                    bound.and_then(Bound::get).is_some_and(|max| value > max)
                };
                // The newest stays, whatever the bounds on count and bytes.
                let outgrown = count > 1 && (over(rule.max_messages, count) || over(rule.max_bytes, bytes));
                if outgrown || over(rule.max_age_ms, now - time + 1) {
                    upto = position;
                    break;
                }
            }
            self.trim(topic, upto, TrimReason::Retention);
        }
    }

    fn compact(&mut self, topic: &str) {
        let keep = self.keep(topic);
        let alive: Vec<Entry> = self.alive(|name| name == topic).into_iter().cloned().collect();
        let stored: Vec<&Entry> = alive.iter().filter(|entry| !entry.volatile).collect();
        for (at, old) in stored.iter().enumerate() {
            if stored[at + 1..].iter().any(|newer| takes_place(keep, &newer.draft, &old.draft)) {
                let own = self.entries.iter_mut().find(|entry| entry.position == old.position);
                own.expect("it is there").obsolete = true;
            }
        }
    }
}
