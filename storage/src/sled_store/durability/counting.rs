//! Changes of chunks and of the small trees, each counted in the manifest, in an order of which every beginning is
//! understood at the next opening.

use tailwire_core::{StoreError, store::Token};
use tailwire_model::Position;

use super::{
    manifest::{Manifest, Shrinking, digest_of},
    tree::{SmallChange, StoreTree},
};
use crate::{
    codec::{ByteReader, Damage, seal, unseal},
    sled_store::{
        failure::{corrupt, failed},
        layout::{
            change::{TreeChange, put_change, take_changes},
            chunk::{Chunk, count_of},
        },
        store::{META_CHANGES, META_COMMITS, SledTrees},
    },
};

/// Bytes of changes that stand under one key, beside the last one's.
const PART_BYTES: usize = 4 << 10;

impl SledTrees {
    /// Changes the trees that every opening reads as a whole: all of the changes are made, or none, also in a crash.
    pub(crate) fn change_small(&self, changes: &[SmallChange<'_>]) -> sled::Result<()> {
        self.write_manifest(&mut self.manifest.lock(), changes)
    }

    /// Changes one entry of them.
    pub(crate) fn put_small(&self, tree: &StoreTree, key: &[u8], value: Vec<u8>) -> sled::Result<()> {
        self.change_small(&[(tree, key.to_vec(), Some(value))])
    }

    /// The digest of all that they hold.
    pub(crate) fn small_digest(&self) -> sled::Result<u64> {
        let mut digest = 0u64;
        for tree in [&self.trims, &self.removed, &self.options, &self.epochs, &self.volatile] {
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
        counted.small = Some(manifest.small.map_or_else(|| self.small_digest(), Ok)?);
        counted.small_writes = manifest.small_writes;
        counted.token = manifest.token.clone();
        *manifest = counted;
        self.write_manifest(&mut manifest, &[])?;
        self.checkpoints.committed(manifest.commits);
        Ok(())
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

    /// Writes the number of a commit, how many messages there are with it, and what it changes of the small trees; `newest` is
    /// the newest position that it stored, if it stored any.
    pub(crate) fn write_commits(
        &self,
        commits: u64,
        newest: Option<Position>,
        changes: &[SmallChange<'_>],
    ) -> sled::Result<()> {
        let mut manifest = self.manifest.lock();
        manifest.commits = commits;
        manifest.newest = newest.unwrap_or(manifest.newest);
        self.write_manifest(&mut manifest, changes)
    }

    /// Writes a manifest. Changes that come with it are written down before it, and made after it: an opening makes those
    /// of the last manifest again, and those of none before it are left to make.
    fn write_manifest(&self, manifest: &mut Manifest, changes: &[SmallChange<'_>]) -> sled::Result<()> {
        manifest.small_parts = 0;
        if !changes.is_empty() {
            if let Some(digest) = &mut manifest.small {
                *digest = digest_after(*digest, changes)?;
            }
            manifest.small_writes += 1;
            manifest.small_parts = self.write_parts(manifest.small_writes, changes)?;
        }
        self.meta.insert(META_COMMITS, manifest.put(META_COMMITS.as_bytes()))?;
        for (tree, key, value) in changes {
            tree.change(key, value.as_deref())?;
        }
        Ok(())
    }

    /// Writes down changes of small trees; answers in how many parts.
    fn write_parts(&self, number: u64, changes: &[SmallChange<'_>]) -> sled::Result<u32> {
        let mut changes = changes.iter().peekable();
        let mut parts = 0u32;
        while changes.peek().is_some() {
            let key = part_key(parts);
            let mut part = number.to_le_bytes().to_vec();
            while part.len() < PART_BYTES
                && let Some((tree, key, value)) = changes.next()
            {
                put_change(&mut part, TreeChange { tree: tree.number(), key, value: value.as_deref() });
            }
            seal(&key, &mut part);
            self.meta.insert(key, part)?;
            parts += 1;
        }
        Ok(parts)
    }

    /// Makes the changes of small trees that belong to the last manifest, if a crash has left some of them to make.
    pub(crate) fn redo_small(&self) -> Result<(), StoreError> {
        let damaged = |Damage(what)| StoreError::Corrupt(format!("a commit's changes: {what}"));
        let (manifest, trees) = (self.known()?, self.trees());
        for number in 0..manifest.small_parts {
            let key = part_key(number);
            let Some(sealed) = self.meta.get(&key).map_err(failed)? else { return Ok(()) };
            let mut reader = ByteReader(unseal(&key, &sealed).map_err(damaged)?);
            if reader.u64().map_err(damaged)? != manifest.small_writes {
                // Of a commit that a crash has cut off; the last one's had been made before.
                return Ok(());
            }
            for change in take_changes(reader.0) {
                let TreeChange { tree, key, value } = change.map_err(damaged)?;
                let tree =
                    trees.get(usize::from(tree)).ok_or(Damage("a change of no tree")).map_err(damaged)?;
                tree.change(key, value).map_err(failed)?;
            }
        }
        Ok(())
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
            self.write_manifest(&mut manifest, &[]).map_err(failed)?;
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

/// The digest after these changes.
fn digest_after(mut digest: u64, changes: &[SmallChange<'_>]) -> sled::Result<u64> {
    for (tree, key, value) in changes {
        let of = |value: &[u8]| digest_of(&tree.name(), key, value);
        let (before, after) = (tree.get(key)?.map(|value| of(&value)), value.as_deref().map(of));
        digest = digest.wrapping_sub(before.unwrap_or(0)).wrapping_add(after.unwrap_or(0));
    }
    Ok(digest)
}

/// Where a part of a commit's changes stands.
fn part_key(number: u32) -> Vec<u8> {
    [META_CHANGES.as_bytes(), &number.to_be_bytes()].concat()
}
