//! Looking at a log that no broker has open: what it holds, what is wrong with it, and what of it is legible, down to
//! what stands in a file that the engine refuses. It reads and never prints; only [`repair`](fn@repair) writes, and only
//! beside the log.
//!
//! The engine writes when it opens: it cuts off what it takes for torn, and that may be just what was to be looked at. So
//! it never gets the log itself, only a copy of its files, which costs their size in room for the time of the look (on
//! file systems that share blocks between copies, nothing). What the engine doesn't make out of the copy is looked for in
//! the log's own file, by the labels of what is stored in it.

mod engine;
mod ledger;
mod legible;
mod raw;
mod repair;
mod report;
mod scratch;
mod swap;
mod walk;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tailwire_model::{Epochs, Position};

use self::{
    engine::Engine,
    ledger::Ledger,
    raw::RawFiles,
    scratch::{Lock, Scratch},
};
pub use self::{
    repair::{RepairError, Repaired, repair},
    report::{Figures, Finding, Findings, Severity},
    swap::swap,
    walk::Walked,
};
use super::{
    durability::{journal::Journal, watermark::CommitMark},
    opening::acknowledged::SMALL_CHANGED,
};

/// Why a log can't be looked at.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// There is none.
    #[error("there is no log in {0}")]
    Missing(PathBuf),
    /// Another process has it open.
    #[error("a process has this log open: stop it first, or look at a copy of the folder")]
    Locked,
    /// The disk has no room for the copy that the engine needs.
    #[error(
        "looking at the log takes {needed} bytes of room for a copy of it, and {} has {available}; \
         choose a folder on another disk with --scratch", folder.display()
    )]
    NoRoom {
        /// Where the copy would stand.
        folder: PathBuf,
        /// Its cost.
        needed: u64,
        /// The available bytes.
        available: u64,
    },
    /// It was written by a version that stores things otherwise.
    #[error("the log is of format {0}, which this version does not read")]
    Version(u32),
    /// A file or folder can't be read or written.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// An [`InspectError::Io`] about a path.
fn io_error(path: &Path) -> impl FnOnce(io::Error) -> InspectError {
    move |error| InspectError::Io { path: path.into(), error }
}

/// A log that is being looked at. While it is, no broker can open it.
pub struct Survey {
    engine: Option<Engine>,
    /// The content of the log's own file, where the engine's view is not whole or not sound.
    raw: Option<RawFiles>,
    ledger: Ledger,
    /// The ledger is the engine's, and as it was when the last commit was acknowledged.
    is_ledger_whole: bool,
    epochs: Option<Epochs>,
    /// The acknowledged state, if it is known.
    mark: Option<CommitMark>,
    findings: Findings,
    file_bytes: u64,
    // Dropped last: the engine has the copy open, and the lock is for as long as anything is read.
    _scratch: Scratch,
    _lock: Lock,
}

impl Survey {
    /// Looks at the log in `dir`, by means of a copy that stands in `scratch`, or else beside it, until this is dropped.
    ///
    /// # Errors
    /// An [`InspectError`]. Damage is none.
    pub fn open(dir: &Path, scratch: Option<&Path>) -> Result<Self, InspectError> {
        let db = dir.join("db");
        let lock = Lock::take(&db)?;
        let mut findings = Findings::default();
        let mut mark = ledger::find_mark(dir, &mut findings)?;
        let scratch = Scratch::copy(dir, scratch, &mut findings)?;
        let engine = Engine::open(scratch.dir(), &mut findings);

        let mut ledger = Ledger { id: mark.map(|mark| mark.id), ..Ledger::default() };
        let (mut is_sound, mut is_ledger_whole, mut newest) = (false, false, Position::ZERO);
        if let Some(engine) = &engine {
            let is_ledger_sound = ledger.read(engine.store(), &mut findings);
            let probed = engine.probe();
            is_sound = is_ledger_sound && probed.is_some();
            if probed.is_none() {
                // All of it may stand in the file; still a broker comes upon what the engine can't give.
                findings.damage(None, "the engine can't read all of its messages");
            }
            let (stored, missing) = probed.unwrap_or_default();
            newest = stored.max(ledger.farthest_trim());
            let has_small = engine.has_small();
            is_ledger_whole = is_ledger_sound && has_small == Some(true);
            if has_small == Some(false) {
                is_sound = false;
                findings.damage(None, SMALL_CHANGED);
            }
            if let Some(missing) = missing {
                is_sound = false;
                findings.damage(missing.among, missing.what());
            }
        }
        if let Some(version) = ledger.foreign_format() {
            return Err(InspectError::Version(version));
        }
        if mark.is_some_and(|mark| ledger.id != Some(mark.id)) {
            findings
                .damage(None, "its watermark is of another log, so that nobody knows whether it is whole");
            mark = None;
        }
        if engine.is_some() {
            is_sound &= ledger.check_whole(mark, newest, &mut findings);
            is_ledger_whole &= mark.is_some_and(|mark| mark.commits <= ledger.commits);
        }
        let raw = (!is_sound).then(|| RawFiles::scan(&[&db, &Journal::path(dir)])).transpose()?;
        if let Some(raw) = &raw {
            findings.note(None, "messages were looked for in the file itself, by their labels");
            if raw.spoiled() > 0 {
                findings.note(None, format!("{} stored values there are not as written", raw.spoiled()));
            }
            // Where nothing is missing of it, the file adds only what does not count any more.
            if !is_ledger_whole {
                ledger.absorb(raw.small());
            }
        }
        let mut survey = Self {
            engine,
            raw,
            ledger,
            is_ledger_whole,
            epochs: None,
            mark,
            findings,
            file_bytes: scratch.bytes(),
            _scratch: scratch,
            _lock: lock,
        };
        survey.choose_epochs(newest);
        Ok(survey)
    }

    /// Decides which of the chunks that were found in the file count, and which epochs there were.
    fn choose_epochs(&mut self, newest: Position) {
        self.epochs = self.ledger.epochs();
        let acknowledged = self.mark.map_or(Position(u64::MAX - 1), |mark| mark.newest.max(newest));
        if let Some(raw) = &mut self.raw {
            if !self.is_ledger_whole {
                self.epochs = raw.epochs(&self.ledger.starts).or(self.epochs.take());
            }
            raw.choose_chunks(self.epochs.as_ref(), acknowledged);
        }
    }

    /// The newest position that was ever given, as far as that is known.
    fn newest(&self, stored: Position) -> Position {
        let closed = self.ledger.closed.unwrap_or_default();
        let passed = self.epochs.as_ref().map_or(Position::ZERO, |epochs| epochs.current().first.previous());
        stored.max(closed).max(passed).max(self.mark.map_or(Position::ZERO, |mark| mark.newest))
    }
}

/// The bytes of all files below a folder.
pub(super) fn bytes_below(folder: &Path) -> io::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let (path, meta) = entry.and_then(|entry| Ok((entry.path(), entry.metadata()?)))?;
        sum += if meta.is_dir() { bytes_below(&path)? } else { meta.len() };
    }
    Ok(sum)
}
