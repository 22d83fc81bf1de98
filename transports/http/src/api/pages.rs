//! Pages and feeds, whatever carries them: messages of what there is as one document, onwards or backwards from a cursor, and
//! the newest message by itself.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use bytes::Bytes;
use tailwire_core::{Before, Page, PageWait, Slice, Slices, Until, View};
use tailwire_model::{Cursor, Filter, Message, Options, Position, Principal, Term, Timestamp, retry};
use tailwire_wire::{
    Format, Problem, QueryStart,
    document::{About, Archives, Document},
    representation::DocumentFormat,
    request::PageRequest,
};
use tokio::time::Instant;

use super::{
    app::{App, read_problem},
    documents::{Labels, Made, Stays},
    room::take_room,
};
use crate::connection::pinned::{Account, Pinned};

/// A page, encoded, and the room that was taken for one that was waited for.
pub(crate) struct PageReply {
    pub(crate) made: Made,
    pub(crate) room: Option<Pinned>,
}

/// What a document is about, in the words of its request.
#[derive(Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) filter: &'a Filter,
    pub(crate) query: Option<&'a str>,
}

/// What a document says beside its messages.
pub(super) struct Composition {
    pub(super) cursor: Cursor,
    pub(super) more: bool,
    /// What to send as `before` for the page before this one.
    pub(super) prev: Option<Cursor>,
    /// The time of its newest message.
    pub(super) updated: Option<Timestamp>,
    pub(super) archives: Archives,
}

/// What a page is made of.
struct Found {
    slices: Slices,
    cursor: Cursor,
    more: bool,
    prev: Option<Cursor>,
    gap: Option<Cursor>,
    /// A full page between two places stays what it is, as long as all is there that stands after the first.
    begins: Option<Position>,
}

impl App {
    /// Reads a page, waiting for a first message as long as asked; or until it is dropped, where several have asked, and then
    /// it tells whether it `stands` at the tail.
    pub(crate) async fn page(
        &self,
        principal: &Principal,
        request: PageRequest,
        format: &DocumentFormat,
        query: Option<&str>,
        (account, stands): (&Account, Option<Arc<AtomicBool>>),
    ) -> Result<PageReply, Problem> {
        let PageRequest { filter, start, gap: known, limit, bound, wait_ms } = request;
        let view = View::whole(format.slot as usize).bounded(bound);
        let subject = Subject { filter: &filter, query };
        if let QueryStart::Before(before) = start {
            let ask = Before { filter: filter.clone(), before, known, limit, view };
            let found = self.look_back(principal, ask).await?;
            return self.written(format, subject, view, found, None).await;
        }
        let mut reader = self.open(principal, filter.clone(), start, known, view).await?;
        let wait = (wait_ms > 0).then(|| {
            let deadline = || Until::Deadline(Instant::now() + Duration::from_millis(wait_ms));
            PageWait { until: stands.map_or_else(deadline, Until::Dropped), shard: self.pick_shard() }
        });
        let (slices, cursor, more) = match reader.page(limit, wait).await.map_err(read_problem)? {
            Page::Messages { slices, cursor, more } => (slices, cursor, more),
            Page::Gap(gap) => return Err(Problem::gap(gap)),
        };
        let gap = reader.known_gap(cursor);
        if slices.is_empty() && !more {
            let made = self.empty_page(format, subject, cursor, gap, wait_ms).await?;
            return Ok(PageReply { made, room: None });
        }
        let oldest = oldest(&slices).filter(|_| matches!(start, QueryStart::Last(_)));
        let prev = oldest.filter(|oldest| self.broker.may_have_before(&filter, *oldest));
        let begins = match start {
            QueryStart::After(after) => Some(after.position),
            _ => None,
        };
        let found = Found { slices, cursor, more, prev, gap, begins };
        self.written(format, subject, view, found, (wait_ms > 0).then_some(account)).await
    }

    /// The newest messages before a cursor.
    async fn look_back(&self, principal: &Principal, ask: Before) -> Result<Found, Problem> {
        let gap = ask.known;
        let found = self.broker.page_before(principal, ask).await;
        match found.map_err(|error| self.reader_problem(principal, error))? {
            Page::Gap(gap) => Err(Problem::gap(gap)),
            Page::Messages { slices, cursor, more } => {
                let oldest = oldest(&slices).unwrap_or_else(|| self.broker.cursor_at(cursor.position.next()));
                let begins = (!slices.is_empty()).then(|| oldest.position.previous());
                Ok(Found { slices, cursor, more, prev: more.then_some(oldest), gap, begins })
            }
        }
    }

    /// Writes down what was found. A request that doesn't wait has taken room before; many that waited for one message are answered
    /// at the same time, and take it here, on an account.
    async fn written(
        &self,
        format: &DocumentFormat,
        subject: Subject<'_>,
        view: View,
        found: Found,
        account: Option<&Account>,
    ) -> Result<PageReply, Problem> {
        let Found { slices, cursor, more, prev, gap, begins } = found;
        let items = items_of(format, &slices, view);
        let room = match account {
            None => None,
            Some(account) => Some(take_room(account, bytes_of(&items)).await?),
        };
        let updated = slices.last().and_then(|slice| slice.messages().last()).map(|message| message.time);
        let archives = Archives::default();
        let composition = Composition { cursor, more, prev, updated, archives };
        let body = self.compose(format, subject, &items, &composition).await?;
        // Any other is outdated by the next message.
        let stays = match begins {
            Some(begins) if more && subject.filter.only_topic().is_some() => Stays::Settled(begins),
            _ if !more => Stays::Live,
            _ => Stays::Once,
        };
        let messages = slices.iter().map(Slice::len).sum();
        let made = Made { more, prev, ends: ends(&slices), gap, stays, ..Made::new(body, messages, cursor) };
        Ok(PageReply { made, room })
    }

    /// How long there is until messages end.
    pub(crate) fn left_ms(&self, ends: Option<Timestamp>) -> Option<u64> {
        Some(ends?.0.saturating_sub((self.broker.clock().now)().0))
    }

    /// What the patterns of a filter are narrowed to, if they are.
    pub(crate) fn narrowed(&self, principal: &Principal, asked: &Filter) -> Option<Filter> {
        let is_named = asked.terms().iter().all(|term| matches!(term, Term::Topic(_)));
        let permitted = if is_named { None } else { self.broker.permit_read(principal, asked.clone()).ok() };
        permitted.filter(|permitted| permitted != asked)
    }

    /// The page of who has seen everything, and has waited so long for more.
    pub(crate) async fn empty_page(
        &self,
        format: &DocumentFormat,
        subject: Subject<'_>,
        cursor: Cursor,
        gap: Option<Cursor>,
        waited_ms: u64,
    ) -> Result<Made, Problem> {
        // A feed reader knows documents without entries, and no 202.
        let retry_after_ms = (!format.is_feed).then(|| self.retry_after_ms(subject.filter, waited_ms, false));
        let labels = self.labels(format, subject.filter);
        let about = self.about(format, subject, None, Archives::default(), &labels).await?;
        let mut body = Vec::with_capacity(128);
        format.write(
            &Document { items: &[], cursor, more: false, prev: None, retry_after_ms, about: &about },
            &mut body,
        );
        Ok(Made { retry_after_ms, gap, ..Made::new(body.into(), 0, cursor) })
    }

    /// A document of encodings.
    pub(super) async fn compose(
        &self,
        format: &DocumentFormat,
        subject: Subject<'_>,
        items: &[Bytes],
        &Composition { cursor, more, prev, updated, archives }: &Composition,
    ) -> Result<Bytes, Problem> {
        let mut body = Vec::with_capacity(bytes_of(items));
        let items: Vec<&[u8]> = items.iter().map(|item| &item[..]).collect();
        let labels = self.labels(format, subject.filter);
        let about = self.about(format, subject, updated, archives, &labels).await?;
        format.write(
            &Document { items: &items, cursor, more, prev, retry_after_ms: None, about: &about },
            &mut body,
        );
        Ok(body.into())
    }

    /// The description of a document; pages have none, and need no lookup.
    async fn about<'a>(
        &'a self,
        format: &DocumentFormat,
        Subject { filter, query }: Subject<'a>,
        newest: Option<Timestamp>,
        archives: Archives,
        labels: &'a Labels,
    ) -> Result<About<'a>, Problem> {
        let updated = match newest {
            None if format.is_feed => self.broker.newest_time(filter).await.map_err(read_problem)?,
            known => known,
        };
        let has_pace = format.is_feed && !archives.is_archive;
        Ok(About {
            filter,
            query,
            public_url: self.settings.public_url.as_deref(),
            updated: updated.unwrap_or_default(),
            pace_ms: has_pace.then(|| retry::feed_ms(self.broker.pace(filter))),
            title: labels.title.as_deref(),
            description: labels.description.as_deref(),
            hub: self.settings.hub.as_deref(),
            archives,
        })
    }

    /// What the options of a feed's only term call it.
    pub(super) fn labels(&self, format: &DocumentFormat, filter: &Filter) -> Labels {
        match filter.terms() {
            [term] if format.is_feed => {
                let Options { title, description, .. } = self.broker.rules().own(term);
                Labels { title, description }
            }
            _ => Labels::default(),
        }
    }

    /// When a poll should come again that was ready to wait so long, and is given all up to the newest message or nothing.
    pub(super) fn retry_after_ms(&self, filter: &Filter, wait_ms: u64, has_found: bool) -> u64 {
        if self.broker.is_draining() {
            return self.broker.drain_retry_ms();
        }
        self.broker.retry_after_ms(filter, wait_ms, has_found)
    }

    /// The newest message of a filter. Where the client has `seen` that, waits for another one as long as asked.
    pub(crate) async fn newest(
        &self,
        principal: &Principal,
        filter: Filter,
        seen: impl Fn(Cursor) -> bool,
        wait_ms: u64,
    ) -> Result<Option<Message>, Problem> {
        let deadline = Instant::now() + Duration::from_millis(wait_ms);
        let mut start = QueryStart::Last(1);
        let mut newest = None;
        loop {
            let view = View::whole(Format::Item as usize);
            let mut reader = self.open(principal, filter.clone(), start, None, view).await?;
            let wait = (wait_ms > 0)
                .then(|| PageWait { until: Until::Deadline(deadline), shard: self.pick_shard() });
            let page = reader.page(1, wait).await.map_err(read_problem)?;
            let Page::Messages { slices, .. } = page else { return Ok(newest) };
            match slices.last().and_then(|slice| slice.messages().last()) {
                Some(message) if wait_ms > 0 && seen(message.cursor) => {
                    start = QueryStart::After(message.cursor);
                    newest = Some(message.clone());
                }
                Some(message) => return Ok(Some(message.clone())),
                None => return Ok(newest),
            }
        }
    }
}

/// The encodings of messages, each by itself and the newest first where it is a feed.
pub(super) fn items_of(format: &DocumentFormat, slices: &Slices, view: View) -> Vec<Bytes> {
    if !format.is_feed {
        return slices.iter().map(|slice| slice.encoded(view)).collect();
    }
    slices.iter().rev().flat_map(|slice| slice.each().rev()).map(|one| one.encoded(view)).collect()
}

/// What a document of encodings takes, roughly.
fn bytes_of(items: &[Bytes]) -> usize {
    128 + items.iter().map(Bytes::len).sum::<usize>()
}

/// When a message ends, if it has a lifetime of its own.
pub(super) fn ends_of(message: &Message) -> Option<Timestamp> {
    Some(Timestamp(message.time.0.saturating_add(message.draft.max_age_ms()?)))
}

/// When the first of them ends.
pub(super) fn ends(slices: &Slices) -> Option<Timestamp> {
    slices.iter().flat_map(Slice::messages).filter_map(ends_of).min()
}

fn oldest(slices: &Slices) -> Option<Cursor> {
    Some(slices.first()?.messages().first()?.cursor)
}
