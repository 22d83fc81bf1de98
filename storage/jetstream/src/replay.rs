//! Following the stream with a store of which nobody is served: its entries are applied, and nothing is written to it. So the
//! copy is brought up to date that a checkpoint is made of; and a checkpoint's store is compared with the stream here.

use std::{io, sync::Arc};

use tailwire_core::{
    Store, StoreError,
    store::{Entry, Write},
};
use tokio::task::spawn_blocking;

use crate::{
    checkpoint::Checkpoint,
    feed::read_patiently,
    message::StreamMessage,
    order::{Cluster, JoinError, replica_of},
    replica::{Divergence, Replica, StreamVerdict},
};

/// Where a store stands in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// The message of the stream up to which it has everything.
    pub sequence: u64,
    /// The first that is needed to go on from there.
    pub needs: u64,
}

impl Stand {
    /// That of a store.
    ///
    /// # Errors
    /// When its token is not to be gone on from.
    pub fn of(store: &dyn Store) -> Result<Self, Divergence> {
        let replica = Replica::resume(&store.token())?;
        Ok(Self { sequence: replica.applied().sequence, needs: replica.next() })
    }
}

impl Cluster {
    /// Applies to a store, which nobody else applies to, what the stream has, up to its newest message as of the connection. It is
    /// a copy, as a node's own is; nobody is answered, and retention is not decided.
    ///
    /// # Errors
    /// A [`JoinError`].
    pub async fn replay(&self, store: &Arc<dyn Store>) -> Result<(), JoinError> {
        let mut replica = replica_of(&**store, &self.info)?;
        while replica.next() <= self.info.last {
            let next = replica.next();
            let batch = read_patiently(&self.link, &self.link.names.stream, next).await?;
            let mut entries = Vec::new();
            for StreamMessage { sequence, time, bytes } in batch {
                if sequence != replica.next() {
                    return Err(Divergence::Missing { needed: replica.next(), found: sequence }.into());
                }
                if let StreamVerdict::Applies(place, writes) = replica.take(sequence, time, &bytes)?.verdict
                    && !writes.is_empty()
                {
                    entries.push(Entry { place, writes });
                }
            }
            if !store.has_room(bytes_of(&entries)) {
                return Err(JoinError::NoRoom);
            }
            let (own, failed) =
                (store.clone(), |error: StoreError| Divergence::Store(next, error.to_string()));
            let applied = spawn_blocking(move || {
                if !entries.is_empty() {
                    own.apply(entries, false)?;
                }
                while own.needs_tidying() && own.tidy()? == Some(0) {}
                Ok(())
            });
            applied.await.map_err(|error| JoinError::Threads(io::Error::other(error)))?.map_err(failed)?;
        }
        Ok(())
    }

    /// Whether a store lacks messages that the stream has no more, or has nothing yet: then a checkpoint is a better beginning.
    pub fn needs_checkpoint(&self, store: &dyn Store) -> bool {
        match replica_of(store, &self.info) {
            Ok(replica) => replica.next() == 1,
            Err(JoinError::Diverged(Divergence::Purged { .. })) => true,
            Err(_) => false,
        }
    }

    /// Whether a store is that of a checkpoint, and the stream goes on from it.
    ///
    /// # Errors
    /// When it is another one, or the stream does not.
    pub fn check(&self, store: &dyn Store, checkpoint: &Checkpoint) -> Result<(), JoinError> {
        let replica = replica_of(store, &self.info)?;
        if replica.applied().sequence != checkpoint.sequence {
            return Err(Divergence::Token("it is not what the checkpoint says").into());
        }
        Ok(())
    }
}

fn bytes_of(entries: &[Entry]) -> usize {
    entries.iter().flat_map(|entry| &entry.writes).map(Write::cost).sum()
}
