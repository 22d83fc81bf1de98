use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::testing::Script;

fn pool(threads: usize) -> Arc<Pool> {
    let store: Arc<dyn Store> = Arc::new(Script::default());
    Pool::start(&store, &Arc::default(), threads, || (), 4).unwrap()
}

fn leased(pool: &Pool) -> usize {
    pool.state.lock().leased
}

/// Takes the whole budget, and keeps it as long as the lease is held.
fn spend(pool: &Pool) -> Lease {
    pool.run(READ_BYTES_IN_FLIGHT_MAX, Priority::Answer, |_, lease| lease).blocking_recv().unwrap()
}

/// Returns when a thread has looked at a job that can't run yet, and waits again.
fn looked_at<T>(pool: &Pool, waiting: &mut oneshot::Receiver<T>) {
    // A notification finds a thread only while that waits; the job's own one has been used up by then.
    while !pool.changed.notify_one() {
        let state = waiting.try_recv().err();
        assert_eq!(state, Some(oneshot::error::TryRecvError::Empty), "it ran, or its thread is gone");
        thread::yield_now();
    }
}

#[test]
fn a_job_waits_while_the_budget_is_spent() {
    let pool = pool(1);
    let lease = spend(&pool);
    assert_eq!(leased(&pool), READ_BYTES_IN_FLIGHT_MAX);
    // It sees its own share: all else was given back before it ran.
    let mut seen = pool.run(10, Priority::Answer, {
        let pool = pool.clone();
        move |_, _lease| leased(&pool)
    });
    looked_at(&pool, &mut seen);
    drop(lease);
    assert_eq!(seen.blocking_recv(), Ok(10));
    pool.close();
}

#[test]
fn streams_run_in_their_order_also_when_a_later_one_would_fit_and_answers_pass_them() {
    let pool = pool(1);
    let half =
        pool.run(READ_BYTES_IN_FLIGHT_MAX / 2, Priority::Soon, |_, lease| lease).blocking_recv().unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let order = order.clone();
        move |_: &dyn Store, _: Lease| order.lock().push(name)
    };
    let mut large = pool.run(READ_BYTES_IN_FLIGHT_MAX, Priority::Soon, note("large"));
    let small = pool.run(1, Priority::Soon, note("small"));
    looked_at(&pool, &mut large);
    pool.run(READ_BYTES_IN_FLIGHT_MAX / 2, Priority::Answer, note("answer")).blocking_recv().unwrap();
    drop(half);
    assert_eq!((large.blocking_recv(), small.blocking_recv()), (Ok(()), Ok(())));
    assert_eq!(*order.lock(), ["answer", "large", "small"]);
    pool.close();
}

#[test]
fn streams_leave_something_to_answers() {
    let pool = pool(1);
    let all = pool.run(READ_BYTES_IN_FLIGHT_MAX, Priority::Soon, |_, lease| lease).blocking_recv().unwrap();
    assert_eq!(leased(&pool), READ_BYTES_IN_FLIGHT_MAX - READ_BYTES_KEPT);
    let mut stream = pool.run(1, Priority::Soon, |_, _| ());
    looked_at(&pool, &mut stream);
    pool.run(READ_BYTES_KEPT, Priority::Answer, |_, _| ()).blocking_recv().unwrap();
    drop(all);
    stream.blocking_recv().unwrap();
    pool.close();
}

#[test]
fn what_a_page_really_takes_is_counted() {
    let pool = pool(1);
    let page = pool.run(10, Priority::Soon, |_, mut lease| {
        lease.set(2 * READ_BYTES_IN_FLIGHT_MAX);
        lease
    });
    let mut page = page.blocking_recv().unwrap();
    let mut next = pool.run(1, Priority::Answer, |_, _| ());
    looked_at(&pool, &mut next);
    page.set(5);
    next.blocking_recv().unwrap();
    assert_eq!(leased(&pool), 5);
    drop(page);
    assert_eq!(leased(&pool), 0);
    pool.close();
}

#[test]
fn a_job_that_asks_for_more_than_there_is_gets_all_of_it() {
    let pool = pool(1);
    assert_eq!(
        pool.run(usize::MAX, Priority::Answer, |_, lease| lease.bytes).blocking_recv(),
        Ok(READ_BYTES_IN_FLIGHT_MAX)
    );
    pool.close();
}

#[test]
fn a_reader_that_goes_away_before_its_job_costs_nothing() {
    let pool = pool(1);
    let lease = spend(&pool);
    let ran = Arc::new(AtomicBool::new(false));
    let abandoned = pool.run(10, Priority::Answer, {
        let ran = ran.clone();
        move |_, _| ran.store(true, Ordering::SeqCst)
    });
    drop(abandoned);
    drop(lease);
    // Jobs run in their order: the one before this is over.
    pool.run(1, Priority::Answer, |_, _| ()).blocking_recv().unwrap();
    assert!(!ran.load(Ordering::SeqCst));
    // The last job's lease is given back before the next one can have all.
    drop(spend(&pool));
    assert_eq!(leased(&pool), 0);
    pool.close();
}

#[test]
fn a_page_that_nobody_takes_gives_its_share_back() {
    let pool = pool(1);
    let (started, start) = oneshot::channel();
    let (go_on, wait) = oneshot::channel::<()>();
    let abandoned = pool.run(10, Priority::Answer, move |_, lease| {
        let _ = started.send(());
        let _ = wait.blocking_recv();
        lease
    });
    start.blocking_recv().unwrap();
    drop(abandoned);
    let _ = go_on.send(());
    drop(spend(&pool));
    pool.close();
}

#[test]
fn a_closed_pool_fails_what_waits_and_what_comes() {
    let pool = pool(1);
    let lease = spend(&pool);
    let waiting = pool.run(1, Priority::Answer, |_, _| ());
    pool.close();
    assert!(waiting.blocking_recv().is_err());
    assert!(pool.run(1, Priority::Answer, |_, _| ()).blocking_recv().is_err());
    drop(lease);
}

#[test]
fn a_throttled_job_is_passed_and_comes_when_the_pause_is_over_or_has_lasted_long() {
    let pool = pool(1);
    let (began, wait) = (Instant::now(), Duration::from_millis(CATCH_UP_WAIT_MS_MAX));
    let long = began + Duration::from_secs(3600);
    pool.state.lock().turns.next = long;
    let turn = pool.run(1, Priority::Throttled, |_, _| Instant::now());
    let passing = pool.run(1, Priority::Soon, |_, _| Instant::now()).blocking_recv().unwrap();
    let ran = turn.blocking_recv().unwrap();
    assert!(passing < ran && began + wait <= ran, "{:?}", ran - began);
    let turn = pool.run(1, Priority::Throttled, |_, _| ());
    pool.state.lock().turns.next = Instant::now();
    pool.changed.notify_one();
    turn.blocking_recv().unwrap();
    pool.close();
}

#[test]
fn a_turn_beside_a_commit_is_followed_by_a_pause() {
    let pool = pool(1);
    // A job that comes behind another sees what that one left.
    let next = |_: ()| {
        let state = pool.clone();
        pool.run(1, Priority::Answer, move |_, _| state.state.lock().turns.next).blocking_recv().unwrap()
    };
    pool.run(1, Priority::Throttled, |_, _| ()).blocking_recv().unwrap();
    let unhurried = next(());
    assert!(unhurried <= Instant::now());
    pool.activity.begin();
    let began = Instant::now();
    let pause = Duration::from_millis(1);
    pool.run(1, Priority::Throttled, move |_, _| thread::sleep(pause)).blocking_recv().unwrap();
    assert!(next(()) >= began + pause * (1 + pool.throttle_factor));
    pool.close();
}
