//! Feeds that reach back: the document that readers subscribe to, and the archives behind it (RFC 5005 §4). How far each
//! reaches is the rule of the wire; here the log is read as far.

use std::collections::VecDeque;

use bytes::Bytes;
use tailwire_core::{Page, Slice, View, log::Budget};
use tailwire_model::{
    Cursor, Filter, Position, Principal, Timestamp,
    limits::{PAGE_BYTES_MAX, PAGE_TURNS_MAX, SCAN_BYTES_MAX},
};
use tailwire_wire::{
    Code, Problem, QueryStart,
    document::Archives,
    feed::archive::{Follows, Reach, Successor},
    representation::DocumentFormat,
};

use super::{
    app::{App, read_problem},
    documents::{Made, Stays},
    pages::{Composition, Subject, ends, items_of},
};

/// Messages that are looked at a time: as many as an archive or two have.
const STEP_MESSAGES: usize = 128;
/// Pages that one document is made of, or looked for in.
const PAGES_MAX: usize = 64;

/// How far back a document reaches.
struct Reached {
    entries: usize,
    newest: Option<Cursor>,
    /// The message before it, or where the search for one ended; nothing where there is none.
    before: Option<Cursor>,
}

/// The entries of a document, the newest first.
struct Entries {
    items: VecDeque<Bytes>,
    newest: Option<(Cursor, Timestamp)>,
    /// When the first of them ends that has a lifetime of its own.
    ends: Option<Timestamp>,
}

impl App {
    /// The document that readers subscribe to: the newest entries, and the way to all others. Nothing where there are none.
    pub(super) async fn subscription(
        &self,
        principal: &Principal,
        format: &DocumentFormat,
        subject: Subject<'_>,
    ) -> Result<Option<Made>, Problem> {
        let permitted = self.permitted(principal, subject.filter)?;
        let state = self.broker.state(&permitted);
        let reached = self.reach_back(&permitted, state.tail, Reach::of_subscription()).await?;
        let entries = self.entries(principal, &permitted, &reached, format).await?;
        let Some((cursor, updated)) = entries.newest else { return Ok(None) };
        // The newest message may have been taken after it was looked at.
        let stays = if reached.newest == Some(cursor) { Stays::Live } else { Stays::Once };
        let archives = Archives { previous: reached.before, ..Archives::default() };
        let composition = Composition { cursor, more: false, prev: None, updated: Some(updated), archives };
        Ok(Some(self.made(format, subject, entries, composition, stays).await?))
    }

    /// The archive that ends with a message.
    pub(super) async fn archive(
        &self,
        principal: &Principal,
        format: &DocumentFormat,
        subject: Subject<'_>,
        end: Cursor,
    ) -> Result<Made, Problem> {
        let permitted = self.permitted(principal, subject.filter)?;
        if !self.broker.is_known(end).await.map_err(read_problem)? {
            return Err(Problem::new(Code::MessageNotFound));
        }
        let reached = self.reach_back(&permitted, end.position, Reach::of_archive()).await?;
        let begins = reached.before.map_or(Position::ZERO, |before| before.position);
        let entries = self.entries(principal, &permitted, &reached, format).await?;
        // As of now, so after all was read. Of one topic the last message has to be there, too.
        let is_one_topic = permitted.only_topic().is_some();
        let has_end = !is_one_topic || reached.newest == Some(end);
        let (broker, filter) = (self.broker.clone(), permitted.clone());
        let was_cleared = self.broker.aside(move || broker.was_cleared_after(&filter, begins)).await;
        let has_all = entries.items.len() == reached.entries && !was_cleared.map_err(read_problem)?;
        if !has_end || !has_all {
            return Err(Problem::new(Code::ArchiveGone));
        }
        let next = self.successor(principal, &permitted, end, format).await?;
        let stays = if next.is_some() && is_one_topic { Stays::Settled(begins) } else { Stays::Live };
        let archives = Archives { is_archive: true, previous: reached.before, next };
        let updated = entries.newest.map(|(_, time)| time);
        let composition = Composition { cursor: end, more: false, prev: None, updated, archives };
        self.made(format, subject, entries, composition, stays).await
    }

    async fn made(
        &self,
        format: &DocumentFormat,
        subject: Subject<'_>,
        entries: Entries,
        composition: Composition,
        stays: Stays,
    ) -> Result<Made, Problem> {
        let (messages, cursor, ends) = (entries.items.len(), composition.cursor, entries.ends);
        let body = self.compose(format, subject, &Vec::from(entries.items), &composition).await?;
        Ok(Made { stays, ends, ..Made::new(body, messages, cursor) })
    }

    fn permitted(&self, principal: &Principal, filter: &Filter) -> Result<Filter, Problem> {
        let permitted = self.broker.permit_read(principal, filter.clone());
        permitted.map_err(|forbidden| self.forbidden(principal, &forbidden))
    }

    /// Looks back from a place until the rule has enough.
    async fn reach_back(
        &self,
        filter: &Filter,
        upto: Position,
        mut reach: Reach,
    ) -> Result<Reached, Problem> {
        let budget = Budget { messages: STEP_MESSAGES, bytes: PAGE_BYTES_MAX, scan_bytes: SCAN_BYTES_MAX };
        // The newest first, with the one that the rule refused.
        let mut looked_at = Vec::new();
        let (mut at, mut barren) = (upto, 0);
        let reached = |looked_at: Vec<Cursor>, entries, before| Reached {
            entries,
            newest: looked_at.first().copied(),
            before,
        };
        while at > Position::ZERO {
            let back = self.broker.read_back(filter, at, budget).await.map_err(read_problem)?;
            at = back.after;
            barren = if back.messages.is_empty() { barren + 1 } else { 0 };
            for message in back.messages.iter().rev() {
                looked_at.push(message.cursor);
                if !reach.takes(message) {
                    let entries = reach.entries();
                    let before = looked_at.get(entries).copied();
                    return Ok(reached(looked_at, entries, before));
                }
            }
            if barren == PAGE_TURNS_MAX && at > Position::ZERO {
                // There may be more, and much to look through before: the document says where that begins.
                let (entries, before) = (looked_at.len(), Some(self.broker.cursor_at(at)));
                return Ok(reached(looked_at, entries, before));
            }
        }
        let entries = looked_at.len();
        Ok(reached(looked_at, entries, None))
    }

    /// The entries of what was reached. Each page is let go of when it is encoded: nobody who holds one waits for another.
    async fn entries(
        &self,
        principal: &Principal,
        filter: &Filter,
        reached: &Reached,
        format: &DocumentFormat,
    ) -> Result<Entries, Problem> {
        let (mut items, mut newest) = (VecDeque::with_capacity(reached.entries), None);
        let mut first_end = None;
        let mut start = reached.before.map_or(QueryStart::Earliest, QueryStart::After);
        for _ in 0..PAGES_MAX {
            let left = reached.entries - items.len();
            if left == 0 {
                break;
            }
            let Some((slices, cursor, more)) = self.run(principal, filter, start, left, format).await? else {
                break;
            };
            let last = slices.last().and_then(|slice| slice.messages().last());
            newest = last.map(|message| (message.cursor, message.time)).or(newest);
            first_end = ends(&slices).into_iter().chain(first_end).min();
            items_of(format, &slices, View::whole(format.slot as usize))
                .into_iter()
                .rev()
                .for_each(|item| items.push_front(item));
            if !more {
                break;
            }
            start = QueryStart::After(cursor);
        }
        Ok(Entries { items, newest, ends: first_end })
    }

    /// The archive after one, once the message that ends it is there.
    async fn successor(
        &self,
        principal: &Principal,
        filter: &Filter,
        end: Cursor,
        format: &DocumentFormat,
    ) -> Result<Option<Cursor>, Problem> {
        let (mut successor, mut start) = (Successor::default(), QueryStart::After(end));
        for _ in 0..PAGES_MAX {
            let page = self.run(principal, filter, start, STEP_MESSAGES, format).await?;
            let Some((slices, cursor, more)) = page else { return Ok(None) };
            for message in slices.iter().flat_map(Slice::messages) {
                match successor.takes(message) {
                    Follows::Unknown => {}
                    Follows::Archive(next) => return Ok(Some(next)),
                    Follows::Unnamed => return Ok(None),
                }
            }
            if !more {
                return Ok(None);
            }
            start = QueryStart::After(cursor);
        }
        Ok(None)
    }

    /// A page, whatever is gone of it.
    async fn run(
        &self,
        principal: &Principal,
        filter: &Filter,
        start: QueryStart,
        limit: usize,
        format: &DocumentFormat,
    ) -> Result<Option<(tailwire_core::Slices, Cursor, bool)>, Problem> {
        let known = Some(self.broker.tail());
        let mut reader =
            self.open(principal, filter.clone(), start, known, View::whole(format.slot as usize)).await?;
        match reader.page(limit, None).await.map_err(read_problem)? {
            Page::Messages { slices, cursor, more } => Ok(Some((slices, cursor, more))),
            Page::Gap(_) => Ok(None),
        }
    }
}
