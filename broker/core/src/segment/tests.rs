use std::cell::RefCell;

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

fn segment() -> Arc<Segment> {
    Segment::new((1..=4).map(|position| message(position, "a", 1)).collect(), &FORMATS)
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
    let segment = Segment::new(positions.iter().map(|&position| message(position, "a", 1)).collect(), &[]);
    for after in 0..8 {
        let want = positions.iter().filter(|&&position| position <= after).count();
        assert_eq!(segment.index_after(Position(after)), want, "after {after}");
    }
    assert_eq!(segment.last(), Position(6));
}

#[test]
fn costs_what_its_messages_do() {
    let segment = Segment::new(vec![message(1, "a", 10), message(2, "a", 100)], &[]);
    let whole = Slice::whole(segment.clone());
    assert_eq!(whole.cost(), segment.cost());
    assert_eq!(whole.first(1).cost() + whole.run(1, 2).cost(), segment.cost());
    assert_eq!(whole.run(1, 2).cost() - whole.first(1).cost(), 90);
}
