//! The reference of a log: all messages that were ever appended, in a `Vec`, and the rules of `docs/PROTOCOL.md` carried
//! out by looking at every one. It shares no code with the storage and nothing with the rules of the model crate:
//! patterns, options, keys, conditions and retention are written here once more, in the plainest way there is.

mod opening;
mod tidying;

use std::collections::BTreeMap;

use tailwire_model::{Cursor, Durability, Epoch, Keep, Options, Position, Trim, TrimReason};

/// The terms that options are set for, the most special one first (docs/PROTOCOL.md, "Options").
pub(crate) const TERMS: [&str; 6] = ["a/x", "m/x", "a/*", "m/*", "*/x", "**"];
/// A receipt is replayed for ten minutes.
pub(crate) const KEY_MS: u64 = 600_000;

/// A message, dead or alive.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) position: u64,
    pub(crate) epoch: Epoch,
    pub(crate) time: u64,
    pub(crate) draft: Draft,
    /// It is in memory alone.
    pub(crate) volatile: bool,
    /// How its topic was kept when it came.
    keep: Keep,
    /// The first position of its group.
    group: u64,
    /// A newer one has taken its place.
    obsolete: bool,
    /// It was removed by itself.
    removed: bool,
}

/// A message to append.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) topic: String,
    pub(crate) key: Option<String>,
    pub(crate) body: String,
}

impl Draft {
    pub(crate) fn cost(&self) -> u64 {
        (64 + self.topic.len() + self.key.as_ref().map_or(0, String::len) + self.body.len()) as u64
    }
}

/// The condition of a group.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Given {
    Nothing,
    NeverWritten,
    /// The first draft's topic has nothing after this.
    NothingAfter(u64),
}

/// The expected outcome of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Stored { first: Cursor, count: usize, time: u64 },
    Replayed { first: Cursor, count: usize, time: u64 },
    KeyReused,
    ConditionFailed(u64),
}

/// The use of an idempotency key.
#[derive(Debug, Clone, Copy)]
struct Record {
    request: u8,
    first: Cursor,
    count: usize,
    time: u64,
}

/// A topic apart from its messages.
#[derive(Debug, Clone, Default)]
pub(crate) struct Name {
    /// The newest message ever, and its time.
    pub(crate) tail: u64,
    pub(crate) time: u64,
    /// How far it was trimmed; and each place up to which it was, since what is certainly on the disk.
    trimmed: Option<Trim>,
    history: Vec<Option<Trim>>,
    /// The farthest message that was removed by itself.
    removed: Option<Trim>,
    /// It had messages that were in memory alone, and lost them up to here.
    in_memory: bool,
    lost: u64,
    /// How far forgotten topics had come when it began.
    floor: u64,
}

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Reference {
    pub(crate) entries: Vec<Entry>,
    pub(crate) names: BTreeMap<String, Name>,
    pub(crate) committed: u64,
    pub(crate) epoch: Epoch,
    /// The bound of the whole log.
    pub(crate) max_bytes: Option<u64>,
    pub(crate) newest: u64,
    /// How far forgotten topics had come.
    floor: u64,
    options: BTreeMap<&'static str, Options>,
    keys: BTreeMap<String, Record>,
    /// DELETEs and options that wait for the commit, and whether anything does that has to be on the disk.
    deletes: Vec<(String, u64)>,
    pending_options: BTreeMap<&'static str, Options>,
    acknowledged: bool,
    /// Stored messages up to here are on the disk.
    safe: u64,
    /// How a log that is the same but for its commit begins again.
    before: Option<Box<Self>>,
}

impl Reference {
    pub(crate) fn new(epoch: Epoch, max_bytes: Option<u64>) -> Self {
        Self {
            entries: Vec::new(),
            names: BTreeMap::new(),
            committed: 0,
            epoch,
            max_bytes,
            newest: 0,
            floor: 0,
            options: BTreeMap::new(),
            keys: BTreeMap::new(),
            deletes: Vec::new(),
            pending_options: BTreeMap::new(),
            acknowledged: false,
            safe: 0,
            before: None,
        }
    }

    /// Remembers what there was before the first thing that waits for a commit.
    fn touch(&mut self) {
        if self.before.is_none() {
            self.before = Some(Box::new(self.clone()));
        }
    }

    /// The rule of a topic, of the options that were set: member by member what the most special term says.
    pub(crate) fn rule(&self, topic: &str) -> Options {
        let mut rule = Options::default();
        for term in TERMS.iter().filter(|term| matches(term, topic)) {
            let set = self.pending_options.get(term).or_else(|| self.options.get(term));
            let Some(set) = set else { continue };
            rule.durability = rule.durability.or(set.durability);
            rule.max_age_ms = rule.max_age_ms.or(set.max_age_ms);
            rule.max_messages = rule.max_messages.or(set.max_messages);
            rule.max_bytes = rule.max_bytes.or(set.max_bytes);
            rule.keep = rule.keep.or(set.keep);
        }
        rule
    }

    fn keep(&self, topic: &str) -> Keep {
        let rule = self.rule(topic);
        match rule.durability {
            Some(Durability::Memory) => Keep::All,
            _ => rule.keep.unwrap_or_default(),
        }
    }

    /// A topic's newest position ever, also of what waits for a commit.
    pub(crate) fn tail(&self, topic: &str) -> u64 {
        self.names.get(topic).map_or(0, |name| name.tail)
    }

    pub(crate) fn append(
        &mut self,
        drafts: &[Draft],
        key: Option<(&str, u8)>,
        given: Given,
        now: u64,
    ) -> Fate {
        if let Some((name, request)) = key
            && let Some(record) = self.keys.get(name)
            && now - record.time < KEY_MS
        {
            let Record { first, count, time, .. } = *record;
            return if record.request == request {
                Fate::Replayed { first, count, time }
            } else {
                Fate::KeyReused
            };
        }
        let tail = self.tail(&drafts[0].topic);
        let holds = match given {
            Given::Nothing => true,
            Given::NeverWritten => tail == 0,
            Given::NothingAfter(upto) => tail <= upto,
        };
        if !holds {
            return Fate::ConditionFailed(tail);
        }
        self.touch();
        let first = Cursor { epoch: self.epoch, position: Position(self.newest + 1) };
        for draft in drafts {
            self.push(draft, first.position.0, now);
        }
        if let Some((name, request)) = key {
            self.keys.insert(name.to_owned(), Record { request, first, count: drafts.len(), time: now });
        }
        Fate::Stored { first, count: drafts.len(), time: now }
    }

    fn push(&mut self, draft: &Draft, group: u64, now: u64) {
        self.newest += 1;
        let durability = self.rule(&draft.topic).durability.unwrap_or_default();
        self.acknowledged |= durability == Durability::Sync;
        self.entries.push(Entry {
            position: self.newest,
            epoch: self.epoch,
            time: now,
            draft: draft.clone(),
            volatile: durability == Durability::Memory,
            keep: self.keep(&draft.topic),
            group,
            obsolete: false,
            removed: false,
        });
        let begins = Name { floor: self.floor, ..Name::default() };
        let name = self.names.entry(draft.topic.clone()).or_insert(begins);
        (name.tail, name.time) = (self.newest, now);
        name.in_memory |= durability == Durability::Memory;
    }

    pub(crate) fn delete(&mut self, topic: &str) {
        self.touch();
        let upto = self.tail(topic);
        let waiting = self.deletes.iter().filter(|(name, _)| name == topic).map(|(_, upto)| *upto).max();
        let before = self.names.get(topic).and_then(|name| name.trimmed).map_or(0, |trim| trim.upto.0);
        if upto > before.max(waiting.unwrap_or(0)) {
            self.acknowledged = true;
            self.deletes.push((topic.to_owned(), upto));
        }
    }

    /// Forgets a topic, where nothing waits for a commit: if it is trimmed up to its newest, and has no options of its own.
    pub(crate) fn forget(&mut self, topic: &str) {
        self.flushed();
        let Some(name) = self.names.get(topic) else { return };
        let upto = name.trimmed.map_or(0, |trim| trim.upto.0);
        let is_set = self.options.get(topic).is_some_and(|options| *options != Options::default());
        if name.tail > 0 && upto >= name.tail && !is_set {
            self.floor = self.floor.max(upto);
            self.names.remove(topic);
            self.entries.retain(|entry| entry.draft.topic != topic);
        }
    }

    /// What a reader is told of forgotten topics, if it asks for any that is not known.
    pub(crate) fn floor_of(&self, terms: &[&str]) -> Option<Trim> {
        let is_unknown = terms.iter().any(|term| term.contains('*') || !self.names.contains_key(*term));
        floor_trim(self.floor).filter(|_| is_unknown)
    }

    /// A message was removed by itself, or so it is said: it has to have been there.
    pub(crate) fn remove(&mut self, position: u64, is_done: bool) {
        let at = self.entries.iter().position(|entry| entry.position == position);
        let entry = at.map(|at| &self.entries[at]);
        let is_there = entry.is_some_and(|entry| self.is_alive(entry) || self.may_be_back(entry));
        assert!(!is_done || is_there, "{position} was removed, and was not there");
        let must = at.is_some_and(|at| self.is_alive(&self.entries[at]) && !self.has_successor(at));
        assert!(is_done || !must, "{position} is there, and was not removed");
        if let Some(at) = at.filter(|_| is_done) {
            self.entries[at].removed = true;
            let trim = Some(Trim { upto: Position(position), reason: TrimReason::Deleted });
            let name = self.names.get_mut(&self.entries[at].draft.topic).expect("it has a message");
            name.removed = Trim::farther(name.removed, trim);
            self.flushed();
        }
    }

    /// Whether any message was removed by itself.
    pub(crate) fn has_removed(&self) -> bool {
        self.names.values().any(|name| name.removed.is_some())
    }

    pub(crate) fn set_options(&mut self, term: &'static str, options: Options) {
        self.touch();
        self.acknowledged = true;
        self.pending_options.insert(term, options);
    }

    pub(crate) fn commit(&mut self) {
        self.before = None;
        for (topic, upto) in std::mem::take(&mut self.deletes) {
            self.trim(&topic, upto, TrimReason::Deleted);
        }
        self.options.append(&mut self.pending_options);
        self.committed = self.newest;
        if std::mem::take(&mut self.acknowledged) {
            self.flushed();
        }
    }

    /// All that is committed and stored is on the disk.
    pub(crate) fn flushed(&mut self) {
        self.safe = self.committed;
        for name in self.names.values_mut() {
            name.history = vec![name.trimmed];
        }
    }

    fn trim(&mut self, topic: &str, upto: u64, reason: TrimReason) {
        let name = self.names.entry(topic.to_owned()).or_default();
        if upto > name.trimmed.map_or(0, |trim| trim.upto.0) {
            name.trimmed = Some(Trim { upto: Position(upto), reason });
            name.history.push(name.trimmed);
        }
    }

    pub(crate) fn is_alive(&self, entry: &Entry) -> bool {
        let name = &self.names[&entry.draft.topic];
        let is_lost = entry.volatile && entry.position <= name.lost;
        let is_trimmed = name.trimmed.is_some_and(|trim| entry.position <= trim.upto.0);
        entry.position <= self.committed && !entry.obsolete && !entry.removed && !is_lost && !is_trimmed
    }

    /// The messages that are retained of topics, oldest first.
    pub(crate) fn alive(&self, wanted: impl Fn(&str) -> bool) -> Vec<&Entry> {
        let matching = self.entries.iter().filter(|entry| wanted(&entry.draft.topic));
        matching.filter(|entry| self.is_alive(entry)).collect()
    }

    /// How far a topic was trimmed, as a reader is told.
    pub(crate) fn trimmed(&self, topic: &str) -> Option<Trim> {
        let name = self.names.get(topic)?;
        let lost = Trim { upto: Position(name.lost), reason: TrimReason::Retention };
        let lost = Some(lost).filter(|lost| lost.upto > Position::ZERO);
        let trims = floor_trim(name.floor).into_iter().chain(name.removed).chain(lost).chain(name.trimmed);
        trims.max_by_key(|trim| trim.upto)
    }

    /// Whether a message was obsolete, and nothing else has taken it: an opening may bring it back until the log has
    /// tidied.
    pub(crate) fn may_be_back(&self, entry: &Entry) -> bool {
        let alone = Entry { obsolete: false, ..entry.clone() };
        entry.obsolete && self.is_alive(&alone)
    }

    /// Takes over which messages the log let go early: those that a newer one has taken the place of, it may at any time
    /// before it is told to tidy; and which of them an opening brought back. Anything else it must not.
    pub(crate) fn observe(&mut self, has: impl Fn(u64) -> bool, tidied: bool) {
        for at in 0..self.entries.len() {
            let entry = &self.entries[at];
            let (before, now) = (self.is_alive(entry), has(entry.position));
            let may_go = before && self.has_successor(at);
            let may_be_back = !tidied && self.may_be_back(entry);
            assert!(
                now == before || may_go || may_be_back,
                "whether the message {} is there",
                entry.position
            );
            if now != before {
                self.entries[at].obsolete = before;
            }
        }
    }

    /// Whether a newer message, published while its topic was kept so, or since it is, takes the place of this one.
    fn has_successor(&self, at: usize) -> bool {
        let entry = &self.entries[at];
        let newer = self.entries[at + 1..].iter().filter(|newer| newer.draft.topic == entry.draft.topic);
        let mut committed = newer.filter(|newer| newer.position <= self.committed && !newer.volatile);
        let current = self.keep(&entry.draft.topic);
        let takes = |keep, newer: &Entry| takes_place(keep, &newer.draft, &entry.draft);
        !entry.volatile && committed.any(|newer| takes(newer.keep, newer) || takes(current, newer))
    }

    /// The bytes of retained messages.
    pub(crate) fn bytes(&self, counts: impl Fn(&Entry) -> bool) -> u64 {
        self.alive(|_| true).iter().filter(|entry| counts(entry)).map(|entry| entry.draft.cost()).sum()
    }
}

fn floor_trim(floor: u64) -> Option<Trim> {
    (floor > 0).then_some(Trim { upto: Position(floor), reason: TrimReason::Retention })
}

/// Whether a message takes the place of an older one of its topic, where the topic is kept so.
fn takes_place(keep: Keep, newer: &Draft, older: &Draft) -> bool {
    match keep {
        Keep::All => false,
        Keep::Last => true,
        Keep::Compact => older.key.is_some() && newer.key == older.key,
    }
}

/// Whether a term is for a topic. The terms of this test have one kind of wildcard each.
pub(crate) fn matches(term: &str, topic: &str) -> bool {
    match term.strip_suffix("**") {
        Some(prefix) => topic.starts_with(prefix),
        None => {
            let (terms, names) = (term.split('/'), topic.split('/'));
            terms.clone().count() == names.clone().count()
                && terms.zip(names).all(|(term, name)| term == "*" || term == name)
        }
    }
}
