//! Rates: how much of something may come in a window of time. The state is one number, the time by which all that came will
//! have been paid for (the generic cell rate algorithm of ITU-T I.371), so that much can be remembered of many. Pure: time
//! is an argument.

use std::num::NonZeroU32;

const SECOND_NS: u64 = 1_000_000_000;

/// So much in a window, at once or spread over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    quota: NonZeroU32,
    window_s: u32,
}

impl Rate {
    /// So much a second.
    pub const fn per_second(quota: NonZeroU32) -> Self {
        Self { quota, window_s: 1 }
    }

    /// So much a minute.
    pub const fn per_minute(quota: NonZeroU32) -> Self {
        Self { quota, window_s: 60 }
    }

    /// How much.
    pub const fn quota(self) -> u32 {
        self.quota.get()
    }

    /// The window, in seconds.
    pub const fn window_s(self) -> u32 {
        self.window_s
    }

    /// Takes an amount, by a clock of nanoseconds: `paid_ns` is the time by which all that was taken before is paid for, zero
    /// at first, and the answer is the same afterwards. An amount that begins within the quota is taken whole, however large
    /// it is, and paid for by a longer wait: a message that is larger than a second's bytes would else never pass.
    ///
    /// # Errors
    /// The nanoseconds after which something may be taken again.
    pub fn take(self, paid_ns: u64, amount: u64, now_ns: u64) -> Result<u64, u64> {
        let debt_ns = paid_ns.saturating_sub(now_ns);
        match debt_ns.saturating_add(self.cost_ns(1)).checked_sub(self.window_ns()) {
            None | Some(0) => Ok(paid_ns.max(now_ns).saturating_add(self.cost_ns(amount))),
            Some(wait_ns) => Err(wait_ns),
        }
    }

    const fn window_ns(self) -> u64 {
        self.window_s as u64 * SECOND_NS
    }

    /// How long an amount takes at this rate.
    fn cost_ns(self, amount: u64) -> u64 {
        let quota = u64::from(self.quota.get());
        match amount.checked_mul(self.window_ns()) {
            Some(product) => product / quota,
            None => {
                let cost = u128::from(amount) * u128::from(self.window_ns()) / u128::from(quota);
                u64::try_from(cost).unwrap_or(u64::MAX)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(quota: u32) -> Rate {
        Rate::per_second(NonZeroU32::new(quota).unwrap())
    }

    /// Takes one at each of these times, and gives whether each was let through.
    fn at(rate: Rate, times_ns: impl IntoIterator<Item = u64>) -> Vec<bool> {
        let mut paid = 0;
        let mut take = |now| rate.take(paid, 1, now).map(|then| paid = then).is_ok();
        times_ns.into_iter().map(&mut take).collect()
    }

    fn count(passed: &[bool]) -> usize {
        passed.iter().filter(|passed| **passed).count()
    }

    #[test]
    fn a_quota_may_come_at_once_and_then_as_fast_as_it_is_paid_for() {
        let start = 5 * SECOND_NS;
        let mut times = vec![start; 12];
        assert_eq!(count(&at(rate(10), times.clone())), 10);
        times.extend([99_999_999, 100_000_000, 100_000_001, 200_000_000].map(|later| start + later));
        assert_eq!(at(rate(10), times)[12..], [false, true, false, true]);
        // After a second of silence all of it is there again, and no more than that after an hour.
        for silence in [SECOND_NS, 3600 * SECOND_NS] {
            let times = [vec![0; 10], vec![silence; 11]].concat();
            assert_eq!(count(&at(rate(10), times)[10..]), 10);
        }
        // A minute's quota is a minute's.
        let minute = Rate::per_minute(NonZeroU32::new(6).unwrap());
        let times = [vec![0; 7], vec![10 * SECOND_NS - 1, 10 * SECOND_NS, 11 * SECOND_NS]].concat();
        assert_eq!(at(minute, times)[6..], [false, false, true, false]);
    }

    #[test]
    fn over_a_long_time_no_more_comes_than_the_rate_and_no_less() {
        for (quota, every_ns, tries) in
            [(1, 10_000_000, 3000), (3, 50_000_000, 600), (1000, 100_000, 300_000), (7, 1000, 300_000)]
        {
            let times = (0..tries).map(|n| n * every_ns);
            let elapsed_ns = (tries - 1) * every_ns;
            let fair = u64::from(quota) + u64::from(quota) * elapsed_ns / SECOND_NS;
            let passed = count(&at(rate(quota), times)) as u64;
            assert!(passed <= fair + 1 && passed + 2 >= fair.min(tries), "{quota}: {passed} of {fair}");
        }
    }

    #[test]
    fn a_refusal_says_when_and_then_it_is_so() {
        for quota in [1, 3, 10, 999, u32::MAX] {
            let rate = rate(quota);
            let paid = rate.take(0, 3 * u64::from(quota), 77).unwrap();
            let wait = rate.take(paid, 1, 77).unwrap_err();
            assert!(
                rate.take(paid, 1, 77 + wait).is_ok() && rate.take(paid, 1, 76 + wait).is_err(),
                "{quota}"
            );
        }
    }

    #[test]
    fn an_amount_larger_than_a_quota_passes_and_is_paid_for() {
        let rate = rate(1000);
        let paid = rate.take(0, 5000, 0).unwrap();
        assert_eq!(rate.take(paid, 1, 0), Err(4_001_000_000));
        assert_eq!(rate.take(paid, 5000, 4_001_000_000), Ok(10_000_000_000));
    }

    #[test]
    fn nothing_overflows() {
        let one = Rate::per_minute(NonZeroU32::MIN);
        assert_eq!(one.take(u64::MAX, u64::MAX, u64::MAX), Ok(u64::MAX));
        assert_eq!(one.take(u64::MAX, 1, 0), Err(u64::MAX - one.window_ns()));
        assert_eq!(rate(u32::MAX).take(0, u64::MAX, 0), Ok(u64::MAX / u64::from(u32::MAX) * SECOND_NS));
    }
}
