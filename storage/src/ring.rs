//! Messages that are never stored: of the topics whose durability is `memory`, the newest, in a ring with a bound on its
//! bytes. It remembers how far each topic has lost some, because readers that have not seen them get a gap.

use std::collections::{HashMap, VecDeque};

use tailwire_core::log::{StorePage, TopicInfo};
use tailwire_model::{
    Filter, Message, Position, Rules, Timestamp, Topic, Trim, TrimReason,
    limits::{RETENTION_EVERY_MS, RING_BYTES_MAX},
};

use crate::{ages::Ages, batch::Changes, index::Posting, lifetimes::Expired, retention::Trims};

/// How far messages were lost.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lost {
    /// Of single topics, whose messages were never stored.
    pub(crate) topics: HashMap<Topic, Position>,
    /// Of any topic, by damage.
    pub(crate) everywhere: Position,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    /// Oldest first.
    messages: VecDeque<Message>,
    bytes: usize,
    /// Where each topic's messages stand, oldest first; only topics that have any.
    positions: HashMap<Topic, VecDeque<Position>>,
    /// How far each topic lost messages, also those of earlier openings.
    lost: Lost,
    /// Of single topics.
    farthest_lost: Position,
    /// The messages that are later than all before them, with their times; and the latest of those that are gone.
    latest: VecDeque<(Position, Timestamp)>,
    latest_lost: Timestamp,
    /// When the rules were last checked against it.
    looked_at: Timestamp,
}

impl Ring {
    /// A ring of a log that has lost messages before.
    pub(crate) fn new(lost: Lost) -> Self {
        let farthest_lost = lost.topics.values().copied().max().unwrap_or_default();
        Self { lost, farthest_lost, ..Self::default() }
    }

    /// Takes in what a commit has of messages that are not stored, and takes out what it trims.
    pub(crate) fn commit(&mut self, changes: &Changes) {
        changes.volatile().for_each(|message| self.push(message.clone()));
        self.trim(changes.trims.iter().map(|(topic, (trim, _))| (topic, trim.upto)));
        if !changes.forgotten.is_empty() {
            self.lost.topics.retain(|topic, _| !changes.forgotten.contains_key(topic));
        }
        if changes.removed.values().any(|own| !own.message.is_stored) {
            self.retain(|message| !changes.removed.contains_key(&message.position()));
        }
    }

    /// Takes a message in, newer than all before it, and lets the oldest go.
    pub(crate) fn push(&mut self, message: Message) {
        self.bytes += message.draft.cost();
        self.positions.entry(message.topic().clone()).or_default().push_back(message.position());
        self.note_time(message.position(), message.time);
        self.messages.push_back(message);
        while self.bytes > RING_BYTES_MAX
            && let Some(oldest) = self.messages.pop_front()
        {
            self.bytes -= oldest.draft.cost();
            if let Some(positions) = self.positions.get_mut(oldest.topic()) {
                positions.pop_front();
                if positions.is_empty() {
                    self.positions.remove(oldest.topic());
                }
            }
            self.lose(oldest.topic(), oldest.position());
        }
        self.forget_times();
    }

    /// In how many milliseconds [`Ring::due`] is to be asked again.
    pub(crate) fn wait_ms(&self, now: Timestamp) -> u64 {
        RETENTION_EVERY_MS.saturating_sub(now.since(self.looked_at))
    }

    /// Adds what the bounds of its topics don't allow to what has to go.
    pub(crate) fn due(
        &mut self,
        rules: &Rules,
        now: Timestamp,
        ages: &Ages,
        trims: &mut Trims,
        expired: &mut Vec<Expired>,
    ) {
        self.looked_at = now;
        let mut sizes: HashMap<&Topic, (u64, u64)> = HashMap::new();
        // From the newest on: what stands before it decides whether a message stays.
        for message in self.messages.iter().rev() {
            let rule = rules.of(message.topic());
            let (count, bytes) = sizes.entry(message.topic()).or_default();
            let cost = message.draft.cost() as u64;
            let is_newest = *count == 0;
            (*count, *bytes) = (*count + 1, *bytes + cost);
            let has_outgrown = rule.max_messages.is_some_and(|max| *count > max)
                || rule.max_bytes.is_some_and(|max| *bytes > max && !is_newest);
            let came = ages.at(message.position(), message.time);
            let is_old = rule.max_age_ms.is_some_and(|max| now.since(came) >= max);
            if has_outgrown || is_old {
                let upto = trims.entry(message.topic().clone()).or_default();
                *upto = message.position().max(*upto);
            } else if message.draft.max_age_ms().is_some_and(|max| now.since(came) >= max) {
                let (topic, position) = (message.topic().clone(), message.position());
                expired.push(Expired { topic, position, is_stored: false });
            }
        }
    }

    /// Takes out what trims take, in one go: there may be many of them, and publishes wait. Remembered it is elsewhere.
    pub(crate) fn trim<'a>(&mut self, trims: impl Iterator<Item = (&'a Topic, Position)>) {
        let oldest =
            |topic: &Topic| self.positions.get(topic).and_then(|positions| positions.front().copied());
        let takes = |(topic, upto): &(&Topic, Position)| oldest(topic).is_some_and(|oldest| oldest <= *upto);
        let taken: HashMap<&Topic, Position> = trims.filter(takes).collect();
        if taken.is_empty() {
            return;
        }
        self.retain(|message| taken.get(message.topic()).is_none_or(|upto| message.position() > *upto));
    }

    fn retain(&mut self, is_kept: impl FnMut(&Message) -> bool) {
        self.messages.retain(is_kept);
        self.recount();
        self.forget_times();
    }

    fn recount(&mut self) {
        self.bytes = self.messages.iter().map(|message| message.draft.cost()).sum();
        self.positions.clear();
        for message in &self.messages {
            self.positions.entry(message.topic().clone()).or_default().push_back(message.position());
        }
    }

    fn lose(&mut self, topic: &Topic, position: Position) {
        match self.lost.topics.get_mut(topic) {
            Some(upto) => *upto = position.max(*upto),
            None => drop(self.lost.topics.insert(topic.clone(), position)),
        }
        self.farthest_lost = position.max(self.farthest_lost);
    }

    /// Whether nothing is in it and nothing was ever lost.
    pub(crate) fn is_unused(&self) -> bool {
        self.messages.is_empty() && self.lost.topics.is_empty() && self.lost.everywhere == Position::ZERO
    }

    /// Whether it holds messages of a topic.
    pub(crate) fn has(&self, topic: &Topic) -> bool {
        self.positions.contains_key(topic)
    }

    /// How many messages it holds, and their bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.messages.len() as u64, self.bytes as u64)
    }

    /// The oldest message.
    pub(crate) fn oldest(&self) -> Option<Position> {
        self.messages.front().map(Message::position)
    }

    /// How far any topic of a filter has lost messages, where that lies beyond `after`.
    pub(crate) fn lost(&self, filter: &Filter, after: Position) -> Option<Trim> {
        let everywhere = Trim { upto: self.lost.everywhere, reason: TrimReason::Lost };
        Trim::farther(self.lost_of(filter, after), (everywhere.upto > after).then_some(everywhere))
    }

    fn lost_of(&self, filter: &Filter, after: Position) -> Option<Trim> {
        if self.farthest_lost <= after {
            return None;
        }
        let topics = &self.lost.topics;
        let upto = match filter.only_topic() {
            Some(topic) => topics.get(topic).copied(),
            None => topics.iter().filter(|(topic, _)| filter.matches(topic)).map(|(_, upto)| *upto).max(),
        };
        upto.filter(|&upto| upto > after).map(|upto| Trim { upto, reason: TrimReason::Retention })
    }

    /// The oldest message of a filter.
    pub(crate) fn head(&self, filter: &Filter) -> Option<Position> {
        self.lists(filter).filter_map(VecDeque::front).min().copied()
    }

    /// The `count` newest messages of a filter up to `upto`, in no order; perhaps more.
    pub(crate) fn newest<'a>(
        &'a self,
        filter: &'a Filter,
        upto: Position,
        count: usize,
    ) -> impl Iterator<Item = Posting> {
        let newest = self.lists(filter).flat_map(move |positions| {
            let end = positions.partition_point(|&position| position <= upto);
            positions.range(..end).rev().take(count).copied()
        });
        let cost = |position| self.get(position).map_or(0, |message| message.draft.cost() as u64);
        newest.map(move |position| Posting { position, cost: cost(position) })
    }

    /// The place before the first message of a time or later that it holds.
    pub(crate) fn before_time(&self, time: Timestamp) -> Option<Position> {
        if time <= self.latest_lost {
            return self.oldest().map(Position::previous);
        }
        let first = self.latest.partition_point(|(_, latest)| *latest < time);
        self.latest.get(first).map(|(position, _)| position.previous())
    }

    /// Notes the time of a message that is added.
    fn note_time(&mut self, position: Position, time: Timestamp) {
        let latest = self.latest.back().map_or(self.latest_lost, |(_, latest)| *latest);
        if time > latest {
            self.latest.push_back((position, time));
        }
    }

    /// Forgets the times of messages before the oldest.
    fn forget_times(&mut self) {
        let oldest = self.oldest().unwrap_or(Position::MAX);
        while let Some(&(_, latest)) = self.latest.front().filter(|(position, _)| *position < oldest) {
            self.latest_lost = latest;
            self.latest.pop_front();
        }
    }

    /// The positions of each topic of a filter.
    fn lists<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a VecDeque<Position>> {
        let only = filter.only_topic();
        let others = self.positions.iter().filter(move |(topic, _)| only.is_none() && filter.matches(topic));
        only.and_then(|topic| self.positions.get(topic))
            .into_iter()
            .chain(others.map(|(_, positions)| positions))
    }

    /// The message at a position.
    pub(crate) fn get(&self, position: Position) -> Option<&Message> {
        self.messages.binary_search_by_key(&position, Message::position).ok().map(|at| &self.messages[at])
    }

    /// Puts what it holds of a filter, after `after`, into a page of stored messages, whose budget bounds both.
    pub(crate) fn merge(
        &self,
        page: &mut StorePage,
        filter: &Filter,
        after: Position,
        messages: usize,
        bytes: usize,
    ) {
        let upto = page.scanned;
        let mut own: Vec<Position> =
            self.lists(filter).flat_map(|positions| between(positions, after, upto)).collect();
        own.sort_unstable();
        own.truncate(messages.saturating_add(1));
        if own.is_empty() {
            return;
        }
        page.messages.extend(own.into_iter().filter_map(|position| self.get(position)).cloned());
        page.messages.sort_by_key(Message::position);
        let mut cost = 0;
        let fits = |(count, message): &(usize, &Message)| {
            cost += message.draft.cost();
            *count == 0 || (*count < messages && cost <= bytes)
        };
        let count = page.messages.iter().enumerate().take_while(fits).count();
        if let Some(next) = page.messages.get(count) {
            page.scanned = next.position().previous();
            page.messages.truncate(count);
        }
    }

    /// Counts what it holds of listed topics.
    pub(crate) fn count(&self, infos: &mut [TopicInfo]) {
        for info in infos {
            if let Some(positions) = self.positions.get(&info.topic) {
                info.head = info.head.iter().chain(positions.front()).min().copied();
                info.messages += positions.len() as u64;
            }
        }
    }
}

fn between(
    positions: &VecDeque<Position>,
    after: Position,
    upto: Position,
) -> impl Iterator<Item = Position> {
    let start = positions.partition_point(|&position| position <= after);
    positions.range(start..).copied().take_while(move |&position| position <= upto)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use tailwire_model::{Draft, Epoch, MediaType, Term, Timestamp};

    use super::*;

    fn message(position: u64, topic: &str, size: usize) -> Message {
        let draft = Draft::new(Topic::parse(topic).unwrap(), MediaType::JSON, vec![b'1'; size].into());
        draft.into_message(Epoch::new(1).unwrap(), Position(position), Timestamp(0))
    }

    fn filter(text: &str) -> Filter {
        Filter::from(Term::parse(text).unwrap())
    }

    fn positions(messages: &[Message]) -> Vec<u64> {
        messages.iter().map(|message| message.position().0).collect()
    }

    #[test]
    fn the_oldest_go_and_are_remembered() {
        let mut ring = Ring::default();
        assert!(ring.is_unused());
        let size = RING_BYTES_MAX / 4;
        for position in 1..=6 {
            ring.push(message(position, if position % 2 == 0 { "even" } else { "odd" }, size));
        }
        let lost =
            |ring: &Ring, text, after| ring.lost(&filter(text), Position(after)).map(|trim| trim.upto.0);
        assert_eq!(ring.size().0, 3);
        assert_eq!(
            (lost(&ring, "odd", 0), lost(&ring, "even", 0), lost(&ring, "*", 2)),
            (Some(3), Some(2), Some(3))
        );
        assert_eq!((lost(&ring, "odd", 3), lost(&ring, "none", 0)), (None, None));
        assert_eq!(ring.head(&filter("odd")), Some(Position(5)));
        assert_eq!(ring.get(Position(4)).map(Message::position), Some(Position(4)));
        assert!(ring.get(Position(3)).is_none());
        ring.trim([(&Topic::parse("odd").unwrap(), Position(5))].into_iter());
        assert_eq!(ring.head(&filter("**")), Some(Position(4)));
        assert_eq!(ring.size(), (2, 2 * message(1, "even", size).draft.cost() as u64));
    }

    #[test]
    fn a_page_is_merged_within_its_budget() {
        let mut ring = Ring::default();
        for position in [2, 3, 6, 9] {
            ring.push(message(position, "ring", 10));
        }
        let stored = [1, 4, 5].map(|position| message(position, "disk", 10)).to_vec();
        let page = || StorePage { messages: stored.clone(), scanned: Position(7), trimmed: None };
        let merged = |messages, bytes| {
            let mut page = page();
            ring.merge(&mut page, &filter("**"), Position(0), messages, bytes);
            (positions(&page.messages), page.scanned.0)
        };
        assert_eq!(merged(9, usize::MAX), (vec![1, 2, 3, 4, 5, 6], 7));
        assert_eq!(merged(4, usize::MAX), (vec![1, 2, 3, 4], 4));
        assert_eq!(merged(9, 1), (vec![1], 1));
        let mut others = page();
        ring.merge(&mut others, &filter("disk"), Position(0), 9, 999);
        assert_eq!((positions(&others.messages), others.scanned.0), (vec![1, 4, 5], 7));
    }
}
