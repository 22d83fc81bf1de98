//! One timer, for whatever a connection waits for next. Moving a deadline away costs nothing: the timer fires at the
//! old one, sees that it is early, and sleeps on.

use std::{
    pin::Pin,
    task::{Context, Poll, Waker},
};

use tokio::time::{Instant, Sleep, sleep_until};

/// See the module.
#[derive(Default)]
pub struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
    /// When the sleep ends, and whom it will wake then.
    armed: Option<(Instant, Waker)>,
}

impl Timer {
    /// Ready once `deadline` has passed.
    pub fn poll_until(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        // Most polls are for something else, and long before: they needn't touch the sleep, which lies elsewhere.
        if let Some((at, waker)) = &self.armed
            && *at <= deadline
            && waker.will_wake(cx.waker())
            && Instant::now() < *at
        {
            return Poll::Pending;
        }
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.deadline() > deadline {
            sleep.as_mut().reset(deadline);
        }
        while sleep.as_mut().poll(cx).is_ready() {
            if sleep.deadline() >= deadline {
                // It wakes nobody any more, also where something later was waited for before.
                self.armed = None;
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        self.armed = Some((sleep.deadline(), cx.waker().clone()));
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, time::Duration};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moves_is_kept() {
        let mut timer = Timer::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(poll_fn(|cx| Poll::Ready(timer.poll_until(cx, at(10)))).await.is_pending());
        // Away, and back again.
        assert!(poll_fn(|cx| Poll::Ready(timer.poll_until(cx, at(30)))).await.is_pending());
        poll_fn(|cx| timer.poll_until(cx, at(5))).await;
        assert_eq!(start.elapsed().as_secs(), 5);
        poll_fn(|cx| timer.poll_until(cx, at(20))).await;
        assert_eq!(start.elapsed().as_secs(), 20);
    }

    #[tokio::test(start_paused = true)]
    async fn two_deadlines_are_kept_by_one_timer() {
        let mut timer = Timer::default();
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (early, late) in [(1, 2), (2, 3), (3, 4)] {
            poll_fn(|cx| {
                assert!(timer.poll_until(cx, at(late)).is_pending());
                timer.poll_until(cx, at(early))
            })
            .await;
            assert_eq!(start.elapsed().as_secs(), early);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn another_task_takes_it_over() {
        let mut timer = Timer::default();
        let deadline = Instant::now() + Duration::from_secs(1);
        assert!(poll_fn(|cx| Poll::Ready(timer.poll_until(cx, deadline))).await.is_pending());
        let other = tokio::spawn(async move { poll_fn(|cx| timer.poll_until(cx, deadline)).await });
        tokio::time::timeout(Duration::from_secs(2), other).await.unwrap().unwrap();
    }
}
