//! Reading pages. A filter over few topics has a plan of positions from the index, any other is a scan of chunks.
//! The index is locked for the plan and again for the end, not while the store is read; what was trimmed between is
//! then taken out of the page, and the page says how far.

use std::collections::HashSet;

use bytes::Bytes;
use tailwire_core::log::{Budget, LogError, Page};
use tailwire_model::{Filter, Message, Position, Topic, Trim};

use super::{
    SledLog,
    chunk::Chunk,
    codec::Damage,
    record::{Content, Record, take_content},
    store::corrupt,
};
use crate::retention::Seen;

impl SledLog {
    /// A page of what is stored and what is in the ring.
    pub(super) fn read_page(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<Page, LogError> {
        let mut page = self.read_stored(filter, after, upto, budget)?;
        let index = self.index.read();
        let ring = self.ring.read();
        if !ring.is_unused() {
            ring.merge(&mut page, filter, after, budget.messages, budget.bytes);
            // As of the ring: a trim may have come since the store was read.
            page.trimmed = Trim::farther(index.trimmed_after(filter, after), ring.lost(filter, after));
        }
        Ok(page)
    }

    pub(super) fn read_stored(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<Page, LogError> {
        let index = self.index.read();
        let upto = upto.min(self.newest_committed()).max(after);
        // One more than is given, to know whether the page is the last.
        let plan = index.plan(filter, after, upto, budget.messages.max(1).saturating_add(1));
        let (seen, farthest) = (index.removals(), index.farthest_dead());
        drop(index);

        let mut pager = Pager::new(self, budget, upto);
        match plan {
            Some(plan) => pager.follow(&plan)?,
            None => pager.scan(filter, after, upto, farthest)?,
        }
        let Pager { mut page, lost, .. } = pager;
        let index = self.index.read();
        page.trimmed = index.trimmed_after(filter, after);
        if index.removals() != seen {
            page.messages.retain(|message| !index.is_dead(message.topic().as_str(), message.position()));
        }
        let missing = lost.into_iter().find(|&position| index.is_alive(filter, position));
        match missing {
            Some(position) => Err(corrupt("message", position, Damage("it is missing"))),
            None => Ok(page),
        }
    }

    /// Visits live messages after a position, oldest first, without their contents, until `visit` has enough.
    pub(super) fn walk_live(
        &self,
        after: Position,
        visit: &mut dyn FnMut(&Seen<'_>) -> bool,
    ) -> Result<(), LogError> {
        let mut names = Names::default();
        for chunk in self.store.chunks_after(after) {
            let chunk = chunk?;
            for record in chunk.records() {
                let record = record.map_err(|damage| corrupt("chunk", chunk.first, damage))?;
                if record.position <= after || self.index.read().is_dead(record.topic, record.position) {
                    continue;
                }
                let topic = names.get(record.topic)?;
                let cost =
                    record.cost().map_err(|damage| corrupt("message", record.position, damage))? as u64;
                let seen = Seen { position: record.position, time: record.time, topic: &topic, cost };
                if !visit(&seen) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    pub(super) fn read_one(&self, position: Position) -> Result<Option<Message>, LogError> {
        if position > self.newest_committed() {
            return Ok(None);
        }
        if let Some(message) = self.ring.read().get(position) {
            return Ok(Some(message.clone()));
        }
        let Some(chunk) = self.store.chunk_at(position)? else {
            return Ok(None);
        };
        for record in chunk.records() {
            let record = record.map_err(|damage| corrupt("chunk", chunk.first, damage))?;
            if record.position != position {
                continue;
            }
            let budget = Budget { messages: 1, bytes: usize::MAX, scan_bytes: usize::MAX };
            let mut pager = Pager::new(self, budget, position);
            let topic = pager.names.get(record.topic)?;
            pager.offer(&chunk, &record, topic)?;
            let dead = self.index.read().is_dead(record.topic, position);
            return match pager.page.messages.pop() {
                _ if dead => Ok(None),
                Some(message) => Ok(Some(message)),
                None => Err(corrupt("message", position, Damage("its fragments are missing"))),
            };
        }
        Ok(None)
    }
}

/// Fills a page.
struct Pager<'a> {
    log: &'a SledLog,
    budget: Budget,
    page: Page,
    /// Costs of the messages in the page.
    bytes: usize,
    /// Stored bytes looked at.
    looked: usize,
    /// Messages that the index knew and the store did not have: trimmed meanwhile, or damage.
    lost: Vec<Position>,
    names: Names,
}

/// Whether the page takes more.
#[derive(PartialEq, Eq)]
enum Room {
    Left,
    Full,
}

impl<'a> Pager<'a> {
    fn new(log: &'a SledLog, budget: Budget, upto: Position) -> Self {
        let page = Page { scanned: upto, ..Page::default() };
        Self { log, budget, page, bytes: 0, looked: 0, lost: Vec::new(), names: Names::default() }
    }

    /// Reads the messages at these positions.
    fn follow(&mut self, plan: &[Position]) -> Result<(), LogError> {
        let mut rest = plan;
        while let [next, ..] = *rest {
            if self.looked >= self.budget.scan_bytes && !self.page.messages.is_empty() {
                self.page.scanned = next.previous();
                return Ok(());
            }
            let Some(chunk) = self.log.store.chunk_at(next)? else {
                self.lost.push(next);
                rest = &rest[1..];
                continue;
            };
            self.looked += chunk.bytes;
            let (wanted, further) = rest.split_at(rest.partition_point(|&position| position <= chunk.last));
            if self.pick(&chunk, wanted)? == Room::Full {
                return Ok(());
            }
            rest = further;
        }
        Ok(())
    }

    /// Takes the wanted positions, all in the chunk's span, from a chunk.
    fn pick(&mut self, chunk: &Chunk, wanted: &[Position]) -> Result<Room, LogError> {
        let mut wanted = wanted.iter().copied().peekable();
        for record in chunk.records() {
            let record = record.map_err(|damage| corrupt("chunk", chunk.first, damage))?;
            while let Some(lost) = wanted.next_if(|&position| position < record.position) {
                self.lost.push(lost);
            }
            if wanted.next_if_eq(&record.position).is_some() {
                let topic = self.names.get(record.topic)?;
                if self.offer(chunk, &record, topic)? == Room::Full {
                    return Ok(Room::Full);
                }
            }
            if wanted.peek().is_none() {
                break;
            }
        }
        self.lost.extend(wanted);
        Ok(Room::Left)
    }

    /// Looks at every message. Up to `farthest` some may be dead.
    fn scan(
        &mut self,
        filter: &Filter,
        after: Position,
        upto: Position,
        farthest: Position,
    ) -> Result<(), LogError> {
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
                let topic = self.names.get(record.topic)?;
                let (name, position) = (record.topic, record.position);
                let dead = || position <= farthest && self.log.index.read().is_dead(name, position);
                if !filter.matches(&topic) || dead() {
                    continue;
                }
                if self.offer(&chunk, &record, topic)? == Room::Full {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes a message into the page, or ends the page before it.
    fn offer(&mut self, chunk: &Chunk, record: &Record<'_>, topic: Topic) -> Result<Room, LogError> {
        if let Content::Fragmented(fragmented) = record.content
            && !self.has_room(fragmented.cost)
        {
            return Ok(self.end_before(record.position));
        }
        let fragments = match record.content {
            Content::Inline(_) => None,
            Content::Fragmented(fragmented) => {
                let Some(content) = self.log.store.content(record.position, &fragmented)? else {
                    self.lost.push(record.position);
                    return Ok(Room::Left);
                };
                self.looked += content.len();
                Some(content)
            }
        };
        let (content, holder): (&[u8], &Bytes) = match (&fragments, record.content) {
            (Some(content), _) => (content, content),
            (None, Content::Inline(content)) => (content, chunk.holder()),
            (None, Content::Fragmented(_)) => return Ok(Room::Left),
        };
        let draft = take_content(topic, content, holder)
            .map_err(|damage| corrupt("message", record.position, damage))?;
        let cost = draft.cost();
        if !self.has_room(cost) {
            return Ok(self.end_before(record.position));
        }
        self.bytes += cost;
        let cursor = self.log.epochs.cursor_at(record.position);
        self.page.messages.push(Message { cursor, time: record.time, draft });
        Ok(Room::Left)
    }

    /// The first message always has room.
    fn has_room(&self, cost: usize) -> bool {
        let count = self.page.messages.len();
        count == 0 || (count < self.budget.messages && self.bytes + cost <= self.budget.bytes)
    }

    fn end_before(&mut self, position: Position) -> Room {
        self.page.scanned = position.previous();
        Room::Full
    }
}

/// Topics that were met, so that each name is parsed once a page and its messages share it.
#[derive(Default)]
struct Names(HashSet<Topic>);

impl Names {
    fn get(&mut self, name: &str) -> Result<Topic, LogError> {
        if let Some(topic) = self.0.get(name) {
            return Ok(topic.clone());
        }
        let topic = Topic::parse(name).map_err(|_| LogError::Corrupt(format!("{name:?} is not a topic")))?;
        self.0.insert(topic.clone());
        Ok(topic)
    }
}
