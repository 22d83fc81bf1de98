//! The oracle: the events that readers must give, from a plain list of all committed messages.

use std::collections::VecDeque;

use tailwire_core::Start;
use tailwire_model::{Cursor, EpochStart, Gap, GapReason, Message, Opening, Position};
use tokio::time::Instant;

pub(crate) const TOPICS: [&str; 6] = ["a/x", "a/y", "a/x/1", "b", "b/x", "c"];

/// The log, naively. A message's position is its index and one.
pub(crate) struct Oracle {
    pub(crate) starts: Vec<EpochStart>,
    /// Each message's topic, and whether it is still there.
    messages: Vec<(usize, bool)>,
    /// Every trim there was: topic, and how far.
    trims: Vec<(usize, u64)>,
    /// How many of the trims the last reads of the log can have seen.
    pub(crate) trims_read: usize,
}

impl Oracle {
    pub(crate) fn new(starts: Vec<EpochStart>) -> Self {
        Self { starts, messages: Vec::new(), trims: Vec::new(), trims_read: 0 }
    }

    pub(crate) fn committed(&self) -> u64 {
        self.messages.len() as u64
    }

    pub(crate) fn add(&mut self, topic: usize) {
        self.messages.push((topic, true));
    }

    pub(crate) fn trim(&mut self, topic: usize) {
        let newest = self.messages.iter().rposition(|&(own, _)| own == topic);
        let Some(upto) = newest.map(|index| index as u64 + 1) else { return };
        if !self.messages[upto as usize - 1].1 {
            return;
        }
        self.messages.iter_mut().filter(|(own, _)| *own == topic).for_each(|(_, alive)| *alive = false);
        self.trims.push((topic, upto));
    }

    /// All reads that were waiting are done.
    pub(crate) fn reads_done(&mut self) {
        self.trims_read = self.trims.len();
    }

    pub(crate) fn cursor_at(&self, position: u64) -> Cursor {
        let within = self.starts.iter().rev().find(|start| start.first.0 <= position);
        let epoch = within.unwrap_or(&self.starts[0]).epoch;
        Cursor { epoch, position: Position(position) }
    }

    /// The alive messages that the terms match, after `after`.
    pub(crate) fn alive<'a>(&'a self, terms: &'a [&str], after: u64) -> impl Iterator<Item = u64> + 'a {
        let messages = self.messages.iter().zip(1..).skip(after as usize);
        messages.filter(|((topic, alive), _)| *alive && wants(terms, *topic)).map(|(_, position)| position)
    }

    fn trimmed(&self, terms: &[&str], trims: usize) -> Option<u64> {
        self.trims[..trims].iter().filter(|(topic, _)| wants(terms, *topic)).map(|&(_, upto)| upto).max()
    }

    /// Where a subscription begins: its position, what it knows, and the gap that it is told.
    pub(crate) fn begin(
        &self,
        terms: &[&str],
        start: Start,
        known: Option<Cursor>,
    ) -> (u64, Option<Cursor>, Option<Gap>) {
        let trimmed = self.trimmed(terms, self.trims.len());
        let known_trim = trimmed.map(|upto| self.cursor_at(upto));
        let head = self.alive(terms, 0).next();
        match start {
            Start::Latest => (self.committed(), known, None),
            Start::Since(_) => unreachable!("no client of this test starts at a time"),
            Start::Earliest => {
                let before = head.map_or(trimmed.unwrap_or(0), |head| head - 1);
                (before, Some(known_trim.unwrap_or(self.cursor_at(0))), None)
            }
            Start::Last(count) => {
                let alive: Vec<u64> = self.alive(terms, 0).collect();
                let first = alive.len().saturating_sub(count);
                (alive.get(first).map_or(self.committed(), |first| first - 1), known_trim, None)
            }
            Start::After(cursor) => {
                let (after, loss) = self.standing(cursor, head);
                let trim = known_trim.filter(|to| to.position.0 > after && Some(*to) > known);
                let from = self.cursor_at(after);
                let gap = match loss {
                    None => trim.map(|to| Gap { from, to, reason: GapReason::Deleted }),
                    Some(reason) => {
                        let seen = if reason == GapReason::Epoch { from } else { cursor };
                        Some(Gap { from, to: trim.map_or(seen, |to| to.max(seen)), reason })
                    }
                };
                (after, known, gap)
            }
        }
    }

    fn standing(&self, cursor: Cursor, head: Option<u64>) -> (u64, Option<GapReason>) {
        let unknown = (head.map_or(self.committed(), |head| head - 1), Some(GapReason::Epoch));
        let Some(index) = self.starts.iter().position(|start| start.epoch == cursor.epoch) else {
            // Of another state of this log, which left it at the end of an epoch that has ended.
            let ended = self.starts.windows(2).rev().find(|pair| pair[0].epoch < cursor.epoch);
            let end = ended.map(|pair| (pair[1].first.0 - 1).min(cursor.position.0.saturating_sub(1)));
            return end.map_or(unknown, |end| (end, Some(GapReason::Rewound)));
        };
        let next = self.starts.get(index + 1);
        let end = next.map_or(self.committed(), |next| next.first.0 - 1);
        if cursor.position.0 > end {
            let unclean = next.is_some_and(|next| next.opening == Opening::Unclean);
            return (end, Some(if unclean { GapReason::Unclean } else { GapReason::Rewound }));
        }
        let first = if index == 0 { 0 } else { self.starts[index].first.0 };
        if cursor.position.0 < first { unknown } else { (cursor.position.0, None) }
    }
}

/// Whether any of the terms matches a topic. `**` stands last only.
fn wants(terms: &[&str], topic: usize) -> bool {
    terms.iter().any(|term| {
        let (want, have): (Vec<_>, Vec<_>) = (term.split('/').collect(), TOPICS[topic].split('/').collect());
        let open = want.last() == Some(&"**");
        let long_enough = if open { have.len() >= want.len() } else { have.len() == want.len() };
        long_enough && want.iter().zip(&have).all(|(want, have)| want.starts_with('*') || want == have)
    })
}

/// A subscription's filter, and the end of the gaps that it was told of, alone or with others.
#[derive(Clone)]
pub(crate) struct Sub {
    pub(crate) terms: Vec<&'static str>,
    pub(crate) known: Option<Cursor>,
}

/// The events that one reader's client has got, and may get next.
pub(crate) struct Received {
    pub(crate) subs: Vec<Sub>,
    /// Every match up to here was given, or is known to be gone.
    pub(crate) position: u64,
    pub(crate) known: Option<Cursor>,
    gap: Option<Gap>,
    pub(crate) opened: bool,
    pub(crate) caught_up: bool,
    /// Messages since the last event that a slow transport would keep.
    pub(crate) given: VecDeque<u64>,
    last_event_at: Instant,
    /// The oracle's count of read trims at the reader's last event.
    trims_read: usize,
}

impl Received {
    pub(crate) fn new(oracle: &Oracle, terms: &[&'static str], start: Start, known: Option<Cursor>) -> Self {
        let (position, known, gap) = oracle.begin(terms, start, known);
        Self {
            subs: vec![Sub { terms: terms.to_vec(), known }],
            position,
            known,
            gap,
            opened: false,
            caught_up: false,
            given: VecDeque::new(),
            last_event_at: Instant::now(),
            trims_read: oracle.trims_read,
        }
    }

    /// A reader of nothing yet.
    pub(crate) fn empty(oracle: &Oracle) -> Self {
        let mut received = Self::new(oracle, &[], Start::Latest, None);
        received.subs.clear();
        received.caught_up = true;
        received
    }

    pub(crate) fn terms(&self) -> Vec<&'static str> {
        self.subs.iter().flat_map(|sub| sub.terms.iter().copied()).collect()
    }

    pub(crate) fn messages<'a>(&mut self, oracle: &Oracle, messages: impl Iterator<Item = &'a Message>) {
        let positions = messages.map(|message| {
            let position = message.position().0;
            assert_eq!(message.cursor, oracle.cursor_at(position));
            assert_eq!(message.topic().as_str(), TOPICS[oracle.messages[position as usize - 1].0]);
            position
        });
        self.takes(oracle, positions, Instant::now());
    }

    /// Messages came, by their positions, the last of them at some time.
    pub(crate) fn takes(&mut self, oracle: &Oracle, positions: impl Iterator<Item = u64>, at: Instant) {
        self.speaks(oracle);
        self.last_event_at = at;
        let before = self.given.len();
        for position in positions {
            assert!(position > self.position, "{position} came after {}", self.position);
            assert!(position <= oracle.committed(), "{position} is not committed");
            let (topic, _) = oracle.messages[position as usize - 1];
            assert!(wants(&self.terms(), topic), "{position} in {} was not asked for", TOPICS[topic]);
            self.passes(oracle, position - 1);
            self.position = position;
            self.given.push_back(position);
        }
        assert!(self.given.len() > before, "an event without a message");
    }

    pub(crate) fn heartbeat(&mut self, oracle: &Oracle, cursor: Cursor) {
        if self.opened {
            let silence = Instant::now() - self.last_event_at;
            assert!(silence.as_millis() >= 15_000, "a heartbeat after {silence:?}");
        } else {
            assert!(self.gap.is_none(), "the gap that the start has comes first");
            assert_eq!(cursor, oracle.cursor_at(self.position), "the starting cursor");
            self.opened = true;
        }
        self.speaks(oracle);
        self.stands(oracle, cursor);
    }

    pub(crate) fn caught_up(&mut self, oracle: &Oracle, cursor: Cursor, dispatched: u64) {
        self.speaks(oracle);
        assert!(!self.caught_up, "caught up twice");
        self.caught_up = true;
        assert!(
            cursor.position.0 >= dispatched,
            "caught up at {} while {dispatched} can be had",
            cursor.position
        );
        self.stands(oracle, cursor);
        self.given.clear();
    }

    pub(crate) fn gap(&mut self, oracle: &Oracle, gap: Gap) {
        match self.gap.take() {
            Some(expected) => assert_eq!(gap, expected, "the gap that the start has"),
            None => {
                assert!(self.opened, "a heartbeat comes before whatever is read");
                // It was read some time after the last event.
                let terms = self.terms();
                let mut trims = self.trims_read..=oracle.trims_read;
                let farthest = trims.any(|trims| oracle.trimmed(&terms, trims) == Some(gap.to.position.0));
                assert!(
                    farthest && gap.reason == GapReason::Deleted,
                    "{gap:?} is not up to the farthest trim"
                );
                assert_eq!(gap.to, oracle.cursor_at(gap.to.position.0));
                assert!(gap.to > gap.from && Some(gap.to) > self.known, "{gap:?}: known {:?}", self.known);
            }
        }
        self.last_event_at = Instant::now();
        self.trims_read = oracle.trims_read;
        self.stands(oracle, gap.from);
        self.known = self.known.max(Some(gap.to));
        self.subs.iter_mut().for_each(|sub| sub.known = sub.known.max(Some(gap.to)));
        self.given.clear();
    }

    fn speaks(&mut self, oracle: &Oracle) {
        assert!(self.opened, "the first event but a gap is a heartbeat");
        self.last_event_at = Instant::now();
        self.trims_read = oracle.trims_read;
    }

    /// The reader says that its client has everything up to here.
    pub(crate) fn stands(&mut self, oracle: &Oracle, cursor: Cursor) {
        assert_eq!(cursor, oracle.cursor_at(cursor.position.0), "a cursor has the epoch of its position");
        assert!(cursor.position.0 <= oracle.committed(), "{cursor} is beyond what is committed");
        assert!(cursor.position.0 >= self.position, "{cursor} goes back behind {}", self.position);
        self.passes(oracle, cursor.position.0);
        self.position = cursor.position.0;
    }

    /// Nothing that was not given up to here may be there still, or be gone without a word.
    fn passes(&self, oracle: &Oracle, upto: u64) {
        assert!(self.gap.is_none() || upto == self.position, "went on without the gap that the start has");
        for position in self.position + 1..=upto {
            let (topic, alive) = oracle.messages[position as usize - 1];
            for sub in self.subs.iter().filter(|sub| wants(&sub.terms, topic)) {
                assert!(!alive, "{position} in {} was left out", TOPICS[topic]);
                assert!(
                    Some(oracle.cursor_at(position)) <= sub.known,
                    "{position} in {} is gone, and nobody said so",
                    TOPICS[topic]
                );
            }
        }
    }

    /// Goes back behind one of the messages that were given, or before it.
    pub(crate) fn rewind(&mut self, index: usize, before: bool) -> Position {
        self.position = self.given[index] - u64::from(before);
        let position = self.position;
        self.given.retain(|&given| given <= position);
        Position(position)
    }
}
