//! Going through the messages of a log, oldest first, and looking at whether each is where and as it must be.

use std::collections::{BTreeSet, HashSet};

use bytes::Bytes;
use tailwire_model::{Cursor, Message, Position, Topic};

use super::{Figures, Findings, Survey};
use crate::{
    codec::Damage,
    sled_store::layout::{
        chunk::Chunk,
        record::{Content, Fragmented, Record, take_content},
    },
};

/// The result of a walk.
#[derive(Debug)]
pub struct Walked {
    /// All that is said of the log.
    pub findings: Findings,
    /// Its messages.
    pub figures: Figures,
    /// Up to here messages may be lost, if any are.
    pub lost_upto: Option<Position>,
}

impl Survey {
    /// Gives every legible message that is retained to `visit`, in log order.
    ///
    /// # Errors
    /// That of `visit`, which ends the walk.
    pub fn walk<E>(&self, mut visit: impl FnMut(Message) -> Result<(), E>) -> Result<Walked, E> {
        let mut walk = Walk::new(self);
        // Chunks of a group that has not ended yet.
        let mut open: Vec<Chunk> = Vec::new();
        for chunk in self.chunks() {
            walk.enter(&chunk);
            let ends = chunk.ends;
            open.push(chunk);
            if ends {
                for chunk in open.drain(..) {
                    walk.read(&chunk, &mut visit)?;
                }
            }
        }
        let kept_upto = self.ledger.farthest_trim().max(self.mark.map_or(Position::ZERO, |mark| mark.newest));
        for chunk in open {
            if chunk.first <= kept_upto {
                walk.read(&chunk, &mut visit)?;
            } else {
                let what = "the beginning of a publish that a crash cut off; the next opening drops it";
                walk.findings.note(Some((chunk.first, chunk.last)), what);
                walk.stored = walk.stored.min(chunk.first.previous());
            }
        }
        Ok(walk.finish())
    }

    fn chunks(&self) -> Box<dyn Iterator<Item = Chunk> + '_> {
        match (&self.raw, &self.engine) {
            (Some(raw), _) => Box::new(raw.chunks()),
            (None, Some(engine)) => Box::new(engine.chunks()),
            (None, None) => Box::new(std::iter::empty()),
        }
    }

    fn content(&self, chunk: &Chunk, position: Position, is: &Fragmented) -> Result<Bytes, Damage> {
        let fragment = |number| match (&self.raw, &self.engine) {
            (Some(raw), _) => raw.fragment(position, number, chunk.epoch),
            (None, Some(engine)) => engine.fragment(position, number, chunk.epoch),
            (None, None) => None,
        };
        let mut content = Vec::new();
        for number in 0.. {
            if content.len() >= is.length {
                break;
            }
            content.extend(fragment(number).ok_or(Damage("one of its fragments is missing"))?);
        }
        is.check(position, &content)?;
        Ok(content.into())
    }
}

struct Walk<'a> {
    survey: &'a Survey,
    findings: Findings,
    figures: Figures,
    lost_upto: Option<Position>,
    /// The end of the last chunk.
    stored: Position,
    /// No position was missing so far between chunks, and none within them.
    is_contiguous: bool,
    is_dense: bool,
    topics: HashSet<Topic>,
    /// Messages whose content is in fragments.
    fragmented: BTreeSet<Position>,
}

impl<'a> Walk<'a> {
    fn new(survey: &'a Survey) -> Self {
        let ledger = &survey.ledger;
        let figures = Figures {
            format: ledger.format,
            id: ledger.id,
            file_bytes: survey.file_bytes,
            epochs: survey.epochs.as_ref().map_or(0, |epochs| epochs.starts().len() as u64),
            epoch: survey.epochs.as_ref().map(|epochs| epochs.current().epoch),
            commits: ledger.commits,
            acknowledged: survey.mark.map(|mark| (mark.commits, mark.newest)),
            trims: ledger.trims.len() as u64,
            keys: ledger.keys,
            options: ledger.options.len() as u64,
            ..Figures::default()
        };
        Self {
            survey,
            findings: Findings::default(),
            figures,
            lost_upto: None,
            stored: Position::ZERO,
            is_contiguous: true,
            is_dense: true,
            topics: ledger.trims.keys().chain(ledger.lost.keys()).cloned().collect(),
            fragmented: BTreeSet::new(),
        }
    }

    /// Looks at where a chunk stands.
    fn enter(&mut self, chunk: &Chunk) {
        let Chunk { first, last, count, .. } = *chunk;
        let span = Some((first, last));
        if first > last {
            self.findings.damage(span, "a chunk ends before it begins");
        }
        if first <= self.stored {
            self.findings.damage(span, "a chunk begins before the one before it ends");
        }
        self.miss(first);
        if let Some(epochs) = &self.survey.epochs
            && epochs.cursor_at(first).epoch != chunk.epoch
        {
            self.findings.damage(span, "a chunk is of another epoch than its position");
        }
        self.is_dense &= u64::from(count) == last.next().0.wrapping_sub(first.0);
        self.stored = self.stored.max(last);
    }

    /// Notes what is missing between the last chunk and the one that begins here.
    fn miss(&mut self, next: Position) {
        let missing = (self.stored.next(), next.previous());
        if missing.0 > missing.1 {
            return;
        }
        self.is_contiguous = false;
        if !self.survey.ledger.explains(missing.0, missing.1) {
            self.findings.damage(Some(missing), "messages are missing");
            self.lose(missing.1);
        }
    }

    fn lose(&mut self, upto: Position) {
        self.lost_upto = self.lost_upto.max(Some(upto));
    }

    /// Reads a chunk's messages.
    fn read<E>(&mut self, chunk: &Chunk, visit: &mut impl FnMut(Message) -> Result<(), E>) -> Result<(), E> {
        let mut before = chunk.first.previous();
        for record in chunk.records() {
            let Ok(record) = record else {
                self.findings.damage(Some((before.next(), chunk.last)), "a record can't be read");
                self.lose(chunk.last);
                return Ok(());
            };
            if record.position <= before || record.position > chunk.last {
                let what = "a message is not in the order of positions";
                self.findings.damage(Some((record.position, record.position)), what);
            }
            before = record.position;
            match self.message(chunk, &record) {
                Ok(Some(message)) => {
                    self.count(&message);
                    visit(message)?;
                }
                Ok(None) => {}
                Err(Damage(what)) => {
                    self.findings
                        .damage(Some((record.position, record.position)), format!("a message: {what}"));
                    self.lose(record.position);
                }
            }
        }
        Ok(())
    }

    /// The message of a record, if it is retained.
    fn message(&mut self, chunk: &Chunk, record: &Record<'_>) -> Result<Option<Message>, Damage> {
        if matches!(record.content, Content::Fragmented(_)) {
            self.fragmented.insert(record.position);
        }
        if self.survey.ledger.is_dead(record.topic, record.position) {
            return Ok(None);
        }
        let known = self.topics.get(record.topic).cloned();
        let topic = known.or_else(|| Topic::parse(record.topic).ok()).ok_or(Damage("its topic is none"))?;
        let draft = match record.content {
            Content::Inline(content) => take_content(topic, content, chunk.backing())?,
            Content::Fragmented(is) => {
                let content = self.survey.content(chunk, record.position, &is)?;
                take_content(topic, &content, &content)?
            }
        };
        let cursor = Cursor { epoch: chunk.epoch, position: record.position };
        Ok(Some(Message { cursor, time: record.time, draft }))
    }

    fn count(&mut self, message: &Message) {
        self.figures.messages += 1;
        self.figures.bytes += message.draft.cost() as u64;
        self.figures.head.get_or_insert(message.position());
        if !self.topics.contains(message.topic()) {
            self.topics.insert(message.topic().clone());
        }
    }

    fn finish(mut self) -> Walked {
        let survey = self.survey;
        // A chunk keeps its span when messages are taken out of it, and by which trim that was only a whole ledger knows.
        let is_explained = self.is_dense || survey.is_ledger_whole;
        let is_contiguous = self.is_contiguous && is_explained;
        let is_all_there = is_contiguous && survey.mark.is_some_and(|mark| mark.newest <= self.stored);
        self.stored = self.stored.max(survey.ledger.farthest_trim());
        let newest = survey.newest(self.stored);
        if survey.raw.is_some() {
            // Whether a missing position was lost or trimmed, nobody knows any more.
            if !is_all_there {
                self.lose(newest);
            }
        } else if let Some(engine) = &survey.engine {
            let mut orphans = engine.fragmented().filter(|position| !self.fragmented.contains(position));
            if let Some(first) = orphans.next() {
                let last = orphans.last().unwrap_or(first);
                self.findings.note(Some((first, last)), "fragments of no message; they only take room");
            }
        }
        self.figures.topics = self.topics.len() as u64;
        self.figures.tail = newest;
        Walked {
            findings: survey.findings.clone().and(self.findings),
            figures: self.figures,
            lost_upto: self.lost_upto.filter(|upto| *upto > Position::ZERO),
        }
    }
}
