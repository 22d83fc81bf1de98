//! How long a client may keep its connection waiting, whatever for. Each wait has one bound, which begins anew with what
//! counts as progress there, and one place that says when it is over.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tailwire_core::Timer;
use tailwire_model::limits::{KEEP_ALIVE_MS, REQUEST_HEAD_MS_MAX, STALL_CLOSE_MS};
use tokio::time::Instant;

/// How long a client may take to close its side, once the connection is shut down for writing.
const HANG_UP_MS: u64 = 2_000;

/// The reason of a wait for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wait {
    /// To send a whole request's head.
    Head,
    /// To ask for something again.
    NextRequest,
    /// To take something of what is pending: progress is what the kernel took.
    Write,
    /// To close its side.
    HangUp,
}

impl Wait {
    const fn bound(self) -> Duration {
        Duration::from_millis(match self {
            Self::Head => REQUEST_HEAD_MS_MAX,
            Self::NextRequest => KEEP_ALIVE_MS,
            Self::Write => STALL_CLOSE_MS,
            Self::HangUp => HANG_UP_MS,
        })
    }
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Patience {
    wait: Wait,
    since: Instant,
}

impl Patience {
    /// A wait that begins.
    pub(crate) fn new(wait: Wait) -> Self {
        Self::since(wait, Instant::now())
    }

    /// A wait that has begun before.
    pub(crate) const fn since(wait: Wait, since: Instant) -> Self {
        Self { wait, since }
    }

    /// Turns to another wait; a wait that goes on doesn't begin anew.
    pub(crate) fn turn_to(&mut self, wait: Wait) {
        if self.wait != wait {
            *self = Self::new(wait);
        }
    }

    /// The client has done something of what it is waited for.
    pub(crate) fn progress(&mut self) {
        self.since = Instant::now();
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.since + self.wait.bound()
    }

    pub(crate) fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline()
    }

    /// Ready when it is over.
    pub(crate) fn poll(&self, timer: &mut Timer, cx: &mut Context<'_>) -> Poll<()> {
        timer.poll_until(cx, self.deadline())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_after_its_bound_without_progress() {
        let (began, mut timer) = (Instant::now(), Timer::default());
        let mut patience = Patience::new(Wait::Head);
        tokio::time::advance(Duration::from_secs(9)).await;
        patience.turn_to(Wait::Head);
        assert_eq!(patience.deadline(), began + Duration::from_secs(10), "it goes on");
        patience.progress();
        poll_fn(|cx| patience.poll(&mut timer, cx)).await;
        assert_eq!(began.elapsed().as_secs(), 19);
        assert!(patience.is_over(Instant::now()));
        patience.turn_to(Wait::HangUp);
        assert!(!patience.is_over(Instant::now()));
        poll_fn(|cx| patience.poll(&mut timer, cx)).await;
        assert_eq!(began.elapsed().as_secs(), 21);
    }
}
