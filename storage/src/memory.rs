//! A store in memory: the reference that others are compared with, and the store of tests. It reads by looking at every
//! message, on purpose: nothing clever, so little to be wrong. It is as durable as a disk: all that was applied is there
//! after [`MemoryStore::reopen`].

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use tailwire_core::{
    Store, StoreError,
    log::{Bounds, Budget, Feed, LogStats, StorePage, TopicInfo, Window},
    store::{Entry, Outcome, Token, Write},
};
use tailwire_model::{
    Epochs, Filter, Message, Opening, Pattern, Position, Rules, Timestamp, Topic, Trim, Usage,
    admission::KeyRecord,
};

use crate::{
    ages::Ages,
    batch::{Batch, Changes, CompactionKey, Latest, LogHead, Memory, Retained, batches, no_epochs},
    forgetting::Forgetting,
    index::{IdleTopic, Index, Newest, Posting},
    lifetimes::{self, Expired},
    retention::{Retention, RetentionView, SeenMessage, Trims},
};

/// Dead messages that one call of `tidy` removes.
const TIDY_MESSAGES: usize = 256;
/// Messages of a topic that one step of compaction looks at.
const COMPACT_MESSAGES: usize = 200;

/// A store that lives as long as its process.
pub struct MemoryStore {
    found: Opening,
    /// Locked before `state`, where both are.
    writer: Mutex<MemoryWriter>,
    state: RwLock<MemoryState>,
}

struct MemoryWriter {
    retention: Retention,
    forgetting: Forgetting,
    closed: bool,
    followers: Vec<Arc<dyn Feed>>,
}

/// The applied state.
#[derive(Clone)]
struct MemoryState {
    head: LogHead,
    messages: BTreeMap<Position, Message>,
    /// Of all that there ever were.
    times: Vec<(Position, Timestamp)>,
    keys: HashMap<String, KeyRecord>,
    latest: HashMap<CompactionKey, Latest>,
    index: Index,
}

impl Default for MemoryStore {
    fn default() -> Self {
        let head = LogHead {
            newest: Position::ZERO,
            steady: Timestamp::default(),
            ages: Ages::default(),
            token: Token::default(),
            rules: Arc::default(),
            epochs: no_epochs(),
        };
        let state = MemoryState {
            head,
            messages: BTreeMap::new(),
            times: Vec::new(),
            keys: HashMap::new(),
            latest: HashMap::new(),
            index: Index::default(),
        };
        Self::with(Opening::Created, state, None)
    }
}

impl MemoryStore {
    /// One that forgets topics which have held nothing for so long.
    #[must_use]
    pub fn forgetting_after(ms: u64) -> Self {
        let store = Self::default();
        store.writer.lock().forgetting = Forgetting::new(Some(ms));
        store
    }

    /// The store as its next opening finds it: with all that was applied.
    #[must_use]
    pub fn reopen(&self) -> Self {
        let mut state = self.state.read().clone();
        // Clocks of a process don't outlive it.
        state.head.steady = state.index.newest_time();
        state.head.ages = Ages::default();
        state.index.set_ages(Ages::default());
        let writer = self.writer.lock();
        let found = match (state.head.epochs.current().first, writer.closed) {
            (Position::MAX, _) => Opening::Created,
            (_, true) => Opening::Clean,
            (_, false) => Opening::Unclean,
        };
        Self::with(found, state, writer.forgetting.after_ms())
    }

    fn with(found: Opening, state: MemoryState, forget_after_ms: Option<u64>) -> Self {
        let retention = Retention::new(&state.head.rules, None);
        let forgetting = Forgetting::new(forget_after_ms);
        let writer = MemoryWriter { retention, forgetting, closed: false, followers: Vec::new() };
        Self { found, writer: Mutex::new(writer), state: RwLock::new(state) }
    }

    fn commit(&self, writer: &mut MemoryWriter, head: LogHead, mut changes: Changes) {
        // All of it is in memory, and stays.
        changes.volatile.clear();
        changes.removed.values_mut().for_each(|own| own.message.is_stored = true);
        writer.retention.committed(&changes, &head.rules);
        if changes.is_empty() {
            return;
        }
        let watermark = head.newest;
        let mut state = self.state.write();
        state.head = head;
        let messages = changes.messages.iter().map(|message| (message.position(), message.clone()));
        state.messages.extend(messages);
        state.times.extend(changes.messages.iter().map(|message| (message.position(), message.time)));
        // Nothing is ever sealed here, so no trim splits it.
        let ages = state.head.ages.clone();
        changes.apply(&mut state.index, &ages, vec![None; changes.trims.len()]);
        state.latest.extend(changes.latest.drain().map(|(key, (latest, _))| (key, latest)));
        state.keys.extend(changes.keys.drain());
        if !changes.forgotten.is_empty() {
            let is_there = |topic: &Topic| !changes.forgotten.contains_key(topic);
            state.messages.retain(|_, message| is_there(message.topic()));
            state.latest.retain(|key, _| is_there(&key.topic));
        }
        drop(state);
        let commit = changes.into_commit(watermark);
        writer.followers.iter().for_each(|feed| feed.committed(commit.clone()));
    }

    fn writer(&self) -> Result<parking_lot::MutexGuard<'_, MemoryWriter>, StoreError> {
        let writer = self.writer.lock();
        if writer.closed { Err(StoreError::Closed) } else { Ok(writer) }
    }
}

impl MemoryState {
    fn is_alive(&self, message: &Message) -> bool {
        !self.index.is_dead(message.topic().as_str(), message.position())
    }

    fn alive(&self, topic: &Topic, after: Position) -> impl Iterator<Item = &Message> {
        let beyond = self.messages.range((Excluded(after), Unbounded)).map(|(_, message)| message);
        beyond.filter(move |message| message.topic() == topic && self.is_alive(message))
    }

    /// The messages whose own lifetime is over at a time, and in how long the next one's is.
    fn expired(&self, now: Timestamp) -> (Vec<Expired>, Option<u64>) {
        let (mut expired, mut next) = (Vec::new(), None::<u64>);
        for message in self.messages.values().filter(|message| self.is_alive(message)) {
            let Some(max_age_ms) = message.draft.max_age_ms() else { continue };
            let came = self.head.ages.at(message.position(), message.time);
            match max_age_ms.checked_sub(now.since(came)).filter(|left| *left > 0) {
                Some(left) => next = Some(next.map_or(left, |next| next.min(left))),
                None => expired.push(Expired {
                    topic: message.topic().clone(),
                    position: message.position(),
                    is_stored: true,
                }),
            }
        }
        (expired, next)
    }
}

impl Memory for MemoryState {
    fn key(&self, scoped: &str, _: Timestamp) -> Result<Option<KeyRecord>, StoreError> {
        Ok(self.keys.get(scoped).copied())
    }

    fn latest(&self, key: &CompactionKey) -> Result<Option<Latest>, StoreError> {
        let latest = self.latest.get(key).copied();
        Ok(latest.filter(|latest| !self.index.is_forgotten(key.topic.as_str(), latest.position)))
    }

    fn retained(&self, position: Position) -> Result<Option<Retained>, StoreError> {
        let message = self.messages.get(&position).filter(|message| self.is_alive(message));
        Ok(message.map(|message| Retained::of(message, true)))
    }

    fn was_removed(&self, topic: &Topic, position: Position) -> Result<bool, StoreError> {
        Ok(self.index.may_have_removed(topic.as_str(), position) && self.retained(position)?.is_none())
    }

    fn span(&self, topic: &Topic, after: Position, upto: Position) -> Result<Vec<Message>, StoreError> {
        let inside = self.alive(topic, after).take_while(|message| message.position() <= upto);
        Ok(inside.cloned().collect())
    }
}

impl RetentionView for MemoryState {
    fn is_exact(&self) -> bool {
        true
    }

    fn next_of(&self, topic: &Topic, after: Position) -> Result<(Vec<Message>, Position), StoreError> {
        let messages: Vec<Message> = self.alive(topic, after).take(COMPACT_MESSAGES).cloned().collect();
        let last = messages.get(COMPACT_MESSAGES - 1).map(Message::position);
        Ok((messages, last.unwrap_or(self.head.newest)))
    }

    fn has_volatile(&self, _: &Topic) -> bool {
        false
    }

    fn size(&self, topic: &Topic) -> (u64, u64) {
        self.index.size(topic.as_str())
    }

    fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    fn idle(&self, from: u32, now: Timestamp, after_ms: u64) -> (Vec<IdleTopic>, Option<u32>) {
        self.index.idle(from, now, after_ms)
    }

    fn topics(&self, after: &str, limit: usize) -> Vec<TopicInfo> {
        self.index.list("", Some(after), limit)
    }

    fn walk(
        &self,
        after: Position,
        visit: &mut dyn FnMut(&SeenMessage<'_>) -> bool,
    ) -> Result<(), StoreError> {
        for (&position, message) in self.messages.range((Excluded(after), Unbounded)) {
            let cost = message.draft.cost() as u64;
            let came = self.head.ages.at(position, message.time);
            let seen = SeenMessage { position, came, topic: message.topic(), cost };
            if self.is_alive(message) && !visit(&seen) {
                break;
            }
        }
        Ok(())
    }

    fn oldest(&self, topic: &Topic, count: usize) -> Result<Vec<(Position, u64)>, StoreError> {
        let alive = self.alive(topic, Position::ZERO);
        Ok(alive.take(count).map(|message| (message.position(), message.draft.cost() as u64)).collect())
    }
}

impl Store for MemoryStore {
    fn found(&self) -> Opening {
        self.found
    }

    fn token(&self) -> Token {
        self.state.read().head.token.clone()
    }

    fn newest(&self) -> Position {
        self.state.read().head.newest
    }

    fn epochs(&self) -> Arc<Epochs> {
        self.state.read().head.epochs.clone()
    }

    fn rules(&self) -> Arc<Rules> {
        self.state.read().head.rules.clone()
    }

    fn apply(&self, entries: Vec<Entry>, _: bool) -> Result<Vec<Outcome>, StoreError> {
        let mut writer = self.writer()?;
        let mut outcomes = Vec::new();
        for entries in batches(entries) {
            let (head, changes) = {
                let state = self.state.read();
                let mut batch = Batch::new(state.head.clone());
                for entry in entries {
                    batch.apply(entry, &state.index, &*state, &mut outcomes)?;
                }
                batch.into_parts()
            };
            self.commit(&mut writer, head, changes);
        }
        Ok(outcomes)
    }

    fn due(&self, now: Timestamp) -> Result<(Vec<Write>, Option<u64>), StoreError> {
        let mut writer = self.writer.lock();
        if writer.closed {
            return Ok((Vec::new(), None));
        }
        let state = self.state.read();
        let LogHead { rules, steady, newest, .. } = &state.head;
        let mut trims = Trims::default();
        let again = writer.retention.step(now.max(*steady), rules, &*state, &mut trims, 0)?;
        let compact = writer.retention.compact(rules, *newest, &*state)?;
        let (expired, ends) = state.expired(now.max(*steady));
        let mut writes: Vec<Write> =
            trims.into_iter().map(|(topic, upto)| Write::Retain(topic, upto)).chain(compact).collect();
        writes.extend(lifetimes::writes(&*state, &state.head.epochs, expired)?);
        let forgets = writer.forgetting.step(now.max(*steady), rules, &*state, &mut writes);
        let is_behind = !writes.is_empty() || writer.retention.is_compacting();
        Ok((writes, if is_behind { Some(0) } else { again.into_iter().chain(ends).chain(forgets).min() }))
    }

    fn tidy(&self) -> Result<Option<u64>, StoreError> {
        if self.writer.lock().closed {
            return Ok(None);
        }
        let mut state = self.state.write();
        if let Some(next_purge) = state.index.next_purge(TIDY_MESSAGES) {
            for position in &next_purge.recent {
                state.messages.remove(position);
            }
            let upto = next_purge.recent.last().copied().unwrap_or(next_purge.upto);
            state.index.purged(next_purge.topic, upto);
        }
        for (position, topic) in state.index.obsolete(Position::ZERO, TIDY_MESSAGES) {
            state.messages.remove(&position);
            state.index.unposted(topic, position);
        }
        let MemoryState { keys, head, .. } = &mut *state;
        keys.retain(|_, record| head.keeps(record, head.steady));
        Ok((state.index.has_purgeable() || state.index.obsolete_count() > 0).then_some(0))
    }

    fn follow(&self, feed: Arc<dyn Feed>) -> Position {
        let mut writer = self.writer.lock();
        writer.followers.push(feed);
        self.newest()
    }

    fn read(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<StorePage, StoreError> {
        let state = self.state.read();
        let upto = upto.min(state.head.newest).max(after);
        let trimmed = state.index.trimmed_after(filter, after);
        let mut page = StorePage { messages: Vec::new(), scanned: upto, trimmed };
        let (mut bytes, mut looked) = (0, 0);
        for (&position, message) in state.messages.range((Excluded(after), Included(upto))) {
            let cost = message.draft.cost();
            if looked > 0 && looked >= budget.scan_bytes {
                page.scanned = position.previous();
                break;
            }
            looked += cost;
            if !filter.matches(message.topic()) || !state.is_alive(message) {
                continue;
            }
            let full = page.messages.len() >= budget.messages || bytes + cost > budget.bytes;
            if full && !page.messages.is_empty() {
                page.scanned = position.previous();
                break;
            }
            bytes += cost;
            page.messages.push(message.clone());
        }
        Ok(page)
    }

    fn before_last(&self, filter: &Filter, upto: Position, budget: Budget) -> Result<Window, StoreError> {
        let state = self.state.read();
        let upto = upto.min(state.head.newest);
        let matching = |message: &&Message| filter.matches(message.topic()) && state.is_alive(message);
        let newest = state.messages.range(..=upto).rev().map(|(_, message)| message).filter(matching);
        let posting =
            |message: &Message| Posting { position: message.position(), cost: message.draft.cost() as u64 };
        // One more tells whether there are older ones.
        let postings = newest.take(budget.messages.saturating_add(1)).map(posting).collect();
        Ok(Newest { postings, ..Newest::default() }.window(upto, budget))
    }

    fn before_time(&self, time: Timestamp) -> Result<Position, StoreError> {
        let state = self.state.read();
        let first = state.times.iter().find(|(_, own)| *own >= time);
        Ok(first.map_or(state.head.newest, |(position, _)| position.previous()))
    }

    fn get(&self, position: Position) -> Result<Option<Message>, StoreError> {
        let state = self.state.read();
        Ok(state.messages.get(&position).filter(|message| state.is_alive(message)).cloned())
    }

    fn bounds(&self, filter: &Filter) -> Bounds {
        self.state.read().index.bounds(filter)
    }

    fn trimmed(&self, filter: &Filter, after: Position) -> Option<Trim> {
        self.state.read().index.trimmed_after(filter, after)
    }

    fn topics(&self, prefix: &str, from: Option<&str>, limit: usize) -> Vec<TopicInfo> {
        self.state.read().index.list(prefix, from, limit)
    }

    fn sum_by(&self, patterns: &[Pattern]) {
        self.state.write().index.set_patterns(patterns);
    }

    fn sum(&self, number: usize) -> Usage {
        self.state.read().index.sum(number)
    }

    fn stats(&self) -> LogStats {
        let state = self.state.read();
        let (topics, messages) = state.index.totals();
        LogStats {
            topics,
            messages,
            bytes: state.index.bytes(),
            head: state.messages.keys().next().copied(),
            trims: state.index.trim_count() as u64,
            keys: state.keys.len() as u64,
            options: state.head.rules.set_count() as u64,
            ..LogStats::default()
        }
    }

    fn keys(&self, visit: &mut dyn FnMut(&str, &KeyRecord)) -> Result<(), StoreError> {
        let state = self.state.read();
        let time = state.index.newest_time();
        let keys = state.keys.iter().filter(|(_, record)| state.head.keeps(record, time));
        keys.for_each(|(name, record)| visit(name, record));
        Ok(())
    }

    fn has_key(&self, scoped: &str) -> Result<bool, StoreError> {
        let state = self.state.read();
        let time = state.index.newest_time();
        Ok(state.keys.get(scoped).is_some_and(|record| state.head.keeps(record, time)))
    }

    fn close(&self) -> Result<(), StoreError> {
        self.writer.lock().closed = true;
        Ok(())
    }
}
