use std::task::{Context, Wake as _, Waker};

use tailwire_model::{Trim, TrimReason};

use super::*;
use crate::{
    segment::Slice,
    segment::Slices,
    testing::{Wakes, commit, message, term, topic},
};

/// A reader's side of a shard.
struct Place {
    tail: Arc<Tail>,
    slot: Arc<SubscriberSlot>,
    wakes: Arc<Wakes>,
    key: usize,
}

fn shard() -> Arc<Shard> {
    Shard::new(Encoders::whole(&[]), Arc::default())
}

fn attach(shard: &Shard, name: &str) -> Place {
    let (slot, wakes) = (Arc::new(SubscriberSlot::default()), Arc::new(Wakes::default()));
    slot.register(&Context::from_waker(&Waker::from(wakes.clone())));
    let (tail, key) = shard.attach(&term(name), &slot);
    Place { tail, slot, wakes, key }
}

impl Place {
    fn all(&self, shard: &Shard) -> Slices {
        self.tail.between(Position::ZERO, shard.dispatched()).unwrap()
    }

    fn positions(&self, shard: &Shard) -> Vec<u64> {
        let all = self.all(shard);
        all.iter().flat_map(Slice::messages).map(|message| message.position().0).collect()
    }
}

fn push(shard: &Shard, messages: &[(u64, &str)]) {
    let messages = messages.iter().map(|&(position, name)| message(position, name, 1)).collect();
    shard.push(&commit(messages, vec![]));
}

#[test]
fn commits_that_come_meanwhile_are_one_round() {
    let shard = shard();
    let place = attach(&shard, "a");
    push(&shard, &[(1, "a")]);
    push(&shard, &[(2, "b"), (3, "a")]);
    push(&shard, &[(4, "a")]);
    assert_eq!((shard.dispatched(), place.wakes.count()), (Position::ZERO, 0), "pushing only queues");
    let mut round = Round::default();
    assert!(shard.dispatch_pending(&mut round));
    assert_eq!((shard.dispatched(), place.wakes.count()), (Position(4), 1));
    assert_eq!(place.positions(&shard), [1, 3, 4]);
    assert_eq!(place.all(&shard).len(), 1, "in one segment");
    assert!(!shard.dispatch_pending(&mut round));
    assert_eq!(place.wakes.count(), 1);
}

#[test]
fn tails_that_get_the_same_share_their_segments() {
    let shard = shard();
    let places = ["a", "*", "**", "b"].map(|name| attach(&shard, name));
    push(&shard, &[(1, "a"), (2, "a")]);
    shard.dispatch_pending(&mut Round::default());
    let first = |place: &Place| place.all(&shard).first().map(|slice| slice.messages().as_ptr());
    assert!(first(&places[0]).is_some());
    assert_eq!((first(&places[0]), first(&places[0])), (first(&places[1]), first(&places[2])));
    assert_eq!(first(&places[3]), None);
}

#[test]
fn only_who_gets_something_is_woken() {
    let shard = shard();
    let (a, b) = (attach(&shard, "a"), attach(&shard, "b"));
    let mut round = Round::default();
    push(&shard, &[(1, "a")]);
    shard.dispatch_pending(&mut round);
    assert_eq!((a.wakes.count(), b.wakes.count()), (1, 0));
    push(&shard, &[(2, "b"), (3, "c")]);
    shard.dispatch_pending(&mut round);
    assert_eq!((a.wakes.count(), b.wakes.count()), (1, 1));
    assert_eq!(a.positions(&shard), [1]);
}

/// A waker that looks at the watermark, as a reader on another thread may.
struct Looks(Arc<Shard>, Mutex<Vec<Position>>);

impl std::task::Wake for Looks {
    fn wake(self: Arc<Self>) {
        self.1.lock().push(self.0.dispatched());
    }
}

#[test]
fn who_is_woken_finds_the_watermark_moved() {
    let shard = shard();
    let looks = Arc::new(Looks(shard.clone(), Mutex::default()));
    let place = attach(&shard, "a");
    place.slot.register(&Context::from_waker(&Waker::from(looks.clone())));
    shard.wake_next_round(place.slot.clone());
    push(&shard, &[(1, "a")]);
    shard.dispatch_pending(&mut Round::default());
    assert_eq!(*looks.1.lock(), [Position(1), Position(1)]);
    looks.clone().wake();
}

#[test]
fn a_round_is_told_once_to_who_asked_whatever_is_in_it() {
    let shard = shard();
    let place = attach(&shard, "a");
    shard.wake_next_round(place.slot.clone());
    let mut round = Round::default();
    for position in 1..=2 {
        push(&shard, &[(position, "b")]);
        shard.dispatch_pending(&mut round);
        assert_eq!(place.wakes.count(), 1);
    }
}

#[test]
fn without_readers_a_commit_costs_nothing() {
    let shard = shard();
    push(&shard, &[(1, "a")]);
    assert_eq!(shard.dispatched(), Position(1));
    assert!(shard.inbox.lock().commits.is_empty());
    let place = attach(&shard, "a");
    assert!(place.tail.between(Position::ZERO, Position(1)).is_none(), "its tail begins where it came");
    push(&shard, &[(2, "a")]);
    assert_eq!(shard.dispatched(), Position(1));
    // A commit stays behind those before it, also when the last reader has gone meanwhile.
    shard.detach(&term("a"), &place.tail, place.key);
    push(&shard, &[(3, "a")]);
    assert_eq!(shard.dispatched(), Position(1));
    shard.dispatch_pending(&mut Round::default());
    assert_eq!(shard.dispatched(), Position(3));
}

#[test]
fn segments_are_bounded() {
    let shard = shard();
    let place = attach(&shard, "a");
    let sizes = [10 << 10, 10 << 10, 10 << 10, 10 << 10, 100 << 10, 1];
    let messages = sizes.into_iter().zip(1..).map(|(size, position)| message(position, "a", size)).collect();
    shard.push(&commit(messages, vec![]));
    shard.dispatch_pending(&mut Round::default());
    let counts: Vec<usize> = place.all(&shard).iter().map(|slice| slice.messages().len()).collect();
    assert_eq!(counts, [3, 1, 1, 1], "none beyond the bound, but for a message that is");
}

#[test]
fn a_trim_takes_effect_with_its_round() {
    let shard = shard();
    let (all, other) = (attach(&shard, "**"), attach(&shard, "b"));
    let trim = Trim { upto: Position(1), reason: TrimReason::Deleted };
    let messages = vec![message(1, "a", 1), message(2, "b", 1)];
    shard.push(&commit(messages, vec![(topic("a"), trim)]));
    assert!(all.tail.between(Position::ZERO, Position::ZERO).is_some());
    shard.dispatch_pending(&mut Round::default());
    assert!(all.tail.between(Position::ZERO, Position(2)).is_none());
    assert!(all.tail.between(Position(1), Position(2)).is_some());
    assert_eq!(other.positions(&shard), [2], "it is not about other terms");
}

#[test]
fn all_tails_together_are_bounded_and_the_oldest_goes_first() {
    let shard = shard();
    let names: Vec<String> = (1..=20).map(|n| format!("t/{n}")).collect();
    let places: Vec<Place> = names.iter().map(|name| attach(&shard, name)).collect();
    let mut round = Round::default();
    for (name, position) in names.iter().zip(1..) {
        shard.push(&commit(vec![message(position, name, 1_000_000)], vec![]));
        shard.dispatch_pending(&mut round);
    }
    let kept: Vec<bool> =
        places.iter().map(|place| place.tail.between(Position::ZERO, Position(20)).is_some()).collect();
    let dropped = 20 - TAILS_BYTES_MAX / 1_000_000;
    assert_eq!(kept, (0..20).map(|index| index >= dropped).collect::<Vec<_>>());
}

#[test]
fn what_many_tails_share_counts_once() {
    let shard = shard();
    let other = attach(&shard, "other");
    let patterns = ["a/b/c", "a/b/*", "a/*/c", "*/b/c", "a/*/*", "*/b/*", "*/*/c", "*/*/*", "a/**", "a/b/**"];
    let _places = patterns.map(|name| attach(&shard, name));
    push(&shard, &[(1, "other")]);
    let mut round = Round::default();
    for position in 2..5 {
        shard.push(&commit(vec![message(position, "a/b/c", 900_000)], vec![]));
        shard.dispatch_pending(&mut round);
    }
    assert_eq!(other.positions(&shard), [1], "nobody is pushed off by what takes 2.7 MB, ten times");
    shard.push(&commit((5..40).map(|position| message(position, "a/b/c", 900_000)).collect(), vec![]));
    shard.dispatch_pending(&mut round);
    assert!(other.tail.between(Position::ZERO, Position(39)).is_none(), "it is the oldest");
    assert!(round.kept_cost <= TAILS_BYTES_MAX && !round.kept.is_empty());
}

#[test]
fn a_drain_wakes_everybody_who_is_there() {
    let shard = shard();
    let (stays, goes) = (attach(&shard, "a"), attach(&shard, "a"));
    shard.enter(stays.slot.clone(), Principal::ANONYMOUS);
    let place = shard.enter(goes.slot.clone(), Principal::ANONYMOUS);
    shard.leave(place);
    shard.drain();
    assert!(shard.is_draining());
    assert_eq!((stays.wakes.count(), goes.wakes.count()), (1, 0));
}

/// A socket that takes everything, and counts.
#[derive(Default)]
struct Sponge(Mutex<usize>);

impl crate::Sink for Sponge {
    fn write(&self, parts: &[std::io::IoSlice<'_>]) -> std::io::Result<crate::Accepted> {
        let count = parts.iter().map(|part| part.len()).sum();
        *self.0.lock() += count;
        Ok(crate::Accepted { bytes: count, is_clear: true })
    }
}

/// More sockets than the dispatcher writes to in one turn; some are taken back, and some lent again, between its turns.
#[tokio::test(start_paused = true)]
async fn every_lent_socket_is_given_a_round_once() {
    const ONE_BYTE: Encoders = Encoders::whole(&[|_, out| out.push(7)]);
    let shard = Shard::new(ONE_BYTE, Arc::default());
    let sponges: Vec<_> = (0..3 * SINKS_PER_TURN).map(|_| Arc::new(Sponge::default())).collect();
    let places: Vec<_> = sponges.iter().map(|_| attach(&shard, "a")).collect();
    let lend = |index: usize, position| {
        places[index].slot.lend(sponges[index].clone(), 0.into(), Position(position), Instant::now());
    };
    (0..places.len()).for_each(|index| lend(index, 0));
    push(&shard, &[(1, "a"), (2, "b"), (3, "a")]);
    let mut round = Round::default();
    assert!(shard.dispatch_pending(&mut round));
    let (last, before) = (places.len() - 1, places.len() - 2);
    let mut serve = std::pin::pin!(shard.serve(&mut round));
    std::future::poll_fn(|cx| {
        assert!(serve.as_mut().poll(cx).is_pending(), "others have a turn");
        std::task::Poll::Ready(())
    })
    .await;
    // Both of their tasks run meanwhile, and read the round by themselves.
    for index in [before, last] {
        assert_eq!(places[index].slot.take_back().unwrap().position, Position::ZERO);
    }
    lend(last, 3);
    serve.await;
    let written: Vec<usize> = sponges.iter().map(|sponge| *sponge.0.lock()).collect();
    assert!(written[..before].iter().all(|&bytes| bytes == 2));
    assert_eq!(written[before..], [0, 0]);
    assert!(places.iter().all(|place| place.wakes.count() == 0));
}

#[test]
fn what_a_busy_dispatcher_has_no_room_for_is_left_to_the_log() {
    let shard = shard();
    let (a, b) = (attach(&shard, "a"), attach(&shard, "b"));
    let size = 1 << 20;
    let count = (TAILS_BYTES_MAX / size) as u64 + 3;
    shard.push(&commit(vec![message(1, "b", 1)], vec![]));
    let trim = Trim { upto: Position(2), reason: TrimReason::Deleted };
    shard.push(&commit(vec![message(2, "a", size)], vec![(topic("b"), trim)]));
    for position in 3..=count {
        shard.push(&commit(vec![message(position, "a", size)], vec![]));
    }
    assert!(shard.inbox.lock().cost <= TAILS_BYTES_MAX);
    let left = shard.inbox.lock().left;
    assert!(left >= Position(3) && left < Position(count));
    assert!(shard.dispatch_pending(&mut Round::default()));
    // A reader before that reads the log; so does one that was given nothing.
    assert!(a.tail.between(left.previous(), shard.dispatched()).is_none());
    assert!(b.tail.between(Position(2), shard.dispatched()).is_none());
    assert_eq!(shard.dispatched(), Position(count));
    assert_eq!((a.wakes.count(), b.wakes.count()), (1, 1));
    shard.push(&commit(vec![message(count + 1, "a", 1)], vec![]));
    shard.dispatch_pending(&mut Round::default());
    assert_eq!(a.tail.between(Position(count), shard.dispatched()).map(|slices| slices.len()), Some(1));
}
