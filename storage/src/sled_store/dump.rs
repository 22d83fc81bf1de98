//! All that a closed store holds as a row of bytes, and a store in another folder that is made of it: the entries of its trees,
//! each value with its own checksum. The engine's files have no part in it, so a dump takes as much as what is stored, and
//! not as much as they do.
//!
//! ```text
//! entry   tree, its number in TREES (1) · length of the key (4) · length of the value (4) · key · value
//! end     FF (1)
//! ```
//! Integers are little-endian. Whether a dump arrives as it was given is for its carrier to check; here its end says
//! that it is whole, and the opening holds what it brought against the manifest, which is among it.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read},
    path::Path,
};

use bytes::Bytes;
use tailwire_core::StoreError;
use uuid::Uuid;

use super::{
    SledStore,
    durability::{
        commit::WriterState,
        watermark::{CommitMark, Watermark},
    },
    failure::{failed, guarded},
    opening::engine::open_db,
    store::{META_ID, SledTrees},
};

const END: u8 = 0xff;
/// No key and no value is longer: values are kept under 7 KB, and a token is the longest beside them.
const LENGTH_MAX: usize = 16 << 20;

impl SledStore {
    /// Gives all that a closed store holds, in parts of one size but for the last.
    ///
    /// # Errors
    /// When the store is open or can't be read, or `give` fails.
    pub fn dump<E: From<StoreError>>(
        &self,
        part_bytes: usize,
        mut give: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if !matches!(self.writer.lock().state, WriterState::Closed) {
            return Err(StoreError::Failed("it is still open".to_owned()).into());
        }
        let mut part = Vec::with_capacity(part_bytes);
        for tree in self.store.trees() {
            let mut entries = tree.iter();
            while let Some((key, value)) = guarded(|| entries.next().transpose().map_err(failed))? {
                part.push(tree.number());
                for bytes in [&key, &value] {
                    part.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
                }
                part.extend_from_slice(&key);
                part.extend_from_slice(&value);
                while part.len() >= part_bytes {
                    give(&part[..part_bytes])?;
                    part.drain(..part_bytes);
                }
            }
        }
        part.push(END);
        give(&part)
    }

    /// Makes a store in a folder of its own of a dump, which `next` gives until there is no more, and closes it: as durable as one
    /// that was closed in good order. What an error leaves in the folder is none.
    ///
    /// # Errors
    /// When the folder can't be written, `next` fails, or the dump is not whole.
    pub fn restore(dir: &Path, next: impl FnMut() -> io::Result<Option<Bytes>>) -> io::Result<()> {
        fs::create_dir_all(dir)?;
        let db = open_db(dir).map_err(io::Error::other)?;
        let file = OpenOptions::new().read(true).write(true).open(dir.join("db"))?;
        let trees = guarded(|| SledTrees::new(db, Box::new(file), dir).map_err(failed));
        let trees = trees.map_err(io::Error::other)?;
        let filled = fill(&trees, next);
        // When the engine is dropped it syncs, and panics if it can't.
        let dropped = guarded(|| {
            drop(trees);
            Ok(())
        });
        filled.and(dropped.map_err(io::Error::other))
    }
}

fn fill(store: &SledTrees, next: impl FnMut() -> io::Result<Option<Bytes>>) -> io::Result<()> {
    let trees = store.trees();
    let mut from = DumpReader { next, part: Bytes::new() };
    loop {
        let [number] = from.array()?;
        if number == END {
            break;
        }
        let tree = trees.get(usize::from(number)).ok_or_else(|| wrong("it has an entry of no tree"))?;
        let lengths = [from.array()?, from.array()?].map(|length| u32::from_le_bytes(length) as usize);
        if lengths.iter().any(|length| *length > LENGTH_MAX) {
            return Err(wrong("it has an entry that is too long"));
        }
        let [mut key, mut value] = lengths.map(|length| vec![0; length]);
        from.read_exact(&mut key)?;
        from.read_exact(&mut value)?;
        // Without the journal, and without a sync now and then: what a crash leaves of it is not used.
        let changed = guarded(|| tree.change_unnoted(&key, Some(value.as_slice())).map_err(failed));
        changed.map_err(io::Error::other)?;
    }
    // The reader's last part is not given before all of them were found to be what was written.
    if from.read(&mut [0])? > 0 {
        return Err(wrong("something follows its end"));
    }
    let mark = guarded(|| {
        store.checkpoint().map_err(failed)?;
        let (id, known) = (store.meta.get(META_ID).map_err(failed)?, store.known()?);
        let id = id.and_then(|id| Uuid::from_slice(&id).ok());
        Ok(id.map(|id| CommitMark { id, commits: known.commits, newest: known.newest, is_dirty: false }))
    });
    let mark = mark.map_err(io::Error::other)?.ok_or_else(|| wrong("it has no log's name"))?;
    Watermark::begin(&store.dir, &mark).map(drop)
}

fn wrong(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

struct DumpReader<F> {
    next: F,
    part: Bytes,
}

impl<F: FnMut() -> io::Result<Option<Bytes>>> DumpReader<F> {
    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

impl<F: FnMut() -> io::Result<Option<Bytes>>> Read for DumpReader<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.part.is_empty() {
            match (self.next)()? {
                Some(part) => self.part = part,
                None => return Ok(0),
            }
        }
        let count = into.len().min(self.part.len());
        into[..count].copy_from_slice(&self.part.split_to(count));
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::VecDeque;

    use tailwire_core::{Store, log::Group};
    use tailwire_model::{
        Bound, Condition, Draft, Fingerprint, IdempotencyKey, Keep, MediaType, Options, Term, Timestamp,
        Topic, TrimReason, message::Extras,
    };

    use super::*;
    use crate::{LogSettings, digest, testing::Writes as _};

    const NOW: Timestamp = Timestamp(1_795_000_000_000);

    fn group(topic: &str, body: &str, key: Option<&str>) -> Group {
        let mut draft = Draft::new(Topic::parse(topic).unwrap(), MediaType::NONE, body.to_owned().into());
        if let Some(key) = key {
            draft.extras = Some(Box::new(Extras { key: Some(key.to_owned()), ..Extras::default() }));
        }
        let key = IdempotencyKey { scoped: format!("{topic} {body}"), request: Fingerprint([7; 16]) };
        Group { drafts: vec![draft], key: Some(key), condition: Condition::None }
    }

    /// A store of all kinds of state.
    fn sample(dir: &Path) -> SledStore {
        let store = crate::testing::open(dir, NOW, &LogSettings::default()).unwrap();
        let compacted = Options { keep: Some(Keep::Compact), ..Options::default() };
        store.set_options(&Term::parse("kept/*").unwrap(), compacted).unwrap();
        let bounds = Options { max_messages: Some(Bound(2)), ..Options::default() };
        store.set_options(&Term::parse("bounded").unwrap(), bounds).unwrap();
        for number in 0..40 {
            let text = number.to_string();
            store.append(vec![group("kept/a", &text, Some(&(number % 3).to_string()))], NOW).unwrap();
            store.append(vec![group("bounded", &text, None), group("plain", &text, None)], NOW).unwrap();
        }
        store.append(vec![group("large", &"x".repeat(300_000), None)], NOW).unwrap();
        store.append(vec![group("gone", "gone", None)], NOW).unwrap();
        store.trim(&Topic::parse("gone").unwrap(), TrimReason::Deleted).unwrap();
        store.tidy_all(NOW);
        store
    }

    fn dumped(store: &SledStore, part_bytes: usize) -> Vec<Bytes> {
        let mut parts = Vec::new();
        let give = |part: &[u8]| -> Result<(), StoreError> {
            parts.push(Bytes::copy_from_slice(part));
            Ok(())
        };
        store.dump(part_bytes, give).unwrap();
        parts
    }

    fn restored(dir: &Path, parts: impl IntoIterator<Item = Bytes>) -> io::Result<()> {
        let mut parts: VecDeque<Bytes> = parts.into_iter().collect();
        SledStore::restore(dir, || Ok(parts.pop_front()))
    }

    #[test]
    fn a_store_that_is_made_of_a_dump_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let own = sample(&dir.path().join("own"));
        let (before, token) = (digest(&own).unwrap(), own.token());
        assert!(matches!(own.dump(9, |_| Ok::<_, StoreError>(())), Err(StoreError::Failed(_))), "it is open");
        own.close().unwrap();
        let whole = dumped(&own, 1 << 20).concat();
        for part_bytes in [1, 1000, 1 << 20] {
            let parts = dumped(&own, part_bytes);
            assert!(parts.iter().rev().skip(1).all(|part| part.len() == part_bytes));
            assert_eq!(parts.concat(), whole);
        }
        let folder = dir.path().join("other");
        restored(&folder, dumped(&own, 1000)).unwrap();
        drop(own);
        let [own, other] = ["own", "other"]
            .map(|name| SledStore::open(&dir.path().join(name), &LogSettings::default()).unwrap());
        assert_eq!((digest(&other).unwrap(), other.token()), (before, token));
        assert_eq!(digest(&own).unwrap(), before);
        // Both go on in the same way: by keys, by compaction, by bounds.
        for store in [&own, &other] {
            for (topic, body, key) in
                [("plain", "3", None), ("kept/a", "new", Some("1")), ("bounded", "new", None)]
            {
                store.append(vec![group(topic, body, key)], NOW).unwrap();
            }
            store.tidy_all(NOW);
        }
        assert_eq!(digest(&other).unwrap(), digest(&own).unwrap());
        assert_ne!(digest(&own).unwrap(), before);
    }

    #[test]
    fn a_dump_that_is_not_whole_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let own = crate::testing::open(&dir.path().join("own"), NOW, &LogSettings::default()).unwrap();
        own.append(vec![group("a", "1", None)], NOW).unwrap();
        own.close().unwrap();
        let whole: Bytes = dumped(&own, 1 << 20).concat().into();
        let mut tries = 0;
        let mut is_refused = |bytes: Bytes| {
            tries += 1;
            restored(&dir.path().join(format!("{tries}")), [bytes]).is_err()
        };
        let step = whole.len() / 9;
        for length in (0..whole.len()).step_by(step).chain([whole.len() - 1]) {
            assert!(is_refused(whole.slice(..length)), "{length} bytes of {}", whole.len());
        }
        assert!(is_refused([&whole[..], b"x"].concat().into()), "something follows");
        assert!(is_refused([&[99][..], &whole[1..]].concat().into()), "a tree that is none");
        assert!(is_refused(Bytes::from_static(&[END])), "no log");
    }
}
