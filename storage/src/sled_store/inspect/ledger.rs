//! The ledger: a log's state besides its messages: epochs, trims, options, what was lost, its name and how far it had
//! come. It comes from the engine's trees; what of it a repair can't do without also from the labels in the file.

use std::collections::BTreeMap;

use sled::Tree;
use tailwire_model::{Epoch, EpochStart, Epochs, Options, Position, Term, Timestamp, Topic, Trim};
use uuid::Uuid;

use super::{Findings, InspectError, engine::entries};
use crate::index::Floor;
use crate::sled_store::{
    durability::{manifest::Manifest, watermark::CommitMark},
    layout::{
        FORMAT,
        values::{
            EVERY_TOPIC, FORGOTTEN_TOPICS, StoredRemoval, TrimState, take_epoch, take_floor, take_key,
            take_latest, take_lost, take_options, take_removed, take_trim,
        },
    },
    opening::acknowledged::{NO_EPOCH_LEFT, find_watermark},
    store::{META_CLEAN, META_COMMITS, META_FORMAT, META_ID, SledTrees},
};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) format: Option<u32>,
    pub(super) id: Option<Uuid>,
    /// The number of the last commit.
    pub(super) commits: u64,
    /// Another order than the local one gave the positions: they have holes, and what is lost can be had again from it.
    pub(super) is_shared: bool,
    /// The newest position that was ever given, if the log was closed in good order.
    pub(super) closed: Option<Position>,
    pub(super) starts: BTreeMap<Epoch, EpochStart>,
    /// Each with the time of the topic's newest message.
    pub(super) trims: BTreeMap<Topic, (Trim, Timestamp)>,
    /// How far topics are gone that are forgotten, where something is left of them; and the floor of all that are.
    pub(super) forgotten: BTreeMap<Topic, Position>,
    pub(super) floor: Floor,
    /// Messages that were taken by themselves; of those whose bytes are gone, of each topic the farthest.
    pub(super) removed: BTreeMap<Position, StoredRemoval>,
    pub(super) lost: BTreeMap<Topic, Position>,
    pub(super) lost_everywhere: Position,
    pub(super) options: Vec<(Term, Options)>,
    /// Idempotency keys.
    pub(super) keys: u64,
    /// Newest messages of keys, where only those are kept.
    pub(super) latest: u64,
}

/// The acknowledged state, as far as it is known.
pub(super) fn find_mark(
    dir: &std::path::Path,
    findings: &mut Findings,
) -> Result<Option<CommitMark>, InspectError> {
    let found = find_watermark(dir).map_err(|error| InspectError::Io {
        path: dir.join("watermark"),
        error: std::io::Error::other(error.to_string()),
    })?;
    match found {
        Ok(Some(mark)) => {
            if mark.is_dirty {
                findings.note(None, "the disk failed when the log was last written");
            }
            Ok(Some(mark))
        }
        Ok(None) => {
            findings.damage(None, "its watermark is missing, so that nobody knows whether it is whole");
            Ok(None)
        }
        Err(damage) => {
            findings.damage(None, format!("its watermark can't be read: {}", damage.0));
            Ok(None)
        }
    }
}

impl Ledger {
    /// Reads the engine's trees. Answers whether those could be read that say what became of messages.
    pub(super) fn read(&mut self, store: &SledTrees, findings: &mut Findings) -> bool {
        let before = findings.damages();
        self.read_meta(store, findings);
        read_tree(&store.epochs, "epoch", findings, |key, value| {
            let start = take_epoch(key, value).ok()?;
            self.starts.insert(start.epoch, start);
            Some(())
        });
        read_tree(&store.trims, "trim", findings, |key, value| self.take_trim(key, value));
        read_tree(&store.removed, "removed message", findings, |key, value| self.take_removed(key, value));
        read_tree(&store.volatile, "record of lost messages", findings, |key, value| {
            self.take_lost(key, value)
        });
        if self.epochs().is_none() && self.commits > 0 {
            findings.damage(None, "its epochs are not in order");
        }
        if self.starts.contains_key(&Epoch::MAX) {
            findings.damage(None, NO_EPOCH_LEFT);
        }
        let is_sound = findings.damages() == before;
        read_tree(&store.options, "set of options", findings, |key, value| {
            let term = Term::parse(std::str::from_utf8(key).ok()?).ok()?;
            self.options.push((term, take_options(key, value).ok()?));
            Some(())
        });
        read_tree(&store.keys, "idempotency key", findings, |key, value| {
            self.keys += 1;
            take_key(key, value).ok().map(drop)
        });
        read_tree(&store.latest, "newest message of a key", findings, |key, value| {
            self.latest += 1;
            take_latest(key, value).ok().map(drop)
        });
        is_sound
    }

    fn read_meta(&mut self, store: &SledTrees, findings: &mut Findings) {
        read_tree(&store.meta, "entry about the log", findings, |key, value| {
            if key == META_FORMAT.as_bytes() {
                self.format = Some(u32::from_le_bytes(value.try_into().ok()?));
            } else if key == META_ID.as_bytes() {
                self.id = Some(Uuid::from_slice(value).ok()?);
            } else if key == META_COMMITS.as_bytes() {
                let manifest = Manifest::take(key, value).ok()?;
                (self.commits, self.is_shared) = (manifest.commits, !manifest.token.0.is_empty());
            } else if key == META_CLEAN.as_bytes() {
                let (_, newest) = value.split_first_chunk::<8>()?;
                self.closed = Some(Position(u64::from_le_bytes(newest.try_into().ok()?)));
            }
            Some(())
        });
        if self.format.is_none() {
            findings.damage(None, "its format is not recorded");
        }
    }

    /// The format, if it is another than this version reads.
    pub(super) fn foreign_format(&self) -> Option<u32> {
        self.format.filter(|format| *format != FORMAT)
    }

    /// Takes in what was found by its label: of each the farthest, as a file may hold older ones too.
    pub(super) fn absorb(&mut self, small: &[Small]) {
        for Small { kind, key, value } in small {
            let _ = match kind {
                SmallKind::Epoch => take_epoch(key, value).ok().map(|start| {
                    self.starts.entry(start.epoch).or_insert(start);
                }),
                SmallKind::Trim => self.take_trim(key, value),
                SmallKind::Lost => self.take_lost(key, value),
                SmallKind::Removed => self.take_removed(key, value),
            };
        }
    }

    fn take_trim(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        if key == FORGOTTEN_TOPICS {
            let found = take_floor(value).ok()?;
            self.floor = self.floor.raised(found.upto, found.time);
            return Some(());
        }
        let (trim, time, state) = take_trim(key, value).ok()?;
        let topic = topic(key)?;
        if state == TrimState::Forgotten {
            let upto = self.forgotten.entry(topic).or_default();
            *upto = trim.upto.max(*upto);
            // The floor itself may be what can't be read.
            self.floor = self.floor.raised(trim.upto, time);
            return Some(());
        }
        let known = self.trims.entry(topic).or_insert((trim, time));
        if known.0.upto < trim.upto {
            *known = (trim, time);
        }
        Some(())
    }

    fn take_removed(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let found = take_removed(key, value).ok()?;
        self.removed.insert(found.trim.upto, found);
        Some(())
    }

    fn take_lost(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        let upto = take_lost(key, value).ok()?;
        let known = match key {
            EVERY_TOPIC => &mut self.lost_everywhere,
            name => self.lost.entry(topic(name)?).or_default(),
        };
        *known = upto.max(*known);
        Some(())
    }

    /// The epochs, if there are any and they are in order.
    pub(super) fn epochs(&self) -> Option<Epochs> {
        Epochs::new(self.starts.values().copied().collect())
    }

    /// The farthest position that any topic was trimmed to: everything up to there had got into the store.
    pub(super) fn farthest_trim(&self) -> Position {
        let removed = self.removed.last_key_value().map(|(position, _)| *position);
        self.trims
            .values()
            .map(|(trim, _)| trim.upto)
            .chain(removed)
            .chain([self.floor.upto])
            .max()
            .unwrap_or_default()
    }

    /// Whether positions may be missing for a good reason.
    pub(super) fn explains(&self, first: Position, last: Position) -> bool {
        let is_epochs_end =
            self.starts.values().any(|start| start.first > first && start.first <= last.next());
        self.is_shared
            || last <= self.farthest_trim()
            || last <= self.lost_everywhere
            || !self.removed.is_empty()
            || self.latest > 0
            || !self.lost.is_empty()
            || is_epochs_end
    }

    /// Whether a message is gone, though it is still stored.
    pub(super) fn is_dead(&self, topic: &str, position: Position) -> bool {
        self.trims.get(topic).is_some_and(|(trim, _)| position <= trim.upto)
            || self.forgotten.get(topic).is_some_and(|upto| position <= *upto)
            || self.removed.get(&position).is_some_and(|own| own.topic.as_str() == topic)
    }

    /// Whether the store has all that was acknowledged. Without a mark nobody knows.
    pub(super) fn check_whole(
        &self,
        mark: Option<CommitMark>,
        newest: Position,
        findings: &mut Findings,
    ) -> bool {
        let Some(mark) = mark else { return false };
        let is_short = self.commits < mark.commits || newest < mark.newest;
        if is_short {
            let what = format!(
                "it ends with commit {} at position {newest}, and commit {} at position {} was acknowledged",
                self.commits, mark.commits, mark.newest
            );
            findings.damage(Some((newest.next(), mark.newest.max(newest.next()))), what);
        }
        !is_short
    }
}

/// Reads a tree's entries; what `take` does not take is damage.
fn read_tree(
    tree: &Tree,
    what: &str,
    findings: &mut Findings,
    mut take: impl FnMut(&[u8], &[u8]) -> Option<()>,
) {
    for entry in entries(tree) {
        match entry {
            Ok((key, value)) if take(&key, &value).is_some() => {}
            Ok((key, _)) => findings.damage(None, format!("the {what} {:?} can't be read", name(&key))),
            Err(_) => findings.damage(None, format!("the engine can't read on from some {what}")),
        }
    }
}

fn name(key: &[u8]) -> String {
    match std::str::from_utf8(key) {
        Ok(text) => text.to_owned(),
        Err(_) => key.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

fn topic(name: &[u8]) -> Option<Topic> {
    Topic::parse(std::str::from_utf8(name).ok()?).ok()
}

/// A value that was found by its label and is no message.
#[derive(Debug)]
pub(super) struct Small {
    pub(super) kind: SmallKind,
    pub(super) key: Vec<u8>,
    /// With its label.
    pub(super) value: Vec<u8>,
}

/// See [`Small`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SmallKind {
    Epoch,
    Trim,
    Lost,
    Removed,
}
