//! Retention and compaction: which messages have to go, by the rules of their topics and the bound of the whole log. It
//! decides in bounded steps and carries nothing out: what it decided and nobody applied, it decides again. It knows no
//! store, only a way to look at what there is, oldest first.
//!
//! Three bounds, two ways to look. Count and bytes are a topic's own: a topic that a commit has touched is looked at from
//! its head. Age and the bytes of the whole log go by log order, in which the steady clock runs, too: for each age that
//! any rule names a frontier walks through the log, once, and everything behind it is looked after.

use std::collections::{BTreeMap, BTreeSet};

use tailwire_core::{StoreError, log::TopicInfo, store::Write};
use tailwire_model::{Keep, Message, Position, Rule, Rules, Timestamp, Topic, limits::RETENTION_EVERY_MS};

use crate::{
    batch::{Changes, CompactionKey, Memory},
    index::IdleTopic,
};

/// Messages that one step looks at, of one topic or along one frontier.
const STEP_MESSAGES: usize = 2_000;
/// Topics whose bounds one step looks at.
const STEP_TOPICS: usize = 64;
/// Names that one step goes through after the rules have changed.
const STEP_NAMES: usize = 1_000;

/// A way to look at what is stored.
pub(crate) trait RetentionView {
    /// Whether the index counts what is stored, and nothing else: after a crash it may have counted some that compaction
    /// took.
    fn is_exact(&self) -> bool;

    /// The next retained messages of a topic after a position, as many as a step takes, and how far that reaches.
    ///
    /// # Errors
    /// When the store can't be read.
    fn next_of(&self, topic: &Topic, after: Position) -> Result<(Vec<Message>, Position), StoreError>;

    /// How many messages a topic holds, and what they take.
    fn size(&self, topic: &Topic) -> (u64, u64);

    /// The bytes of all messages.
    fn bytes(&self) -> u64;

    /// Whether messages of a topic are retained that are not stored.
    fn has_volatile(&self, topic: &Topic) -> bool;

    /// Some of the topics that hold nothing, and where to go on; see [`Index::idle`](crate::index::Index::idle).
    fn idle(&self, from: u32, now: Timestamp, after_ms: u64) -> (Vec<IdleTopic>, Option<u32>);

    /// Topics in order of their names, from after one.
    fn topics(&self, after: &str, limit: usize) -> Vec<TopicInfo>;

    /// Visits live messages after a position, oldest first, until `visit` says that it has enough.
    ///
    /// # Errors
    /// When the store can't be read.
    fn walk(
        &self,
        after: Position,
        visit: &mut dyn FnMut(&SeenMessage<'_>) -> bool,
    ) -> Result<(), StoreError>;

    /// The `count` oldest live messages of a topic, or all if there are fewer: their positions and costs.
    ///
    /// # Errors
    /// When the store can't be read.
    fn oldest(&self, topic: &Topic, count: usize) -> Result<Vec<(Position, u64)>, StoreError>;
}

/// A stored message, as far as retention asks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeenMessage<'a> {
    pub(crate) position: Position,
    /// When it came, by the steady clock.
    pub(crate) came: Timestamp,
    pub(crate) topic: &'a Topic,
    pub(crate) cost: u64,
}

/// Topics that have to be trimmed, and up to where.
pub(crate) type Trims = BTreeMap<Topic, Position>;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Retention {
    /// The bound of the whole log.
    max_bytes: Option<u64>,
    /// Topics that may have outgrown their own bounds.
    due: BTreeSet<Topic>,
    /// Topics that are to be compacted from their head, and how far they are.
    uncompacted: BTreeMap<Topic, Position>,
    /// After a change of the rules: the name up to which all topics were looked at.
    names_after: Option<String>,
    /// For each age: everything of that age up to here is gone.
    frontiers: BTreeMap<u64, Position>,
    /// When the frontiers are to be looked at again.
    next_look: Timestamp,
    /// Everything up to here is gone, whatever its topic.
    floor: Position,
    /// The last step left something.
    is_behind: bool,
}

impl Retention {
    /// Retention of a log that was just opened: every topic is looked at.
    pub(crate) fn new(rules: &Rules, max_bytes: Option<u64>) -> Self {
        let mut own = Self { max_bytes, ..Self::default() };
        if !rules.is_empty() {
            own.change(rules);
        }
        own
    }

    /// The rules have changed: every topic is looked at again.
    fn change(&mut self, rules: &Rules) {
        self.names_after = Some(String::new());
        self.frontiers = rules.ages_ms().into_iter().map(|age| (age, Position::ZERO)).collect();
        self.next_look = Timestamp::default();
    }

    /// Takes notice of a commit.
    pub(crate) fn committed(&mut self, changes: &Changes, rules: &Rules) {
        if changes.has_new_rules {
            self.change(rules);
        }
        for (topic, upto) in &changes.compacted {
            self.compacted_upto(topic, *upto);
        }
        if rules.is_empty() {
            return;
        }
        for message in &changes.messages {
            if !self.due.contains(message.topic()) && is_bounded(rules, message.topic()) {
                self.due.insert(message.topic().clone());
            }
        }
    }

    /// Decides a step of compacting a topic that is compacted since its messages were stored.
    ///
    /// # Errors
    /// When the store can't be read; the step is made again.
    pub(crate) fn compact(
        &mut self,
        rules: &Rules,
        newest: Position,
        view: &(impl RetentionView + Memory),
    ) -> Result<Option<Write>, StoreError> {
        let Some((topic, &after)) = self.uncompacted.first_key_value() else { return Ok(None) };
        let (topic, keep) = (topic.clone(), rules.of(topic).keep);
        let (messages, upto) = view.next_of(&topic, after)?;
        for message in &messages {
            let Some(key) = CompactionKey::of(&message.draft, keep) else { continue };
            if view.latest(&key)?.is_none_or(|latest| latest.position != message.position()) {
                return Ok(Some(Write::Compact(topic, after, upto)));
            }
        }
        if upto >= newest {
            self.uncompacted.remove(&topic);
        } else {
            self.compacted_upto(&topic, upto);
        }
        Ok(None)
    }

    /// Whether there are topics that have yet to be compacted.
    pub(crate) fn is_compacting(&self) -> bool {
        !self.uncompacted.is_empty()
    }

    fn compacted_upto(&mut self, topic: &Topic, upto: Position) {
        if let Some(reached) = self.uncompacted.get_mut(topic) {
            *reached = upto.max(*reached);
        }
    }

    /// Whether there is something to do, with messages that take so much.
    pub(crate) fn has_work(&self, bytes: u64) -> bool {
        self.is_behind || !self.due.is_empty() || self.max_bytes.is_some_and(|max| bytes > max)
    }

    /// One step: adds to `trims` what has to go. Returns after how many milliseconds the next step is due, if one is. It
    /// looks at `debt` messages, or as many topics, if that is more than a step is made for anyway.
    ///
    /// # Errors
    /// When the store can't be read; the step is made again.
    pub(crate) fn step(
        &mut self,
        now: Timestamp,
        rules: &Rules,
        view: &impl RetentionView,
        trims: &mut Trims,
        debt: usize,
    ) -> Result<Option<u64>, StoreError> {
        let (topics, messages) = (STEP_TOPICS.max(debt), STEP_MESSAGES.max(debt));
        if self.max_bytes.is_none() && rules.is_empty() {
            return Ok(None);
        }
        self.go_through_names(rules, view);
        self.look_at_due(rules, view, trims, (topics, messages))?;
        let is_behind = self.names_after.is_some() || !self.due.is_empty();
        let mut more = is_behind || !self.uncompacted.is_empty();
        match self.max_bytes {
            Some(max) if view.is_exact() && self.uncompacted.is_empty() && self.names_after.is_none() => {
                more |= self.raise_floor(max, view, trims, messages)?;
            }
            Some(_) => more = true,
            None => {}
        }
        if now >= self.next_look {
            let behind = self.advance_frontiers(now, rules, view, trims, messages)?;
            more |= behind;
            self.next_look = if behind { now } else { Timestamp(now.0 + RETENTION_EVERY_MS) };
        }
        self.is_behind = more;
        if more || !trims.is_empty() {
            return Ok(Some(0));
        }
        let has_ages = !self.frontiers.is_empty();
        Ok(has_ages.then(|| self.next_look.since(now)))
    }

    fn go_through_names(&mut self, rules: &Rules, view: &impl RetentionView) {
        let Some(after) = self.names_after.take() else { return };
        let infos = view.topics(&after, STEP_NAMES);
        if infos.len() == STEP_NAMES {
            self.names_after = infos.last().map(|info| info.topic.as_str().to_owned());
        }
        for info in infos {
            let rule = rules.of(&info.topic);
            // A single one too: else nobody would know which one the next one makes obsolete.
            if rule.keep != Keep::All && info.messages > 0 {
                self.uncompacted.insert(info.topic.clone(), Position::ZERO);
            }
            if is_bounded(rules, &info.topic) {
                self.due.insert(info.topic);
            }
        }
    }

    /// Count and bytes of single topics.
    fn look_at_due(
        &mut self,
        rules: &Rules,
        view: &impl RetentionView,
        trims: &mut Trims,
        (topics, messages): (usize, usize),
    ) -> Result<(), StoreError> {
        for topic in self.due.iter().take(topics).cloned().collect::<Vec<_>>() {
            let (mut count, mut bytes) = view.size(&topic);
            let rule = rules.of(&topic);
            let surplus = |count: u64, bytes: u64| {
                rule.max_messages.is_some_and(|max| count > max)
                    || rule.max_bytes.is_some_and(|max| bytes > max)
            };
            if !surplus(count, bytes) {
                self.due.remove(&topic);
                continue;
            }
            // One more than is likely to go: where there are no more, the index has counted some that a crash took back.
            let wanted = likely_surplus(&rule, count, bytes).saturating_add(1).min(messages);
            let oldest = view.oldest(&topic, wanted)?;
            if oldest.len() < wanted {
                count = oldest.len() as u64;
                bytes = oldest.iter().map(|(_, cost)| cost).sum();
            }
            let mut oldest = oldest.into_iter();
            let mut upto = None;
            // The newest stays: a bound that nothing fits would else make a topic that takes messages and has none.
            while surplus(count, bytes)
                && count > 1
                && let Some((position, cost)) = oldest.next()
            {
                upto = Some(position);
                count -= 1;
                bytes = bytes.saturating_sub(cost);
            }
            match upto {
                Some(upto) => drop(trims.insert(topic, upto)),
                None => drop(self.due.remove(&topic)),
            }
        }
        Ok(())
    }

    /// The bound of the whole log. Returns whether there is more to do.
    fn raise_floor(
        &mut self,
        max: u64,
        view: &impl RetentionView,
        trims: &mut Trims,
        messages: usize,
    ) -> Result<bool, StoreError> {
        let mut surplus = view.bytes().saturating_sub(max);
        if surplus == 0 {
            return Ok(false);
        }
        let (mut seen_count, mut floor) = (0, None);
        view.walk(self.floor, &mut |seen| {
            if surplus == 0 || seen_count == messages {
                return false;
            }
            seen_count += 1;
            // Until somebody applies it, it is there.
            floor.get_or_insert(seen.position.previous());
            // A revocation that went would make good again what it revoked.
            if !seen.topic.is_access() {
                surplus = surplus.saturating_sub(seen.cost);
                take(trims, seen);
            }
            true
        })?;
        self.floor = floor.unwrap_or(self.floor);
        Ok(seen_count > 0 && surplus > 0)
    }

    /// Returns whether a frontier has not got to the messages yet that are young enough.
    fn advance_frontiers(
        &mut self,
        now: Timestamp,
        rules: &Rules,
        view: &impl RetentionView,
        trims: &mut Trims,
        messages: usize,
    ) -> Result<bool, StoreError> {
        let mut behind = false;
        for (&age, frontier) in &mut self.frontiers {
            let (mut seen_count, mut reached, mut taken) = (0, *frontier, None);
            view.walk(*frontier, &mut |seen| {
                if now.since(seen.came) < age {
                    return false;
                }
                if seen_count == messages {
                    behind = true;
                    return false;
                }
                seen_count += 1;
                reached = seen.position;
                if rules.of(seen.topic).max_age_ms == Some(age) {
                    // Until somebody applies it, it is there.
                    taken.get_or_insert(seen.position.previous());
                    take(trims, seen);
                }
                true
            })?;
            *frontier = taken.unwrap_or(reached);
        }
        Ok(behind)
    }
}

fn is_bounded(rules: &Rules, topic: &Topic) -> bool {
    let rule = rules.of(topic);
    rule.max_messages.is_some() || rule.max_bytes.is_some()
}

/// About how many messages a topic has too many of: enough are looked at, and not all that it has. Where they are too few,
/// the topic stays due, and the next step takes the rest.
fn likely_surplus(rule: &Rule, count: u64, bytes: u64) -> usize {
    let surplus = |held: u64, max: Option<u64>| held.saturating_sub(max.unwrap_or(held));
    let mean = (bytes / count.max(1)).max(1);
    let by_bytes = surplus(bytes, rule.max_bytes).div_ceil(mean);
    usize::try_from(surplus(count, rule.max_messages).max(by_bytes)).unwrap_or(usize::MAX)
}

/// Notes a message that has to go, and with it all of its topic before it.
fn take(trims: &mut Trims, seen: &SeenMessage<'_>) {
    let upto = trims.entry(seen.topic.clone()).or_default();
    *upto = seen.position.max(*upto);
}
