//! Common parts of the tests of several crates: short ways to apply single writes to a store, as a local order does, and
//! a store on disk that has begun.

use std::path::Path;

use tailwire_core::{
    Store, StoreError,
    log::{Appended, Budget, Group},
    order::begin_epoch,
    store::{Entry, Outcome, Place, Write},
};
use tailwire_model::{Filter, Options, Position, Term, Timestamp, Topic, TrimReason};

use crate::{LogSettings, OpenError, SledStore};

/// Opens a store on disk and begins an epoch in it.
///
/// # Errors
/// Those of [`SledStore::open`], and of an epoch that can't be stored.
pub fn open(dir: &Path, now: Timestamp, settings: &LogSettings) -> Result<SledStore, OpenError> {
    let store = SledStore::open(dir, settings)?;
    begin_epoch(&store, now, 0).map_err(|error| OpenError::Io(error.to_string()))?;
    Ok(store)
}

/// Single writes, each call an entry of its own.
#[allow(clippy::missing_errors_doc, reason = "all are those of `Store::apply`")]
pub trait Writes: Store {
    /// Applies writes as one entry.
    fn write(&self, writes: Vec<Write>, now: Timestamp) -> Result<Vec<Outcome>, StoreError> {
        let first = self.newest().next();
        let place = Place { first, time: now, steady: now, token: self.token(), topics_max: u64::MAX };
        self.apply(vec![Entry { place, writes }], true)
    }

    /// Appends groups.
    fn append(&self, groups: Vec<Group>, now: Timestamp) -> Result<Vec<Appended>, StoreError> {
        let outcomes = self.write(groups.into_iter().map(Write::Publish).collect(), now)?;
        let appended = outcomes.into_iter().filter_map(|outcome| match outcome {
            Outcome::Published(appended) => Some(appended),
            Outcome::Done | Outcome::NoMessage | Outcome::TooManyOptions | Outcome::TooManyTopics => None,
        });
        Ok(appended.collect())
    }

    /// Takes all messages of a topic.
    fn trim(&self, topic: &Topic, reason: TrimReason) -> Result<(), StoreError> {
        let write = match reason {
            TrimReason::Deleted => Write::Delete(topic.clone()),
            _ => Write::Retain(topic.clone(), self.bounds(&Filter::from(topic.clone())).tail),
        };
        self.write(vec![write], Timestamp(0)).map(drop)
    }

    /// Sets options.
    fn set_options(&self, term: &Term, options: Options) -> Result<(), StoreError> {
        self.write(vec![Write::Options(term.clone(), options)], Timestamp(0)).map(drop)
    }

    /// The position after which exactly the `count` newest messages of a filter stand.
    fn before_newest(&self, filter: &Filter, count: usize) -> Result<Position, StoreError> {
        Ok(self.before_last(filter, Position::MAX, Budget::of_messages(count))?.after)
    }

    /// A step of all that comes between commits: what is due is decided and applied, and then the store tidies.
    fn tidy_at(&self, now: Timestamp) -> Result<Option<u64>, StoreError> {
        let (writes, due) = self.due(now)?;
        if !writes.is_empty() {
            self.write(writes, now)?;
        }
        let tidied = self.tidy()?;
        Ok(due.into_iter().chain(tidied).min())
    }

    /// Tidies until nothing is left to do.
    fn tidy_all(&self, now: Timestamp) {
        while self.tidy_at(now).is_ok_and(|again| again == Some(0)) {}
    }
}

impl<S: Store + ?Sized> Writes for S {}
