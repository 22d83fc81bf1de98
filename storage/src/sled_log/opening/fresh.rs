//! When a log that is made anew may begin. Its epoch is the second of its first opening, and nothing tells it which epochs
//! were another log's that stood in the same folder: one of the same second would have the same cursors. So where
//! something was there until just now, the second is waited for to be over.

use std::{fs, io, path::Path, thread, time::Duration, time::UNIX_EPOCH};

use tailwire_model::Timestamp;

const SECOND_MS: u64 = 1000;

/// Waits if it has to, and tells what time it is then. A log that is there knows its epochs, and begins at once; so does
/// one in a folder, or below one, that was not touched since it was made.
pub(crate) fn settle(dir: &Path, now: Timestamp) -> Timestamp {
    let place = if dir.is_dir() { Some(dir) } else { dir.parent() };
    let place = place.map(|place| if place.as_os_str().is_empty() { Path::new(".") } else { place });
    let touched = place.and_then(|place| touched_ms(place).ok().flatten());
    if dir.join("db").exists() || touched.is_none_or(|touched| touched / SECOND_MS != now.0 / SECOND_MS) {
        return now;
    }
    let left = SECOND_MS - now.0 % SECOND_MS;
    thread::sleep(Duration::from_millis(left));
    Timestamp(now.0 + left)
}

/// When something was last made or removed in a folder, if anything was.
fn touched_ms(folder: &Path) -> io::Result<Option<u64>> {
    let metadata = fs::metadata(folder)?;
    let modified = metadata.modified()?;
    // Not every file system knows when a folder was made.
    if metadata.created().is_ok_and(|created| created == modified) {
        return Ok(None);
    }
    Ok(modified.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_millis()).ok()))
}
