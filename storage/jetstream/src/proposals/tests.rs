//! What is gathered, sent again, answered and given up.

#![allow(clippy::unwrap_used, reason = "a test's failure is its report")]

use tailwire_core::{log::Group, store::Outcome};
use tailwire_model::{Condition, Draft, MediaType, Topic};
use tokio::sync::oneshot::{self, Receiver};

use super::*;
use crate::frame::decode_writes;

const NOTHING: Applied = Applied { sequence: 0, digest: 0 };
type Answer = Receiver<Result<Outcome, WriteError>>;

fn publish(proposals: &mut Proposals, bodies: usize, bytes: usize, now: Instant) -> Answer {
    let draft = Draft::new(Topic::parse("a").unwrap(), MediaType::NONE, vec![7; bytes].into());
    let group = Group { drafts: vec![draft; bodies], key: None, condition: Condition::None };
    let (done, answer) = oneshot::channel();
    proposals.push(Some(Write::Publish(group)), done, now).unwrap();
    answer
}

fn read(frames: &[Bytes]) -> Vec<Frame> {
    frames.iter().map(|bytes| Frame::decode(bytes).unwrap()).collect()
}

fn numbers(frames: &[Bytes]) -> Vec<(u64, bool)> {
    read(frames).iter().map(|frame| (frame.number, frame.has_more)).collect()
}

#[test]
fn what_waits_shares_an_entry_and_four_are_under_way() {
    let now = Instant::now();
    let mut proposals = Proposals::new(LogId(1), 5, 9);
    assert_eq!(proposals.next_entry(NOTHING, now), None);
    for round in 1..=4 {
        (0..3).for_each(|_| drop(publish(&mut proposals, 1, 10, now)));
        let frames = proposals.next_entry(NOTHING, now).unwrap();
        let [frame] = &read(&frames)[..] else { panic!("one frame") };
        assert_eq!((frame.incarnation, frame.number, frame.has_more), (5, round, false));
        assert_eq!(decode_writes(frame.part.clone()).unwrap().len(), 3);
    }
    drop(publish(&mut proposals, 1, 10, now));
    assert_eq!(proposals.next_entry(NOTHING, now), None);
    assert!(proposals.applied(5, 2).is_empty(), "not its turn");
    assert!(proposals.applied(6, 1).is_empty(), "somebody else's");
    assert_eq!(proposals.applied(5, 1).len(), 3);
    assert_eq!(numbers(&proposals.next_entry(NOTHING, now).unwrap()), [(5, false)]);
}

#[test]
fn an_entry_is_bounded_and_a_large_write_has_parts() {
    let now = Instant::now();
    let mut proposals = Proposals::new(LogId(1), 5, 9);
    drop(publish(&mut proposals, 1, 300 << 10, now));
    drop(publish(&mut proposals, 1, 300 << 10, now));
    drop(publish(&mut proposals, 10_000, 100, now));
    drop(publish(&mut proposals, 10_000, 1, now));
    let mut entry = || numbers(&proposals.next_entry(NOTHING, now).unwrap());
    assert_eq!(entry(), [(1, false)]);
    assert_eq!(entry(), [(2, false)]);
    assert_eq!(entry(), [(3, true), (4, false)], "1.04 MB");
    assert_eq!(entry(), [(5, false)], "20,000 messages would have no positions");
    assert!(proposals.applied(5, 3).is_empty() && proposals.applied(5, 1).len() == 1);
    assert_eq!(proposals.applied(5, 2).len(), 1);
    assert_eq!(proposals.applied(5, 4).len(), 1, "by its last part");
}

#[test]
fn what_is_under_way_is_sent_again_as_it_was() {
    let now = Instant::now();
    let mut proposals = Proposals::new(LogId(1), 5, 9);
    let mut sent = Vec::new();
    for _ in 0..3 {
        drop(publish(&mut proposals, 1, 600 << 10, now));
        sent.extend(proposals.next_entry(NOTHING, now).unwrap());
    }
    assert_eq!(proposals.again(now + SEND_AGAIN / 2, false), Vec::<Bytes>::new());
    assert_eq!(proposals.again(now + SEND_AGAIN_SOON, true), sent);
    assert_eq!(proposals.again(now + SEND_AGAIN, false), Vec::<Bytes>::new(), "just sent");
    assert_eq!(proposals.again(now + 2 * SEND_AGAIN, false), sent);
    proposals.applied(5, 2);
    let applied = Applied { sequence: 77, digest: 1 };
    proposals.begin_anew(9, applied);
    let again = proposals.again(now + 4 * SEND_AGAIN, false);
    assert_eq!(numbers(&again), [(1, true), (2, false), (3, true), (4, false)]);
    assert!(read(&again).iter().all(|frame| frame.incarnation == 9 && frame.applied == applied));
    assert_eq!(proposals.applied(9, 2).len(), 1);
}

#[test]
fn nobody_waits_forever() {
    let now = Instant::now();
    let mut proposals = Proposals::new(LogId(1), 5, 9);
    let mut answers: Vec<Answer> = (0..6)
        .map(|_| {
            let answer = publish(&mut proposals, 1, 1, now);
            let _ = proposals.next_entry(NOTHING, now);
            answer
        })
        .collect();
    let (unknown, undone) = proposals.expire(now + OUTCOME_WAIT / 2);
    assert!(unknown.is_empty() && undone.is_empty());
    let (unknown, undone) = proposals.expire(now + OUTCOME_WAIT);
    assert_eq!((unknown.len(), undone.len()), (4, 2));
    unknown.into_iter().for_each(|waiting| waiting.fail(true));
    undone.into_iter().for_each(|waiting| waiting.fail(false));
    let errors: Vec<WriteError> =
        answers.iter_mut().map(|answer| answer.try_recv().unwrap().unwrap_err()).collect();
    assert_eq!(errors[..4], [WriteError::Unknown; 4]);
    assert_eq!(errors[4..], [WriteError::Overloaded; 2]);
    assert!(proposals.awaits(), "it is sent until it is applied");
    assert!(proposals.applied(5, 1).is_empty(), "and nobody is told");

    let mut late = publish(&mut proposals, 1, 1, now);
    proposals.close();
    let (done, _) = oneshot::channel();
    assert_eq!(proposals.push(None, done, now), Err(WriteError::Draining));
    let (_, undone) = proposals.give_up();
    undone.into_iter().for_each(|waiting| waiting.fail(false));
    assert_eq!(late.try_recv().unwrap(), Err(WriteError::Overloaded));
    assert!(proposals.is_idle());
}

#[test]
fn a_full_queue_refuses() {
    let now = Instant::now();
    let mut proposals = Proposals::new(LogId(1), 5, 9);
    let push = |proposals: &mut Proposals| {
        let draft = Draft::new(Topic::parse("a").unwrap(), MediaType::NONE, vec![7; 1 << 20].into());
        let group = Group { drafts: vec![draft], key: None, condition: Condition::None };
        let (done, _) = oneshot::channel();
        proposals.push(Some(Write::Publish(group)), done, now)
    };
    let taken = (0..100).take_while(|_| push(&mut proposals).is_ok()).count();
    assert_eq!(taken, QUEUE_BYTES_MAX / (1 << 20) - 1);
    assert_eq!(push(&mut proposals), Err(WriteError::Overloaded));
    assert!(proposals.load() > 0.9);
}

#[test]
fn what_nobody_waits_for_is_not_said_anew() {
    let now = Instant::now();
    let mut proposals = Proposals::new(LogId(1), 5, 9);
    let _answers: Vec<Answer> = [now, now + OUTCOME_WAIT]
        .map(|at| {
            let answer = publish(&mut proposals, 1, 1, at);
            proposals.next_entry(NOTHING, at).unwrap();
            answer
        })
        .into();
    assert!(!proposals.has_passed(1) && proposals.has_passed(0));
    let (unknown, _) = proposals.expire(now + OUTCOME_WAIT);
    assert_eq!(unknown.len(), 1);
    proposals.begin_anew(6, NOTHING);
    let again = proposals.again(now + 2 * OUTCOME_WAIT, false);
    assert_eq!(numbers(&again), [(1, false)], "the second, which may be waited for");
    assert_eq!(proposals.applied(6, 1).len(), 1);
    assert!(proposals.has_passed(1), "the stream needs what was applied");
}

#[test]
fn what_is_under_way_for_too_long_is_given_up() {
    let now = Instant::now();
    let mut proposals = Proposals::new(LogId(1), 5, 9);
    drop(publish(&mut proposals, 1, 1, now));
    proposals.next_entry(NOTHING, now).unwrap();
    assert!(proposals.give_up_stale(now + GIVE_UP_AFTER / 2, 6).is_none());
    drop(publish(&mut proposals, 1, 1, now + GIVE_UP_AFTER));
    proposals.next_entry(NOTHING, now + GIVE_UP_AFTER).unwrap();
    assert_eq!(proposals.give_up_stale(now + GIVE_UP_AFTER, 6).map(|unknown| unknown.len()), Some(2));
    assert!(proposals.is_idle());
    drop(publish(&mut proposals, 1, 1, now));
    let frames = read(&proposals.next_entry(NOTHING, now).unwrap());
    assert_eq!((frames[0].incarnation, frames[0].number), (6, 1), "none of the two is known of this one");
}
