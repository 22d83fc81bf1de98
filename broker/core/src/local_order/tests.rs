use tailwire_model::{
    Options, Term, Timestamp, Topic,
    limits::{COMMIT_BYTES_MAX, QUEUE_BYTES_MAX, QUEUE_COUNT_MAX},
};
use tokio::sync::oneshot;

use super::*;
use crate::{
    log::Appended,
    testing::{Script, draft, group},
};

type Receipt = oneshot::Receiver<Result<Outcome, WriteError>>;

/// An order that has begun, with what it asked of its store so far forgotten.
fn order() -> (LocalOrder, Committer, Arc<Script>) {
    let script = Arc::new(Script::default());
    let clock = Clock { now: || Timestamp(0), steady: || 0, random: || 0 };
    let (order, mut committer) = LocalOrder::begin(script.clone(), clock, &Instruments::default()).unwrap();
    assert_eq!(script.calls.lock().drain(..).collect::<Vec<_>>(), ["opening"]);
    committer.tidying.done(None);
    (order, committer, script)
}

fn submit(order: &LocalOrder, write: Write) -> Result<Receipt, WriteError> {
    let (done, receipt) = oneshot::channel();
    order.submit(write, done).map(|()| receipt)
}

fn publish(order: &LocalOrder, names: &[&str]) -> Receipt {
    submit(order, Write::Publish(group(names))).unwrap()
}

fn of_size(size: usize) -> Write {
    Write::Publish(Group { drafts: vec![draft("a", size)], ..group(&["a"]) })
}

fn delete(name: &str) -> Write {
    Write::Delete(Topic::parse(name).unwrap())
}

/// Where a publish was stored.
fn position(mut receipt: Receipt) -> Result<u64, WriteError> {
    match receipt.try_recv().unwrap()? {
        Outcome::Published(Appended::Stored(stored)) => Ok(stored.first.position.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn publishes_share_a_commit_and_are_answered_behind_it() {
    let (order, mut committer, script) = order();
    let mut first = publish(&order, &["a", "b"]);
    let second = publish(&order, &["a"]);
    assert!(first.try_recv().is_err(), "nothing is answered before the commit");
    assert!(committer.step());
    assert_eq!(*script.calls.lock(), ["publish 2, publish 1"]);
    assert_eq!((position(first), position(second)), (Ok(1), Ok(3)));
    assert!(!committer.step());
    assert_eq!(script.calls.lock().len(), 1, "without writes there is no commit");
}

#[test]
fn writes_keep_their_order() {
    let (order, mut committer, script) = order();
    let _publishes = [(); 2].map(|()| publish(&order, &["a"]));
    let mut trim = submit(&order, delete("a")).unwrap();
    let _set = submit(&order, Write::Options(Term::parse("a/*").unwrap(), Options::default())).unwrap();
    let _publish = publish(&order, &["a"]);
    committer.step();
    assert_eq!(*script.calls.lock(), ["publish 1, publish 1, delete a, options a/*, publish 1"]);
    assert_eq!(trim.try_recv().unwrap(), Ok(Outcome::Done));
    assert!(committer.tidying.at().is_some(), "what was trimmed is still in the store");
}

#[test]
fn a_failure_is_answered_by_what_it_may_have_done() {
    let errors = [
        (StoreError::Failed(String::new()), WriteError::Failed),
        (StoreError::Corrupt(String::new()), WriteError::Failed),
        (StoreError::Closed, WriteError::Draining),
        (StoreError::Unknown(String::new()), WriteError::Unknown),
    ];
    for (error, want) in errors {
        let (order, mut committer, script) = order();
        *script.error.lock() = Some(error);
        let failed = publish(&order, &["a"]);
        let mut trim = submit(&order, delete("b")).unwrap();
        committer.step();
        assert_eq!(position(failed), Err(want));
        assert_eq!(trim.try_recv().unwrap(), Err(want), "they are applied together");
        assert_eq!(order.health() == Health::Good, want == WriteError::Draining, "{want}");
        let _next = publish(&order, &["a"]);
        committer.step();
        assert_eq!(order.health(), Health::Good, "it recovers");
    }
}

#[test]
fn a_full_disk_refuses_publishes_and_lets_through_what_makes_room() {
    let (order, mut committer, script) = order();
    script.is_full.store(true, Ordering::SeqCst);
    let refused = publish(&order, &["a"]);
    let mut trim = submit(&order, delete("a")).unwrap();
    committer.step();
    assert_eq!(position(refused), Err(WriteError::Full));
    assert_eq!(trim.try_recv().unwrap(), Ok(Outcome::Done));
    assert_eq!(*script.calls.lock(), ["delete a"]);
    assert_eq!(order.health(), Health::Good, "that is about the disk, and not about the store");
    script.is_full.store(false, Ordering::SeqCst);
    let publish = publish(&order, &["a"]);
    committer.step();
    assert_eq!(position(publish), Ok(1));
}

#[test]
fn a_client_that_goes_away_is_written_all_the_same() {
    let (order, mut committer, script) = order();
    drop(publish(&order, &["a"]));
    assert!(committer.step());
    assert_eq!(*script.calls.lock(), ["publish 1"]);
}

#[test]
fn what_retention_decides_is_an_entry_of_its_own() {
    let (_order, mut committer, script) = order();
    *script.due.lock() = vec![Write::Retain(Topic::parse("a").unwrap(), Position(7))];
    committer.tidy();
    assert_eq!(*script.calls.lock(), ["retain a 7", "tidy"]);
    committer.tidy();
    assert_eq!(script.calls.lock()[2..], ["tidy"], "without a decision there is no entry");
}

#[test]
fn an_order_without_its_thread_answers_that_it_does_not_know() {
    let (order, committer, _) = order();
    let mut lost = publish(&order, &["a"]);
    drop(committer);
    assert_eq!(lost.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
    assert_eq!(submit(&order, of_size(1)).unwrap_err(), WriteError::Draining);
    order.close(Duration::from_secs(3600));
}

#[test]
fn the_queue_is_bounded_by_bytes() {
    let (order, _committer, _) = order();
    let size = 1 << 20;
    let cost = draft("a", size).cost();
    for _ in 0..QUEUE_BYTES_MAX / cost {
        submit(&order, of_size(size)).unwrap();
    }
    assert_eq!(submit(&order, of_size(size)).unwrap_err(), WriteError::Overloaded);
    assert!(order.load() > 0.9);
    submit(&order, of_size(1)).unwrap();
    // Taken writes make room.
    while !order.queue.take().is_empty() {}
    assert_eq!(order.load(), 0.0);
    submit(&order, of_size(size)).unwrap();
}

#[test]
fn the_queue_is_bounded_by_count() {
    let (order, _committer, _) = order();
    for _ in 0..QUEUE_COUNT_MAX {
        submit(&order, delete("a")).unwrap();
    }
    assert_eq!(submit(&order, delete("a")).unwrap_err(), WriteError::Overloaded);
    assert_eq!(order.load(), 1.0);
}

#[test]
fn one_commit_takes_a_bounded_amount_in_order() {
    let (order, _committer, _) = order();
    let sizes: Vec<usize> = (0..20).map(|n| (1 << 20) - n).collect();
    sizes.iter().for_each(|&size| drop(submit(&order, of_size(size)).unwrap()));
    let mut taken = Vec::new();
    loop {
        let batch = order.queue.take();
        if batch.is_empty() {
            break;
        }
        assert!(batch.iter().map(|queued| queued.cost).sum::<usize>() <= COMMIT_BYTES_MAX);
        taken.extend(batch.iter().map(|write| write.cost - draft("a", 0).cost()));
    }
    assert_eq!(taken, sizes);
}

#[test]
fn what_is_larger_than_a_commit_has_one_of_its_own() {
    let (order, _committer, _) = order();
    let large = Write::Publish(Group { drafts: vec![draft("a", 1 << 20); 9], ..group(&["a"]) });
    let _answers = [large, of_size(1)].map(|write| submit(&order, write).unwrap());
    assert_eq!((order.queue.take().len(), order.queue.take().len(), order.queue.take().len()), (1, 1, 0));
}

#[test]
fn a_closed_order_does_what_it_took_and_then_closes_the_store() {
    let (order, committer, script) = order();
    let publish = publish(&order, &["a"]);
    order.close(Duration::ZERO);
    assert_eq!(submit(&order, of_size(1)).unwrap_err(), WriteError::Draining);
    committer.run().unwrap();
    assert_eq!(position(publish), Ok(1));
    assert_eq!(*script.calls.lock(), ["publish 1", "close"]);
    order.close(Duration::from_secs(3600));
}

#[test]
fn an_untidy_store_is_tidied_when_nothing_waits() {
    let (order, mut committer, script) = order();
    committer.tidying = TidySchedule::default();
    let _publish = publish(&order, &["a"]);
    order.close(Duration::ZERO);
    committer.run().unwrap();
    assert_eq!(script.calls.lock()[0], "publish 1", "publishes go first");
}
