//! A log in memory: the reference that other logs are compared with, and the log of tests. It reads by looking at
//! every message, on purpose: nothing clever, so little to be wrong. It is as durable as a disk: what is appended
//! is gone after [`MemoryLog::reopen`] unless it was committed.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Bound::{Excluded, Included, Unbounded},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};
use tailwire_core::log::{Appended, Bounds, Budget, Feed, Group, Log, LogError, LogStats, Page, TopicInfo};
use tailwire_model::{
    Epoch, EpochStart, Epochs, Filter, Message, Opening, Options, Position, Rules, Term, Timestamp, Topic,
    Trim, TrimReason,
    admission::{self, KeyRecord},
    limits::IDEMPOTENCY_WINDOW_MS,
};

use crate::{
    ages::{Ages, Steady},
    batch::{Batch, Holder, Memory, Place},
    index::Index,
    retention::{Retention, Seen, Stock, Trims},
};

/// Dead messages that one call of `tidy` removes.
const TIDY_MESSAGES: usize = 256;

/// A log that lives as long as its process.
pub struct MemoryLog {
    epochs: Arc<Epochs>,
    writer: Mutex<Writer>,
    store: RwLock<Store>,
    followers: Mutex<Vec<Arc<dyn Feed>>>,
}

struct Writer {
    batch: Batch,
    retention: Retention,
    closed: bool,
}

/// What is committed.
#[derive(Default, Clone)]
struct Store {
    committed: Position,
    messages: BTreeMap<Position, Message>,
    keys: HashMap<String, KeyRecord>,
    places: HashMap<Place, Holder>,
    index: Index,
    rules: Arc<Rules>,
}

impl MemoryLog {
    /// A new, empty log.
    pub fn new(now: Timestamp) -> Self {
        let epoch = epoch_at(now, None);
        let first = EpochStart { epoch, first: Position::ZERO.next(), opening: Opening::Created };
        Self::with(vec![first], Store::default(), now)
    }

    /// The log as its next opening finds it: with all that is committed, and nothing else.
    #[must_use]
    pub fn reopen(&self, now: Timestamp) -> Self {
        let opening = if self.writer.lock().closed { Opening::Clean } else { Opening::Unclean };
        let store = self.store.read().clone();
        let epoch = epoch_at(now, Some(self.epochs.current().epoch));
        let mut starts = self.epochs.starts().to_vec();
        starts.push(EpochStart { epoch, first: store.committed.next(), opening });
        Self::with(starts, store, now)
    }

    fn with(starts: Vec<EpochStart>, mut store: Store, now: Timestamp) -> Self {
        let epochs = Epochs::new(starts).unwrap_or_else(|| unreachable!("epochs increase"));
        let epochs = Arc::new(epochs);
        let ages = Ages::new(now, store.committed.next());
        store.index.set_ages(ages.clone());
        let batch = Batch::new(store.committed, ages, Steady::new(now, None), store.rules.clone());
        let retention = Retention::new(&store.rules, None, true);
        let writer = Mutex::new(Writer { batch, retention, closed: false });
        Self { epochs, writer, store: RwLock::new(store), followers: Mutex::default() }
    }

    fn commit_batch(&self, writer: &mut Writer) -> Position {
        let mut changes = writer.batch.take();
        // All of it is in memory, and stays.
        changes.volatile.clear();
        let mut store = self.store.write();
        if changes.is_empty() {
            return store.committed;
        }
        for message in &changes.messages {
            store.messages.insert(message.position(), message.clone());
        }
        // Nothing is ever sealed here, so no trim parts it.
        changes.apply(&mut store.index, vec![None; changes.trims.len()]);
        writer.retention.committed(&changes, changes.rules.as_ref().unwrap_or(&store.rules));
        store.places.extend(changes.places.drain().map(|(place, (holder, _))| (place, holder)));
        store.keys.extend(changes.keys.drain());
        if let Some(rules) = changes.rules.take() {
            store.rules = rules;
        }
        store.committed = writer.batch.newest();
        let watermark = store.committed;
        drop(store);
        let commit = changes.into_commit(watermark);
        for feed in self.followers.lock().iter() {
            feed.committed(commit.clone());
        }
        watermark
    }

    fn retain(&self, writer: &mut Writer, time: Timestamp) -> Result<Option<u64>, LogError> {
        let mut trims = Trims::default();
        let store = self.store.read();
        let again = writer.retention.step(time, &store.rules, &*store, &mut trims, 0)?;
        writer.batch.retain(&trims, &store.index);
        drop(store);
        self.commit_batch(writer);
        Ok(again)
    }

    fn compact(&self, writer: &mut Writer) -> Result<Option<u64>, LogError> {
        let Some((topic, _)) = writer.retention.uncompacted() else { return Ok(None) };
        let store = self.store.read();
        let messages =
            store.messages.values().filter(|message| *message.topic() == topic && store.is_alive(message));
        for message in messages {
            writer.batch.compact(message, &*store)?;
        }
        drop(store);
        self.commit_batch(writer);
        writer.retention.compacted(&topic);
        Ok(Some(0))
    }
}

fn epoch_at(now: Timestamp, last: Option<Epoch>) -> Epoch {
    Epoch::opening(now.0, last, 0).unwrap_or_else(|| unreachable!("a clock uses up no epochs"))
}

impl Store {
    fn is_alive(&self, message: &Message) -> bool {
        !self.index.is_dead(message.topic().as_str(), message.position())
    }
}

impl Memory for Store {
    fn key(&self, scoped: &str, _: Timestamp) -> Result<Option<KeyRecord>, LogError> {
        Ok(self.keys.get(scoped).copied())
    }

    fn holder(&self, place: &Place) -> Result<Option<Holder>, LogError> {
        Ok(self.places.get(place).copied())
    }
}

impl Stock for Store {
    fn size(&self, topic: &Topic) -> (u64, u64) {
        self.index.size(topic.as_str())
    }

    fn bytes(&self) -> u64 {
        self.index.bytes()
    }

    fn topics(&self, after: &str, limit: usize) -> Vec<TopicInfo> {
        self.index.list("", Some(after), limit)
    }

    fn walk(&self, after: Position, visit: &mut dyn FnMut(&Seen<'_>) -> bool) -> Result<(), LogError> {
        for (&position, message) in self.messages.range((Excluded(after), Unbounded)) {
            let cost = message.draft.cost() as u64;
            let came = self.index.ages().at(position, message.time);
            let seen = Seen { position, came, topic: message.topic(), cost };
            if self.is_alive(message) && !visit(&seen) {
                break;
            }
        }
        Ok(())
    }

    fn oldest(&self, topic: &Topic, count: usize) -> Result<Vec<(Position, u64)>, LogError> {
        let alive =
            self.messages.values().filter(|message| message.topic() == topic && self.is_alive(message));
        Ok(alive.take(count).map(|message| (message.position(), message.draft.cost() as u64)).collect())
    }
}

impl Log for MemoryLog {
    fn epochs(&self) -> Arc<Epochs> {
        self.epochs.clone()
    }

    fn committed(&self) -> Position {
        self.store.read().committed
    }

    fn append(&self, groups: Vec<Group>, now: Timestamp) -> Result<Vec<Appended>, LogError> {
        let mut writer = self.writer.lock();
        if writer.closed {
            return Err(LogError::Closed);
        }
        let store = self.store.read();
        writer.batch.append(groups, now, &self.epochs, &store.index, &*store)
    }

    fn trim(&self, topic: &Topic, reason: TrimReason) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        if writer.closed {
            return Err(LogError::Closed);
        }
        writer.batch.trim(topic, reason, &self.store.read().index);
        Ok(())
    }

    fn rules(&self) -> Arc<Rules> {
        self.store.read().rules.clone()
    }

    fn set_options(&self, term: &Term, options: Options) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        if writer.closed {
            return Err(LogError::Closed);
        }
        writer.batch.set_options(term, options)
    }

    fn commit(&self) -> Result<Position, LogError> {
        Ok(self.commit_batch(&mut self.writer.lock()))
    }

    fn follow(&self, feed: Arc<dyn Feed>) {
        self.followers.lock().push(feed);
    }

    fn read(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<Page, LogError> {
        let store = self.store.read();
        let upto = upto.min(store.committed).max(after);
        let trimmed = store.index.trimmed_after(filter, after);
        let mut page = Page { messages: Vec::new(), scanned: upto, trimmed };
        let (mut bytes, mut looked) = (0, 0);
        for (&position, message) in store.messages.range((Excluded(after), Included(upto))) {
            let cost = message.draft.cost();
            if looked > 0 && looked >= budget.scan_bytes {
                page.scanned = position.previous();
                break;
            }
            looked += cost;
            if !filter.matches(message.topic()) || !store.is_alive(message) {
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

    fn before_last(&self, filter: &Filter, count: usize) -> Result<Position, LogError> {
        let store = self.store.read();
        let matching = |message: &&Message| filter.matches(message.topic()) && store.is_alive(message);
        let newest = store.messages.values().rev().filter(matching).take(count);
        Ok(newest.last().map_or(store.committed, |message| message.position().previous()))
    }

    fn get(&self, position: Position) -> Result<Option<Message>, LogError> {
        let store = self.store.read();
        Ok(store.messages.get(&position).filter(|message| store.is_alive(message)).cloned())
    }

    fn bounds(&self, filter: &Filter) -> Bounds {
        self.store.read().index.bounds(filter)
    }

    fn trimmed(&self, filter: &Filter, after: Position) -> Option<Trim> {
        self.store.read().index.trimmed_after(filter, after)
    }

    fn topics(&self, prefix: &str, from: Option<&str>, limit: usize) -> Vec<TopicInfo> {
        self.store.read().index.list(prefix, from, limit)
    }

    fn stats(&self) -> LogStats {
        let store = self.store.read();
        let (topics, messages) = store.index.totals();
        LogStats {
            topics,
            messages,
            bytes: store.index.bytes(),
            head: store.messages.keys().next().copied(),
            trims: store.index.trim_count() as u64,
            keys: store.keys.len() as u64,
            options: store.rules.set_count() as u64,
            ..LogStats::default()
        }
    }

    fn tidy(&self, now: Timestamp) -> Result<Option<u64>, LogError> {
        let mut writer = self.writer.lock();
        if writer.closed {
            return Ok(None);
        }
        let time = writer.batch.time(now);
        let again = self.retain(&mut writer, time)?;
        let compacted = self.compact(&mut writer)?;
        let mut store = self.store.write();
        if let Some(grave) = store.index.grave(TIDY_MESSAGES) {
            for position in &grave.recent {
                store.messages.remove(position);
            }
            let upto = grave.recent.last().copied().unwrap_or(grave.upto);
            store.index.buried(grave.topic, upto);
        }
        for (position, topic) in store.index.superseded(Position::ZERO, TIDY_MESSAGES) {
            store.messages.remove(&position);
            store.index.unposted(topic, position);
        }
        let Store { keys, index, .. } = &mut *store;
        keys.retain(|_, record| {
            let came = index.ages().at(record.first.position, record.time);
            admission::is_kept(came, time, IDEMPOTENCY_WINDOW_MS)
        });
        let dead = (store.index.has_graves() || store.index.superseded_count() > 0).then_some(0);
        Ok([again, compacted, dead].into_iter().flatten().min())
    }

    fn close(&self) -> Result<(), LogError> {
        let mut writer = self.writer.lock();
        self.commit_batch(&mut writer);
        writer.closed = true;
        Ok(())
    }
}
