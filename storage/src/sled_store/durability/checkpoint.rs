//! Making the engine's file durable. What is acknowledged is durable by the journal; a checkpoint makes it so in the
//! engine's own file, after which the journal may use its room again.
//!
//! How much is written between two checkpoints is bounded for another reason. The engine frees a segment of its file once
//! everything in it stands elsewhere, and writes over it once it has *written* a segment more; of what the disk has yet to
//! make durable it knows nothing. A power cut that kept what was written over, and not what stands elsewhere, would take
//! what was durable long ago. So a checkpoint comes before a whole segment is written since the one before, in the middle
//! of a commit or of tidying if need be: what is durable too early does no harm, since the end of a group, and of a commit,
//! is written last.
//!
//! The engine doesn't tell what it writes, so that is estimated, and the bound leaves room for three times as much: of what
//! is taken for 614 KB, up to 976 KB are written where large messages are deleted that have just come, 930 where small ones
//! are compacted.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use sled::Db;

use super::watermark::Watermark;

const LOST: &str = "an earlier sync failed";
/// A segment of a new log. The engine's own choice is a quarter of this, and the checkpoints would be as much closer.
const SEGMENT_BYTES: usize = 2 << 20;
/// Bytes written between two checkpoints, as they are estimated here, in percent of a segment. Beside that the engine moves pages
/// by itself, up to some 400 KB as measured, which of a smaller segment is nearly all.
const UNSYNCED_PERCENT_MAX: usize = 30;
const UNSYNCED_PERCENT_MAX_SMALL: usize = 10;
/// The engine writes a value when it comes, again when its page is split, and again when the page is moved: 3.8 to 4.1
/// times in large commits, as measured.
const WRITES_PER_BYTE: usize = 4;
/// The cost of a value that is written over or removed: its page is written again with what is left, and joined with
/// another.
const WRITES_PER_BYTE_REPLACED: usize = 3;
/// The cost of changing an entry, beside its value: now and then its page is written, and another page moved.
const BYTES_PER_CHANGE: usize = 2 << 10;

/// The size of the segments of the engine's file in `dir`, as its settings have it; `None` if there is a file and no
/// settings that can be read.
pub(crate) fn segment_bytes(dir: &Path) -> Option<usize> {
    let Ok(settings) = fs::read(dir.join("conf")) else {
        let is_new = fs::metadata(dir.join("db")).map_or(true, |db| db.len() == 0);
        return is_new.then_some(SEGMENT_BYTES);
    };
    let settings = String::from_utf8_lossy(&settings);
    settings.lines().find_map(|line| line.strip_prefix("segment_size: ")?.parse().ok())
}

const fn unsynced_max(segment_bytes: usize) -> usize {
    let is_small = segment_bytes < SEGMENT_BYTES;
    segment_bytes / 100 * if is_small { UNSYNCED_PERCENT_MAX_SMALL } else { UNSYNCED_PERCENT_MAX }
}

/// The disk, which makes written bytes durable; a failing one stands in for a failing disk in tests.
pub(crate) trait Disk: Send + Sync {
    /// Returns once everything written before is on the medium.
    fn sync(&self) -> io::Result<()>;
}

impl Disk for File {
    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// The engine's file, and how much of it is not durable.
pub(crate) struct Checkpoints {
    db: Db,
    pub(crate) disk: Mutex<Box<dyn Disk>>,
    /// Where the log is.
    dir: Box<Path>,
    /// Bytes written since the last one, roughly, and how many that may be.
    unsynced: AtomicUsize,
    unsynced_max: usize,
    /// One has failed, so that nobody knows what became of what was written. Locked while that, or that something is
    /// durable, is written down.
    is_lost: Mutex<bool>,
    /// The number of the last commit that is written, and of the last one that is durable in the engine's file.
    written: AtomicU64,
    durable: AtomicU64,
}

impl Checkpoints {
    /// Of the log in `dir`, which is open.
    pub(crate) fn new(db: Db, disk: Box<dyn Disk>, dir: &Path) -> Self {
        Self {
            db,
            disk: Mutex::new(disk),
            dir: dir.into(),
            unsynced: AtomicUsize::new(0),
            unsynced_max: unsynced_max(segment_bytes(dir).unwrap_or_default()),
            is_lost: Mutex::new(false),
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
        }
    }

    /// Whether one has failed.
    pub(crate) fn is_lost(&self) -> bool {
        *self.is_lost.lock()
    }

    /// Writes down that something is durable, unless one has failed by now: the dirty flag must not be written over.
    pub(crate) fn unless_lost<T>(&self, write: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let is_lost = self.is_lost.lock();
        if *is_lost { Err(io::Error::other(LOST)) } else { write() }
    }

    /// A commit is written to its end.
    pub(crate) fn committed(&self, number: u64) {
        self.written.store(number, Ordering::Relaxed);
    }

    /// The last commit that is durable in the engine's file.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Relaxed)
    }

    /// An entry is about to be changed, whose value has so many bytes.
    pub(crate) fn wrote(&self, bytes: usize) -> sled::Result<()> {
        self.wrote_pages(BYTES_PER_CHANGE + WRITES_PER_BYTE * bytes)
    }

    /// A value of so many bytes was written over, or removed.
    pub(crate) fn replaced(&self, bytes: usize) {
        self.unsynced.fetch_add(WRITES_PER_BYTE_REPLACED * bytes, Ordering::Relaxed);
    }

    /// So many bytes are about to be written, by whatever it is.
    pub(crate) fn wrote_pages(&self, bytes: usize) -> sled::Result<()> {
        let unsynced = self.unsynced.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unsynced < self.unsynced_max { Ok(()) } else { self.make() }
    }

    /// Makes everything durable that is written. The engine's flush alone leaves it in the disk's cache. Once this has
    /// failed it is not tried again: the kernel may have let go of what the disk did not take, and would call the rest
    /// durable.
    pub(crate) fn make(&self) -> sled::Result<()> {
        let disk = self.disk.lock();
        if self.is_lost() {
            return Err(sled::Error::Io(io::Error::other(LOST)));
        }
        let written = self.written.load(Ordering::Relaxed);
        let synced = self.db.flush().and_then(|_| Ok(disk.sync()?));
        self.unsynced.store(0, Ordering::Relaxed);
        match &synced {
            Ok(()) => self.durable.store(written, Ordering::Relaxed),
            Err(_) => self.lose(),
        }
        synced
    }

    /// Remembers that, also for the next opening, if there is one before the kernel has forgotten it: it must not take for
    /// durable what the kernel shows of the file.
    fn lose(&self) {
        let mut is_lost = self.is_lost.lock();
        *is_lost = true;
        if let Err(error) = Watermark::mark_dirty_in(&self.dir) {
            tracing::error!(%error, "the disk failed, and that could not be written down");
        }
    }
}
