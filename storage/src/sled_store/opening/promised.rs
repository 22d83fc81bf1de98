//! What was promised of a log, and whether it is kept: the watermark against what the store holds. Decides nothing about
//! what the store holds; that is `open`'s.

use std::{fs::File, path::Path};

use tailwire_model::Position;
use uuid::Uuid;

use super::{
    count::Count,
    open::{OpenError, corrupt, failed, not_writable},
};
use crate::{
    codec::Damage,
    sled_store::{
        durability::{
            journal::Journal,
            tally::Tally,
            watermark::{Mark, Watermark},
        },
        layout::values::{EVERY_TOPIC, put_lost, take_lost},
        store::Store,
    },
};

/// The trees that an opening reads as a whole are other than they were.
pub(crate) const SMALL_CHANGED: &str = "its trims, options or epochs are not those that were stored";

/// The last epoch is the greatest that there is. No clock leads there.
pub(crate) const NO_EPOCH_LEFT: &str = "its epochs are used up";

/// What the watermark says.
pub(crate) type Promised = Result<Option<Mark>, Damage>;

/// What was acknowledged of this log, if it is known. Where a sync has failed since, what the kernel holds of the store
/// may not be on the disk, and it would not be written again: it is made to forget that, so that what is read is what
/// there is.
pub(crate) fn find_watermark(dir: &Path) -> Result<Promised, OpenError> {
    let found = Watermark::find(dir).map_err(|error| not_writable(&Watermark::path(dir), &error))?;
    if found.is_ok_and(|mark| mark.is_some_and(|mark| mark.in_doubt)) {
        tracing::warn!("the disk failed when the log was last written; what it did not take is not believed");
        for path in [dir.join("db"), Journal::path(dir)] {
            let Ok(file) = File::open(path) else { continue };
            // What can still be written may be: it was never acknowledged, and does no harm.
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
    promised: Promised,
    id: Uuid,
    commits: u64,
    stored: Position,
) -> Result<(), OpenError> {
    let mark = match promised {
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

/// Notes for every topic how far messages may have been acknowledged that are not there any more, and returns it: whoever
/// has not seen them is told, wherever their cursor stands. Where nobody knows what was acknowledged, that is all of it.
pub(crate) fn accept_loss(
    store: &Store,
    promised: Promised,
    id: Uuid,
    stored: Position,
) -> Result<Position, OpenError> {
    let upto = match promised {
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

/// Takes what is known of the last commit for the tally to go on with, if the small trees hold what they should: else a trim
/// may be undone. If that is accepted, every reader is told of what may be lost.
pub(crate) fn check_small(
    store: &Store,
    known: &Tally,
    stored: Position,
    accepts_loss: bool,
) -> Result<(), OpenError> {
    let digest = store.small_digest().map_err(failed)?;
    let mut tally = known.clone();
    let is_whole = tally.small.is_empty() || tally.small.contains(&digest);
    if !is_whole && !accepts_loss {
        return Err(OpenError::Short(SMALL_CHANGED.into()));
    }
    tally.small = vec![digest];
    *store.tally.lock() = tally;
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
    store: &Store,
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

fn lose_everywhere(store: &Store, upto: Position) -> Result<(), OpenError> {
    let before = store.volatile.get(EVERY_TOPIC).map_err(failed)?;
    let before = before.and_then(|value| take_lost(EVERY_TOPIC, &value).ok()).unwrap_or_default();
    let value = put_lost(EVERY_TOPIC, upto.max(before));
    store.put_small(&store.volatile, EVERY_TOPIC, value).map_err(failed)
}
