//! Opening: takes the lock, finds what the last process left, drops what a crash left unfinished, and brings the index up
//! to date (`recover`). After it returns everything found is as durable as if it had been committed.

use std::{
    fs::{self, File, OpenOptions},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tailwire_model::{Epoch, EpochStart, Epochs, Opening, Options, Position, Rules, Term, Timestamp, Topic};
use uuid::Uuid;

use super::{
    acknowledged::{Acknowledged, accept_loss, check_count, check_small, check_whole, find_watermark},
    count::Count,
    engine::{self, engine_lock, open_db, retry_locked},
    error::{OpenError, corrupt, failed, not_writable, unreadable},
    folder,
    recover::{self, StoredTrims},
};
use crate::{
    ages::Ages,
    batch::{LogHead, no_epochs},
    index::Index,
    ring::Lost,
};
use crate::{
    codec::Damage,
    sled_store::{
        durability::{
            journal::Journal,
            manifest::Manifest,
            watermark::{CommitMark, Watermark},
        },
        failure::NOT_AS_WRITTEN,
        forgotten::ForgottenRemains,
        layout::{
            FORMAT, table,
            values::{
                EVERY_TOPIC, FORGOTTEN_TOPICS, KeySpans, StoredRemoval, TrimState, put_lost, take_epoch,
                take_floor, take_lost, take_options, take_trim,
            },
        },
        maintenance::{ballast::Ballast, folder_watch::FolderWatch},
        removed,
        store::{META_FORMAT, META_ID, SledTrees},
    },
};

/// The operator's settings of a log.
#[derive(Debug, Clone, Default)]
pub struct LogSettings {
    /// Options that hold where clients set no others.
    pub options: Vec<(Term, Options)>,
    /// How many bytes all messages may take, as [`Draft::cost`](tailwire_model::Draft::cost) counts them; the oldest go.
    pub max_bytes: Option<u64>,
    /// How long a topic that holds nothing stays known after its newest message came, in milliseconds; for good if that isn't
    /// set.
    pub forget_after_ms: Option<u64>,
    /// Open the log even if it has less than what was acknowledged. What is lost is then a gap.
    pub accepts_loss: bool,
}

/// The result of an opening.
pub(crate) struct Opened {
    pub(crate) store: SledTrees,
    pub(crate) ballast: Ballast,
    pub(crate) folder_watch: FolderWatch,
    pub(crate) watermark: Watermark,
    pub(crate) mark: CommitMark,
    pub(crate) found: Opening,
    pub(crate) head: LogHead,
    pub(crate) index: Index,
    /// How far the index is written.
    pub(crate) indexed: table::IndexMark,
    /// How far messages were lost that were never stored, or by damage.
    pub(crate) lost: Lost,
    /// Topics of which messages may be gone from the middle.
    pub(crate) compacted: Vec<Topic>,
    pub(crate) remains: ForgottenRemains,
}

pub(crate) fn open(dir: &Path, settings: &LogSettings) -> Result<Opened, OpenError> {
    // Every call of the engine may trip it, not only its own opening.
    catch_unwind(AssertUnwindSafe(|| open_whole(dir, settings)))
        .unwrap_or_else(|_| Err(OpenError::Corrupt(NOT_AS_WRITTEN.into())))
}

fn open_whole(dir: &Path, settings: &LogSettings) -> Result<Opened, OpenError> {
    let started = Instant::now();
    let existed = dir.is_dir();
    if let Some(name) = folder::foreign_file(dir) {
        return Err(OpenError::Foreign(name.to_string_lossy().into_owned()));
    }
    fs::create_dir_all(dir).map_err(|error| not_writable(dir, &error))?;
    // Before anything is touched that is another process's.
    let folder_lock = retry_locked(|| engine::folder_lock(dir))?;
    retry_locked(|| engine_lock(dir).map(drop))?;
    let ballast = Ballast::before_opening(dir);
    let acknowledged = find_watermark(dir)?;
    let db = open_db(dir)?;
    let file = OpenOptions::new().read(true).write(true).open(dir.join("db"));
    let file = file.map_err(|error| not_writable(&dir.join("db"), &error))?;
    // As early as can be: a cut before that leaves a file without the settings by which it is read.
    sync_names(dir, existed).map_err(|error| OpenError::Io(error.to_string()))?;
    let mut store = SledTrees::new(db, Box::new(file), dir).map_err(failed)?;

    check_format(&store)?;
    store.redo().map_err(unreadable)?;
    let found = FoundStore::in_store(&store)?;
    let accepted = found.check(&store, acknowledged, settings.accepts_loss)?;
    // The journal's changes are in the engine's file before the epoch begins that makes the journal worthless.
    store.checkpoint().map_err(failed)?;
    found.drop_unfinished(&store)?;
    let FoundStore { id, trims, removals, last, stored, known, .. } = found;
    let rules = Arc::new(Rules::new(settings.options.clone(), stored_options(&store)?));

    let closed = store.clean_close(last).map_err(failed)?;
    let starts = stored_epochs(&store)?;
    // A position that an epoch has passed is not given again, whatever was stored of it: messages that are never stored
    // have positions, too, and the index knows of some.
    let passed = starts.last().map_or(Position::ZERO, |start| start.first.previous());
    let passed = passed.max(accepted).max(table::position(&store, last));
    let newest = closed.unwrap_or(stored).max(passed);
    let commits = known.commits;
    let mut count = Count::new(known);
    let (mut index, indexed) =
        recover::recover(&store, &trims, last, newest, &mut count).map_err(unreadable)?;
    check_count(&store, &mut count, stored, settings.accepts_loss)?;
    store.begin_times().map_err(unreadable)?;
    let compacted = store.compacted().map_err(unreadable)?;
    let (mut compacted, unknown): (Vec<_>, Vec<_>) =
        compacted.into_iter().partition(|topic| index.id(topic.as_str()).is_some());
    let remains = ForgottenRemains::new(unknown, trims.floor.upto, !trims.forgotten.is_empty());
    compacted.iter().for_each(|topic| index.set_compacted(topic.as_str()));
    removed::recover(&store, &mut index, &removals).map_err(unreadable)?;
    compacted.extend(removals.into_iter().map(|own| own.topic));
    let time = index.newest_time();
    let last_key = store.keys.last().map_err(failed)?;
    store.key_spans = KeySpans::new(time, last_key.as_ref().map(|(key, _)| key.as_ref()));
    let lost = lose_volatile(&store, &mut index, newest, time)?;
    // Before anything else is written: a crash must not leave a mark that was used.
    store.remove_clean().map_err(failed)?;
    let found = found_as(&starts, newest, closed.is_some());
    let epochs = if starts.is_empty() { Some(no_epochs()) } else { Epochs::new(starts).map(Arc::new) };
    let epochs = epochs.ok_or_else(|| OpenError::Corrupt("its epochs are not in order".into()))?;
    let run = store.begin_run().map_err(failed)?;
    let acknowledged_commits = acknowledged.ok().flatten().map_or(0, |mark| mark.commits);
    let mark =
        CommitMark { id, commits: commits.max(acknowledged_commits) + 1, newest: last, is_dirty: false };
    store.begin_manifest(count.into_manifest(mark.commits, last)).map_err(failed)?;
    store.checkpoint().map_err(failed)?;
    begin_journal(&store, id, run)?;
    let watermark = Watermark::begin(dir, &mark).map_err(|error| OpenError::Io(error.to_string()))?;
    sync_names(dir, existed).map_err(|error| OpenError::Io(error.to_string()))?;
    let folder_watch = FolderWatch::of(dir, folder_lock).map_err(|error| OpenError::Io(error.to_string()))?;
    ballast.keep();
    outlast_epoch(started);
    let head = LogHead { newest, steady: time, ages: Ages::default(), token: store.token(), rules, epochs };
    Ok(Opened {
        store,
        ballast,
        folder_watch,
        watermark,
        mark,
        found,
        head,
        index,
        indexed,
        lost,
        compacted,
        remains,
    })
}

/// The state of the store as it was found: compared with what was acknowledged, before anything of it is dropped.
struct FoundStore {
    id: Uuid,
    trims: StoredTrims,
    removals: Vec<StoredRemoval>,
    /// The chunks of a group at the log's end whose last one is missing.
    unfinished: Vec<Position>,
    /// The end of the last chunk before these.
    last: Position,
    /// The newest position that was stored.
    stored: Position,
    known: Manifest,
}

impl FoundStore {
    fn in_store(store: &SledTrees) -> Result<Self, OpenError> {
        let id = identify(store)?;
        let trims = read_trims(store)?;
        let removals = store.removals().map_err(unreadable)?;
        // A trim is written after the messages that it trims, so it proves that they all got there, also where their last
        // chunk was tidied away since. So does the removal of a single one.
        let proven = trims.known.iter().map(|(_, trim, _)| trim.upto).chain([trims.floor.upto]);
        let proven = proven.chain(removals.iter().map(|own| own.trim.upto)).max().unwrap_or_default();
        let known = store.known().map_err(unreadable)?;
        let (token, known_newest) = (known.token.clone(), known.newest);
        let (mut unfinished, mut last) = (Vec::new(), Position::ZERO);
        for chunk in store.last_chunks() {
            let chunk = chunk.map_err(unreadable)?;
            // An order that goes on by its token hands in again what is not known to be whole.
            let is_known = token.0.is_empty() || chunk.first <= known_newest;
            if is_known && (chunk.ends || chunk.first <= proven) {
                last = chunk.last;
                *store.empty_chunk.lock() = (chunk.count == 0).then_some(chunk.first);
                break;
            }
            unfinished.push(chunk.first);
        }
        Ok(Self { id, trims, removals, unfinished, last, stored: last.max(proven), known })
    }

    /// Holds it against what was acknowledged. If a loss is accepted, answers how far it goes.
    fn check(
        &self,
        store: &SledTrees,
        acknowledged: Acknowledged,
        accepts_loss: bool,
    ) -> Result<Position, OpenError> {
        let whole = check_whole(acknowledged, self.id, self.known.commits, self.last);
        if !accepts_loss {
            whole.clone()?;
        }
        check_small(store, &self.known, self.stored, accepts_loss)?;
        match whole {
            Ok(()) => Ok(Position::ZERO),
            Err(_) => accept_loss(store, acknowledged, self.id, self.stored),
        }
    }

    /// Drops what a crash left of a group, and of the contents of one.
    fn drop_unfinished(&self, store: &SledTrees) -> Result<(), OpenError> {
        for first in &self.unfinished {
            tracing::warn!(from = first.0, "dropped the beginning of a publish that a crash cut off");
            store.chunks.remove(first.0.to_be_bytes()).map_err(failed)?;
        }
        for key in store.fragments.range(self.stored.next().0.to_be_bytes()..).keys() {
            store.fragments.remove(key.map_err(failed)?).map_err(failed)?;
        }
        Ok(())
    }
}

/// A disk that is full has no room for a journal. Then every commit is a checkpoint, and the next opening tries again.
fn begin_journal(store: &SledTrees, id: Uuid, run: u64) -> Result<(), OpenError> {
    match store.journal.begin(&store.dir, id, run) {
        Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
            tracing::warn!("the disk has no room for the journal; until the next start commits are slower");
            Ok(())
        }
        begun => begun.map_err(|error| not_writable(&Journal::path(&store.dir), &error)),
    }
}

/// All messages that were never stored are lost by now: notes how far. What a repair noted stays as it is.
fn lose_volatile(
    store: &SledTrees,
    index: &mut Index,
    newest: Position,
    time: Timestamp,
) -> Result<Lost, OpenError> {
    let mut lost = Lost::default();
    for entry in store.volatile.iter() {
        let (key, value) = entry.map_err(failed)?;
        let before = take_lost(&key, &value).map_err(|damage| corrupt("what was lost", damage))?;
        if *key == *EVERY_TOPIC {
            lost.everywhere = before;
            continue;
        }
        let upto = if before == Position::ZERO { newest } else { before };
        if upto != before {
            store.put_small(&store.volatile, &key, put_lost(&key, upto)).map_err(failed)?;
        }
        let name = topic(&key)?;
        if index.tail(&name).0 < upto {
            index.pass(name.as_str(), upto, time);
        }
        lost.topics.insert(name, upto);
    }
    Ok(lost)
}

/// Checks the format; a new log gets one.
fn check_format(store: &SledTrees) -> Result<(), OpenError> {
    match store.meta.get(META_FORMAT).map_err(failed)? {
        Some(value) => match value.as_ref().try_into().map_or(0, u32::from_le_bytes) {
            FORMAT => Ok(()),
            other => Err(OpenError::Version(other)),
        },
        None if store.chunks.is_empty() => {
            store.meta.insert(META_FORMAT, FORMAT.to_le_bytes()).map(drop).map_err(failed)
        }
        None => Err(OpenError::Corrupt("its format is not recorded".into())),
    }
}

/// Finds the id; a new log gets one.
fn identify(store: &SledTrees) -> Result<Uuid, OpenError> {
    let id = store.meta.get(META_ID).map_err(failed)?;
    if let Some(id) = id.and_then(|value| Uuid::from_slice(&value).ok()) {
        return Ok(id);
    }
    let id = Uuid::new_v4();
    store.meta.insert(META_ID, id.as_bytes()).map_err(failed)?;
    Ok(id)
}

fn read_trims(store: &SledTrees) -> Result<StoredTrims, OpenError> {
    let mut trims = StoredTrims::default();
    for entry in store.trims.iter() {
        let (key, value) = entry.map_err(failed)?;
        let damaged = |damage| corrupt("a trim", damage);
        if *key == *FORGOTTEN_TOPICS {
            trims.floor = take_floor(&value).map_err(damaged)?;
            continue;
        }
        let (trim, time, state) = take_trim(&key, &value).map_err(damaged)?;
        let topic = topic(&key)?;
        match state {
            TrimState::Known | TrimState::KnownAgain => trims.known.push((topic, trim, time)),
            TrimState::Forgotten => drop(trims.forgotten.insert(topic, trim.upto)),
        }
    }
    Ok(trims)
}

fn stored_options(store: &SledTrees) -> Result<Vec<(Term, Options)>, OpenError> {
    let mut stored = Vec::new();
    for entry in store.options.iter() {
        let (key, value) = entry.map_err(failed)?;
        let options = take_options(&key, &value).map_err(|damage| corrupt("options", damage))?;
        let term = std::str::from_utf8(&key).ok().and_then(|name| Term::parse(name).ok());
        let term = term.ok_or_else(|| corrupt("options", Damage("their term is none")))?;
        stored.push((term, options));
    }
    Ok(stored)
}

fn stored_epochs(store: &SledTrees) -> Result<Vec<EpochStart>, OpenError> {
    let mut starts = Vec::new();
    for entry in store.epochs.iter() {
        let (key, value) = entry.map_err(failed)?;
        starts.push(take_epoch(&key, &value).map_err(|damage| corrupt("an epoch", damage))?);
    }
    Ok(starts)
}

/// How the log was left.
fn found_as(starts: &[EpochStart], newest: Position, is_clean: bool) -> Opening {
    match is_clean {
        _ if starts.is_empty() => Opening::Created,
        true => Opening::Clean,
        false => {
            tracing::warn!(newest = newest.0, "the log was not closed in good order; what it holds was kept");
            Opening::Unclean
        }
    }
}

/// Waits, if need be, for the time to be over that the epoch's number stands for, before anybody is given a cursor of it: a
/// log that is opened once this one is closed has another, also a new one in the place of this, or a copy.
fn outlast_epoch(started: Instant) {
    thread::sleep(Duration::from_millis(Epoch::UNIT_MS).saturating_sub(started.elapsed()));
}

/// Makes durable what the engine leaves to chance: its settings, the names of its files, and that of the directory if it
/// is new.
fn sync_names(dir: &Path, existed: bool) -> io::Result<()> {
    File::open(dir.join("conf"))?.sync_all()?;
    if cfg!(unix) {
        File::open(dir)?.sync_all()?;
        if let (false, Some(parent)) = (existed, dir.canonicalize()?.parent()) {
            File::open(parent)?.sync_all()?;
        }
    }
    Ok(())
}

fn topic(name: &[u8]) -> Result<Topic, OpenError> {
    let name = std::str::from_utf8(name).ok().and_then(|name| Topic::parse(name).ok());
    name.ok_or_else(|| corrupt("a topic", Damage("its name is none")))
}
