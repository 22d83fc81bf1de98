//! Making the engine's file durable. What is acknowledged is durable by the journal; a checkpoint makes it so in the
//! engine's own file, after which the journal may use its room again.
//!
//! How much is written between two checkpoints is bounded for another reason. The engine frees a segment of its file once
//! everything in it stands elsewhere, and writes over it once it has *written* a segment more; of what the disk has yet to
//! make durable it knows nothing. A power cut that kept what was written over, and not what stands elsewhere, would take
//! what was durable long ago. So a checkpoint comes before a whole segment is written since the one before, in the middle
//! of a commit or of tidying if need be: what is durable too early does no harm, since the end of a group, and of a commit,
//! is written last.

use std::{
    fs::File,
    io,
    sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use sled::Db;

/// Bytes written between two, as they are estimated here: below a segment of 512 KB also where it is a fifth more.
const UNSYNCED_BYTES_MAX: usize = 416 << 10;
/// The engine writes a value when it comes, again when its page is split, and again when the page is moved: 3.8 to 4.1 times
/// in large commits, as measured.
const WRITES_PER_BYTE: usize = 4;
/// What changing an entry costs beside its value: now and then its page is written, and another page moved.
const BYTES_PER_CHANGE: usize = 2 << 10;

/// Whatever makes written bytes durable; a failing one stands in for a failing disk in tests.
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
pub(super) struct Checkpoints {
    db: Db,
    pub(super) disk: Mutex<Box<dyn Disk>>,
    /// Bytes written since the last one, roughly.
    unsynced: AtomicUsize,
    /// One has failed, so that nobody knows what became of what was written.
    is_lost: AtomicBool,
    /// The number of the last commit that is written, and of the last one that is durable in the engine's file.
    written: AtomicU64,
    durable: AtomicU64,
}

impl Checkpoints {
    pub(super) fn new(db: Db, disk: Box<dyn Disk>) -> Self {
        Self {
            db,
            disk: Mutex::new(disk),
            unsynced: AtomicUsize::new(0),
            is_lost: AtomicBool::new(false),
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
        }
    }

    /// Whether one has failed.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// A commit is written to its end.
    pub(super) fn committed(&self, number: u64) {
        self.written.store(number, Ordering::Relaxed);
    }

    /// The last commit that is durable in the engine's file.
    pub(super) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Relaxed)
    }

    /// An entry is about to be changed, whose value has so many bytes.
    pub(super) fn wrote(&self, bytes: usize) -> sled::Result<()> {
        self.wrote_pages(BYTES_PER_CHANGE + WRITES_PER_BYTE * bytes)
    }

    /// So many bytes are about to be written, by whatever it is.
    pub(super) fn wrote_pages(&self, bytes: usize) -> sled::Result<()> {
        let unsynced = self.unsynced.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unsynced < UNSYNCED_BYTES_MAX { Ok(()) } else { self.make() }
    }

    /// Makes everything durable that is written. The engine's flush alone leaves it in the disk's cache. Once this has failed
    /// it is not tried again: the kernel may have let go of what the disk did not take, and would call the rest durable.
    pub(super) fn make(&self) -> sled::Result<()> {
        let disk = self.disk.lock();
        if self.is_lost() {
            return Err(sled::Error::Io(io::Error::other("an earlier sync failed")));
        }
        let written = self.written.load(Ordering::Relaxed);
        let synced = self.db.flush().and_then(|_| Ok(disk.sync()?));
        self.unsynced.store(0, Ordering::Relaxed);
        match &synced {
            Ok(()) => self.durable.store(written, Ordering::Relaxed),
            Err(_) => self.is_lost.store(true, Ordering::Relaxed),
        }
        synced
    }
}
