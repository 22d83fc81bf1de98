//! The folder of a node's store: a copy, which is made again where the stream does not go on from it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tailwire_core::Store;
use tailwire_jetstream::{Checkpoint, CheckpointError, Cluster, LogCheckpoints};
use tailwire_storage::{LogSettings, OpenError, SledStore};
use tokio::runtime::Handle;

use super::error::ClusterError;

/// The node's store.
#[derive(Debug, Clone)]
pub(super) struct ReplicaFolder {
    pub(super) folder: PathBuf,
    pub(super) log: LogSettings,
}

impl ReplicaFolder {
    /// Opens it. One that is not what was written is made again: it is a copy.
    pub(super) async fn open(&self) -> Result<Arc<SledStore>, ClusterError> {
        match self.try_open().await {
            Err(ClusterError::Open {
                error: error @ (OpenError::Corrupt(_) | OpenError::Short(_)), ..
            }) => {
                tracing::warn!(%error, "the node's store is made again from the stream");
                self.remove()?;
                self.try_open().await
            }
            opened => opened,
        }
    }

    /// The store with which the node follows the stream: this one, or, where there is nothing in it yet or the stream does not go
    /// back as far, one that is made of the newest checkpoint that is good. Answers that too.
    pub(super) async fn open_for(
        &self,
        store: Arc<SledStore>,
        cluster: &Cluster,
    ) -> Result<(Arc<SledStore>, Option<Checkpoint>), ClusterError> {
        if !cluster.needs_checkpoint(&*store) {
            return Ok((store, None));
        }
        let checkpoints = cluster.checkpoints();
        let found = checkpoints.list().await?;
        if found.is_empty() {
            return Ok((store, None));
        }
        close(store);
        for checkpoint in found {
            let (sequence, folder) = (checkpoint.sequence, self.folder.display());
            match self.restore(cluster, &checkpoints, &checkpoint).await {
                Ok(()) => {
                    tracing::info!(sequence, %folder, "a store begins with a checkpoint");
                    return Ok((self.try_open().await?, Some(checkpoint)));
                }
                Err(error) => {
                    tracing::warn!(sequence, %folder, %error, "a checkpoint is not good: an older one is tried");
                }
            }
        }
        Ok((self.open().await?, None))
    }

    /// Puts a store that is made of a checkpoint in the place of this one, once it was opened, and is what the checkpoint says.
    async fn restore(
        &self,
        cluster: &Cluster,
        checkpoints: &LogCheckpoints,
        checkpoint: &Checkpoint,
    ) -> Result<(), ClusterError> {
        let new = Self { folder: self.new_folder(), log: self.log.clone() };
        new.remove()?;
        let (own, into, of) = (checkpoints.clone(), new.folder.clone(), checkpoint.clone());
        let handle = Handle::current();
        let restored = tokio::task::spawn_blocking(move || {
            let mut reader = own.read(&of);
            SledStore::restore(&into, || handle.block_on(reader.next()).map_err(io::Error::other))
        });
        let restored = restored.await.map_err(|error| ClusterError::Threads(io::Error::other(error)))?;
        let checked = match restored {
            Ok(()) => new.check(cluster, checkpoint).await,
            Err(error) => Err(CheckpointError::Io(error).into()),
        };
        if checked.is_err() {
            new.remove()?;
            return checked;
        }
        self.remove()?;
        fs::rename(&new.folder, &self.folder)
            .map_err(|error| ClusterError::Remove { folder: display(&self.folder), error })
    }

    /// That the stream goes on from it, and it is the checkpoint's.
    async fn check(&self, cluster: &Cluster, checkpoint: &Checkpoint) -> Result<(), ClusterError> {
        let store = self.try_open().await?;
        let checked = cluster.check(&*store, checkpoint);
        close(store);
        checked.map_err(|error| ClusterError::Join { error })
    }

    async fn try_open(&self) -> Result<Arc<SledStore>, ClusterError> {
        let (folder, log) = (self.folder.clone(), self.log.clone());
        let opened = tokio::task::spawn_blocking(move || SledStore::open(&folder, &log)).await;
        let opened = opened.map_err(|error| ClusterError::Threads(io::Error::other(error)))?;
        opened.map(Arc::new).map_err(|error| ClusterError::Open { folder: display(&self.folder), error })
    }

    /// Puts it out of the way, once it is closed: what it has is not what others have, and the next start makes it again. It stays
    /// for those who look for the reason.
    pub(super) fn set_aside(&self) {
        let aside = self.folder.with_extension("diverged");
        let _ = fs::remove_dir_all(&aside);
        match fs::rename(&self.folder, &aside) {
            Ok(()) => tracing::warn!(
                folder = %aside.display(),
                "the node's store was set aside, and its next start makes it again from the stream"
            ),
            Err(error) => tracing::error!(%error, "the node's store could not be set aside: delete it"),
        }
    }

    /// Removes it, and what a crash may have left of a checkpoint that was to take its place.
    pub(super) fn clear(&self) -> Result<(), ClusterError> {
        self.remove()?;
        remove(&self.new_folder())
    }

    pub(super) fn remove(&self) -> Result<(), ClusterError> {
        remove(&self.folder)
    }

    fn new_folder(&self) -> PathBuf {
        self.folder.with_extension("new")
    }
}

/// Closes a store that nobody else has. That it fails is no reason to stop: it is made again, or opened as after a crash.
#[allow(clippy::needless_pass_by_value, reason = "the engine lets go of its files once this is dropped")]
fn close(store: Arc<SledStore>) {
    if let Err(error) = store.close() {
        tracing::warn!(%error, "a copy of the log could not be closed");
    }
}

fn remove(folder: &Path) -> Result<(), ClusterError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ClusterError::Remove { folder: display(folder), error })
        }
        _ => Ok(()),
    }
}

fn display(path: &Path) -> String {
    path.display().to_string()
}
