#![allow(clippy::unwrap_used)]

use std::task::Waker;

use super::*;
use crate::{
    segment::Segment,
    testing::{Wakes, message},
};

/// A socket that takes so many bytes at a time; at none it is full, below that it is broken.
struct Takes {
    room: Mutex<(i32, usize)>,
    /// Whether it passes on what it takes.
    is_clear: bool,
}

impl Sink for Takes {
    fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<Accepted> {
        let mut own = self.room.lock();
        match own.0 {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            room if room < 0 => Err(io::ErrorKind::BrokenPipe.into()),
            room => {
                let count = parts.iter().map(|part| part.len()).sum::<usize>().min(room as usize);
                own.1 += count;
                Ok(Accepted { bytes: count, is_clear: self.is_clear })
            }
        }
    }
}

fn slices(positions: &[u64]) -> Slices {
    // One byte a message.
    let encoders = crate::Encoders::whole(&[|_, out| out.push(7)]);
    let segments = positions.iter().map(|&at| Segment::new(vec![message(at, "a", 1)], encoders));
    segments.map(Slice::whole).collect()
}

struct Rig {
    slot: SubscriberSlot,
    wakes: Arc<Wakes>,
    socket: Arc<Takes>,
}

impl Rig {
    /// A slot whose socket is lent at position 4.
    fn new(room: i32) -> Self {
        let wakes = Arc::new(Wakes::default());
        let own = Self {
            slot: SubscriberSlot::default(),
            wakes,
            socket: Arc::new(Takes { room: Mutex::new((room, 0)), is_clear: true }),
        };
        own.slot.register(&Context::from_waker(&Waker::from(own.wakes.clone())));
        own.slot.lend(own.socket.clone(), 0.into(), Position(4), Instant::now());
        own
    }

    fn deliver(&self, positions: &[u64]) -> usize {
        let upto = Position(*positions.last().unwrap());
        self.slot.deliver(&Fresh { slices: &slices(positions), upto, now: Instant::now() })
    }

    /// Where it stands, how much of a remainder was written, how often its task was woken, and how many bytes were written.
    fn end(&self) -> (u64, Option<usize>, usize, usize) {
        let returned = self.slot.take_back().unwrap();
        assert!(self.slot.take_back().is_none());
        let remainder = returned.remainder.map(|remainder| remainder.written);
        (returned.position.0, remainder, self.wakes.count(), self.socket.room.lock().1)
    }
}

#[test]
fn what_is_taken_whole_wakes_nobody() {
    let rig = Rig::new(100);
    assert!(rig.slot.call_unless_lent(Position(4)));
    assert_eq!((rig.deliver(&[5, 6, 7]), rig.deliver(&[9])), (3, 1));
    assert_eq!(rig.end(), (9, None, 0, 4));
}

#[test]
fn a_partial_write_leaves_a_remainder_and_nothing_comes_behind_it() {
    let rig = Rig::new(2);
    assert_eq!(rig.deliver(&[5, 6, 7]), 3);
    assert!(!rig.slot.call_unless_lent(Position(4)), "it is its task's turn");
    assert_eq!(rig.deliver(&[8]), 0);
    assert_eq!(rig.end(), (7, Some(2), 2, 2));
}

#[test]
fn a_sink_that_keeps_a_rest_of_its_own_is_its_tasks_and_has_no_remainder() {
    let mut rig = Rig::new(100);
    rig.slot.take_back().unwrap();
    rig.socket = Arc::new(Takes { room: Mutex::new((100, 0)), is_clear: false });
    rig.slot.lend(rig.socket.clone(), 0.into(), Position(4), Instant::now());
    assert_eq!((rig.deliver(&[5, 6]), rig.deliver(&[7])), (2, 0));
    assert_eq!(rig.end(), (6, None, 1, 2));
}

#[test]
fn a_socket_that_is_full_or_broken_is_its_tasks() {
    for room in [0, -1] {
        let rig = Rig::new(room);
        assert_eq!(rig.deliver(&[5]), 0);
        // It has room again before its task runs.
        rig.socket.room.lock().0 = 100;
        assert!(!rig.slot.call_unless_lent(Position(4)));
        assert_eq!(rig.deliver(&[6]), 0);
        assert_eq!(rig.end(), (4, None, 2, 0), "it stands where it stood");
    }
}

#[test]
fn what_its_task_has_seen_is_not_written_again() {
    let rig = Rig::new(100);
    assert_eq!((rig.deliver(&[3, 4]), rig.deliver(&[2])), (0, 0));
    assert_eq!(rig.end(), (4, None, 0, 0));
    assert_eq!(rig.deliver(&[5]), 0, "nothing is lent");
    assert!(!rig.slot.call_unless_lent(Position(0)));
    assert_eq!(rig.wakes.count(), 1);
}

#[test]
fn who_misses_something_that_is_trimmed_reads_it_himself() {
    let rig = Rig::new(100);
    assert!(!rig.slot.call_unless_lent(Position(5)));
    assert_eq!(rig.end(), (4, None, 1, 0));
}

#[test]
fn nothing_is_written_before_the_policy_was_asked_again() {
    let rig = Rig::new(100);
    rig.slot.call_for_review();
    assert_eq!((rig.deliver(&[5]), rig.wakes.count()), (0, 1));
    assert_eq!(rig.end(), (4, None, 1, 0));
    rig.slot.lend(rig.socket.clone(), 0.into(), Position(4), Instant::now());
    assert_eq!(rig.deliver(&[5]), 0, "nor is a sink lent");
    assert!(rig.slot.take_review() && !rig.slot.take_review());
    rig.slot.lend(rig.socket.clone(), 0.into(), Position(4), Instant::now());
    assert_eq!(rig.deliver(&[5]), 1);
}

#[test]
fn a_task_that_has_not_looked_is_not_called_again() {
    let rig = Rig::new(100);
    rig.slot.take_back();
    let before = rig.wakes.count();
    assert!(!rig.slot.call_unless_lent(Position(4)));
    assert!(!rig.slot.call_unless_lent(Position(4)));
    assert_eq!(rig.wakes.count(), before + 1, "its socket may be full");
    rig.slot.wake();
    assert_eq!(rig.wakes.count(), before + 2, "a drain concerns it all the same");
    rig.slot.register(&Context::from_waker(&Waker::from(rig.wakes.clone())));
    assert!(!rig.slot.call_unless_lent(Position(4)));
    assert_eq!(rig.wakes.count(), before + 3);
}
