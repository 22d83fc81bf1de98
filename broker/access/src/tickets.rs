//! Tickets: secrets that open one connection within seconds, for clients that can send no header. The only secret that may
//! stand in a URL, since it is worth nothing once it was seen.

use std::collections::{HashMap, VecDeque};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use tailwire_model::{
    Principal, Timestamp,
    limits::{TICKET_MS, TICKETS_MAX, TICKETS_PER_PRINCIPAL_MAX},
};

use crate::digest::{Digest, sha256};

/// Why there is no ticket, or it opens nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// The principal has as many unused ones as it may, or all together have.
    #[error("there are too many unused tickets")]
    TooMany,
    /// It never was, was used, or its time is over: callers don't learn which.
    #[error("the ticket is not known, was used, or is older than 30 s")]
    Unknown,
}

impl TicketError {
    /// The stable code of the answer.
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooMany => "rate-limited",
            Self::Unknown => "token-invalid",
        }
    }
}

#[derive(Default)]
pub(crate) struct Tickets(Mutex<Unused>);

#[derive(Default)]
struct Unused {
    by_secret: HashMap<Digest, (Principal, Timestamp)>,
    /// In the order in which they were made, which is that of their ends. Also some that were used.
    ends: VecDeque<(Timestamp, Digest)>,
    /// How many a scope has.
    counts: HashMap<Box<str>, usize>,
}

impl Tickets {
    /// Makes a ticket of random bytes, which have to come from the operating system.
    pub(crate) fn issue(
        &self,
        principal: &Principal,
        random: &[u8; 32],
        now: Timestamp,
    ) -> Result<String, TicketError> {
        let mut unused = self.0.lock();
        unused.forget(now);
        let own = unused.counts.get(principal.scope()).copied().unwrap_or(0);
        if own >= TICKETS_PER_PRINCIPAL_MAX || unused.by_secret.len() >= TICKETS_MAX {
            return Err(TicketError::TooMany);
        }
        let ticket = URL_SAFE_NO_PAD.encode(random);
        let digest = sha256(ticket.as_bytes());
        let end = Timestamp(now.0.saturating_add(TICKET_MS));
        unused.by_secret.insert(digest, (principal.clone(), end));
        unused.ends.push_back((end, digest));
        *unused.counts.entry(principal.scope().into()).or_default() += 1;
        Ok(ticket)
    }

    /// Uses a ticket up.
    pub(crate) fn redeem(&self, ticket: &str, now: Timestamp) -> Result<Principal, TicketError> {
        let digest = sha256(ticket.as_bytes());
        let mut unused = self.0.lock();
        unused.forget(now);
        let (principal, end) = unused.take(&digest).ok_or(TicketError::Unknown)?;
        // One behind a ticket that ends later, since the clock was set back, may still be here.
        if now >= end { Err(TicketError::Unknown) } else { Ok(principal) }
    }
}

impl Unused {
    fn forget(&mut self, now: Timestamp) {
        while self.ends.front().is_some_and(|(end, _)| *end <= now) {
            if let Some((_, digest)) = self.ends.pop_front() {
                self.take(&digest);
            }
        }
        // Used ones go when they are most: each once, however many come and go.
        if self.ends.len() > 64 + 2 * self.by_secret.len() {
            let Self { by_secret, ends, .. } = self;
            ends.retain(|(_, digest)| by_secret.contains_key(digest));
        }
    }

    fn take(&mut self, digest: &Digest) -> Option<(Principal, Timestamp)> {
        let taken = self.by_secret.remove(digest)?;
        let scope = taken.0.scope();
        if let Some(count) = self.counts.get_mut(scope) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(scope);
            }
        }
        Some(taken)
    }
}
