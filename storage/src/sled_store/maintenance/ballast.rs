//! The ballast: a file that only takes room. Opening a log writes a little, so a broker on a full disk could not start,
//! not even to let its messages be read or deleted. It gives the ballast up then, and makes it anew when there is room.

use std::{
    fs::{self, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use fs2::FileExt;

use super::snapshots;

/// The file's name.
pub(crate) const NAME: &str = "ballast";
/// Its size: some of the engine's segments of 2 MB, of which an opening fills one or two, the journal, and a snapshot
/// of some gigabytes.
const BYTES: u64 = 8 << 20;
/// An opening that finds less room than this, and a snapshot's beside it, gives the ballast up first: once the engine has
/// run out of room, what it has begun to write stands in its own way.
const OPENING_BYTES: u64 = 6 << 20;
/// Room that must be left beside it when it is made, so that it is never what fills the disk.
const LEFT_BYTES: u64 = 40 << 20;

/// The room that an opening needs, where the disk has less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom {
    /// Bytes that must be free.
    pub needed: u64,
    /// Bytes that are, with what can be given up.
    pub available: u64,
}

impl NoRoom {
    /// Whether the log in `dir` lacks room to be opened. An unknown answer is no: then the opening will tell.
    pub fn to_open(dir: &Path) -> Option<Self> {
        let available = fs2::available_space(dir).ok()? + if has_ballast(dir) { BYTES } else { 0 };
        let needed = opening_bytes(dir);
        (available < needed).then_some(Self { needed, available })
    }
}

/// The engine's snapshot is written anew beside the one that is there.
fn opening_bytes(dir: &Path) -> u64 {
    OPENING_BYTES + snapshots::bytes(dir).unwrap_or(0)
}

fn has_ballast(dir: &Path) -> bool {
    fs::metadata(dir.join(NAME)).is_ok_and(|meta| meta.len() == BYTES)
}

/// The ballast of a log.
#[derive(Debug)]
pub(crate) struct Ballast {
    path: PathBuf,
    is_there: AtomicBool,
}

impl Ballast {
    /// The ballast in `dir`: given up, if there is too little room for an opening.
    pub(crate) fn before_opening(dir: &Path) -> Self {
        let path = dir.join(NAME);
        let is_there = has_ballast(dir);
        if is_there && fs2::available_space(dir).is_ok_and(|available| available < opening_bytes(dir)) {
            tracing::warn!("the disk is full; the ballast in the data folder is given up for the start");
            let is_there = fs::remove_file(&path).is_err();
            return Self { path, is_there: is_there.into() };
        }
        Self { path, is_there: is_there.into() }
    }

    /// Makes it, if it is missing and there is room for it. A disk that can't has none: it is for a case that may never
    /// come, and not worth a word every time.
    pub(crate) fn keep(&self) {
        if self.is_there.load(Ordering::Relaxed) {
            return;
        }
        let available = self.path.parent().and_then(|dir| fs2::available_space(dir).ok()).unwrap_or(0);
        if available < BYTES + LEFT_BYTES {
            return;
        }
        match self.make() {
            Ok(()) => {}
            Err(error) => tracing::debug!(%error, "no ballast could be made"),
        }
        // Also if it could not be made: what a disk can't do once it won't do the next time.
        self.is_there.store(true, Ordering::Relaxed);
    }

    fn make(&self) -> io::Result<()> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(&self.path)?;
        let made = file.allocate(BYTES);
        if made.is_err() {
            fs::remove_file(&self.path)?;
        }
        made
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn it_is_made_where_there_is_room_and_then_stays() {
        let dir = tempfile::tempdir().unwrap();
        let ballast = Ballast::before_opening(dir.path());
        assert!(!ballast.is_there.load(Ordering::Relaxed));
        ballast.keep();
        assert_eq!(fs::metadata(dir.path().join(NAME)).unwrap().len(), BYTES);
        assert!(Ballast::before_opening(dir.path()).is_there.load(Ordering::Relaxed));
    }
}
