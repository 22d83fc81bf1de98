//! Looking backwards: the newest messages before a cursor, which no reader is needed for.

use std::sync::Arc;

use tailwire_model::{
    Cursor, Filter, Gap, Message, Position, Principal,
    epochs::CursorValidity,
    gap::{self, Extent},
    limits::{PAGE_BYTES_MAX, PAGE_TURNS_MAX, SCAN_BYTES_MAX},
};

use super::{Before, Broker};
use crate::{
    error::{ReadError, ReaderError},
    log::Budget,
    page::Page,
    pool::Priority,
    reader::Permission,
    segment::{Segment, Slice, Slices},
    store::{Store, StoreError},
};

impl Broker {
    /// The newest messages of a filter before a cursor, oldest first. What retention or a DELETE took of them is no gap, as it
    /// is none for a client that asks for the earliest or the last; a cursor that this log has not given is one.
    ///
    /// # Errors
    /// See [`ReaderError`].
    pub async fn page_before(&self, principal: &Principal, ask: Before) -> Result<Page, ReaderError> {
        let Before { filter, before, known, limit, view } = ask;
        let (_, filter) = Permission::ask(&self.0, principal, filter)?;
        self.0.arrival_of(before).await?;
        let upto = match self.end_before(&filter, before, known).await? {
            Ok(upto) => upto,
            Err(gap) => return Ok(Page::Gap(gap)),
        };
        let encoders = self.0.encoders;
        let read = self.0.pool.run(PAGE_BYTES_MAX, Priority::Answer, move |store, lease| {
            let (messages, after, more) = newest_before(store, &filter, upto, limit)?;
            let segment = (!messages.is_empty()).then(|| Segment::leased(messages, encoders, view, lease));
            Ok((segment, after, more))
        });
        let (segment, after, more) = self.0.readable(read.await)?;
        let slices: Slices = segment.into_iter().map(Slice::whole).collect();
        let count: usize = slices.iter().map(Slice::len).sum();
        self.0.metrics.messages_out.inc_by(count as u64);
        let last = slices.last().map_or(after, Slice::last);
        Ok(Page::Messages { slices, cursor: self.cursor_at(last), more })
    }

    /// Whether a filter may have messages before this one.
    pub fn may_have_before(&self, filter: &Filter, message: Cursor) -> bool {
        may_have_upto(&*self.0.store, filter, message.position.previous())
    }

    /// The last position that lies before a cursor.
    async fn end_before(
        &self,
        filter: &Arc<Filter>,
        before: Cursor,
        known: Option<Cursor>,
    ) -> Result<Result<Position, Gap>, ReadError> {
        let (epochs, committed) = (self.0.store.epochs(), self.0.store.newest());
        if epochs.validity(before, committed) == CursorValidity::Good {
            return Ok(Ok(before.position.previous()));
        }
        let head = self.bounds(filter).await?.head;
        let resumed = gap::resume(&epochs, &Extent { committed, head, trimmed: None }, before, known);
        let untold = resumed.gap.filter(|gap| known.is_none_or(|known| known < gap.to));
        Ok(untold.map_or(Ok(resumed.after), Err))
    }
}

/// The messages, the place before them, and whether there may be older ones.
fn newest_before(
    store: &dyn Store,
    filter: &Filter,
    upto: Position,
    limit: usize,
) -> Result<(Vec<Message>, Position, bool), StoreError> {
    let scan_bytes = SCAN_BYTES_MAX * PAGE_TURNS_MAX;
    let budget = Budget { messages: limit, bytes: PAGE_BYTES_MAX, scan_bytes };
    let window = store.before_last(filter, upto, budget)?;
    let (mut messages, mut reached) = (Vec::new(), window.after);
    // A page may come short of what there is.
    while reached < upto && messages.len() < limit {
        let left = Budget { messages: limit - messages.len(), ..budget };
        let page = store.read(filter, reached, upto, left)?;
        reached = page.scanned;
        messages.extend(page.messages);
    }
    let more = window.is_full && may_have_upto(store, filter, window.after);
    Ok((messages, window.after, more))
}

/// One topic's head is known for sure, and a pattern's topics may be many.
fn may_have_upto(store: &dyn Store, filter: &Filter, position: Position) -> bool {
    filter.only_topic().is_none() || store.bounds(filter).head.is_some_and(|head| head <= position)
}
