//! What changes chunks, and so the tally of them: each change of the one is written down in the other, in an order of which
//! every beginning is understood at the next opening.

use tailwire_core::{StoreError, store::Token};
use tailwire_model::Position;

use super::{
    tally::{Shrinking, Tally, digest_of},
    tree::StoreTree,
};
use crate::{
    codec::Damage,
    sled_store::{
        layout::chunk::{Chunk, count_of},
        store::{META_COMMITS, Store, corrupt, failed},
    },
};

/// Changes of small trees that are written down at once.
const CHANGES_AT_ONCE: usize = 64;

/// An entry of a small tree, and its value from here on, if it is to have one.
pub(crate) type SmallChange<'a> = (&'a StoreTree, Vec<u8>, Option<Vec<u8>>);

impl Store {
    /// Changes the trees that every opening reads as a whole.
    pub(crate) fn change_small(&self, changes: &[SmallChange<'_>]) -> sled::Result<()> {
        let mut tally = self.tally.lock();
        for changes in changes.chunks(CHANGES_AT_ONCE) {
            if let Some(&digest) = tally.small.last() {
                tally.small = digests_after(digest, changes)?;
                self.write_tally(&tally)?;
            }
            for (tree, key, value) in changes {
                match value {
                    Some(value) => tree.insert(key, value.as_slice())?,
                    None => tree.remove(key)?,
                };
            }
            tally.small = tally.small.last().copied().into_iter().collect();
        }
        Ok(())
    }

    /// Changes one entry of them.
    pub(crate) fn put_small(&self, tree: &StoreTree, key: &[u8], value: Vec<u8>) -> sled::Result<()> {
        self.change_small(&[(tree, key.to_vec(), Some(value))])
    }

    /// The digest of all that they hold.
    pub(crate) fn small_digest(&self) -> sled::Result<u64> {
        let mut digest = 0u64;
        for tree in [&self.trims, &self.options, &self.epochs, &self.volatile] {
            let name = tree.name();
            for entry in tree.iter() {
                let (key, value) = entry?;
                digest = digest.wrapping_add(digest_of(&name, &key, &value));
            }
        }
        Ok(digest)
    }

    /// Goes on from a tally of what an opening has counted. The small trees are as they are known, or as they stand.
    pub(crate) fn begin_tally(&self, mut counted: Tally) -> sled::Result<()> {
        let mut tally = self.tally.lock();
        counted.small = std::mem::take(&mut tally.small);
        counted.token = tally.token.clone();
        if counted.small.is_empty() {
            counted.small.push(self.small_digest()?);
        }
        *tally = counted;
        self.write_tally(&tally)?;
        self.checkpoints.committed(tally.commits);
        Ok(())
    }

    /// All chunks up to here are written; the next change of the tally says so.
    pub(crate) fn stored_upto(&self, newest: Option<Position>) {
        let mut tally = self.tally.lock();
        tally.newest = newest.unwrap_or(tally.newest);
    }

    /// Writes a new chunk.
    pub(crate) fn put_chunk(&self, first: Position, value: Vec<u8>) -> sled::Result<()> {
        let count = count_of(&value);
        self.chunks.insert(first.0.to_be_bytes(), value)?;
        self.tally.lock().add(first, count);
        Ok(())
    }

    /// The token of the last commit.
    pub(crate) fn token(&self) -> Token {
        self.tally.lock().token.clone()
    }

    /// The next commit has this token.
    pub(crate) fn put_token(&self, token: &Token) {
        let mut tally = self.tally.lock();
        if tally.token != *token {
            tally.token = token.clone();
        }
    }

    /// Writes the number of a commit, and how many messages there are with it; `newest` is the newest position that it
    /// stored, if it stored any.
    pub(crate) fn write_commits(&self, commits: u64, newest: Option<Position>) -> sled::Result<()> {
        let mut tally = self.tally.lock();
        tally.commits = commits;
        tally.newest = newest.unwrap_or(tally.newest);
        self.write_tally(&tally)
    }

    fn write_tally(&self, tally: &Tally) -> sled::Result<()> {
        self.meta.insert(META_COMMITS, tally.put(META_COMMITS.as_bytes())).map(drop)
    }

    /// What is known of the last commit. A log without one has no messages.
    pub(crate) fn known(&self) -> Result<Tally, StoreError> {
        let Some(value) = self.meta.get(META_COMMITS).map_err(failed)? else {
            return Ok(Tally::default());
        };
        let known = Tally::take(META_COMMITS.as_bytes(), &value);
        let known = known
            .map_err(|Damage(what)| StoreError::Corrupt(format!("the number of the last commit: {what}")));
        let mut tally = known?;
        self.settle(&mut tally)?;
        Ok(tally)
    }

    /// Finds out what became of a chunk that was shrinking.
    fn settle(&self, tally: &mut Tally) -> Result<(), StoreError> {
        if let Some(Shrinking { first, before, .. }) = tally.shrinking {
            let found = self.chunks.get(first.0.to_be_bytes()).map_err(failed)?;
            let chunk = found.map(|value| Chunk::open(first, &value)).transpose();
            let chunk = chunk.map_err(|damage| corrupt("chunk", first, damage))?;
            tally.end_shrinking(chunk.is_none_or(|chunk| chunk.count != before));
        }
        Ok(())
    }

    /// Takes messages out of a chunk: `rest` is what becomes of it, or nothing, and `count` how many records that has. The
    /// last chunk stays there, also without messages, until there is another: by its end it is known that the end of the
    /// log was not lost.
    pub(crate) fn shrink(&self, chunk: &Chunk, rest: Option<Vec<u8>>, count: u16) -> Result<(), StoreError> {
        let (first, before) = (chunk.first, chunk.count);
        let mut tally = self.tally.lock();
        // One that failed before.
        self.settle(&mut tally)?;
        if count != before {
            tally.begin_shrinking(Shrinking { first, before, after: count });
            self.write_tally(&tally).map_err(failed)?;
        }
        let key = first.0.to_be_bytes();
        let is_hollow = rest.is_some() && count == 0;
        match rest {
            Some(rest) => self.chunks.insert(key, rest).map_err(failed)?,
            None => self.chunks.remove(key).map_err(failed)?,
        };
        tally.end_shrinking(true);
        if is_hollow {
            *self.hollow.lock() = Some(first);
        }
        Ok(())
    }
}

/// The digest as it is, and after each of these changes.
fn digests_after(mut digest: u64, changes: &[SmallChange<'_>]) -> sled::Result<Vec<u64>> {
    let mut digests = vec![digest];
    for (tree, key, value) in changes {
        let of = |value: &[u8]| digest_of(&tree.name(), key, value);
        let (before, after) = (tree.get(key)?.map(|value| of(&value)), value.as_deref().map(of));
        digest = digest.wrapping_sub(before.unwrap_or(0)).wrapping_add(after.unwrap_or(0));
        digests.push(digest);
    }
    Ok(digests)
}
