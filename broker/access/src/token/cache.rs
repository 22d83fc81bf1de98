//! Verified tokens by their SHA-256, so that a signature is checked once and not at every request. Only what was verified
//! gets in: a stranger can't fill it. Two generations each of which is bounded: the older is dropped as a whole, and what
//! was asked for meanwhile has moved to the younger.

use std::collections::HashMap;

use parking_lot::Mutex;
use tailwire_model::{
    Principal,
    limits::{TOKENS_CACHED_BYTES_MAX, TOKENS_CACHED_MAX},
};

use crate::digest::Digest;

/// Requests of different tokens seldom meet at one lock.
const SHARDS: usize = 16;

/// The size of an entry beside its principal, roughly.
const ENTRY_BYTES: usize = 96;

pub(crate) struct TokenCache([Mutex<Generations>; SHARDS]);

#[derive(Default)]
struct Generations {
    young: HashMap<Digest, Principal>,
    young_bytes: usize,
    old: HashMap<Digest, Principal>,
}

impl TokenCache {
    pub(crate) fn new() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }

    /// The principal of a token that was verified before. Whether it still holds is for the caller to check.
    pub(crate) fn get(&self, token: &Digest) -> Option<Principal> {
        let mut shard = self.shard(token).lock();
        if let Some(found) = shard.young.get(token) {
            return Some(found.clone());
        }
        let found = shard.old.remove(token)?;
        shard.put(*token, found.clone());
        Some(found)
    }

    pub(crate) fn put(&self, token: Digest, principal: Principal) {
        self.shard(&token).lock().put(token, principal);
    }

    /// Forgets a token that doesn't hold any more.
    pub(crate) fn remove(&self, token: &Digest) {
        let mut shard = self.shard(token).lock();
        if let Some(gone) = shard.young.remove(token) {
            shard.young_bytes -= cost(&gone);
        }
        shard.old.remove(token);
    }

    /// Forgets all of them.
    pub(crate) fn clear(&self) {
        for shard in &self.0 {
            *shard.lock() = Generations::default();
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        let of_shard = |shard: &Mutex<Generations>| {
            let shard = shard.lock();
            shard.young.len() + shard.old.len()
        };
        self.0.iter().map(of_shard).sum()
    }

    fn shard(&self, token: &Digest) -> &Mutex<Generations> {
        // A digest's bytes are as good as drawn.
        &self.0[usize::from(token[0]) % SHARDS]
    }
}

impl Generations {
    fn put(&mut self, token: Digest, principal: Principal) {
        let bytes = cost(&principal);
        let is_full = self.young.len() >= TOKENS_CACHED_MAX / SHARDS / 2
            || self.young_bytes + bytes > TOKENS_CACHED_BYTES_MAX / SHARDS / 2;
        if is_full {
            self.old = std::mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += bytes;
        if let Some(before) = self.young.insert(token, principal) {
            self.young_bytes -= cost(&before);
        }
    }
}

fn cost(principal: &Principal) -> usize {
    ENTRY_BYTES + principal.cost()
}

#[cfg(test)]
mod tests {
    use tailwire_model::{Credential, Grants, Identity};

    use super::*;
    use crate::digest::sha256;

    fn principal(length: usize) -> Principal {
        let identity = Identity::Header { subject: "x".repeat(length).into() };
        Principal::new(Credential { identity, expiry: None, claims: Vec::new(), grants: Grants::NONE })
    }

    #[test]
    fn it_holds_no_more_than_its_bounds() {
        let cache = TokenCache::new();
        for n in 0..TOKENS_CACHED_MAX as u64 * 3 {
            cache.put(sha256(&n.to_be_bytes()), principal(10));
        }
        assert!(cache.len() <= TOKENS_CACHED_MAX, "{}", cache.len());
        assert!(cache.len() > TOKENS_CACHED_MAX / 3, "{}", cache.len());
        for n in 0..20_000_u64 {
            cache.put(sha256(&n.to_be_bytes()), principal(8_000));
        }
        assert!(cache.len() * 8_000 <= TOKENS_CACHED_BYTES_MAX, "{}", cache.len());
        cache.clear();
        assert_eq!(cache.len(), 0);
    }

    #[test]
    fn what_is_asked_for_stays_while_others_come() {
        let cache = TokenCache::new();
        let token = sha256(b"used");
        cache.put(token, principal(1));
        for n in 0..TOKENS_CACHED_MAX as u64 * 2 {
            cache.put(sha256(&n.to_be_bytes()), principal(2));
            if n % 64 == 0 {
                assert!(cache.get(&token).is_some(), "after {n}");
            }
        }
        cache.remove(&token);
        assert!(cache.get(&token).is_none());
    }

    #[test]
    fn a_token_that_is_put_twice_counts_once() {
        let cache = TokenCache::new();
        let token = sha256(b"one");
        for _ in 0..100_000 {
            cache.put(token, principal(5_000));
        }
        assert_eq!(cache.len(), 1);
        assert!(cache.get(&token).is_some());
    }
}
