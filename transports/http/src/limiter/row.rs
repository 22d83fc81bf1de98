//! The memory of one client: the time by which what it sent is paid for, of each kind, and how much it has open.

use std::num::NonZeroU32;

use super::{
    bounds::ClientBounds,
    kinds::{Flow, HeldKind},
};

const NAME: usize = 0;
const PAID: usize = 1;
const COUNTS: usize = PAID + Flow::COUNT;

/// A row as it is stored: plain numbers, so that the system gives the memory of a table zeroed, and only where it is used.
pub(super) type RowWords = [u64; COUNTS + 1];

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Row(pub(super) RowWords);

impl Row {
    pub(super) fn named(name: u64) -> Self {
        let mut row = Self::default();
        row.0[NAME] = name;
        row
    }

    /// Zero, where it is nobody's.
    pub(super) const fn name(&self) -> u64 {
        self.0[NAME]
    }

    /// Takes so much of each kind, or nothing.
    ///
    /// # Errors
    /// The kind whose bound is met, and the nanoseconds until it is open again.
    pub(super) fn take(
        &mut self,
        bounds: &ClientBounds,
        amounts: &[(Flow, u64)],
        now_ns: u64,
    ) -> Result<(), (Flow, u64)> {
        let mut taken = *self;
        for &(flow, amount) in amounts {
            let Some(rate) = bounds.rate(flow).filter(|_| amount > 0) else { continue };
            let paid_ns = &mut taken.0[PAID + flow as usize];
            *paid_ns = rate.take(*paid_ns, amount, now_ns).map_err(|wait_ns| (flow, wait_ns))?;
        }
        *self = taken;
        Ok(())
    }

    /// How much later than now everything is paid for: what would be forgotten with it.
    pub(super) fn debt_ns(&self, now_ns: u64) -> u64 {
        self.0[PAID..COUNTS].iter().fold(0, |debt, paid_ns| debt.max(paid_ns.saturating_sub(now_ns)))
    }

    /// Counts one more of a kind.
    ///
    /// # Errors
    /// The bound, where it is met.
    pub(super) fn hold(&mut self, held: HeldKind, bound: Option<NonZeroU32>) -> Result<(), u32> {
        let count = self.held(held);
        let bound = bound.map_or(u32::MAX, NonZeroU32::get);
        if count >= bound {
            return Err(bound);
        }
        self.0[COUNTS] += 1 << held.shift();
        Ok(())
    }

    /// Counts one less.
    pub(super) fn release(&mut self, held: HeldKind) {
        if self.held(held) > 0 {
            self.0[COUNTS] -= 1 << held.shift();
        }
    }

    /// How much of a kind is open.
    pub(super) const fn held(&self, held: HeldKind) -> u32 {
        (self.0[COUNTS] >> held.shift()) as u32
    }

    /// Whether anything is open.
    pub(super) const fn holds(&self) -> bool {
        self.0[COUNTS] != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_counts_stand_apart() {
        let mut row = Row::named(7);
        let two = NonZeroU32::new(2);
        row.release(HeldKind::Connections);
        assert!(!row.holds());
        assert_eq!([(); 3].map(|()| row.hold(HeldKind::Subscriptions, two)), [Ok(()), Ok(()), Err(2)]);
        assert_eq!(row.hold(HeldKind::Connections, None), Ok(()));
        assert_eq!((row.held(HeldKind::Connections), row.held(HeldKind::Subscriptions)), (1, 2));
        row.release(HeldKind::Subscriptions);
        row.release(HeldKind::Connections);
        row.release(HeldKind::Connections);
        assert_eq!(
            (row.held(HeldKind::Connections), row.held(HeldKind::Subscriptions), row.name()),
            (0, 1, 7)
        );
        assert!(row.holds());
    }
}
