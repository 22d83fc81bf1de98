//! The timer: deadlines that move, on the paused clock.

use std::{
    sync::Arc,
    task::{Context, Poll, Waker},
};

use tailwire_core::Timer;
use tokio::time::{Duration, Instant};

use crate::rig::{Flag, advance, paused};

fn poll(timer: &mut Timer, flag: &Arc<Flag>, deadline: Instant) -> Poll<()> {
    flag.take();
    timer.poll_until(&mut Context::from_waker(&Waker::from(flag.clone())), deadline)
}

#[test]
fn a_timer_follows_its_deadline() {
    let runtime = paused();
    let _entered = runtime.enter();
    let (mut timer, flag, start) = (Timer::default(), Arc::new(Flag::default()), Instant::now());
    let at = |ms| start + Duration::from_millis(ms);
    assert!(poll(&mut timer, &flag, at(100)).is_pending());
    // Moved away: it wakes at the old one, and sleeps on.
    assert!(poll(&mut timer, &flag, at(300)).is_pending());
    advance(&runtime, 101);
    assert!(flag.is_set() && poll(&mut timer, &flag, at(300)).is_pending());
    // Moved nearer: it wakes at the new one.
    assert!(poll(&mut timer, &flag, at(200)).is_pending());
    advance(&runtime, 98);
    assert!(!flag.is_set());
    advance(&runtime, 2);
    assert!(flag.is_set() && poll(&mut timer, &flag, at(200)).is_ready());
    assert!(poll(&mut timer, &flag, at(150)).is_ready(), "what has passed is ready at once");
    // And it can be used again.
    assert!(poll(&mut timer, &flag, at(400)).is_pending());
    advance(&runtime, 198);
    assert!(!flag.is_set());
    advance(&runtime, 2);
    assert!(flag.is_set() && poll(&mut timer, &flag, at(400)).is_ready());
}

#[test]
fn a_timer_wakes_who_polled_it_last() {
    let runtime = paused();
    let _entered = runtime.enter();
    let (mut timer, deadline) = (Timer::default(), Instant::now() + Duration::from_millis(10));
    let (first, second) = (Arc::new(Flag::default()), Arc::new(Flag::default()));
    assert!(poll(&mut timer, &first, deadline).is_pending());
    assert!(poll(&mut timer, &second, deadline).is_pending());
    advance(&runtime, 11);
    assert!(!first.is_set() && second.is_set());
}
