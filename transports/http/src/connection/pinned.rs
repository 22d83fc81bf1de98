//! Memory that clients keep from others: answers that were made for one of them, or begun, and that it has yet to take. It can't
//! be let go of, since an answer that has begun must be ended; so there is a bound for all connections together, from the first
//! byte, and room is taken *before* an answer is made.
//!
//! The room is shared fairly ([`room`]): each connection has an account. While somebody waits for room, those who hold some
//! are kept to their pace: see [`Pinned::is_contended`].

mod room;

use std::{
    mem,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use http::Extensions;
use parking_lot::Mutex;
use tailwire_model::{
    client_network,
    limits::{PINNED_BYTES_MAX, PINNED_WAIT_MS_MAX},
};

use self::room::{AccountKey, PinnedRoom, Taken};

/// So many bytes of the room of all connections, until this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Pinned {
    account: Option<AccountKey>,
    bytes: usize,
}

/// What one connection may hold, and does; behind a trusted proxy, one request. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Account(Arc<AccountId>);

#[derive(Debug)]
struct AccountId {
    address: IpAddr,
    /// Most connections never ask for much.
    key: OnceLock<AccountKey>,
}

/// The room of an answer, as an extension of its response: the connection takes it with the body.
#[derive(Debug, Clone)]
pub(crate) struct Reserved(Arc<Pinned>);

impl Reserved {
    pub(crate) fn new(pinned: Pinned) -> Self {
        Self(Arc::new(pinned))
    }

    /// Takes the room of a response, if it has some.
    pub(crate) fn take(extensions: &mut Extensions) -> Option<Pinned> {
        // A response has one owner, so its extension has.
        extensions.remove::<Self>().and_then(|own| Arc::into_inner(own.0))
    }
}

/// A request that waits for room, until it has some or gives up.
struct Waits(AccountKey);

impl Drop for Waits {
    fn drop(&mut self) {
        ROOM.lock().end_wait(self.0);
    }
}

/// There was no room in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NoPinnedRoom;

static ROOM: Mutex<PinnedRoom> = Mutex::new(PinnedRoom::new());

/// For tests that count what is pinned: it is all of the process's.
#[cfg(test)]
pub(crate) static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

impl Account {
    /// That of a client at an address.
    pub(crate) fn new(address: IpAddr) -> Self {
        Self(Arc::new(AccountId { address: client_network(address), key: OnceLock::new() }))
    }

    /// One that is no single connection's: what several are given together is made on it.
    pub(crate) fn common() -> Self {
        Self::new(Ipv4Addr::UNSPECIFIED.into())
    }

    /// The address of its client, as clients are told apart; none of one that is nobody's in particular.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        Some(self.0.address).filter(|address| *address != Ipv4Addr::UNSPECIFIED)
    }

    fn key(&self, room: &mut PinnedRoom) -> AccountKey {
        *self.0.key.get_or_init(|| room.open(self.0.address))
    }

    /// Takes room for an answer that is yet to be made, of so many bytes at most; waits for it for a while.
    ///
    /// # Errors
    /// When there is none in time, or too many wait for it: the request is refused, and nothing was read for it.
    pub(crate) async fn admit(&self, bytes: usize) -> Result<Pinned, NoPinnedRoom> {
        let bytes = bytes.min(PINNED_BYTES_MAX);
        let (key, taken) = {
            let mut room = ROOM.lock();
            let key = self.key(&mut room);
            (key, room.take(key, bytes))
        };
        let granted = match taken {
            Taken::Now(pinned) => return Ok(pinned),
            Taken::Later(granted) => granted,
            Taken::TooManyWait => return Err(NoPinnedRoom),
        };
        let _waits = Waits(key);
        match tokio::time::timeout(Duration::from_millis(PINNED_WAIT_MS_MAX), granted).await {
            Ok(Ok(pinned)) => Ok(pinned),
            Ok(Err(_)) | Err(_) => Err(NoPinnedRoom),
        }
    }

    /// Whether this connection has to go on taking what it holds: somebody waits whom that would help, or more is used than may
    /// be.
    pub(crate) fn is_contended(&self) -> bool {
        ROOM.lock().is_contended(self.0.key.get().copied())
    }
}

impl Drop for AccountId {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            ROOM.lock().forget(key);
        }
    }
}

impl Pinned {
    /// Counts what is there in any case, and small or as large as what was let go of for it: it may exceed the bound, and then
    /// nothing is admitted until it doesn't.
    pub(crate) fn of(bytes: usize) -> Self {
        ROOM.lock().count(bytes)
    }

    /// How much it is after all: less than was taken, as a rule.
    pub(crate) fn set(&mut self, bytes: usize) {
        let before = mem::replace(&mut self.bytes, bytes);
        let mut room = ROOM.lock();
        room.change(self.account, before, bytes);
        if bytes < before {
            room.serve();
        }
    }

    /// Whether the client has to go on taking it: see [`Account::is_contended`].
    pub(crate) fn is_contended(&self) -> bool {
        ROOM.lock().is_contended(self.account)
    }

    /// Of all connections.
    #[cfg(test)]
    pub(crate) fn all() -> usize {
        ROOM.lock().used
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if self.account.is_none() && self.bytes == 0 {
            return;
        }
        let mut room = ROOM.lock();
        room.release(self.account, self.bytes);
        room.serve();
    }
}

/// Bytes that several connections write: they count once.
pub(crate) struct Common {
    pub(crate) bytes: Bytes,
    pub(crate) pinned: Pinned,
}

impl Common {
    pub(crate) fn new(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self { pinned: Pinned::of(bytes.len()), bytes }
    }
}

#[cfg(test)]
mod tests;
