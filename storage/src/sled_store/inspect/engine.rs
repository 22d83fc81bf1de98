//! The engine on a copy of the log's files. It asserts what it reads, so whatever is asked of it may end in a
//! panic; here that is an answer like others.

use std::{
    fs::OpenOptions,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use sled::{IVec, Tree};
use tailwire_model::{Epoch, Position};

use super::Findings;
use crate::sled_store::{
    failure::{failed, guarded},
    layout::{
        chunk::Chunk,
        values::{fragment_key, take_fragment},
    },
    maintenance::snapshots,
    opening::{
        count::{Count, Missing},
        engine::open_db,
    },
    store::SledTrees,
};

/// The store in a copy.
pub(super) struct Engine(SledTrees);

/// The engine does not read on.
#[derive(Debug)]
pub(super) struct Tripped;

impl Engine {
    /// Opens a copy, if the engine takes it.
    pub(super) fn open(copy: &Path, findings: &mut Findings) -> Option<Self> {
        if snapshots::damaged(copy).is_ok_and(|damaged| !damaged.is_empty()) {
            findings.damage(None, "the engine's snapshot is damaged; it opens its files without it");
        }
        if let Some(store) = open_store(copy) {
            return Some(Self(store));
        }
        // Only its snapshot may be damaged, and the engine can do without.
        if snapshots::remove_all(copy).is_ok_and(|count| count > 0)
            && let Some(store) = open_store(copy)
        {
            findings
                .damage(None, "the engine refuses its files with their snapshot; it opens them without it");
            return Some(Self(store));
        }
        findings.damage(None, "the engine refuses its files");
        None
    }

    pub(super) fn store(&self) -> &SledTrees {
        &self.0
    }

    /// Reads all chunks and fragments. Answers the newest position, and whether messages are missing before it; or nothing
    /// where any of them is damaged.
    pub(super) fn probe(&self) -> Option<(Position, Option<Missing>)> {
        let mut newest = Position::ZERO;
        let mut count = Count::new(guarded(|| self.0.known()).ok()?);
        for entry in entries(&self.0.chunks) {
            let chunk = open_chunk(&entry.ok()?)?;
            count.see(&chunk);
            newest = chunk.last;
        }
        for entry in entries(&self.0.fragments) {
            let (key, value) = entry.ok()?;
            take_fragment(&key, &value).ok()?;
        }
        Some((newest, count.missing()))
    }

    /// Whether the small trees hold what they should, if that is known.
    pub(super) fn has_small(&self) -> Option<bool> {
        let known = guarded(|| self.0.known()).ok()?.small?;
        let digest = guarded(|| self.0.small_digest().map_err(failed));
        Some(digest == Ok(known))
    }

    /// The chunks, oldest first; after a [`Engine::probe`] that found no damage.
    pub(super) fn chunks(&self) -> impl Iterator<Item = Chunk> {
        entries(&self.0.chunks).map_while(|entry| open_chunk(&entry.ok()?))
    }

    /// A fragment of a message.
    pub(super) fn fragment(&self, position: Position, number: u32, epoch: Epoch) -> Option<Vec<u8>> {
        let key = fragment_key(position, number);
        let value = catch_unwind(AssertUnwindSafe(|| self.0.fragments.get(key))).ok()?.ok()??;
        let (found, bytes) = take_fragment(&key, &value).ok()?;
        (found == epoch).then(|| bytes.to_vec())
    }

    /// The positions of all fragments.
    pub(super) fn fragmented(&self) -> impl Iterator<Item = Position> {
        let keys = entries(&self.0.fragments).map_while(Result::ok);
        let position = |key: &[u8]| key.first_chunk().map(|first| Position(u64::from_be_bytes(*first)));
        keys.filter_map(move |(key, _)| position(&key))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // When it is dropped it syncs, and panics if it can't: a copy that goes now needs no sync.
        std::mem::forget(self.0.db.clone());
    }
}

fn open_store(copy: &Path) -> Option<SledTrees> {
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let db = open_db(copy).ok()?;
        let file = OpenOptions::new().read(true).write(true).open(copy.join("db")).ok()?;
        let store = SledTrees::new(db, Box::new(file), copy).ok()?;
        // Where that fails, what is missing of the end is missed there.
        let _ = guarded(|| store.redo());
        Some(store)
    }));
    opened.ok().flatten()
}

fn open_chunk((key, value): &(IVec, IVec)) -> Option<Chunk> {
    let first = u64::from_be_bytes(key.as_ref().try_into().ok()?);
    Chunk::open(Position(first), value).ok()
}

/// The entries of a tree, up to where the engine trips.
pub(super) fn entries(tree: &Tree) -> impl Iterator<Item = Result<(IVec, IVec), Tripped>> {
    let mut entries = tree.iter();
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        match catch_unwind(AssertUnwindSafe(|| entries.next())) {
            Ok(None) => None,
            Ok(Some(Ok(entry))) => Some(Ok(entry)),
            Ok(Some(Err(_))) | Err(_) => {
                is_over = true;
                Some(Err(Tripped))
            }
        }
    })
}
