//! The durable watermark: a small file beside the store that says how far the store had come when a commit was last
//! acknowledged. A store that comes back shorter than that has lost something, whatever the engine makes of it.
//!
//! ```text
//! slot: "tailmark"  version: u32  state: u32  log's id: 16  commits: u64  newest position: u64  CRC-32: u32
//! ```
//! A slot is written after its commit is on the disk, so it never says too much. It is itself synced only now and
//! then, because a second sync would double what a commit costs: the kernel keeps it over the death of the process; a
//! power cut may set it back by a second, and then it merely says less. Of the two slots, 512 bytes apart, one is
//! written over and over until it is synced, and then the other: a torn write leaves the one that was synced.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tailwire_model::Position;
use uuid::Uuid;

use super::write_at;
use crate::codec::{ByteReader, Damage, seal, unseal};

const NAME: &str = "watermark";
const MAGIC: [u8; 8] = *b"tailmark";
const VERSION: u32 = 1;
const SLOT_STRIDE: u64 = 512;
const SLOT_BYTES: usize = 52;
const DIRTY: u32 = 1;
/// How long a power cut may set it back.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The content of the watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitMark {
    /// The log that it is of.
    pub(crate) id: Uuid,
    /// Commits that are on the disk.
    pub(crate) commits: u64,
    /// The newest position as of the last of them.
    pub(crate) newest: Position,
    /// A sync has failed since: what the kernel shows of the store's files may not be on the disk.
    pub(crate) is_dirty: bool,
}

/// The open file.
#[derive(Debug)]
pub(crate) struct Watermark {
    file: File,
    /// The slot that is written; what the other one holds is synced.
    slot: u64,
    synced: Instant,
    is_unsynced: bool,
}

impl Watermark {
    /// Where it stands.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    /// The watermark in `dir`, if there is one.
    ///
    /// # Errors
    /// The file can't be read, or is there and holds nothing.
    pub(crate) fn find(dir: &Path) -> io::Result<Result<Option<CommitMark>, Damage>> {
        match File::open(Self::path(dir)) {
            Ok(file) => Ok(newest(&file)?.map(|(mark, _)| Some(mark))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Ok(None)),
            Err(error) => Err(error),
        }
    }

    /// Says of the mark in `dir`, if there is one, that a sync has failed since.
    ///
    /// # Errors
    /// It can't be written; the mark is as it was.
    pub(crate) fn mark_dirty_in(dir: &Path) -> io::Result<()> {
        match OpenOptions::new().read(true).write(true).open(Self::path(dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => mark_dirty(&opened?),
        }
    }

    /// Says of the mark that a sync has failed since.
    ///
    /// # Errors
    /// As of [`Watermark::mark_dirty_in`].
    pub(crate) fn mark_dirty(&self) -> io::Result<()> {
        mark_dirty(&self.file)
    }

    /// Opens or makes the file, and writes a first mark, durably.
    ///
    /// # Errors
    /// The file can't be written.
    pub(crate) fn begin(dir: &Path, mark: &CommitMark) -> io::Result<Self> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(Self::path(dir))?;
        let slot = newest(&file)?.map_or(0, |(_, slot)| 1 - slot);
        let mut own = Self { file, slot, synced: Instant::now(), is_unsynced: false };
        own.write(mark)?;
        own.sync()?;
        Ok(own)
    }

    /// Writes a mark.
    ///
    /// # Errors
    /// It can't be written; the slot that was synced last is as it was.
    pub(crate) fn write(&mut self, mark: &CommitMark) -> io::Result<()> {
        write_slot(&self.file, self.slot, mark)?;
        self.is_unsynced = true;
        Ok(())
    }

    /// Makes it durable if it has not been for a while. Returns in how many milliseconds it wants that, if ever.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn tidy(&mut self) -> io::Result<Option<u64>> {
        if !self.is_unsynced {
            return Ok(None);
        }
        let left = SYNC_EVERY.saturating_sub(self.synced.elapsed());
        if !left.is_zero() {
            return Ok(Some(left.as_millis() as u64 + 1));
        }
        self.sync().map(|()| None)
    }

    /// Makes it durable.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()?;
        self.slot = 1 - self.slot;
        self.synced = Instant::now();
        self.is_unsynced = false;
        Ok(())
    }
}

/// Not durably: what this must outlive is the process, and what the kernel holds of the log's files. It is written where
/// the newest mark isn't, so that this is still there if the write fails, too.
fn mark_dirty(file: &File) -> io::Result<()> {
    match newest(file)? {
        Ok((mark, slot)) if !mark.is_dirty => {
            write_slot(file, 1 - slot, &CommitMark { is_dirty: true, ..mark })
        }
        _ => Ok(()),
    }
}

fn write_slot(file: &File, slot: u64, mark: &CommitMark) -> io::Result<()> {
    write_at(file, &put(mark), slot * SLOT_STRIDE)
}

/// The newer mark of the two slots, and which slot has it.
fn newest(mut file: &File) -> io::Result<Result<(CommitMark, u64), Damage>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(2 * SLOT_STRIDE).read_to_end(&mut bytes)?;
    let found = [0, 1].map(|slot| {
        let at = (slot * SLOT_STRIDE) as usize;
        let bytes = bytes.get(at..at + SLOT_BYTES).ok_or(Damage("it is too short"))?;
        take(bytes).map(|mark| (mark, slot))
    });
    Ok(match found {
        // A dirty mark is written beside the one that it is about, with the same number.
        [Ok(a), Ok(b)] => {
            let order = |(mark, _): &(CommitMark, u64)| (mark.commits, mark.is_dirty);
            Ok(if order(&a) >= order(&b) { a } else { b })
        }
        [Ok(found), Err(_)] | [Err(_), Ok(found)] => Ok(found),
        [Err(damage), Err(_)] => Err(damage),
    })
}

fn put(mark: &CommitMark) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.extend_from_slice(&MAGIC);
    slot.extend_from_slice(&VERSION.to_le_bytes());
    slot.extend_from_slice(&if mark.is_dirty { DIRTY } else { 0 }.to_le_bytes());
    slot.extend_from_slice(mark.id.as_bytes());
    slot.extend_from_slice(&mark.commits.to_le_bytes());
    slot.extend_from_slice(&mark.newest.0.to_le_bytes());
    seal(NAME.as_bytes(), &mut slot);
    slot
}

fn take(slot: &[u8]) -> Result<CommitMark, Damage> {
    let mut reader = ByteReader(unseal(NAME.as_bytes(), slot)?);
    if reader.array()? != MAGIC || reader.u32()? != VERSION {
        return Err(Damage("it is of an unknown version"));
    }
    let is_dirty = reader.u32()? & DIRTY != 0;
    let id = Uuid::from_bytes(reader.array()?);
    Ok(CommitMark { id, commits: reader.u64()?, newest: Position(reader.u64()?), is_dirty })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn mark(commits: u64) -> CommitMark {
        CommitMark { id: Uuid::from_u128(7), commits, newest: Position(3 * commits), is_dirty: commits == 4 }
    }

    fn find(dir: &Path) -> Result<Option<CommitMark>, Damage> {
        Watermark::find(dir).unwrap()
    }

    #[test]
    fn the_newest_mark_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(find(dir.path()), Ok(None));
        let mut own = Watermark::begin(dir.path(), &mark(1)).unwrap();
        for commits in 2..6 {
            own.write(&mark(commits)).unwrap();
            assert_eq!(find(dir.path()), Ok(Some(mark(commits))));
        }
        assert!(own.tidy().unwrap().is_some(), "it asks to be synced");
        own.sync().unwrap();
        assert_eq!(own.tidy().unwrap(), None);
        drop(own);
        Watermark::begin(dir.path(), &mark(6)).unwrap();
        assert_eq!(find(dir.path()), Ok(Some(mark(6))));
    }

    #[test]
    fn a_doubt_is_found_in_either_slot() {
        for syncs in 0..2 {
            let dir = tempfile::tempdir().unwrap();
            let mut own = Watermark::begin(dir.path(), &mark(1)).unwrap();
            for _ in 0..syncs {
                own.sync().unwrap();
            }
            own.write(&mark(2)).unwrap();
            if syncs > 0 {
                own.sync().unwrap();
            }
            own.mark_dirty().unwrap();
            assert_eq!(find(dir.path()).map(|mark| mark.map(|mark| mark.is_dirty)), Ok(Some(true)));
        }
    }

    #[test]
    fn a_doubt_is_about_the_mark_that_stands_there() {
        let dir = tempfile::tempdir().unwrap();
        Watermark::mark_dirty_in(dir.path()).unwrap();
        assert_eq!(find(dir.path()), Ok(None));
        let mut own = Watermark::begin(dir.path(), &mark(1)).unwrap();
        for commits in 2..4 {
            own.write(&mark(commits)).unwrap();
            // Once more changes nothing.
            for _ in 0..2 {
                Watermark::mark_dirty_in(dir.path()).unwrap();
                assert_eq!(find(dir.path()), Ok(Some(CommitMark { is_dirty: true, ..mark(commits) })));
            }
        }
    }

    #[test]
    fn a_torn_slot_leaves_what_was_synced() {
        let dir = tempfile::tempdir().unwrap();
        let mut own = Watermark::begin(dir.path(), &mark(1)).unwrap();
        let path = Watermark::path(dir.path());
        for (commits, slot) in [(2, SLOT_STRIDE), (3, 0)] {
            let synced = find(dir.path()).unwrap();
            own.write(&mark(commits - 1)).unwrap();
            own.write(&mark(commits)).unwrap();
            let whole = std::fs::read(&path).unwrap();
            let mut torn = whole.clone();
            torn[slot as usize + 20] ^= 1;
            std::fs::write(&path, &torn).unwrap();
            assert_eq!(find(dir.path()).unwrap(), synced);
            std::fs::write(&path, &whole).unwrap();
            own.sync().unwrap();
        }
        std::fs::write(&path, b"").unwrap();
        assert!(find(dir.path()).is_err(), "an empty file is no missing one");
    }
}
