//! The journal: a small file of fixed size beside the engine's, in which a commit becomes durable. The engine's own flush
//! wakes its threads, and writes and syncs a file that grows; a record here is one write and one sync of room that the file
//! system has already given.
//!
//! A record holds every change of the store since the record before: what the commit brought, and what was tidied before
//! it. Its last change is the commit's number, so that what the engine recovered tells which records it lacks, and doing a
//! record again changes nothing. When a checkpoint has made the engine's file durable, the journal begins at its start
//! again. A commit that doesn't fit is made durable by a checkpoint instead.
//!
//! ```text
//! offset 0    "tailjrnl"  version: u32  log's id: 16  run: u64  seed: u64  CRC-32: u32
//! 512, …      length: u32  number: u64  XXH3 of length, number and changes: u64  changes …  to the next 512
//! change      tree: u8  is it removed: u8  length of the key  key  [length of the value  value]
//! ```
//! Records follow each other in the order of their numbers, without a hole; the first that doesn't is an old one, or torn.
//! The hash is no CRC: values end with theirs, and a CRC of what ends with a CRC is the same whatever stands before, so that
//! a record whose last sectors are an older one's would pass. Its seed is another one after every opening, and it is
//! kept secret: no message can be made to look like a record. A journal counts as long as its run, the number of an
//! opening, is the last: once another has begun, all of it is in the engine's file.

use std::{
    fs::{self, File, Metadata, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use super::{checkpoint::Disk, write_at};
use crate::{
    codec::{ByteReader, Damage, seal, unseal},
    sled_store::layout::change::{TreeChange, put_change, take_changes},
};

const NAME: &str = "journal";
const MAGIC: [u8; 8] = *b"tailjrnl";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 48;
/// A sector, which a disk writes whole or not at all: no record shares one with another.
const SECTOR_BYTES: usize = 512;
/// The file's size: the records of two thousand small commits.
const FILE_BYTES: usize = 1 << 20;
/// No record is longer. Beyond that a checkpoint costs no more than writing everything once more, as measured.
const RECORD_BYTES_MAX: usize = 64 << 10;
const RECORD_HEADER_BYTES: usize = 20;
/// Where its hash stands, of what is before it and after it.
const HASH_AT: usize = 12;

/// The open journal, and the changes that its next record will hold.
pub(crate) struct Journal(Mutex<JournalState>);

struct JournalState {
    /// Without a file every commit is made durable by a checkpoint.
    file: Option<File>,
    disk: Option<Box<dyn Disk>>,
    seed: u64,
    /// The next record, from its header on, and where it will stand.
    next: Vec<u8>,
    at: usize,
    /// Something was changed since the last record.
    has_changes: bool,
    /// The number of the last record.
    last: u64,
    /// Records are written and not synced.
    is_unsynced: bool,
    /// It lacks changes, which only a checkpoint makes durable.
    is_short: bool,
}

/// The way in which records become durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Synced {
    ByJournal,
    ByCheckpointOnly,
}

impl Journal {
    /// One without a file.
    pub(crate) fn without_file() -> Self {
        Self(Mutex::new(JournalState {
            file: None,
            disk: None,
            seed: 0,
            next: vec![0; RECORD_HEADER_BYTES],
            at: SECTOR_BYTES,
            has_changes: false,
            last: 0,
            is_unsynced: false,
            is_short: true,
        }))
    }

    /// Where it stands.
    pub(crate) fn path(dir: &Path) -> PathBuf {
        dir.join(NAME)
    }

    /// Begins with an empty file in `dir`, right after a checkpoint of a run's beginning.
    ///
    /// # Errors
    /// The file can't be made or written.
    pub(crate) fn begin(&self, dir: &Path, id: Uuid, run: u64) -> io::Result<()> {
        let path = Self::path(dir);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        if !is_whole(&file.metadata()?) {
            // Zeros, and no hole: room that the file system has given, so that a sync has only the record to write.
            file.set_len(0)?;
            if let Err(error) = file.write_all(&vec![0; FILE_BYTES]).and_then(|()| file.sync_all()) {
                fs::remove_file(&path)?;
                return Err(error);
            }
        }
        let (seed, _) = Uuid::new_v4().as_u64_pair();
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&put_header(id, run, seed))?;
        file.sync_data()?;
        let disk: Box<dyn Disk> = Box::new(file.try_clone()?);
        let mut state = self.0.lock();
        (state.file, state.disk, state.seed) = (Some(file), Some(disk), seed);
        state.is_short = state.has_changes;
        Ok(())
    }

    /// Makes a change, and notes it.
    pub(crate) fn note<T>(
        &self,
        tree: u8,
        key: &[u8],
        value: Option<&[u8]>,
        change: impl FnOnce() -> sled::Result<T>,
    ) -> sled::Result<T> {
        let mut state = self.0.lock();
        let changed = change()?;
        state.note(tree, key, value);
        Ok(changed)
    }

    /// Whether something was changed since the last record.
    pub(crate) fn has_changes(&self) -> bool {
        self.0.lock().has_changes
    }

    /// Writes what was noted as the record of a commit; `durable` is the last one that needs no record any more.
    ///
    /// # Errors
    /// It can't be written.
    pub(crate) fn record(&self, number: u64, durable: u64) -> io::Result<()> {
        self.0.lock().record(number, durable)
    }

    /// Makes the records durable.
    ///
    /// # Errors
    /// The disk failed.
    pub(crate) fn sync(&self) -> io::Result<Synced> {
        let mut state = self.0.lock();
        if state.is_short {
            return Ok(Synced::ByCheckpointOnly);
        }
        if let (true, Some(disk)) = (state.is_unsynced, &state.disk) {
            disk.sync()?;
            state.is_unsynced = false;
        }
        Ok(Synced::ByJournal)
    }

    /// A checkpoint begins, of all that was changed until here.
    pub(crate) fn pass(&self) {
        let mut state = self.0.lock();
        state.forget();
        state.is_short = state.file.is_none();
    }

    /// It is made: no record counts any more.
    pub(crate) fn restart(&self) {
        let mut state = self.0.lock();
        (state.at, state.is_unsynced) = (SECTOR_BYTES, false);
    }

    /// Wipes the file, after a last checkpoint: nothing that is deleted later is still found in it.
    ///
    /// # Errors
    /// It can't be written.
    pub(crate) fn end(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.is_short = true;
        let Some(mut file) = state.file.take() else { return Ok(()) };
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&vec![0; FILE_BYTES])?;
        file.sync_data()
    }

    #[cfg(test)]
    pub(crate) fn set_disk(&self, disk: Box<dyn Disk>) {
        self.0.lock().disk = Some(disk);
    }
}

impl JournalState {
    fn note(&mut self, tree: u8, key: &[u8], value: Option<&[u8]>) {
        self.has_changes = true;
        if self.is_short {
            return;
        }
        put_change(&mut self.next, TreeChange { tree, key, value });
        if self.next.len() > RECORD_BYTES_MAX {
            self.forget();
            self.has_changes = true;
            self.is_short = true;
        }
    }

    fn record(&mut self, number: u64, durable: u64) -> io::Result<()> {
        let bytes = self.next.len();
        if self.at + bytes > FILE_BYTES && self.last <= durable {
            self.at = SECTOR_BYTES;
        }
        self.is_short |= self.at + bytes > FILE_BYTES;
        if let (false, Some(file)) = (self.is_short, &mut self.file) {
            let length = (bytes - RECORD_HEADER_BYTES) as u32;
            self.next[..4].copy_from_slice(&length.to_le_bytes());
            self.next[4..HASH_AT].copy_from_slice(&number.to_le_bytes());
            let hash = hash_of(self.seed, &self.next);
            self.next[HASH_AT..RECORD_HEADER_BYTES].copy_from_slice(&hash.to_le_bytes());
            write_at(file, &self.next, self.at as u64)?;
            self.at += bytes.next_multiple_of(SECTOR_BYTES);
            (self.last, self.is_unsynced) = (number, true);
        }
        self.forget();
        Ok(())
    }

    /// Forgets the noted changes: they are recorded, or will not be.
    fn forget(&mut self) {
        self.next.truncate(RECORD_HEADER_BYTES);
        self.has_changes = false;
    }
}

/// Whether it has its length, and the room for it: a copy may have holes.
fn is_whole(file: &Metadata) -> bool {
    #[cfg(unix)]
    let room = std::os::unix::fs::MetadataExt::blocks(file) * 512;
    #[cfg(not(unix))]
    let room = file.len();
    file.len() == FILE_BYTES as u64 && room >= FILE_BYTES as u64
}

fn put_header(id: Uuid, run: u64, seed: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER_BYTES);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(id.as_bytes());
    header.extend_from_slice(&run.to_le_bytes());
    header.extend_from_slice(&seed.to_le_bytes());
    seal(NAME.as_bytes(), &mut header);
    header
}

/// The log and the run that a journal is of, and its seed.
fn take_header(header: &[u8]) -> Result<(Uuid, u64, u64), Damage> {
    let mut reader = ByteReader(unseal(NAME.as_bytes(), header)?);
    if reader.array()? != MAGIC || reader.u32()? != VERSION {
        return Err(Damage("it is of an unknown version"));
    }
    Ok((Uuid::from_bytes(reader.array()?), reader.u64()?, reader.u64()?))
}

/// The hash of a record, whose own place in it doesn't count.
fn hash_of(seed: u64, record: &[u8]) -> u64 {
    let mut hasher = Xxh3::with_seed(seed);
    hasher.update(&record[..HASH_AT]);
    hasher.update(&record[RECORD_HEADER_BYTES..]);
    hasher.digest()
}

/// The changes of one commit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct JournalRecord {
    pub(crate) number: u64,
    changes: Vec<u8>,
}

impl JournalRecord {
    /// The changes, in the order in which they were made.
    pub(crate) fn changes(&self) -> impl Iterator<Item = Result<TreeChange<'_>, Damage>> {
        take_changes(&self.changes)
    }
}

/// The records in `dir` that follow a commit of this log in its last run, oldest first. Where one between is missing,
/// there are none: that the log is shorter than it was, the watermark tells.
///
/// # Errors
/// The file is there and can't be read.
pub(crate) fn records_after(dir: &Path, id: Uuid, run: u64, commits: u64) -> io::Result<Vec<JournalRecord>> {
    let mut bytes = Vec::new();
    match File::open(Journal::path(dir)) {
        Ok(file) => file.take(FILE_BYTES as u64).read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let header = bytes.get(..HEADER_BYTES).ok_or(Damage("it is too short")).and_then(take_header);
    let seed = match header {
        Ok((its_id, its_run, seed)) if its_id == id && its_run == run => seed,
        // Another log's, an earlier run's, or one that a crash left half made; or it is damaged, and the watermark tells
        // what is missing.
        _ => return Ok(Vec::new()),
    };
    let mut records: Vec<JournalRecord> = Vec::new();
    let mut at = SECTOR_BYTES;
    while let Some(record) = bytes.get(at..).and_then(|rest| take_record(seed, rest)) {
        if records.last().is_some_and(|last| record.number != last.number + 1) {
            break;
        }
        at += (RECORD_HEADER_BYTES + record.changes.len()).next_multiple_of(SECTOR_BYTES);
        records.push(record);
    }
    records.retain(|record| record.number > commits);
    let follows = records.first().is_some_and(|first| first.number == commits + 1);
    Ok(if follows { records } else { Vec::new() })
}

fn take_record(seed: u64, bytes: &[u8]) -> Option<JournalRecord> {
    let mut reader = ByteReader(bytes);
    let (length, number, hash) = (reader.u32().ok()? as usize, reader.u64().ok()?, reader.u64().ok()?);
    let record = bytes.get(..RECORD_HEADER_BYTES.checked_add(length)?)?;
    let is_whole = length > 0 && hash_of(seed, record) == hash;
    is_whole.then(|| JournalRecord { number, changes: record[RECORD_HEADER_BYTES..].to_vec() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ID: Uuid = Uuid::from_u128(7);
    const RUN: u64 = 5;

    fn begun(dir: &Path) -> Journal {
        let journal = Journal::without_file();
        journal.begin(dir, ID, RUN).unwrap();
        journal
    }

    /// A commit that writes so many bytes.
    fn commit(journal: &Journal, number: u64, bytes: usize) {
        journal.note(3, b"removed", None, || Ok(())).unwrap();
        journal.note(7, &number.to_be_bytes(), Some(&vec![b'x'; bytes]), || Ok(())).unwrap();
        assert!(journal.has_changes());
        journal.record(number, 0).unwrap();
        assert!(!journal.has_changes());
    }

    fn numbers(dir: &Path, after: u64) -> Vec<u64> {
        records_after(dir, ID, RUN, after).unwrap().iter().map(|record| record.number).collect()
    }

    #[test]
    fn what_was_recorded_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(numbers(dir.path(), 0), []);
        let journal = begun(dir.path());
        [(5, 0), (6, 600), (7, 3)].into_iter().for_each(|(number, bytes)| commit(&journal, number, bytes));
        assert_eq!(journal.sync().unwrap(), Synced::ByJournal);
        assert_eq!(
            [3, 4, 5, 6, 7].map(|after| numbers(dir.path(), after)),
            [vec![], vec![5, 6, 7], vec![6, 7], vec![7], vec![]]
        );
        let records = records_after(dir.path(), ID, RUN, 6).unwrap();
        let changes: Vec<_> = records[0].changes().map(Result::unwrap).collect();
        assert_eq!(
            changes,
            [
                TreeChange { tree: 3, key: b"removed", value: None },
                TreeChange { tree: 7, key: &7u64.to_be_bytes(), value: Some(b"xxx") },
            ]
        );
        assert!(records_after(dir.path(), Uuid::from_u128(8), RUN, 4).unwrap().is_empty(), "another log's");
        assert!(records_after(dir.path(), ID, RUN + 1, 4).unwrap().is_empty(), "an earlier epoch's");
    }

    #[test]
    fn records_before_a_checkpoint_and_an_opening_dont_count() {
        let dir = tempfile::tempdir().unwrap();
        let journal = begun(dir.path());
        (1..5).for_each(|number| commit(&journal, number, 10));
        journal.pass();
        journal.restart();
        commit(&journal, 5, 10);
        assert_eq!(numbers(dir.path(), 4), [5], "those that follow it in the file are older");
        assert_eq!(numbers(dir.path(), 1), [], "there is a hole");
        let again = begun(dir.path());
        assert_eq!(numbers(dir.path(), 0), []);
        commit(&again, 2, 10);
        assert_eq!(numbers(dir.path(), 1), [2], "number 3 is of the time before");
    }

    #[test]
    fn what_does_not_fit_takes_a_checkpoint() {
        let dir = tempfile::tempdir().unwrap();
        let journal = begun(dir.path());
        commit(&journal, 1, RECORD_BYTES_MAX);
        assert_eq!(journal.sync().unwrap(), Synced::ByCheckpointOnly);
        commit(&journal, 2, 1);
        assert_eq!(journal.sync().unwrap(), Synced::ByCheckpointOnly, "a record must not follow a hole");
        journal.pass();
        journal.restart();
        commit(&journal, 3, 1);
        assert_eq!((journal.sync().unwrap(), numbers(dir.path(), 2)), (Synced::ByJournal, vec![3]));
    }

    #[test]
    fn the_file_is_used_again_once_all_of_it_is_durable_elsewhere() {
        for behind in [1, 2] {
            let dir = tempfile::tempdir().unwrap();
            let journal = begun(dir.path());
            const COMMITS: u64 = (FILE_BYTES / RECORD_BYTES_MAX) as u64;
            (1..COMMITS).for_each(|number| commit(&journal, number, RECORD_BYTES_MAX - 100));
            journal.note(0, b"k", Some(&[1; RECORD_BYTES_MAX - 100]), || Ok(())).unwrap();
            journal.record(COMMITS, COMMITS - behind).unwrap();
            let is_used_again = behind == 1;
            assert_eq!(numbers(dir.path(), COMMITS - 1) == [COMMITS], is_used_again);
            assert_eq!(journal.sync().unwrap() == Synced::ByJournal, is_used_again);
        }
    }

    #[test]
    fn a_record_that_ends_as_an_older_one_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let journal = begun(dir.path());
        let path = Journal::path(dir.path());
        let write = |number: u64| {
            let mut sealed = format!("the value of {number}").into_bytes();
            seal(b"key", &mut sealed);
            journal.note(0, b"key", Some(&sealed), || Ok(())).unwrap();
            journal.record(number, number).unwrap();
            fs::read(&path).unwrap()
        };
        let older = write(3);
        journal.restart();
        let newer = write(4);
        let record = RECORD_HEADER_BYTES + 2 + 1 + 3 + 1 + "the value of 3".len() + 4;
        for end in SECTOR_BYTES + RECORD_HEADER_BYTES..SECTOR_BYTES + record {
            let torn = [&newer[..end], &older[end..]].concat();
            fs::write(&path, &torn).unwrap();
            let is_newer = torn == newer;
            assert_eq!(numbers(dir.path(), 3), if is_newer { vec![4] } else { vec![] }, "{end}");
        }
    }

    #[test]
    fn a_torn_record_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let journal = begun(dir.path());
        (1..4).for_each(|number| commit(&journal, number, 100));
        let path = Journal::path(dir.path());
        let whole = fs::read(&path).unwrap();
        for at in 2 * SECTOR_BYTES..2 * SECTOR_BYTES + 120 {
            let mut torn = whole.clone();
            torn[at] ^= 4;
            fs::write(&path, torn).unwrap();
            assert_eq!(numbers(dir.path(), 0), [1], "{at}");
        }
        for length in [0, 20, HEADER_BYTES, SECTOR_BYTES + 9] {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(numbers(dir.path(), 0), []);
        }
    }
}
