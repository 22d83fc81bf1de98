//! Time and chance, which the broker is given and never reaches for.

use std::{
    sync::OnceLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use tailwire_model::Timestamp;

/// Time and chance, given from outside.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// The wall clock.
    pub now: fn() -> Timestamp,
    /// A clock that is never set, in milliseconds since whenever: what lasts is measured by it.
    pub steady: fn() -> u64,
    /// A random number, uniform over all of `u64`.
    pub random: fn() -> u64,
}

impl Clock {
    /// The system's wall clock.
    pub fn system_now() -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// The system's clock that is never set, in milliseconds since the first call.
    pub fn system_steady() -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_millis() as u64
    }

    /// A draw, uniform over 0..1.
    pub fn draw(&self) -> f64 {
        ((self.random)() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The steady clock on the scale of the wall clock: it shows what that showed at the beginning, and the time since.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SteadyTime {
    clock: Clock,
    began: Timestamp,
    began_steady: u64,
}

impl SteadyTime {
    /// Begins now.
    pub(crate) fn begin(clock: Clock) -> Self {
        Self { clock, began: (clock.now)(), began_steady: (clock.steady)() }
    }

    /// The time of both clocks at the beginning.
    pub(crate) fn began(&self) -> Timestamp {
        self.began
    }

    pub(crate) fn now(&self) -> Timestamp {
        let passed_ms = (self.clock.steady)().saturating_sub(self.began_steady);
        Timestamp(self.began.0.saturating_add(passed_ms))
    }
}
