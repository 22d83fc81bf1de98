//! The room for answers that clients have yet to take, shared fairly: a pure structure. Each connection has an account, each
//! account an address. The one with the least is served first: the address, then the connection, then the one that has waited
//! longest. A connection, and an address, has a share that it can't exceed, so that none of them can keep the others out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::IpAddr,
};

use slab::Slab;
use tailwire_model::limits::{
    PINNED_ADDRESS_BYTES_MAX, PINNED_ADDRESS_WAITING_MAX, PINNED_BYTES_MAX, PINNED_CONNECTION_BYTES_MAX,
    PINNED_WAITING_MAX,
};
use tokio::sync::oneshot;

use super::Pinned;

/// An account's number.
pub(super) type AccountKey = usize;

/// See the module.
pub(super) struct PinnedRoom {
    pub(super) used: usize,
    accounts: Slab<AccountUse>,
    addresses: Slab<AddressUse>,
    by_address: BTreeMap<IpAddr, usize>,
    /// Addresses with accounts that wait, by how much they hold.
    ready: BTreeSet<(usize, usize)>,
    /// How many requests ever waited, and how many do.
    drawn: u64,
    waiting: usize,
}

/// What one connection holds.
struct AccountUse {
    address: usize,
    used: usize,
    /// Who knows the account: its connection, and each share of it.
    known: usize,
    waiting: VecDeque<RoomWaiter>,
}

/// What all connections of one address hold.
struct AddressUse {
    address: IpAddr,
    used: usize,
    accounts: usize,
    /// How many requests of theirs wait.
    waiting: usize,
    /// Accounts that wait and have not got their share, by how much they hold and since when they wait.
    ready: BTreeSet<(usize, u64, AccountKey)>,
}

/// A request that waits for room.
struct RoomWaiter {
    number: u64,
    bytes: usize,
    granted: oneshot::Sender<Pinned>,
}

/// The outcome of asking for room.
pub(super) enum Taken {
    Now(Pinned),
    /// It will be given there. The wait has begun, and is to be ended.
    Later(oneshot::Receiver<Pinned>),
    TooManyWait,
}

/// Who gets room next, and how much of it.
struct NextGrant {
    account: AccountKey,
    address: usize,
    bytes: usize,
}

impl PinnedRoom {
    pub(super) const fn new() -> Self {
        Self {
            used: 0,
            accounts: Slab::new(),
            addresses: Slab::new(),
            by_address: BTreeMap::new(),
            ready: BTreeSet::new(),
            drawn: 0,
            waiting: 0,
        }
    }

    /// An account for a connection.
    pub(super) fn open(&mut self, address: IpAddr) -> AccountKey {
        let key = *self.by_address.entry(address).or_insert_with(|| {
            self.addresses.insert(AddressUse {
                address,
                used: 0,
                accounts: 0,
                waiting: 0,
                ready: BTreeSet::new(),
            })
        });
        self.addresses[key].accounts += 1;
        self.accounts.insert(AccountUse { address: key, used: 0, known: 1, waiting: VecDeque::new() })
    }

    /// One less knows of an account. The last one closes it.
    pub(super) fn forget(&mut self, account: AccountKey) {
        let Some(holder) = self.accounts.get_mut(account) else { return };
        holder.known -= 1;
        if holder.known > 0 {
            return;
        }
        self.unlist(account);
        let AccountUse { address, .. } = self.accounts.remove(account);
        let sharers = &mut self.addresses[address];
        sharers.accounts -= 1;
        if sharers.accounts == 0 {
            let sharers = self.addresses.remove(address);
            self.by_address.remove(&sharers.address);
        } else {
            self.list_address(address);
        }
    }

    /// Takes room, or says where it will be given, unless too many wait for that.
    pub(super) fn take(&mut self, account: AccountKey, bytes: usize) -> Taken {
        // Nobody who waits is passed.
        let is_first =
            self.accounts[account].waiting.is_empty() && self.next().is_none_or(|next| !self.fits(&next));
        if is_first && self.is_permitted(account, bytes) && self.used + bytes <= PINNED_BYTES_MAX {
            return Taken::Now(self.grant(account, bytes));
        }
        if !self.begin_wait(account) {
            return Taken::TooManyWait;
        }
        let (granted, receiver) = oneshot::channel();
        self.drawn += 1;
        self.unlist(account);
        self.accounts[account].waiting.push_back(RoomWaiter { number: self.drawn, bytes, granted });
        self.list(account);
        Taken::Later(receiver)
    }

    /// A request of this account is about to wait. A request that waits takes memory, too, so that only so many may.
    fn begin_wait(&mut self, account: AccountKey) -> bool {
        let own = &mut self.addresses[self.accounts[account].address];
        if self.waiting >= PINNED_WAITING_MAX || own.waiting >= PINNED_ADDRESS_WAITING_MAX {
            return false;
        }
        self.waiting += 1;
        own.waiting += 1;
        true
    }

    /// It waits no more.
    pub(super) fn end_wait(&mut self, account: AccountKey) {
        self.waiting -= 1;
        self.addresses[self.accounts[account].address].waiting -= 1;
    }

    /// Counts room as nobody's, whether there is some or not.
    pub(super) const fn count(&mut self, bytes: usize) -> Pinned {
        self.used += bytes;
        Pinned { account: None, bytes }
    }

    /// A share is given back.
    pub(super) fn release(&mut self, account: Option<AccountKey>, bytes: usize) {
        self.change(account, bytes, 0);
        account.into_iter().for_each(|account| self.forget(account));
    }

    /// A share holds another number of bytes than it did.
    pub(super) fn change(&mut self, account: Option<AccountKey>, before: usize, bytes: usize) {
        self.used = self.used + bytes - before;
        if let Some(account) = account {
            self.unlist(account);
            let holder = &mut self.accounts[account];
            holder.used = holder.used + bytes - before;
            let address = holder.address;
            self.addresses[address].used = self.addresses[address].used + bytes - before;
            self.list(account);
        }
    }

    /// Gives room to those who wait.
    pub(super) fn serve(&mut self) {
        while let Some(next) = self.next()
            && self.fits(&next)
            && let Some(waiting) = self.pop(next.account)
        {
            let pinned = self.grant(next.account, next.bytes);
            if let Err(pinned) = waiting.granted.send(pinned) {
                // It has given up just now.
                self.take_back(pinned);
            }
        }
    }

    /// Whether more is used than may be, or somebody waits whom it would help if this account held less.
    pub(super) fn is_contended(&mut self, account: Option<AccountKey>) -> bool {
        if self.used > PINNED_BYTES_MAX {
            return true;
        }
        let Some(next) = self.next() else { return false };
        let is_one_address = || {
            account
                .and_then(|account| self.accounts.get(account))
                .is_some_and(|own| own.address == next.address)
        };
        !self.is_within_address(next.address, next.bytes) && is_one_address()
            || self.is_within_address(next.address, next.bytes) && self.used + next.bytes > PINNED_BYTES_MAX
    }

    /// Whether nobody holds anything, waits or could.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.used + self.waiting == 0
            && self.accounts.is_empty()
            && self.addresses.is_empty()
            && self.ready.is_empty()
    }

    /// Who gets room next, of those who still wait.
    fn next(&mut self) -> Option<NextGrant> {
        loop {
            let &(_, address) = self.ready.first()?;
            let &(_, _, account) = self.addresses[address].ready.first()?;
            let first = self.accounts[account].waiting.front()?;
            if !first.granted.is_closed() {
                return Some(NextGrant { account, address, bytes: first.bytes });
            }
            self.pop(account);
        }
    }

    fn pop(&mut self, account: AccountKey) -> Option<RoomWaiter> {
        self.unlist(account);
        let waiting = self.accounts[account].waiting.pop_front();
        self.list(account);
        waiting
    }

    fn grant(&mut self, account: AccountKey, bytes: usize) -> Pinned {
        self.accounts[account].known += 1;
        self.change(Some(account), 0, bytes);
        Pinned { account: Some(account), bytes }
    }

    /// Takes back what was granted and never received.
    fn take_back(&mut self, mut pinned: Pinned) {
        // Nothing is left for its drop, which would lock the room again.
        self.release(pinned.account.take(), std::mem::take(&mut pinned.bytes));
    }

    fn fits(&self, next: &NextGrant) -> bool {
        self.is_within_address(next.address, next.bytes) && self.used + next.bytes <= PINNED_BYTES_MAX
    }

    /// Whether an account's share and its address's have so much left. What is larger than a share is given to who has nothing.
    fn is_permitted(&self, account: AccountKey, bytes: usize) -> bool {
        let holder = &self.accounts[account];
        let is_own = holder.used == 0 || holder.used + bytes <= PINNED_CONNECTION_BYTES_MAX;
        is_own && self.is_within_address(holder.address, bytes)
    }

    fn is_within_address(&self, address: usize, bytes: usize) -> bool {
        let used = self.addresses[address].used;
        used == 0 || used + bytes <= PINNED_ADDRESS_BYTES_MAX
    }

    /// Takes an account out of those that wait, before what it holds changes, or what it waits for.
    fn unlist(&mut self, account: AccountKey) {
        let holder = &self.accounts[account];
        let (address, used) = (holder.address, holder.used);
        let sharers = &mut self.addresses[address];
        self.ready.remove(&(sharers.used, address));
        if let Some(first) = holder.waiting.front() {
            sharers.ready.remove(&(used, first.number, account));
        }
    }

    /// Puts it back, if it waits and has not got its share.
    fn list(&mut self, account: AccountKey) {
        let holder = &self.accounts[account];
        let (address, used) = (holder.address, holder.used);
        let sharers = &mut self.addresses[address];
        if let Some(first) = holder.waiting.front()
            && (used == 0 || used + first.bytes <= PINNED_CONNECTION_BYTES_MAX)
        {
            sharers.ready.insert((used, first.number, account));
        }
        self.list_address(address);
    }

    fn list_address(&mut self, address: usize) {
        let sharers = &self.addresses[address];
        if !sharers.ready.is_empty() {
            self.ready.insert((sharers.used, address));
        }
    }
}
