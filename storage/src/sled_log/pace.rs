//! How much is written between two syncs. The engine frees a segment of its file once everything in it stands elsewhere, and
//! writes over it once it has *written* a segment more; of what the disk has yet to make durable it knows nothing. A power
//! cut that kept what was written over, and not what stands elsewhere, would take what was synced long ago. So a sync comes
//! before a whole segment is written since the one before, in the middle of a commit or of tidying if need be: what is
//! durable too early does no harm, since the end of a group, and of a commit, is written last.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::store::Store;

/// Bytes written between two syncs, as they are estimated here: below a segment of 512 KB also where it is a fifth more.
const UNSYNCED_BYTES_MAX: usize = 416 << 10;
/// The engine writes a value when it comes, again when its page is split, and again when the page is moved: 3.8 to 4.1 times in
/// large commits, as measured. In small ones it is up to 5.3 times, but each of these ends with a sync.
const WRITES_PER_BYTE: usize = 4;
/// What changing an entry costs beside its value: now and then its page is written, and another page moved.
const BYTES_PER_CHANGE: usize = 2 << 10;

/// What was written since the last sync, roughly; and whether a sync has failed, so that nobody knows what became of it.
#[derive(Debug, Default)]
pub(super) struct Unsynced {
    bytes: AtomicUsize,
    lost: AtomicBool,
}

impl Unsynced {
    /// A sync has ended.
    pub(super) fn end(&self, is_durable: bool) {
        self.bytes.store(0, Ordering::Relaxed);
        self.lost.fetch_or(!is_durable, Ordering::Relaxed);
    }

    /// A sync has failed, once.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }
}

impl Store {
    /// An entry was changed, whose value has so many bytes.
    pub(super) fn wrote(&self, bytes: usize) -> sled::Result<()> {
        self.wrote_pages(BYTES_PER_CHANGE + WRITES_PER_BYTE * bytes)
    }

    /// So many bytes were written, by whatever it was.
    pub(super) fn wrote_pages(&self, bytes: usize) -> sled::Result<()> {
        let unsynced = self.unsynced.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if unsynced < UNSYNCED_BYTES_MAX { Ok(()) } else { self.sync() }
    }
}
