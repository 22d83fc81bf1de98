//! How what is written becomes durable: in a record of the journal, or by a checkpoint of the engine's file; and how an opening
//! does again what the journal has and the engine has not kept.

use std::io;

use tailwire_core::StoreError;
use tailwire_model::Position;
use uuid::Uuid;

use super::{
    journal::{self, Synced},
    tree::SmallChange,
};
use crate::{
    codec::Damage,
    sled_store::{
        failure::failed,
        layout::change::TreeChange,
        store::{META_ID, SledTrees},
    },
};

impl SledTrees {
    /// Ends a commit with its number and its changes of small trees, and records it; durable only after [`SledTrees::sync`].
    pub(crate) fn end_commit(
        &self,
        commits: u64,
        newest: Option<Position>,
        changes: &[SmallChange<'_>],
    ) -> sled::Result<()> {
        self.write_commits(commits, newest, changes)?;
        self.checkpoints.committed(commits);
        Ok(self.journal.record(commits, self.checkpoints.durable())?)
    }

    /// Makes every commit durable that is written.
    pub(crate) fn sync(&self) -> sled::Result<()> {
        if self.checkpoints.is_lost() {
            return self.checkpoints.make();
        }
        match self.journal.sync()? {
            Synced::ByJournal => Ok(()),
            Synced::ByCheckpointOnly => self.checkpoint(),
        }
    }

    /// Makes everything durable that is written, in the engine's own file; between two commits.
    pub(crate) fn checkpoint(&self) -> sled::Result<()> {
        self.journal.pass();
        self.checkpoints.make()?;
        self.journal.restart();
        Ok(())
    }

    /// Does what a crash has left undone of the engine's last commit, and then again what the journal has recorded and the
    /// engine has not kept; before the journal is begun anew.
    pub(crate) fn redo(&self) -> Result<(), StoreError> {
        let id = self.meta.get(META_ID).map_err(failed)?;
        let Some(id) = id.and_then(|id| Uuid::from_slice(&id).ok()) else { return Ok(()) };
        // A checkpoint in the middle of a commit may have kept its number without the changes that come after it: the journal
        // is asked only for later ones, and each of these says that none before it are left to make.
        self.redo_small()?;
        let (run, commits) = (self.run().map_err(failed)?, self.known()?.commits);
        let trees = self.trees();
        let unread = |error: io::Error| StoreError::Failed(format!("its journal can't be read: {error}"));
        for record in journal::records_after(&self.dir, id, run, commits).map_err(unread)? {
            for change in record.changes() {
                let damaged = |Damage(what)| StoreError::Corrupt(format!("its journal: {what}"));
                let TreeChange { tree, key, value } = change.map_err(damaged)?;
                let tree =
                    trees.get(usize::from(tree)).ok_or(Damage("a change of no tree")).map_err(damaged)?;
                tree.change(key, value).map_err(failed)?;
            }
        }
        Ok(())
    }
}
