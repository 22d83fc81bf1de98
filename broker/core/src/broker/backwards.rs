//! Reading against the log's order: the newest messages up to a place. A store reads forward, from a place on; so this reads
//! windows that end there, wider ones where they hold few messages and narrower ones where they hold too many.

use std::sync::atomic::Ordering;

use tailwire_model::{Cursor, Filter, Message, Position, epochs::CursorValidity, limits::PAGE_TURNS_MAX};

use super::Broker;
use crate::{
    error::ReadError,
    log::{Bounds, Budget},
    pool::Priority,
    store::{Store, StoreError},
};

/// Positions of the first window.
const WIDTH_FIRST: u64 = 64;
/// How much wider or narrower the next window is.
const WIDTH_FACTOR: u64 = 4;
/// Windows of one turn: what is reached by then is as far back as a log of 2^40 positions.
const WINDOWS_MAX: usize = 24;

/// See [`Broker::state`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicsState {
    /// The newest message, or a later position.
    pub tail: Position,
    /// Another number whenever messages were taken.
    pub taken: u64,
    /// The same of messages that were taken one by one.
    pub removed: u64,
}

/// What stands before a place.
pub struct Backwards {
    /// The newest messages up to it, oldest first.
    pub messages: Vec<Message>,
    /// Every match after this one and up to the place is among them. Zero where there is nothing before.
    pub after: Position,
}

impl Broker {
    /// The newest messages of a filter up to a position, within a budget. It is asked again, from where it ends, by those who
    /// want more. The filter is one that was permitted, and who gives the messages to somebody counts them.
    ///
    /// # Errors
    /// When the log can't be read.
    pub async fn read_back(
        &self,
        filter: &Filter,
        upto: Position,
        budget: Budget,
    ) -> Result<Backwards, ReadError> {
        let filter = filter.clone();
        self.0.metrics.log_pages.inc();
        let read = self.0.pool.run(budget.bytes, Priority::Answer, move |store, _lease| {
            let mut walk = WindowWalk::new(upto);
            walk.read(store, &filter, budget)?;
            Ok(Backwards { messages: walk.windows.into_iter().rev().flatten().collect(), after: walk.end })
        });
        self.0.readable(read.await)
    }

    /// What the messages of a filter follow from: two times at which it is the same they are, too.
    pub fn state(&self, filter: &Filter) -> TopicsState {
        let removed = self.0.removals.of(filter);
        if filter.only_topic().is_some() {
            let bounds = self.0.store.bounds(filter);
            let taken = bounds.trimmed.map_or(0, |trim| trim.upto.0);
            return TopicsState { tail: bounds.tail, taken, removed };
        }
        TopicsState { tail: self.0.store.newest(), taken: self.0.taken.load(Ordering::Acquire), removed }
    }

    /// Whether any topic of a filter lost all that it had up to a place after a position. Messages that were taken one by one
    /// don't count: of those [`Broker::state`] tells.
    pub fn was_cleared_after(&self, filter: &Filter, position: Position) -> bool {
        self.0.store.bounds(filter).cleared.is_some_and(|trim| trim.upto > position)
    }

    /// Whether a cursor names a place that this log has, or had.
    ///
    /// # Errors
    /// When it is of another node, and this one doesn't catch up.
    pub async fn is_known(&self, cursor: Cursor) -> Result<bool, ReadError> {
        self.0.arrival_of(cursor).await?;
        Ok(self.0.store.epochs().validity(cursor, self.0.store.newest()) == CursorValidity::Good)
    }
}

/// On the way back.
struct WindowWalk {
    /// What was found, the newest first; each oldest first.
    windows: Vec<Vec<Message>>,
    count: usize,
    bytes: usize,
    /// All matches behind this one were found.
    end: Position,
}

impl WindowWalk {
    const fn new(upto: Position) -> Self {
        Self { windows: Vec::new(), count: 0, bytes: 0, end: upto }
    }

    fn read(&mut self, store: &dyn Store, filter: &Filter, budget: Budget) -> Result<(), StoreError> {
        let (mut width, mut widest) = (WIDTH_FIRST, u64::MAX);
        let mut scans = 0;
        let bounds = filter.only_topic().map(|_| store.bounds(filter));
        for _ in 0..WINDOWS_MAX {
            self.skip_empty(bounds.as_ref());
            if self.end == Position::ZERO || self.count >= budget.messages {
                return Ok(());
            }
            let start = Position(self.end.0.saturating_sub(width));
            let left = Budget {
                messages: budget.messages - self.count,
                bytes: budget.bytes.saturating_sub(self.bytes),
                scan_bytes: budget.scan_bytes,
            };
            let page = store.read(filter, start, self.end, left)?;
            if page.scanned < self.end {
                // More than fits stands there, or more has to be looked at.
                scans += usize::from(page.messages.is_empty());
                if self.count > 0 || scans >= PAGE_TURNS_MAX || width == 1 {
                    return Ok(());
                }
                width = (width / WIDTH_FACTOR).max(1);
                widest = width;
                continue;
            }
            self.end = start;
            if page.messages.len() < budget.messages / 8 {
                width = width.saturating_mul(WIDTH_FACTOR).min(widest);
            }
            self.count += page.messages.len();
            self.bytes += page.messages.iter().map(|message| message.draft.cost()).sum::<usize>();
            self.windows.push(page.messages);
        }
        Ok(())
    }

    /// Of one topic it is known without reading where its messages begin and end.
    fn skip_empty(&mut self, bounds: Option<&Bounds>) {
        let Some(bounds) = bounds else { return };
        self.end = self.end.min(bounds.tail);
        if bounds.head.is_none_or(|head| head > self.end) {
            self.end = Position::ZERO;
        }
    }
}
