//! The acknowledged state of a log, and whether the store still has it: the watermark against the store. It changes nothing
//! of what the store holds; that is `open`'s.

use std::{fs::File, path::Path};

use tailwire_model::Position;
use uuid::Uuid;

use super::{
    count::Count,
    error::{OpenError, corrupt, failed, not_writable},
};
use crate::{
    codec::Damage,
    sled_store::{
        durability::{
            journal::Journal,
            manifest::Manifest,
            watermark::{CommitMark, Watermark},
        },
        layout::values::{EVERY_TOPIC, put_lost, take_lost},
        store::SledTrees,
    },
};

/// The trees that an opening reads as a whole are other than they were.
pub(crate) const SMALL_CHANGED: &str = "its trims, options or epochs are not those that were stored";

/// The last epoch is the greatest that there is. No clock leads there.
pub(crate) const NO_EPOCH_LEFT: &str = "its epochs are used up";

/// The content of the watermark.
pub(crate) type Acknowledged = Result<Option<CommitMark>, Damage>;

/// The acknowledged state of this log, if it is known. Where a sync has failed since, what the kernel holds of the store
/// may not be on the disk, and it would not be written again: it is made to forget that, so that what is read is what
/// there is.
pub(crate) fn find_watermark(dir: &Path) -> Result<Acknowledged, OpenError> {
    let found = Watermark::find(dir).map_err(|error| not_writable(&Watermark::path(dir), &error))?;
    if found.is_ok_and(|mark| mark.is_some_and(|mark| mark.is_dirty)) {
        tracing::warn!("the disk failed when the log was last written; what it did not take is not believed");
        for path in [dir.join("db"), Journal::path(dir)] {
            let Ok(file) = File::open(path) else { continue };
            // Dirty pages may still be written: they were never acknowledged, and do no harm.
            let _ = file.sync_all();
            forget_cached(&file);
        }
    }
    Ok(found)
}

#[cfg(target_os = "linux")]
fn forget_cached(file: &File) {
    if let Err(error) = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed) {
        tracing::warn!(%error, "the kernel does not let go of what it holds of the log");
    }
}

#[cfg(not(target_os = "linux"))]
fn forget_cached(_: &File) {}

/// Whether the store holds all that was acknowledged. Its last chunk, with messages or without, ends with the newest that
/// was stored; a trim beyond it proves nothing.
pub(crate) fn check_whole(
    acknowledged: Acknowledged,
    id: Uuid,
    commits: u64,
    stored: Position,
) -> Result<(), OpenError> {
    let mark = match acknowledged {
        Ok(mark) => mark,
        // A crash at the very first opening, when the watermark was made.
        Err(_) if commits <= 1 => None,
        Err(damage) => return Err(corrupt("its watermark", damage)),
    };
    match mark {
        None if commits <= 1 => Ok(()),
        None => {
            Err(OpenError::Short("its watermark is missing, so that nobody knows whether it is whole".into()))
        }
        Some(mark) if mark.commits <= 1 && commits == 0 => Ok(()),
        Some(mark) if mark.id != id && commits == 0 => Err(OpenError::Short(format!(
            "the engine finds nothing in its files, and commit {} at position {} was acknowledged",
            mark.commits, mark.newest.0,
        ))),
        Some(mark) if mark.id != id => Err(OpenError::Short("its watermark is of another log".into())),
        Some(mark) if commits < mark.commits || stored < mark.newest => Err(OpenError::Short(format!(
            "it ends with commit {commits} at position {}, and commit {} at position {} was acknowledged",
            stored.0, mark.commits, mark.newest.0,
        ))),
        Some(_) => Ok(()),
    }
}

/// Notes for every topic how far messages may have been acknowledged that are not there any more, and returns it: readers
/// that have not seen them get a gap, wherever their cursor stands. Where the acknowledged state is unknown, that is all
/// of it.
pub(crate) fn accept_loss(
    store: &SledTrees,
    acknowledged: Acknowledged,
    id: Uuid,
    stored: Position,
) -> Result<Position, OpenError> {
    let upto = match acknowledged {
        Ok(Some(mark)) if mark.id == id && mark.newest <= stored => {
            tracing::warn!(
                "trims or options that were acknowledged are lost, as was accepted; what was deleted may be back"
            );
            stored
        }
        Ok(Some(mark)) if mark.id == id => {
            let (from, to) = (stored.next().0, mark.newest.0);
            tracing::warn!(from, to, "messages that were acknowledged are lost, as was accepted");
            mark.newest
        }
        _ => {
            tracing::warn!(
                newest = stored.0,
                "nobody knows which messages were acknowledged and are lost, as was accepted"
            );
            stored
        }
    };
    lose_everywhere(store, upto)?;
    Ok(upto)
}

/// Takes what is known of the last commit for the manifest to go on with, if the small trees hold what they should: else
/// a trim may be undone. If that is accepted, every reader gets a gap.
pub(crate) fn check_small(
    store: &SledTrees,
    known: &Manifest,
    stored: Position,
    accepts_loss: bool,
) -> Result<(), OpenError> {
    let digest = store.small_digest().map_err(failed)?;
    let mut manifest = known.clone();
    let is_whole = manifest.small.is_none_or(|known| known == digest);
    if !is_whole && !accepts_loss {
        return Err(OpenError::Short(SMALL_CHANGED.into()));
    }
    manifest.small = Some(digest);
    *store.manifest.lock() = manifest;
    if is_whole {
        return Ok(());
    }
    tracing::warn!("{SMALL_CHANGED}, as was accepted; what was deleted may be back");
    lose_everywhere(store, stored)
}

/// Whether the chunks that were read have all the messages that they should. Where messages are gone from their middle,
/// that is refused, or, if it is accepted, noted for every topic, up to the newest that is stored: nobody knows whose they
/// were.
pub(crate) fn check_count(
    store: &SledTrees,
    count: &mut Count,
    stored: Position,
    accepts_loss: bool,
) -> Result<(), OpenError> {
    let Some(missing) = count.missing() else { return Ok(()) };
    if !accepts_loss {
        return Err(OpenError::Short(missing.to_string()));
    }
    tracing::warn!(upto = stored.0, "the log has lost messages from its middle, as was accepted: {missing}");
    lose_everywhere(store, stored)
}

fn lose_everywhere(store: &SledTrees, upto: Position) -> Result<(), OpenError> {
    let before = store.volatile.get(EVERY_TOPIC).map_err(failed)?;
    let before = before.and_then(|value| take_lost(EVERY_TOPIC, &value).ok()).unwrap_or_default();
    let value = put_lost(EVERY_TOPIC, upto.max(before));
    store.put_small(&store.volatile, EVERY_TOPIC, value).map_err(failed)
}
