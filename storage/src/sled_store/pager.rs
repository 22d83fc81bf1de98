//! Filling a page: by a plan of positions, or by a scan of chunks, within a budget. It reads the store, and asks the index
//! only whether a message is dead.

use std::collections::HashSet;

use bytes::Bytes;
use tailwire_core::{
    StoreError,
    log::{Budget, StorePage},
};
use tailwire_model::{Cursor, Filter, Message, Position, Topic};

use super::{
    SledStore,
    failure::{corrupt, guarded},
    layout::{
        chunk::Chunk,
        record::{Content, Record, take_content},
    },
};
use crate::index::Planned;

/// Fills a page.
pub(super) struct Pager<'a> {
    log: &'a SledStore,
    budget: Budget,
    pub(super) page: StorePage,
    /// Costs of the messages in the page.
    bytes: usize,
    /// Stored bytes looked at.
    looked: usize,
    /// Messages that the index knew and the store did not have: trimmed meanwhile, or damage.
    pub(super) lost: Vec<Planned>,
    pub(super) names: MetTopics,
}

/// The outcome of following a plan.
#[derive(PartialEq, Eq)]
pub(super) enum Followed {
    /// The page.
    Page,
    /// It was not to be followed.
    Not,
}

/// The outcome of looking for messages in a chunk.
enum Picked {
    /// All of them, or it was noted which are missing.
    All,
    /// As many as the page takes.
    Full,
    /// One of them is another topic's.
    Stranger,
}

/// Whether the page takes more.
#[derive(PartialEq, Eq)]
pub(super) enum PageRoom {
    Left,
    Full,
}

impl<'a> Pager<'a> {
    pub(super) fn new(log: &'a SledStore, budget: Budget, upto: Position) -> Self {
        let page = StorePage { scanned: upto, ..StorePage::default() };
        Self { log, budget, page, bytes: 0, looked: 0, lost: Vec::new(), names: MetTopics::default() }
    }

    /// Reads; where it comes to damage after the first message, the page ends before that, and the next one tells.
    pub(super) fn up_to_damage(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Followed, StoreError>,
    ) -> Result<Followed, StoreError> {
        let followed = guarded(|| read(self));
        if let (Err(StoreError::Corrupt(_)), Some(last)) = (&followed, self.page.messages.last()) {
            self.page.scanned = last.position();
            return Ok(Followed::Page);
        }
        followed
    }

    /// Reads the messages of a plan.
    pub(super) fn follow(&mut self, filter: &Filter, plan: &[Planned]) -> Result<Followed, StoreError> {
        let mut rest = plan;
        let mut adjacent = Position::ZERO;
        while let [next, ..] = *rest {
            if self.looked >= self.budget.scan_bytes && !self.page.messages.is_empty() {
                self.page.scanned = next.position.previous();
                return Ok(Followed::Page);
            }
            let Some(chunk) = self.log.store.chunk_at(next.position)? else {
                self.lost.push(next);
                rest = &rest[1..];
                continue;
            };
            if chunk.first > adjacent {
                self.log.store.touch(&chunk)?;
            }
            adjacent = chunk.last.next();
            self.looked += chunk.bytes;
            let inside = rest.partition_point(|planned| planned.position <= chunk.last);
            let (wanted, further) = rest.split_at(inside);
            match self.pick(filter, &chunk, wanted)? {
                Picked::All => rest = further,
                Picked::Full => return Ok(Followed::Page),
                Picked::Stranger => {
                    let why = "a topic's postings name another's message";
                    self.log.suspect(&StoreError::Corrupt(why.into()));
                    return Ok(Followed::Not);
                }
            }
        }
        Ok(Followed::Page)
    }

    /// Takes the wanted messages, all in the chunk's span, from a chunk.
    fn pick(&mut self, filter: &Filter, chunk: &Chunk, wanted: &[Planned]) -> Result<Picked, StoreError> {
        let mut wanted = wanted.iter().copied().peekable();
        for record in chunk.records() {
            let record = record.map_err(|damage| corrupt("chunk", chunk.first, damage))?;
            while let Some(lost) = wanted.next_if(|planned| planned.position < record.position) {
                self.lost.push(lost);
            }
            if wanted.next_if(|planned| planned.position == record.position).is_some() {
                if !filter.matches_name(record.topic) {
                    return Ok(Picked::Stranger);
                }
                let topic = self.names.get(record.topic)?;
                if self.offer(chunk, &record, topic)? == PageRoom::Full {
                    return Ok(Picked::Full);
                }
            }
            if wanted.peek().is_none() {
                break;
            }
        }
        self.lost.extend(wanted);
        Ok(Picked::All)
    }

    /// Looks at every message. Up to `farthest` some may be dead.
    pub(super) fn scan(
        &mut self,
        filter: &Filter,
        after: Position,
        upto: Position,
        farthest: Position,
    ) -> Result<(), StoreError> {
        for chunk in self.log.store.chunks_after(after) {
            let chunk = chunk?;
            if chunk.first > upto {
                break;
            }
            if self.looked > 0 && self.looked >= self.budget.scan_bytes {
                self.page.scanned = chunk.first.previous();
                break;
            }
            self.looked += chunk.bytes;
            for record in chunk.records() {
                let record = record.map_err(|damage| corrupt("chunk", chunk.first, damage))?;
                if record.position <= after || record.position > upto {
                    continue;
                }
                let (name, position) = (record.topic, record.position);
                let dead = || position <= farthest && self.log.index.read().is_dead(name, position);
                if !filter.matches_name(name) || dead() {
                    continue;
                }
                let topic = self.names.get(name)?;
                if self.offer(&chunk, &record, topic)? == PageRoom::Full {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes a message into the page, or ends the page before it.
    pub(super) fn offer(
        &mut self,
        chunk: &Chunk,
        record: &Record<'_>,
        topic: Topic,
    ) -> Result<PageRoom, StoreError> {
        if let Content::Fragmented(fragmented) = record.content
            && !self.has_room(fragmented.cost)
        {
            return Ok(self.end_before(record.position));
        }
        let fragments = match record.content {
            Content::Inline(_) => None,
            Content::Fragmented(fragmented) => {
                let Some(content) = self.log.store.content(record.position, &fragmented)? else {
                    let topic = self.log.index.read().id(record.topic);
                    self.lost.extend(topic.map(|topic| Planned { position: record.position, topic }));
                    return Ok(PageRoom::Left);
                };
                self.looked += content.len();
                Some(content)
            }
        };
        let (content, backing): (&[u8], &Bytes) = match (&fragments, record.content) {
            (Some(content), _) => (content, content),
            (None, Content::Inline(content)) => (content, chunk.backing()),
            (None, Content::Fragmented(_)) => return Ok(PageRoom::Left),
        };
        let draft = take_content(topic, content, backing)
            .map_err(|damage| corrupt("message", record.position, damage))?;
        let cost = draft.cost();
        if !self.has_room(cost) {
            return Ok(self.end_before(record.position));
        }
        self.bytes += cost;
        let cursor = Cursor { epoch: chunk.epoch, position: record.position };
        self.page.messages.push(Message { cursor, time: record.time, draft });
        Ok(PageRoom::Left)
    }

    /// The first message always has room.
    fn has_room(&self, cost: usize) -> bool {
        let count = self.page.messages.len();
        count == 0 || (count < self.budget.messages && self.bytes + cost <= self.budget.bytes)
    }

    fn end_before(&mut self, position: Position) -> PageRoom {
        self.page.scanned = position.previous();
        PageRoom::Full
    }
}

/// Topics that were met, so that each name is parsed once a page and its messages share it.
#[derive(Default)]
pub(super) struct MetTopics {
    met: HashSet<Topic>,
    /// Topics come in runs.
    last: Option<Topic>,
}

impl MetTopics {
    pub(super) fn get(&mut self, name: &str) -> Result<Topic, StoreError> {
        if let Some(last) = self.last.as_ref().filter(|last| last.as_str() == name) {
            return Ok(last.clone());
        }
        let topic = match self.met.get(name) {
            Some(topic) => topic.clone(),
            None => {
                let parsed = Topic::parse(name);
                let topic = parsed.map_err(|_| StoreError::Corrupt(format!("{name:?} is not a topic")))?;
                self.met.insert(topic.clone());
                topic
            }
        };
        self.last = Some(topic.clone());
        Ok(topic)
    }
}
