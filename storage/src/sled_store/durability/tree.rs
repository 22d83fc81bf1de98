//! A tree of the store. Whatever changes one goes through here: the change is noted for the journal, and the engine is kept
//! from writing more than it may between two checkpoints.

use std::{ops::Deref, sync::Arc};

use sled::{IVec, Tree};

use super::{checkpoint::Checkpoints, journal::Journal};

/// The trees, in the order of the numbers by which the journal names them: this order stays.
pub(crate) const TREES: [&str; 13] = [
    "meta",
    "epochs",
    "trims",
    "keys",
    "latest",
    "volatile",
    "options",
    "chunks",
    "fragments",
    "topics",
    "postings",
    "removed",
    "lifetimes",
];

/// A tree that is read as it is, and changed only by what stands here.
pub(crate) struct StoreTree {
    tree: Tree,
    number: u8,
    journal: Arc<Journal>,
    checkpoints: Arc<Checkpoints>,
}

/// An entry of a small tree, and its value from here on, if it is to have one.
pub(crate) type SmallChange<'a> = (&'a StoreTree, Vec<u8>, Option<Vec<u8>>);

impl StoreTree {
    pub(crate) const fn new(
        tree: Tree,
        number: u8,
        journal: Arc<Journal>,
        checkpoints: Arc<Checkpoints>,
    ) -> Self {
        Self { tree, number, journal, checkpoints }
    }

    /// Its number in [`TREES`].
    pub(crate) const fn number(&self) -> u8 {
        self.number
    }

    /// Writes a value, and returns the one that stood there.
    pub(crate) fn insert(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> sled::Result<Option<IVec>> {
        self.change(key.as_ref(), Some(value.as_ref()))
    }

    /// Removes a value, and returns it.
    pub(crate) fn remove(&self, key: impl AsRef<[u8]>) -> sled::Result<Option<IVec>> {
        self.change(key.as_ref(), None)
    }

    /// Writes a value, or removes what stands there, and returns that.
    pub(crate) fn change(&self, key: &[u8], value: Option<&[u8]>) -> sled::Result<Option<IVec>> {
        self.checkpoints.wrote(value.map_or(0, <[u8]>::len))?;
        // Noted in the order in which it is done.
        let before = self.journal.note(self.number, key, value, || self.change_unnoted(key, value))?;
        self.checkpoints.replaced(before.as_ref().map_or(0, |value| value.len()));
        Ok(before)
    }

    /// Does so for what the journal doesn't need, and where what is written is counted otherwise.
    pub(crate) fn change_unnoted(&self, key: &[u8], value: Option<&[u8]>) -> sled::Result<Option<IVec>> {
        match value {
            Some(value) => self.tree.insert(key, value),
            None => self.tree.remove(key),
        }
    }
}

impl Deref for StoreTree {
    type Target = Tree;

    fn deref(&self) -> &Tree {
        &self.tree
    }
}
