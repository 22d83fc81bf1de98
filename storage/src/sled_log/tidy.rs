//! Removing what trims have made dead, and idempotency keys whose time is over, in steps that are short enough to
//! stand between two commits. Nothing here decides what is dead: the index and the keys' spans do.

use tailwire_core::log::LogError;
use tailwire_model::{Position, Timestamp};

use super::{
    SledLog,
    chunk::Chunk,
    record::Content,
    store::{corrupt, failed},
    values::key_span,
};
use crate::index::{Blocks, Grave};

/// Dead messages that one step looks for: at worst as many chunks, 1 MB, are rewritten.
const STEP_MESSAGES: usize = 256;
/// Expired keys that one step removes.
const STEP_KEYS: usize = 512;

impl SledLog {
    /// One step; answers whether more is left.
    pub(super) fn tidy_step(&self, time: Timestamp) -> Result<bool, LogError> {
        let _only_one = self.tidying.lock();
        let grave = self.index.read().grave(STEP_MESSAGES);
        if let Some(grave) = &grave {
            self.bury_some(grave)?;
        }
        let keys_left = self.expire_keys(time)?;
        let dead_left = self.index.read().has_graves();
        if grave.is_some() && !dead_left {
            // So that a DELETE is carried out on the disk even when no commit follows it.
            self.store.sync().map_err(failed)?;
        }
        Ok(dead_left || keys_left)
    }

    /// Buries the oldest of a topic's dead: those of one sealed block, or else those that are known without.
    fn bury_some(&self, grave: &Grave) -> Result<(), LogError> {
        let upto = match grave.sealed {
            Some((buried, last)) => {
                let block = self.store.postings.beyond(grave.topic, buried)?;
                match block.filter(|block| block.first <= grave.upto && block.last <= last) {
                    Some(block) => {
                        let positions = block.postings.iter().map(|posting| posting.position);
                        let dead = positions.take_while(|&position| position <= grave.upto);
                        self.bury(&dead.collect::<Vec<_>>())?;
                        if block.last <= grave.upto {
                            self.store.postings.remove(grave.topic, &block).map_err(failed)?;
                        }
                        block.last.min(grave.upto)
                    }
                    // An earlier process got further than the index as it was written.
                    None => last.min(grave.upto),
                }
            }
            None => {
                self.bury(&grave.recent)?;
                grave.recent.last().copied().unwrap_or(grave.upto)
            }
        };
        self.index.write().buried(grave.topic, upto);
        Ok(())
    }

    fn bury(&self, dead: &[Position]) -> Result<(), LogError> {
        let mut done = Position::ZERO;
        for &position in dead {
            if position <= done {
                continue;
            }
            // Another topic's trim may have taken the chunk already.
            let Some(chunk) = self.store.chunk_at(position)? else {
                continue;
            };
            self.rewrite(&chunk)?;
            done = chunk.last;
        }
        Ok(())
    }

    /// Takes the dead out of a chunk.
    fn rewrite(&self, chunk: &Chunk) -> Result<(), LogError> {
        let damaged = |damage| corrupt("chunk", chunk.first, damage);
        let (mut dead, mut contents) = (0, Vec::new());
        let (value, alive) = {
            let index = self.index.read();
            let retained = chunk.retain(|record| {
                let keep = !index.is_dead(record.topic, record.position);
                if !keep {
                    dead += 1;
                    contents
                        .extend(matches!(record.content, Content::Fragmented(_)).then_some(record.position));
                }
                keep
            });
            retained.map_err(damaged)?
        };
        // Fragments first: without the chunk nothing would lead to them.
        for position in contents {
            self.store.remove_content(position).map_err(failed)?;
        }
        let key = chunk.first.0.to_be_bytes();
        if alive == 0 {
            self.store.chunks.remove(key).map_err(failed)?;
        } else if dead > 0 {
            self.store.chunks.insert(key, value).map_err(failed)?;
        }
        Ok(())
    }

    /// Removes keys of spans that are over; answers whether more are left.
    fn expire_keys(&self, time: Timestamp) -> Result<bool, LogError> {
        let kept = key_span(time).saturating_sub(1).to_be_bytes();
        let mut expired = self.store.keys.range(..kept).keys();
        for key in expired.by_ref().take(STEP_KEYS) {
            self.store.keys.remove(key.map_err(failed)?).map_err(failed)?;
        }
        Ok(expired.next().is_some())
    }
}
