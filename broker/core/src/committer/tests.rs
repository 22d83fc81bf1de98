use super::*;
use crate::testing::{Script, draft, group};

fn clock() -> Clock {
    Clock { now: || Timestamp(0), steady: || 0, random: || 0 }
}

fn committer() -> (Committer, Arc<Script>) {
    let script = Arc::new(Script::default());
    let committer = Committer {
        queue: Arc::default(),
        log: script.clone(),
        metrics: Arc::default(),
        clock: clock(),
        health: Arc::default(),
        activity: Arc::default(),
        tidy_at: None,
        commits_untidied: 0,
    };
    (committer, script)
}

fn of_size(size: usize) -> Group {
    Group { drafts: vec![draft("a", size)], ..group(&["a"]) }
}

fn delete(name: &str) -> Change {
    Change::Delete(Topic::parse(name).unwrap())
}

/// Where a publish was stored.
fn position(mut answer: oneshot::Receiver<WriteResult>) -> Result<u64, WriteError> {
    match answer.try_recv().unwrap()? {
        Appended::Stored(stored) => Ok(stored.first.position.0),
        other => panic!("{other:?}"),
    }
}

#[test]
fn publishes_share_a_commit_and_are_answered_behind_it() {
    let (mut committer, script) = committer();
    let mut first = committer.queue.publish(group(&["a", "b"])).unwrap();
    let second = committer.queue.publish(group(&["a"])).unwrap();
    assert!(first.try_recv().is_err(), "nothing is answered before the commit");
    assert!(committer.step());
    assert_eq!(*script.calls.lock(), ["append 2", "commit"]);
    assert_eq!((position(first), position(second)), (Ok(1), Ok(3)));
    assert!(!committer.step());
    assert_eq!(script.calls.lock().len(), 2, "without writes there is no commit");
}

#[test]
fn writes_keep_their_order() {
    let (mut committer, script) = committer();
    let _publishes = [(); 2].map(|()| committer.queue.publish(group(&["a"])).unwrap());
    let mut trim = committer.queue.change(delete("a")).unwrap();
    let _publish = committer.queue.publish(group(&["a"])).unwrap();
    committer.step();
    assert_eq!(*script.calls.lock(), ["append 2", "trim a", "append 1", "commit"]);
    assert_eq!(trim.try_recv().unwrap(), Ok(()));
    assert!(committer.tidy_at.is_some(), "what was trimmed is still in the store");
}

#[test]
fn an_append_that_fails_is_answered_as_not_done() {
    let errors = [
        (LogError::Full, WriteError::Full),
        (LogError::Failed(String::new()), WriteError::Failed),
        (LogError::Corrupt(String::new()), WriteError::Failed),
        (LogError::Closed, WriteError::Draining),
        (LogError::Unknown(String::new()), WriteError::Unknown),
    ];
    for (error, want) in errors {
        let (mut committer, script) = committer();
        *script.append_error.lock() = Some(error);
        let failed = committer.queue.publish(group(&["a"])).unwrap();
        let _trim = committer.queue.change(delete("b")).unwrap();
        let good = committer.queue.publish(group(&["a"])).unwrap();
        committer.step();
        assert_eq!(position(failed), Err(want));
        assert_eq!(position(good), Ok(1), "only what was handed in together failed together");
        let is_about_the_request = matches!(want, WriteError::Full | WriteError::Draining);
        assert_eq!(committer.health.is_good(), is_about_the_request, "{want}");
        let _next = committer.queue.publish(group(&["a"])).unwrap();
        committer.step();
        assert!(committer.health.is_good(), "it recovers");
    }
}

#[test]
fn a_trim_that_fails_is_answered_so() {
    let (mut committer, script) = committer();
    *script.trim_error.lock() = Some(LogError::Full);
    let mut trim = committer.queue.change(delete("a")).unwrap();
    let publish = committer.queue.publish(group(&["a"])).unwrap();
    committer.step();
    assert_eq!(trim.try_recv().unwrap(), Err(WriteError::Full));
    assert_eq!(position(publish), Ok(1));
}

#[test]
fn a_commit_that_fails_leaves_the_outcome_unknown() {
    // Whatever the store says: it may have written all of it.
    for error in [LogError::Full, LogError::Failed(String::new()), LogError::Unknown(String::new())] {
        let (mut committer, script) = committer();
        *script.commit_error.lock() = Some(error);
        let publish = committer.queue.publish(group(&["a"])).unwrap();
        let mut trim = committer.queue.change(delete("a")).unwrap();
        committer.step();
        assert_eq!(position(publish), Err(WriteError::Unknown));
        assert_eq!(trim.try_recv().unwrap(), Err(WriteError::Unknown));
        assert!(!committer.health.is_good());
    }
}

#[test]
fn a_refusal_stays_one_when_the_commit_fails() {
    let reused = outcome(Appended::KeyReused, Some(WriteError::Unknown));
    assert_eq!(reused, Ok(Appended::KeyReused));
}

#[test]
fn a_client_that_goes_away_is_written_all_the_same() {
    let (mut committer, script) = committer();
    drop(committer.queue.publish(group(&["a"])).unwrap());
    assert!(committer.step());
    assert_eq!(*script.calls.lock(), ["append 1", "commit"]);
}

#[test]
fn the_queue_is_bounded_by_bytes() {
    let queue = Queue::default();
    let size = 1 << 20;
    let cost = draft("a", size).cost();
    for _ in 0..QUEUE_BYTES_MAX / cost {
        queue.publish(of_size(size)).unwrap();
    }
    assert_eq!(queue.publish(of_size(size)).unwrap_err(), WriteError::Overloaded);
    assert!(queue.load() > 0.9);
    queue.publish(of_size(1)).unwrap();
    // What was taken makes room.
    while !queue.take().is_empty() {}
    assert_eq!(queue.load(), 0.0);
    queue.publish(of_size(size)).unwrap();
}

#[test]
fn the_queue_is_bounded_by_count() {
    let queue = Queue::default();
    for _ in 0..QUEUE_COUNT_MAX {
        queue.change(delete("a")).unwrap();
    }
    assert_eq!(queue.change(delete("a")).unwrap_err(), WriteError::Overloaded);
    assert_eq!(queue.load(), 1.0);
}

#[test]
fn one_commit_takes_a_bounded_amount_in_order() {
    let queue = Queue::default();
    let sizes: Vec<usize> = (0..20).map(|n| (1 << 20) - n).collect();
    sizes.iter().for_each(|&size| drop(queue.publish(of_size(size)).unwrap()));
    let mut taken = Vec::new();
    loop {
        let batch = queue.take();
        if batch.is_empty() {
            break;
        }
        assert!(batch.iter().map(Write::cost).sum::<usize>() <= COMMIT_BYTES_MAX);
        taken.extend(batch.iter().map(|write| write.cost() - draft("a", 0).cost()));
    }
    assert_eq!(taken, sizes);
}

#[test]
fn what_is_larger_than_a_commit_has_one_of_its_own() {
    let queue = Queue::default();
    let large = Group { drafts: vec![draft("a", 1 << 20); 9], ..group(&["a"]) };
    let _answers = [large, of_size(1)].map(|group| queue.publish(group).unwrap());
    assert_eq!((queue.take().len(), queue.take().len(), queue.take().len()), (1, 1, 0));
}

#[test]
fn a_closed_queue_is_emptied_and_then_the_log_is_closed() {
    let (committer, script) = committer();
    let publish = committer.queue.publish(group(&["a"])).unwrap();
    committer.queue.close();
    assert_eq!(committer.queue.publish(group(&["a"])).unwrap_err(), WriteError::Draining);
    committer.run().unwrap();
    assert_eq!(position(publish), Ok(1));
    assert_eq!(*script.calls.lock(), ["append 1", "commit", "close"]);
}

#[test]
fn an_untidy_store_is_tidied_when_nothing_waits() {
    let (mut committer, script) = committer();
    committer.tidy_at = Some(Instant::now());
    let _publish = committer.queue.publish(group(&["a"])).unwrap();
    committer.queue.close();
    committer.run().unwrap();
    let calls = script.calls.lock();
    assert_eq!(calls[..2], ["append 1", "commit"], "publishes go first");
}
