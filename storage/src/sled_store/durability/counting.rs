//! Changes of chunks and of the small trees, each counted in the manifest, in an order of which every beginning is
//! understood at the next opening.

use tailwire_core::{StoreError, store::Token};
use tailwire_model::Position;

use super::{
    manifest::{Manifest, Shrinking, digest_of},
    tree::{SmallChange, StoreTree},
};
use crate::{
    codec::Damage,
    sled_store::{
        failure::{corrupt, failed},
        layout::chunk::{Chunk, count_of},
        store::{META_COMMITS, SledTrees},
    },
};

/// Changes of small trees that are written down at once.
const CHANGES_AT_ONCE: usize = 64;

impl SledTrees {
    /// Changes the trees that every opening reads as a whole.
    pub(crate) fn change_small(&self, changes: &[SmallChange<'_>]) -> sled::Result<()> {
        let mut manifest = self.manifest.lock();
        for changes in changes.chunks(CHANGES_AT_ONCE) {
            if let Some(&digest) = manifest.small.last() {
                manifest.small = digests_after(digest, changes)?;
                self.write_manifest(&manifest)?;
            }
            for (tree, key, value) in changes {
                match value {
                    Some(value) => tree.insert(key, value.as_slice())?,
                    None => tree.remove(key)?,
                };
            }
            manifest.small = manifest.small.last().copied().into_iter().collect();
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

    /// Goes on from a manifest of what an opening has counted. The small trees are as they are known, or as they stand.
    pub(crate) fn begin_manifest(&self, mut counted: Manifest) -> sled::Result<()> {
        let mut manifest = self.manifest.lock();
        counted.small = std::mem::take(&mut manifest.small);
        counted.token = manifest.token.clone();
        if counted.small.is_empty() {
            counted.small.push(self.small_digest()?);
        }
        *manifest = counted;
        self.write_manifest(&manifest)?;
        self.checkpoints.committed(manifest.commits);
        Ok(())
    }

    /// All chunks up to here are written; the next change of the manifest says so.
    pub(crate) fn stored_upto(&self, newest: Option<Position>) {
        let mut manifest = self.manifest.lock();
        manifest.newest = newest.unwrap_or(manifest.newest);
    }

    /// Writes a new chunk.
    pub(crate) fn put_chunk(&self, first: Position, value: Vec<u8>) -> sled::Result<()> {
        let count = count_of(&value);
        self.chunks.insert(first.0.to_be_bytes(), value)?;
        self.manifest.lock().add(first, count);
        Ok(())
    }

    /// The token of the last commit.
    pub(crate) fn token(&self) -> Token {
        self.manifest.lock().token.clone()
    }

    /// The next commit has this token.
    pub(crate) fn put_token(&self, token: &Token) {
        let mut manifest = self.manifest.lock();
        if manifest.token != *token {
            manifest.token = token.clone();
        }
    }

    /// Writes the number of a commit, and how many messages there are with it; `newest` is the newest position that it
    /// stored, if it stored any.
    pub(crate) fn write_commits(&self, commits: u64, newest: Option<Position>) -> sled::Result<()> {
        let mut manifest = self.manifest.lock();
        manifest.commits = commits;
        manifest.newest = newest.unwrap_or(manifest.newest);
        self.write_manifest(&manifest)
    }

    fn write_manifest(&self, manifest: &Manifest) -> sled::Result<()> {
        self.meta.insert(META_COMMITS, manifest.put(META_COMMITS.as_bytes())).map(drop)
    }

    /// The manifest of the last commit. A log without one has no messages.
    pub(crate) fn known(&self) -> Result<Manifest, StoreError> {
        let Some(value) = self.meta.get(META_COMMITS).map_err(failed)? else {
            return Ok(Manifest::default());
        };
        let known = Manifest::take(META_COMMITS.as_bytes(), &value);
        let known = known
            .map_err(|Damage(what)| StoreError::Corrupt(format!("the number of the last commit: {what}")));
        let mut manifest = known?;
        self.resolve_shrinking(&mut manifest)?;
        Ok(manifest)
    }

    /// Finds out what became of a chunk that was shrinking.
    fn resolve_shrinking(&self, manifest: &mut Manifest) -> Result<(), StoreError> {
        if let Some(Shrinking { first, before, .. }) = manifest.shrinking {
            let found = self.chunks.get(first.0.to_be_bytes()).map_err(failed)?;
            let chunk = found.map(|value| Chunk::open(first, &value)).transpose();
            let chunk = chunk.map_err(|damage| corrupt("chunk", first, damage))?;
            manifest.end_shrinking(chunk.is_none_or(|chunk| chunk.count != before));
        }
        Ok(())
    }

    /// Takes messages out of a chunk: `rest` is what becomes of it, or nothing, and `count` how many records that has. The
    /// last chunk stays there, also without messages, until there is another: by its end it is known that the end of the
    /// log was not lost.
    pub(crate) fn shrink(&self, chunk: &Chunk, rest: Option<Vec<u8>>, count: u16) -> Result<(), StoreError> {
        let (first, before) = (chunk.first, chunk.count);
        let mut manifest = self.manifest.lock();
        // One that failed before.
        self.resolve_shrinking(&mut manifest)?;
        if count != before {
            manifest.begin_shrinking(Shrinking { first, before, after: count });
            self.write_manifest(&manifest).map_err(failed)?;
        }
        let key = first.0.to_be_bytes();
        let is_empty = rest.is_some() && count == 0;
        match rest {
            Some(rest) => self.chunks.insert(key, rest).map_err(failed)?,
            None => self.chunks.remove(key).map_err(failed)?,
        };
        manifest.end_shrinking(true);
        if is_empty {
            *self.empty_chunk.lock() = Some(first);
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
