//! The engine's trees and files: which tree holds what, what a commit writes and how it becomes durable. Knows no
//! index, no filter and no reader.
//!
//! | tree | key | value |
//! | --- | --- | --- |
//! | `chunks` | first position | a chunk of messages |
//! | `fragments` | position, number | a part of a large message's content |
//! | `trims` | topic, or nothing for every topic that is forgotten | how far it was trimmed; how far these had come |
//! | `removed` | topic, position | a message that was taken by itself, why, and whether it is still stored |
//! | `lifetimes` | end, position | a message that lives for a time of its own |
//! | `keys` | span of time, idempotency key | what it was used for |
//! | `topics` | number of an index page | eight topics of the index |
//! | `postings` | topic, first position | a block of a topic's postings |
//! | `latest` | topic, key | the newest message of a key, where only that is kept |
//! | `volatile` | topic, or nothing for every topic | how far messages were lost that were never stored, or by damage |
//! | `options` | topic or pattern | what is set for it |
//! | `epochs` | epoch | first position, how it was opened |
//! | `meta` | `format`, `id`, `commits`, `changes` and a number, `clean`, `indexed`, `run`, `turn` | the format's version, the log's id, the manifest, what its commit changes of small trees, the mark of a clean close, how far the index is written, nothing (it is changed to have the engine clean up) |

use std::{path::Path, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use sled::Db;
use tailwire_core::StoreError;
use tailwire_model::{Message, Position, Timestamp, Topic};

use super::{
    durability::{
        checkpoint::{Checkpoints, Disk},
        journal::Journal,
        manifest::Manifest,
        tree::{SmallChange, StoreTree, TREES},
    },
    failure::{corrupt, failed},
    layout::{
        chunk::{Chunk, PackedEntry, pack},
        postings::PostingsTree,
        record::Fragmented,
        values::{
            KeySpans, epoch_key, fragment_key, key_key, latest_key, put_epoch, put_key, put_latest, put_lost,
            put_options, put_trim, take_fragment,
        },
    },
    maintenance::{key_count::KeyCount, room::Room},
};
use crate::batch::{Changes, Latest, LogHead};

pub(super) const META_COMMITS: &str = "commits";
pub(super) const META_CHANGES: &str = "changes";
pub(super) const META_CLEAN: &str = "clean";
pub(super) const META_FORMAT: &str = "format";
pub(super) const META_ID: &str = "id";
const META_RUN: &str = "run";
const META_TURN: &str = "turn";

/// Changes after which the engine writes a page anew.
const CHANGES_PER_PAGE: u64 = 11;
/// The size of a page that is moved, about: a leaf of chunks; or of fragments, where there are any.
const PAGE_BYTES: usize = 40 << 10;
const FRAGMENTS_PAGE_BYTES: usize = 96 << 10;

/// Accesses by which a chunk that is read by itself counts for a whole page; see [`SledTrees::touch`].
const TOUCHES: usize = 3;

/// The open store.
pub(crate) struct SledTrees {
    pub(crate) db: Db,
    pub(crate) meta: StoreTree,
    pub(crate) epochs: StoreTree,
    pub(crate) trims: StoreTree,
    pub(crate) removed: StoreTree,
    pub(crate) lifetimes: StoreTree,
    pub(crate) keys: StoreTree,
    pub(crate) latest: StoreTree,
    pub(crate) volatile: StoreTree,
    pub(crate) options: StoreTree,
    pub(crate) chunks: StoreTree,
    pub(crate) fragments: StoreTree,
    pub(crate) topics: StoreTree,
    pub(crate) postings: PostingsTree,
    pub(crate) key_spans: KeySpans,
    /// How many `keys` has.
    pub(crate) key_count: KeyCount,
    /// The last chunk, if it stands there without messages.
    pub(super) empty_chunk: Mutex<Option<Position>>,
    /// The manifest of what is written, which the next commit writes down.
    pub(super) manifest: Mutex<Manifest>,
    /// The latest time of all messages that were ever stored.
    latest_time: Mutex<Timestamp>,
    pub(super) journal: Arc<Journal>,
    pub(super) checkpoints: Arc<Checkpoints>,
    pub(crate) room: Room,
    pub(crate) dir: Box<Path>,
}

impl SledTrees {
    /// The trees of an open database in `dir`.
    pub(crate) fn new(db: Db, disk: Box<dyn Disk>, dir: &Path) -> sled::Result<Self> {
        let journal = Arc::new(Journal::without_file());
        let checkpoints = Arc::new(Checkpoints::new(db.clone(), disk, dir));
        let tree = |number: u8| {
            let tree = db.open_tree(TREES[usize::from(number)])?;
            Ok::<_, sled::Error>(StoreTree::new(tree, number, journal.clone(), checkpoints.clone()))
        };
        Ok(Self {
            meta: tree(0)?,
            epochs: tree(1)?,
            trims: tree(2)?,
            removed: tree(11)?,
            lifetimes: tree(12)?,
            keys: tree(3)?,
            latest: tree(4)?,
            volatile: tree(5)?,
            options: tree(6)?,
            chunks: tree(7)?,
            fragments: tree(8)?,
            topics: tree(9)?,
            postings: PostingsTree::new(tree(10)?),
            key_spans: KeySpans::default(),
            key_count: KeyCount::default(),
            empty_chunk: Mutex::default(),
            manifest: Mutex::default(),
            latest_time: Mutex::default(),
            journal: journal.clone(),
            checkpoints: checkpoints.clone(),
            db,
            room: Room::of(dir),
            dir: dir.into(),
        })
    }

    /// All of them, by their numbers.
    pub(super) fn trees(&self) -> [&StoreTree; TREES.len()] {
        [
            &self.meta,
            &self.epochs,
            &self.trims,
            &self.keys,
            &self.latest,
            &self.volatile,
            &self.options,
            &self.chunks,
            &self.fragments,
            &self.topics,
            &self.postings.tree,
            &self.removed,
            &self.lifetimes,
        ]
    }

    /// Writes a commit; durable only after [`SledTrees::sync`]. Returns the newest position that is stored with it. The engine
    /// recovers its writes in order, up to where a crash cut them off. So idempotency and compaction keys go first, since one
    /// without its messages is ignored; then messages, of which an unfinished group is dropped; then the manifest, which
    /// proves all of it, with the changes of trims, options and epochs, which are made with it or not at all.
    pub(crate) fn write(
        &self,
        changes: &Changes,
        head: &LogHead,
        commits: u64,
    ) -> sled::Result<Option<Position>> {
        let span = self.key_spans.at(changes.came);
        for (scoped, record) in &changes.keys {
            let key = key_key(span, scoped);
            if self.keys.insert(&key, put_key(&key, record))?.is_none() {
                self.key_count.added(&key);
            }
        }
        for (key, &(latest, before)) in &changes.latest {
            let key = latest_key(key);
            let named = |latest: Latest| (head.epochs.cursor_at(latest.position), latest.cost);
            self.latest.insert(&key, put_latest(&key, [Some(named(latest)), before.map(named)]))?;
        }
        let (messages, groups) = changes.stored();
        self.put_lifetimes(&messages, &head.ages)?;
        for entry in pack(&messages, &groups, &mut self.latest_time.lock()) {
            match entry {
                PackedEntry::Fragment(position, number, value) => {
                    self.fragments.insert(fragment_key(position, number), value)?;
                }
                PackedEntry::Chunk(first, value) => self.put_chunk(first, value)?,
            }
        }
        let newest = messages.last().map(Message::position);
        self.put_token(&head.token);
        self.end_commit(commits, newest, &self.small_changes(changes)?)?;
        if !messages.is_empty()
            && let Some(empty_chunk) = self.empty_chunk.lock().take()
        {
            self.chunks.remove(empty_chunk.0.to_be_bytes())?;
        }
        Ok(newest)
    }

    /// The changes of a commit in the small trees.
    pub(super) fn small_changes<'a>(&'a self, changes: &'a Changes) -> sled::Result<Vec<SmallChange<'a>>> {
        let mut small = Vec::new();
        for (topic, &(trim, time)) in &changes.trims {
            let name = topic.as_str().as_bytes();
            let value = put_trim(name, trim, time, self.trim_state(topic)?);
            small.push((&self.trims, name.to_vec(), Some(value)));
        }
        small.extend(self.forgotten_changes(changes)?);
        small.extend(self.removed_changes(changes));
        small.extend(changes.options.iter().map(|(term, options)| {
            let term = term.as_str().as_bytes();
            let value = (!options.is_empty()).then(|| put_options(term, options));
            (&self.options, term.to_vec(), value)
        }));
        let epochs = (changes.openings.iter())
            .map(|start| (&self.epochs, epoch_key(start.epoch).to_vec(), Some(put_epoch(start))));
        small.extend(epochs);
        Ok(small)
    }

    /// Has the engine move some pages out of segments of its file that are half empty, so that these can be used again. It
    /// moves one whenever it writes a page anew, and else only in a thread that syncs every so often whether there is
    /// anything to sync. So a small page is written anew, by changing it as often as that takes.
    pub(crate) fn clean(&self, pages: u64) -> sled::Result<()> {
        let page_bytes = if self.fragments.is_empty() { PAGE_BYTES } else { FRAGMENTS_PAGE_BYTES };
        for turn in 0..pages * CHANGES_PER_PAGE {
            if turn % CHANGES_PER_PAGE == 0 {
                self.checkpoints.wrote_pages(page_bytes)?;
            }
            self.meta.change_unnoted(META_TURN.as_bytes(), Some(&turn.to_le_bytes()))?;
        }
        Ok(())
    }

    /// Notes that a topic has messages that are not stored.
    pub(crate) fn write_volatile(&self, topic: &Topic) -> sled::Result<()> {
        let topic = topic.as_str().as_bytes();
        self.put_small(&self.volatile, topic, put_lost(topic, Position::ZERO))
    }

    /// Writes the mark of a clean close: the newest position that is stored, by which it is known that the mark is of
    /// just this state, and the newest that was ever given.
    pub(crate) fn write_clean(&self, stored: Position, newest: Position, commits: u64) -> sled::Result<()> {
        let value = [stored.0.to_le_bytes(), newest.0.to_le_bytes()].concat();
        self.meta.insert(META_CLEAN, value)?;
        self.end_commit(commits, Some(stored), &[])
    }

    /// How often it was opened.
    pub(crate) fn run(&self) -> sled::Result<u64> {
        let value = self.meta.get(META_RUN)?;
        Ok(value.and_then(|value| value.as_ref().try_into().ok()).map_or(0, u64::from_le_bytes))
    }

    /// Counts an opening.
    pub(crate) fn begin_run(&self) -> sled::Result<u64> {
        let run = self.run()? + 1;
        self.meta.insert(META_RUN, run.to_le_bytes())?;
        Ok(run)
    }

    /// Takes the mark of a clean close away.
    pub(crate) fn remove_clean(&self) -> sled::Result<()> {
        self.meta.remove(META_CLEAN).map(drop)
    }

    /// The newest position that was given before the close in good order, if that was the last thing, and what is stored is
    /// what was then.
    pub(crate) fn clean_close(&self, stored: Position) -> sled::Result<Option<Position>> {
        let value = self.meta.get(META_CLEAN)?;
        let halves = value.as_deref().and_then(|value| value.split_first_chunk::<8>());
        let (then, newest) = match halves {
            Some((then, newest)) => (u64::from_le_bytes(*then), newest.try_into().map(u64::from_le_bytes)),
            None => return Ok(None),
        };
        Ok(newest.ok().filter(|_| then == stored.0).map(Position))
    }

    /// The chunk in whose span a position lies, if the store has one.
    pub(crate) fn chunk_at(&self, position: Position) -> Result<Option<Chunk>, StoreError> {
        Ok(self.chunk_from(position)?.filter(|chunk| position <= chunk.last))
    }

    /// The last chunk that begins at a position or before it.
    pub(crate) fn chunk_from(&self, position: Position) -> Result<Option<Chunk>, StoreError> {
        self.chunks.range(..=position.0.to_be_bytes()).next_back().map(open_chunk).transpose()
    }

    /// Goes on from the latest time of all that is stored.
    pub(crate) fn begin_times(&self) -> Result<(), StoreError> {
        let Some(chunk) = self.chunk_from(Position::MAX)? else { return Ok(()) };
        let mut latest = chunk.latest_before;
        for record in chunk.records() {
            latest = latest.max(record.map_err(|damage| corrupt("chunk", chunk.first, damage))?.time);
        }
        *self.latest_time.lock() = latest;
        Ok(())
    }

    /// The chunks, newest first.
    pub(crate) fn last_chunks(&self) -> impl Iterator<Item = Result<Chunk, StoreError>> {
        self.chunks.iter().rev().map(open_chunk)
    }

    /// Whether no chunk begins beyond a position.
    pub(crate) fn is_last(&self, first: Position) -> Result<bool, StoreError> {
        Ok(self.chunks.get_gt(first.0.to_be_bytes()).map_err(failed)?.is_none())
    }

    /// The chunks that may hold messages after a position, oldest first. Each is looked up by itself: see
    /// [`SledTrees::touch`].
    pub(crate) fn chunks_after(&self, after: Position) -> impl Iterator<Item = Result<Chunk, StoreError>> {
        let mut next = self.chunks.range(..=after.0.to_be_bytes()).next_back().map(open_chunk);
        if !matches!(&next, Some(Ok(chunk)) if chunk.last > after) && !matches!(&next, Some(Err(_))) {
            next = self.chunk_beyond(after);
        }
        std::iter::from_fn(move || {
            let chunk = next.take()?;
            if let Ok(chunk) = &chunk {
                next = self.chunk_beyond(chunk.first);
            }
            Some(chunk)
        })
    }

    /// The first chunk that begins beyond a position.
    pub(crate) fn chunk_beyond(&self, position: Position) -> Option<Result<Chunk, StoreError>> {
        self.chunks.get_gt(position.0.to_be_bytes()).transpose().map(open_chunk)
    }

    /// The chunks that begin before a position, newest first.
    pub(crate) fn chunks_before(&self, before: Position) -> impl Iterator<Item = Result<Chunk, StoreError>> {
        let mut before = before;
        std::iter::from_fn(move || {
            let chunk = self.chunks.get_lt(before.0.to_be_bytes()).transpose().map(open_chunk)?;
            // After an error there is nothing more.
            before = chunk.as_ref().map_or(Position::ZERO, |chunk| chunk.first);
            Some(chunk)
        })
    }

    /// Makes the engine's cache keep to its bound where chunks are read here and there. It notes accesses, and evicts
    /// only after 64 of them in one of its 256 parts: at one access a page it would hold some 600 MB by then. Looking
    /// a chunk up that was just read costs a quarter of a microsecond, and reading its page some twenty.
    pub(crate) fn touch(&self, chunk: &Chunk) -> Result<(), StoreError> {
        for _ in 0..TOUCHES {
            self.chunks.contains_key(chunk.first.0.to_be_bytes()).map_err(failed)?;
        }
        Ok(())
    }

    /// The content of a large message; `None` if fragments are gone.
    pub(crate) fn content(&self, position: Position, is: &Fragmented) -> Result<Option<Bytes>, StoreError> {
        let mut content = Vec::with_capacity(is.length);
        for (number, entry) in (0..).zip(self.fragments.scan_prefix(position.0.to_be_bytes())) {
            let (key, value) = entry.map_err(failed)?;
            if *key != fragment_key(position, number) {
                return Ok(None);
            }
            let fragment = take_fragment(&key, &value);
            let (_, bytes) =
                fragment.map_err(|damage| corrupt("fragments of the message", position, damage))?;
            content.extend_from_slice(bytes);
        }
        if content.len() < is.length {
            return Ok(None);
        }
        is.check(position, &content).map_err(|damage| corrupt("message", position, damage))?;
        Ok(Some(content.into()))
    }

    /// Removes the fragments of a message.
    pub(crate) fn remove_content(&self, position: Position) -> sled::Result<()> {
        for key in self.fragments.scan_prefix(position.0.to_be_bytes()).keys() {
            self.fragments.remove(key?)?;
        }
        Ok(())
    }
}

fn open_chunk(entry: sled::Result<(sled::IVec, sled::IVec)>) -> Result<Chunk, StoreError> {
    let (key, value) = entry.map_err(failed)?;
    let first = key.as_ref().try_into().map(u64::from_be_bytes);
    let first = Position(first.map_err(|_| StoreError::Corrupt("a chunk's key is not a position".into()))?);
    Chunk::open(first, &value).map_err(|damage| corrupt("chunk", first, damage))
}
