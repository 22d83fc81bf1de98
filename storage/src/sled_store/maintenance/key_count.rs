//! The number of stored idempotency keys, counted without going through them at once.

use parking_lot::Mutex;
use sled::Tree;
use tailwire_core::StoreError;

use crate::sled_store::failure::failed;

/// Keys of an earlier process that one step counts.
const STEP_KEYS: usize = 512;

/// How many idempotency keys are stored. Those that an earlier process left are counted in steps, as there may be many,
/// in the order of the tree; what comes and goes meanwhile counts if it stands before the place that was reached.
#[derive(Debug, Default)]
pub(crate) struct KeyCount(Mutex<CountedKeys>);

#[derive(Debug, Default)]
struct CountedKeys {
    keys: u64,
    /// Keys before this are counted.
    reached: Vec<u8>,
    /// All are.
    all: bool,
}

impl CountedKeys {
    fn has(&self, key: &[u8]) -> bool {
        self.all || *key < *self.reached
    }
}

impl KeyCount {
    pub(crate) fn get(&self) -> u64 {
        self.0.lock().keys
    }

    /// A key was stored that was not there.
    pub(crate) fn added(&self, key: &[u8]) {
        let mut counted = self.0.lock();
        counted.keys += u64::from(counted.has(key));
    }

    /// A key was removed.
    pub(crate) fn removed(&self, key: &[u8]) {
        let mut counted = self.0.lock();
        counted.keys -= u64::from(counted.has(key));
    }

    /// Counts some of those that an earlier process left; answers whether more are left. Nothing is stored or removed
    /// meanwhile.
    pub(crate) fn step(&self, tree: &Tree) -> Result<bool, StoreError> {
        let mut counted = self.0.lock();
        if counted.all {
            return Ok(false);
        }
        let mut rest = tree.range(counted.reached.clone()..).keys();
        let some = rest.by_ref().take(STEP_KEYS).try_fold(0, |sum, key| key.map(|_| sum + 1));
        counted.keys += some.map_err(failed)?;
        match rest.next() {
            Some(next) => counted.reached = next.map_err(failed)?.to_vec(),
            None => counted.all = true,
        }
        Ok(!counted.all)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn keys_that_come_and_go_while_others_are_counted_count_once() {
        let db = sled::Config::new().temporary(true).open().unwrap();
        let key = |n: usize| (n as u32).to_be_bytes();
        for n in 0..2 * STEP_KEYS {
            db.insert(key(n), b"").unwrap();
        }
        let count = KeyCount::default();
        assert!(count.step(&db).unwrap());
        assert_eq!(count.get(), STEP_KEYS as u64);
        for n in [0, 2 * STEP_KEYS - 1] {
            db.remove(key(n)).unwrap();
            count.removed(&key(n));
        }
        db.insert(key(3 * STEP_KEYS), b"").unwrap();
        count.added(&key(3 * STEP_KEYS));
        while count.step(&db).unwrap() {}
        assert_eq!(count.get(), db.len() as u64);
        db.insert(key(4 * STEP_KEYS), b"").unwrap();
        count.added(&key(4 * STEP_KEYS));
        assert_eq!(count.get(), db.len() as u64);
    }
}
