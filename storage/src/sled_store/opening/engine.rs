//! Opening the engine: its lock, what it must not meet in the folder, and its panics, which are damage.

use std::{
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    thread,
    time::Duration,
};

use fs2::FileExt;
use sled::{Config, Db};

use super::error::{OpenError, failed, not_writable};
use crate::sled_store::{
    durability::checkpoint::segment_bytes, failure::NOT_AS_WRITTEN, maintenance::snapshots,
};

/// The engine's cache of pages. The newest messages are in the broker's tails; this is for the catch-up behind them. What
/// it holds beyond that stands at [`SledTrees::touch`](crate::sled_store::store::SledTrees::touch).
const CACHE_BYTES: u64 = 32 << 20;
/// A process that is just ending, or this one's last log, may hold the lock for a moment longer; the engine can't
/// wait for it, so it is tried again.
const LOCK_TRIES: usize = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(25);

/// Opens it, once no other has it.
pub(crate) fn open_db(dir: &Path) -> Result<Db, OpenError> {
    retry_locked(|| try_open_db(dir))
}

/// Tries for a while, as long as another holds the lock.
pub(crate) fn retry_locked<T>(open: impl Fn() -> Result<T, OpenError>) -> Result<T, OpenError> {
    for _ in 0..LOCK_TRIES {
        match open() {
            Err(OpenError::Locked) => thread::sleep(LOCK_PAUSE),
            other => return other,
        }
    }
    Err(OpenError::Locked)
}

/// The engine's file under the engine's own lock, if there is one.
pub(crate) fn engine_lock(dir: &Path) -> Result<Option<File>, OpenError> {
    let Ok(file) = File::open(dir.join("db")) else { return Ok(None) };
    lock(&file)?;
    Ok(Some(file))
}

/// The folder under a lock, for as long as a log is being opened there: until there is an engine's file, nothing else keeps
/// two openers apart. Where folders can't be locked it is left at that.
pub(crate) fn folder_lock(dir: &Path) -> Result<Option<File>, OpenError> {
    let Ok(folder) = File::open(dir) else { return Ok(None) };
    match FileExt::try_lock_exclusive(&folder) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(OpenError::Locked),
        _ => Ok(Some(folder)),
    }
}

/// Takes the lock on the engine's open file. It goes with the file.
pub(crate) fn lock(file: &File) -> Result<(), OpenError> {
    FileExt::try_lock_exclusive(file).map_err(|_| OpenError::Locked)
}

fn try_open_db(dir: &Path) -> Result<Db, OpenError> {
    mind_snapshots(dir)?;
    let Some(segment_bytes) = segment_bytes(dir) else {
        return Err(OpenError::Corrupt("the engine's settings, `conf`, are missing or damaged".into()));
    };
    let config = Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
    let config = config.segment_size(segment_bytes);
    // The engine asserts what it reads; damage that trips it is damage all the same, not a reason to abort.
    let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
    match opened {
        Ok(Ok(db)) => Ok(db),
        Ok(Err(sled::Error::Io(error))) if error.to_string().contains("could not acquire lock") => {
            Err(OpenError::Locked)
        }
        Ok(Err(sled::Error::Io(error))) => Err(not_writable(dir, &error)),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(OpenError::Corrupt(NOT_AS_WRITTEN.into())),
    }
}

/// The engine takes the newest file that is named like a snapshot for one, also the torn beginning of one that a crash
/// left, and then can't be opened any more; nor can it with a damaged one. It can always do without.
fn mind_snapshots(dir: &Path) -> Result<(), OpenError> {
    let unreadable = |error: io::Error| not_writable(dir, &error);
    // Another process may be at writing one.
    let Some(_lock) = engine_lock(dir)? else { return Ok(()) };
    for entry in fs::read_dir(dir).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(&path).map_err(unreadable)?;
        }
    }
    snapshots::set_aside_damaged(dir).map_err(unreadable)
}
