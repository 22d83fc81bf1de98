//! The memory of many clients, bounded. A client has a row, which is found by a hash of its name; a set of rows
//! that is full forgets the one with the least debt. The system gives the memory only as rows are written.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hash},
};

use parking_lot::Mutex;

use super::row::{Row, RowWords};

/// Rows of a set: those that one client's may be among.
const SET_ROWS: usize = 8;
/// Parts that are locked apart.
const PARTS: usize = 64;

/// See the module.
pub(super) struct Table {
    /// Sets of rows, one behind the other.
    parts: Box<[Mutex<Box<[RowWords]>>]>,
    hasher: RandomState,
}

/// A client's name, hashed with a key that nobody outside knows: two clients hardly ever share one. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowName(u64);

impl Table {
    /// A table of about so many rows.
    pub(super) fn new(rows: usize) -> Self {
        let part = (rows / PARTS / SET_ROWS).max(1) * SET_ROWS;
        let parts = (0..PARTS).map(|_| Mutex::new(vec![RowWords::default(); part].into())).collect();
        Self { parts, hasher: RandomState::new() }
    }

    /// The name under which a client's row stands.
    pub(super) fn name(&self, client: impl Hash) -> RowName {
        RowName(self.hasher.hash_one(client).max(1))
    }

    /// Changes a client's row, which is a new one if there is none; not where the change fails. A row that a full set has no
    /// room for is forgotten again: each of the others has something open.
    pub(super) fn change<E>(
        &self,
        name: RowName,
        now_ns: u64,
        change: impl FnOnce(&mut Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let hash = (name.0 >> 1) as usize;
        let mut part = self.parts[hash % PARTS].lock();
        let sets = part.len() / SET_ROWS;
        let start = hash / PARTS % sets * SET_ROWS;
        let set = &mut part[start..start + SET_ROWS];
        let own = set.iter().position(|words| Row(*words).name() == name.0);
        let mut row = own.map_or_else(|| Row::named(name.0), |index| Row(set[index]));
        change(&mut row)?;
        let is_nothing = row == Row::named(name.0);
        let least = || {
            let others = set.iter().map(|words| Row(*words)).enumerate();
            let others = others.filter(|(_, row)| !row.holds() && !is_nothing);
            // An empty row owes nothing, and is among the first.
            others.min_by_key(|(_, row)| (row.name() != 0, row.debt_ns(now_ns))).map(|(index, _)| index)
        };
        if let Some(index) = own.or_else(least) {
            set[index] = row.0;
        }
        Ok(())
    }

    /// The bytes of its rows.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.lock().len() * size_of::<RowWords>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, num::NonZeroU32};

    use tailwire_model::{Rate, limits::LIMITED_ADDRESSES_MAX};

    use super::*;
    use crate::limiter::{
        bounds::ClientBounds,
        kinds::{Flow, HeldKind},
    };

    /// Lets a client owe so many nanoseconds.
    fn owe(table: &Table, client: impl Hash, debt_ns: u32) {
        let one_a_second = Rate::per_second(NonZeroU32::new(1_000_000_000).unwrap());
        let bounds = ClientBounds { requests: Some(one_a_second), ..ClientBounds::default() };
        let amounts = [(Flow::Requests, u64::from(debt_ns))];
        table.change(table.name(client), 0, |row| row.take(&bounds, &amounts, 0)).unwrap();
    }

    fn debt_ns(table: &Table, client: impl Hash) -> u64 {
        look(table, client, |row| row.debt_ns(0))
    }

    fn look<T>(table: &Table, client: impl Hash, look: impl FnOnce(&Row) -> T) -> T {
        let mut found = None;
        let looked: Result<(), Infallible> = table.change(table.name(client), 0, |row| {
            found = Some(look(row));
            Ok(())
        });
        looked.unwrap();
        found.unwrap()
    }

    #[test]
    fn a_million_addresses_take_less_than_64_mib() {
        let table = Table::new(LIMITED_ADDRESSES_MAX);
        let bytes = table.bytes();
        assert!(bytes <= 64 << 20 && bytes / size_of::<RowWords>() >= 1_000_000, "{bytes}");
        for client in 0..1_000_000_u32 {
            owe(&table, client, client % 1000 + 1);
        }
        assert_eq!(table.bytes(), bytes);
        let kept =
            (0..1_000_000_u32).filter(|client| debt_ns(&table, *client) == u64::from(client % 1000 + 1));
        let kept = kept.count();
        println!("a table of {bytes} bytes remembers {kept} of 1,000,000 addresses that all owe something");
        assert!(kept > 800_000, "{kept}");
    }

    #[test]
    fn a_client_is_remembered_as_its_own() {
        let table = Table::new(1 << 16);
        (0..20_000).for_each(|client| owe(&table, client, client + 1));
        let kept = (0..20_000_u32).filter(|client| debt_ns(&table, *client) == u64::from(client + 1)).count();
        assert!(kept > 19_900, "{kept}: a table that is a third full forgets hardly any");
    }

    #[test]
    fn a_flood_pushes_nobody_out_that_has_something_open() {
        let table = Table::new(PARTS * SET_ROWS * 4);
        let bytes = table.bytes();
        let holders: Vec<_> = (0..100).map(|client| ("holder", client)).collect();
        for holder in &holders {
            table.change(table.name(holder), 0, |row| row.hold(HeldKind::Connections, None)).unwrap();
        }
        (0..100_000).for_each(|client| owe(&table, client, 7));
        assert_eq!(table.bytes(), bytes);
        assert!(
            holders.iter().all(|holder| look(&table, holder, |row| row.held(HeldKind::Connections)) == 1)
        );
    }

    #[test]
    fn the_least_debt_is_forgotten_first() {
        let table = Table::new(1);
        owe(&table, "debtor", 1_000_000);
        (0..100_000).for_each(|client| owe(&table, client, 10));
        assert_eq!(debt_ns(&table, "debtor"), 1_000_000);
    }

    #[test]
    fn a_change_that_fails_leaves_nothing_behind() {
        let table = Table::new(1);
        owe(&table, "client", 10);
        let failed = table.change(table.name("client"), 0, |row| {
            row.hold(HeldKind::Connections, None)?;
            row.hold(HeldKind::Connections, NonZeroU32::new(1))
        });
        assert_eq!(failed, Err(1));
        assert_eq!(look(&table, "client", |row| (row.holds(), row.debt_ns(0))), (false, 10));
        // A set is not filled with rows that say nothing.
        (0..100).for_each(|client| look(&table, ("looked at", client), |_| ()));
        let rows = table.parts.iter().map(|part| part.lock().iter().filter(|words| words[0] != 0).count());
        assert_eq!(rows.sum::<usize>(), 1);
    }
}
