//! Where a reader begins, and what its cursor has missed.

use std::sync::Arc;

use tailwire_model::{
    Cursor, Filter, Position, Principal, Timestamp,
    epochs::CursorValidity,
    gap::{self, Extent, Resume},
    limits::READ_BYTES_MAX,
};

use super::{Broker, Interest, Start};
use crate::{
    error::{ReadError, ReaderError},
    log::{Bounds, Budget},
    pool::Priority,
    reader::{Permission, Reader},
    segment::View,
    store::Store,
};

impl Broker {
    /// Opens a reader. What its cursor has missed is the first that it says.
    ///
    /// # Errors
    /// See [`ReaderError`].
    pub async fn open(&self, principal: &Principal, interest: Interest) -> Result<Reader, ReaderError> {
        let Interest { filter, start, known, view } = interest;
        let (permission, filter) = Permission::ask(&self.0, principal, filter)?;
        Ok(self.open_permitted((permission, filter), start, known, view).await?)
    }

    pub(super) async fn open_permitted(
        &self,
        (permission, filter): (Permission, Arc<Filter>),
        start: Start,
        known: Option<Cursor>,
        view: View,
    ) -> Result<Reader, ReadError> {
        let (resume, known) = match start {
            Start::After(cursor) => (self.resume_after(&filter, cursor, known).await?, known),
            Start::Since(time) => {
                // A place in the log like any other: all that is gone from there on the client has not seen.
                let cursor = self.cursor_at(self.before_time(time).await?);
                (self.resume_after(&filter, cursor, known).await?, known)
            }
            Start::Latest => (at(self.0.store.newest()), known),
            Start::Earliest => {
                // A client that asks for the oldest knows that there may have been older ones.
                let bounds = self.bounds(&filter).await?;
                let trimmed = bounds.trimmed.map_or(Position::ZERO, |trim| trim.upto);
                let before = bounds.head.map_or(trimmed, Position::previous);
                (at(before), bounds.trimmed.map(|trim| trim.end(&self.0.store.epochs())))
            }
            Start::Last(count) => {
                let position = self.before_last(&filter, count).await?;
                let trimmed = self.0.look(&filter, |store, filter| store.trimmed(filter, Position::ZERO));
                let trimmed = trimmed.await?;
                (at(position), trimmed.map(|trim| trim.end(&self.0.store.epochs())))
            }
        };
        Ok(Reader::new(self.0.clone(), permission, filter, resume, known, view))
    }

    async fn resume_after(
        &self,
        filter: &Arc<Filter>,
        cursor: Cursor,
        known: Option<Cursor>,
    ) -> Result<Resume, ReadError> {
        self.0.arrival_of(cursor).await?;
        let (epochs, committed) = (self.0.store.epochs(), self.0.store.newest());
        let after = cursor.position;
        let extent = match epochs.validity(cursor, committed) {
            // Nothing is trimmed beyond what there is.
            CursorValidity::Good if after >= committed => Extent { committed, head: None, trimmed: None },
            CursorValidity::Good => {
                let trimmed = move |store: &dyn Store, filter: &Filter| store.trimmed(filter, after);
                let trimmed = self.0.look(filter, trimmed).await?;
                Extent { committed, head: None, trimmed }
            }
            _ => self.bounds(filter).await?.extent(committed),
        };
        Ok(gap::resume(&epochs, &extent, cursor, known))
    }

    /// A reader of nothing yet, at the tail: the live side of a connection with many subscriptions.
    pub fn open_empty(&self, principal: &Principal, view: View) -> Reader {
        let (start, permission) = (at(self.0.store.newest()), Permission::shared(&self.0, principal));
        let nothing = Arc::new(Filter::union([]));
        Reader::new(self.0.clone(), permission, nothing, start, None, view).already_caught_up()
    }

    pub(super) async fn bounds(&self, filter: &Arc<Filter>) -> Result<Bounds, ReadError> {
        self.0.look(filter, <dyn Store>::bounds).await
    }

    async fn before_last(&self, filter: &Filter, count: usize) -> Result<Position, ReadError> {
        let filter = filter.clone();
        let look = move |store: &dyn Store, _| {
            store.before_last(&filter, store.newest(), Budget::of_messages(count)).map(|window| window.after)
        };
        self.0.readable(self.0.pool.run(READ_BYTES_MAX, Priority::Answer, look).await)
    }

    async fn before_time(&self, time: Timestamp) -> Result<Position, ReadError> {
        let look = move |store: &dyn Store, _| store.before_time(time);
        self.0.readable(self.0.pool.run(READ_BYTES_MAX, Priority::Answer, look).await)
    }
}

fn at(after: Position) -> Resume {
    Resume { after, gap: None }
}
