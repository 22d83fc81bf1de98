//! Logs for the conformance suite: stores behind an order. What a case applies goes through the order, write by write; what it
//! reads is the store's. Cases count messages: positions that an order leaves out are numbered away.

#![allow(clippy::unwrap_used)]

mod local;
mod replicated;

use std::sync::Arc;

use tailwire_core::{
    Store, StoreError, WriteError,
    log::{Appended, Bounds, Budget, Feed, LogStats, StorePage, Stored, TopicInfo, Window},
    store::{Entry, Outcome, Token, Write},
};
use tailwire_model::{
    Condition, Cursor, EpochStart, Epochs, Filter, Message, Opening, Position, Rules, Timestamp, Trim,
    admission::KeyRecord,
};
use tokio::sync::oneshot::Receiver;

pub(crate) use self::{
    local::{InMemory, Local, OnSled},
    replicated::Replicas,
};

/// An order, as far as cases need one.
pub(crate) trait Ordered: Send + Sync + 'static {
    /// The store that is read.
    fn store(&self) -> &dyn Store;

    /// Orders and applies writes; the clocks show `now`.
    fn submit(&self, writes: Vec<Write>, now: Timestamp) -> Result<Vec<Outcome>, StoreError>;

    /// A step of tidying of every store.
    fn tidy(&self) -> Result<Option<u64>, StoreError> {
        self.store().tidy()
    }

    /// How many messages stand up to a position.
    fn number(&self, position: Position) -> Position {
        position
    }

    /// The position of a message of this number.
    fn position(&self, number: Position) -> Position {
        number
    }
}

/// The outcome of a write that was applied by now.
fn outcome(mut done: Receiver<Result<Outcome, WriteError>>) -> Result<Outcome, StoreError> {
    match done.try_recv() {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(WriteError::TooManyOptions)) => Ok(Outcome::TooManyOptions),
        Ok(Err(WriteError::Draining)) => Err(StoreError::Closed),
        Ok(Err(error)) => Err(StoreError::Failed(error.to_string())),
        Err(_) => Err(StoreError::Unknown("it was not applied".into())),
    }
}

/// An order as a store, for cases that are written for stores.
pub(crate) struct Log<O>(O);

impl<O: Ordered> Log<O> {
    fn cursor(&self, cursor: Cursor) -> Cursor {
        Cursor { position: self.0.number(cursor.position), ..cursor }
    }

    fn trim(&self, trim: Option<Trim>) -> Option<Trim> {
        trim.map(|trim| Trim { upto: self.0.number(trim.upto), ..trim })
    }

    fn message(&self, mut message: Message) -> Message {
        message.cursor = self.cursor(message.cursor);
        message
    }

    fn stored(&self, stored: Stored) -> Stored {
        Stored { first: self.cursor(stored.first), ..stored }
    }

    /// A write with the order's positions, or with numbers.
    fn renumbered(write: Write, renumber: impl Fn(Position) -> Position) -> Write {
        match write {
            Write::Publish(mut group) => {
                if let Condition::NothingAfter(cursor) = &mut group.condition {
                    cursor.position = renumber(cursor.position);
                }
                Write::Publish(group)
            }
            Write::Retain(topic, upto) => Write::Retain(topic, renumber(upto)),
            Write::Forget(topic, upto) => Write::Forget(topic, renumber(upto)),
            Write::Compact(topic, after, upto) => Write::Compact(topic, renumber(after), renumber(upto)),
            Write::Remove(mut cursor, reason) => {
                cursor.position = renumber(cursor.position);
                Write::Remove(cursor, reason)
            }
            other => other,
        }
    }
}

impl<O: Ordered> Store for Log<O> {
    fn found(&self) -> Opening {
        self.0.store().found()
    }

    fn token(&self) -> Token {
        Token::default()
    }

    fn newest(&self) -> Position {
        self.0.number(self.0.store().newest())
    }

    fn epochs(&self) -> Arc<Epochs> {
        let epochs = self.0.store().epochs();
        let numbered = |start: &EpochStart| {
            let first = self.0.number(start.first.previous()).next();
            EpochStart { first, ..*start }
        };
        Arc::new(Epochs::new(epochs.starts().iter().map(numbered).collect()).unwrap())
    }

    fn rules(&self) -> Arc<Rules> {
        self.0.store().rules()
    }

    fn apply(&self, entries: Vec<Entry>, _: bool) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = Vec::new();
        for Entry { place, writes } in entries {
            let position = |number| self.0.position(number);
            let writes = writes.into_iter().map(|write| Self::renumbered(write, position)).collect();
            outcomes.extend(self.0.submit(writes, place.time)?.into_iter().map(|outcome| match outcome {
                Outcome::Published(Appended::Stored(stored)) => {
                    Outcome::Published(Appended::Stored(self.stored(stored)))
                }
                Outcome::Published(Appended::Replayed(stored)) => {
                    Outcome::Published(Appended::Replayed(self.stored(stored)))
                }
                Outcome::Published(Appended::ConditionFailed(cursor)) => {
                    Outcome::Published(Appended::ConditionFailed(self.cursor(cursor)))
                }
                other => other,
            }));
        }
        Ok(outcomes)
    }

    fn due(&self, now: Timestamp) -> Result<(Vec<Write>, Option<u64>), StoreError> {
        let (writes, again) = self.0.store().due(now)?;
        let number = |position| self.0.number(position);
        Ok((writes.into_iter().map(|write| Self::renumbered(write, number)).collect(), again))
    }

    fn tidy(&self) -> Result<Option<u64>, StoreError> {
        self.0.tidy()
    }

    fn follow(&self, feed: Arc<dyn Feed>) -> Position {
        self.0.number(self.0.store().follow(feed))
    }

    fn read(
        &self,
        filter: &Filter,
        after: Position,
        upto: Position,
        budget: Budget,
    ) -> Result<StorePage, StoreError> {
        let (after, upto) = (self.0.position(after), self.0.position(upto));
        let page = self.0.store().read(filter, after, upto, budget)?;
        Ok(StorePage {
            messages: page.messages.into_iter().map(|message| self.message(message)).collect(),
            scanned: self.0.number(page.scanned),
            trimmed: self.trim(page.trimmed),
        })
    }

    fn before_last(&self, filter: &Filter, upto: Position, budget: Budget) -> Result<Window, StoreError> {
        let window = self.0.store().before_last(filter, self.0.position(upto), budget)?;
        Ok(Window { after: self.0.number(window.after), ..window })
    }

    fn before_time(&self, time: Timestamp) -> Result<Position, StoreError> {
        Ok(self.0.number(self.0.store().before_time(time)?))
    }

    fn get(&self, number: Position) -> Result<Option<Message>, StoreError> {
        let message = self.0.store().get(self.0.position(number))?;
        Ok(message.map(|message| self.message(message)))
    }

    fn bounds(&self, filter: &Filter) -> Bounds {
        let bounds = self.0.store().bounds(filter);
        Bounds {
            head: bounds.head.map(|head| self.0.number(head)),
            tail: self.0.number(bounds.tail),
            trimmed: self.trim(bounds.trimmed),
            cleared: self.trim(bounds.cleared),
            ..bounds
        }
    }

    fn trimmed(&self, filter: &Filter, after: Position) -> Option<Trim> {
        self.trim(self.0.store().trimmed(filter, self.0.position(after)))
    }

    fn topics(&self, prefix: &str, from: Option<&str>, limit: usize) -> Vec<TopicInfo> {
        let number = |info: TopicInfo| TopicInfo {
            head: info.head.map(|head| self.0.number(head)),
            tail: self.0.number(info.tail),
            ..info
        };
        self.0.store().topics(prefix, from, limit).into_iter().map(number).collect()
    }

    fn keys(&self, visit: &mut dyn FnMut(&str, &KeyRecord)) -> Result<(), StoreError> {
        self.0.store().keys(visit)
    }

    fn stats(&self) -> LogStats {
        self.0.store().stats()
    }

    fn close(&self) -> Result<(), StoreError> {
        self.0.store().close()
    }
}
