use std::{cell::RefCell, num::NonZeroU32};

use tailwire_model::{SizeBound, limits::SIZE_BOUND_MIN};

use super::*;
use crate::testing::message;

thread_local! {
    /// The calls of the encoders: format and position.
    static CALLS: RefCell<Vec<(usize, u64)>> = const { RefCell::new(Vec::new()) };
}

fn encode(format: usize, message: &Message, out: &mut Vec<u8>) {
    let position = message.position().0;
    CALLS.with(|calls| calls.borrow_mut().push((format, position)));
    // Encodings of different lengths, that say whose they are.
    out.extend(std::iter::repeat_n(b'0' + position as u8, position as usize + format));
}

static FORMATS: [Encoder; 2] =
    [|message, out| encode(0, message, out), |message, out| encode(1, message, out)];

/// A reference says whose it is, and its depth.
static REFERENCES: [ReferenceEncoder; 1] = [|message, depth, out| {
    CALLS.with(|calls| calls.borrow_mut().push((9, message.position().0)));
    out.extend_from_slice(&[b'r', b'0' + message.position().0 as u8, b'/', b'0'.wrapping_add(depth)]);
}];

fn segment() -> Arc<Segment> {
    Segment::new(
        (1..=4).map(|position| message(position, "a", 1)).collect(),
        Encoders::new(&FORMATS, &REFERENCES),
    )
}

fn calls() -> Vec<(usize, u64)> {
    CALLS.with(RefCell::take)
}

#[test]
fn a_message_is_encoded_once_per_format() {
    let segment = segment();
    assert_eq!(calls(), [], "not before somebody wants it");
    let (whole, part) = (Slice::whole(segment.clone()), Slice::new(segment.clone(), 1, 3));
    let first = whole.encoded(0);
    part.encoded(0);
    (0..whole.len()).for_each(|i| drop(whole.run(i, i + 1).encoded(0)));
    assert_eq!(calls(), [(0, 1), (0, 2), (0, 3), (0, 4)]);
    part.first(1).encoded(1);
    whole.message_end(1, 0);
    assert_eq!(calls(), [(1, 1), (1, 2), (1, 3), (1, 4)]);
    assert_eq!(first.as_ptr(), whole.encoded(0).as_ptr(), "everybody gets the same bytes");
}

#[test]
fn a_slices_encoding_is_a_part_of_its_segments() {
    let segment = segment();
    let slice = Slice::new(segment.clone(), 1, 4);
    assert_eq!(&Slice::whole(segment).encoded(0)[..], b"1223334444");
    assert_eq!(&slice.encoded(0)[..], b"223334444");
    let each: Vec<_> = (0..slice.len()).map(|i| slice.run(i, i + 1).encoded(0)).collect();
    assert_eq!(each, [&b"22"[..], b"333", b"4444"]);
    assert_eq!(&slice.encoded(1)[..], b"222333344444");
    assert_eq!(&slice.run(1, 2).encoded(0)[..], b"333");
    assert_eq!(&slice.first(2).encoded(0)[..], b"22333");
    assert_eq!((slice.first(0).len(), slice.first(9).len()), (1, 3));
}

#[test]
fn a_byte_belongs_to_the_message_that_ends_behind_it() {
    let slice = Slice::new(segment(), 1, 4);
    // 22 333 4444
    let ends: Vec<(usize, u64)> = (0..9)
        .map(|offset| {
            let (end, position) = slice.message_end(0, offset);
            (end, position.0)
        })
        .collect();
    assert_eq!(ends, [(2, 2), (2, 2), (5, 3), (5, 3), (5, 3), (9, 4), (9, 4), (9, 4), (9, 4)]);
}

#[test]
fn finds_the_first_message_after_a_position() {
    let positions = [3, 5, 6];
    let segment = Segment::new(
        positions.iter().map(|&position| message(position, "a", 1)).collect(),
        Encoders::whole(&[]),
    );
    for after in 0..8 {
        let want = positions.iter().filter(|&&position| position <= after).count();
        assert_eq!(segment.index_after(Position(after)), want, "after {after}");
    }
    assert_eq!(segment.last(), Position(6));
}

#[test]
fn costs_what_its_messages_do() {
    let segment = Segment::new(vec![message(1, "a", 10), message(2, "a", 100)], Encoders::whole(&[]));
    let whole = Slice::whole(segment.clone());
    assert_eq!(whole.cost(), segment.cost());
    assert_eq!(whole.first(1).cost() + whole.run(1, 2).cost(), segment.cost());
    assert_eq!(whole.run(1, 2).cost() - whole.first(1).cost(), 90);
}

/// A view that takes so many bytes of a message.
fn bounded(bytes_max: u32, depth: usize) -> View {
    let bound = SizeBound::new(u64::from(SIZE_BOUND_MIN)).unwrap().at_depth(depth);
    View { bytes_max: NonZeroU32::new(bytes_max), ..View::whole(0).bounded(Some(bound)) }
}

#[test]
fn what_is_beyond_a_bound_is_a_reference_that_all_of_that_bound_share() {
    let segment = segment();
    let (whole, part) = (Slice::whole(segment.clone()), Slice::new(segment.clone(), 1, 4));
    let all = whole.encoded(0);
    calls();
    assert_eq!(whole.encoded(bounded(4, 1)).as_ptr(), all.as_ptr(), "nothing is beyond it: what all share");
    assert_eq!(calls(), []);
    let first = whole.encoded(bounded(2, 1));
    assert_eq!(&first[..], b"122r3/1r4/1");
    assert_eq!(&part.encoded(bounded(2, 1))[..], b"22r3/1r4/1");
    assert_eq!(first.as_ptr(), whole.encoded(bounded(2, 1)).as_ptr());
    assert_eq!(calls(), [(9, 3), (9, 4)], "once, and what fits is copied");
    // Other bounds and other depths have their own.
    assert_eq!(&part.encoded(bounded(3, 2))[..], b"22333r4/2");
    assert_eq!(&part.encoded(bounded(2, 2))[..], b"22r3/2r4/2");
    assert_eq!(first.as_ptr(), whole.encoded(bounded(2, 1)).as_ptr());
    // 22 r3/1 r4/1
    assert_eq!(part.message_end(bounded(2, 1), 3), (6, Position(3)));
    assert_eq!(part.message_end(bounded(2, 1), 6), (10, Position(4)));
    // A format that has none gives everything whole.
    assert_eq!(whole.encoded(View { format: 1, ..bounded(2, 1) }), whole.encoded(1));
    // A list of many ends without a deep recursion.
    (1..=3).for_each(|bytes| (0..=255).for_each(|depth| drop(whole.encoded(bounded(bytes, depth)))));
}
