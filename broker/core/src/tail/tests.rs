use super::*;
use crate::testing::message;

fn segment(positions: impl IntoIterator<Item = u64>, size: usize) -> Arc<Segment> {
    Segment::new(
        positions.into_iter().map(|position| message(position, "a", size)).collect(),
        crate::Encoders::whole(&[]),
    )
}

fn positions(slices: &Slices) -> Vec<u64> {
    slices.iter().flat_map(Slice::messages).map(|message| message.position().0).collect()
}

fn between(tail: &Tail, after: u64, upto: u64) -> Option<Vec<u64>> {
    tail.between(Position(after), Position(upto)).as_ref().map(positions)
}

#[test]
fn gives_what_is_after_and_up_to() {
    let tail = Tail::new(Position(2));
    let all = [3, 5, 6, 9, 10, 14];
    tail.append(segment(all[..3].to_vec(), 1));
    tail.append(segment(all[3..4].to_vec(), 1));
    tail.append(segment(all[4..].to_vec(), 1));
    for after in 2..16 {
        for upto in after..16 {
            let want = all.into_iter().filter(|&position| position > after && position <= upto).collect();
            assert_eq!(between(&tail, after, upto), Some(want), "after {after} up to {upto}");
        }
    }
}

#[test]
fn says_so_when_it_does_not_reach_back() {
    let tail = Tail::new(Position(7));
    assert_eq!(between(&tail, 6, 9), None);
    assert_eq!(between(&tail, 7, 9), Some(vec![]));
}

#[test]
fn evicting_takes_whole_segments_and_raises_the_floor() {
    let tail = Tail::new(Position(0));
    tail.append(segment([1, 2], 1));
    tail.append(segment([4, 6], 1));
    tail.evict(Position(5));
    assert_eq!(between(&tail, 1, 9), None);
    assert_eq!(between(&tail, 2, 9), Some(vec![4, 6]), "a segment that is needed in part stays");
}

#[test]
fn trimming_hides_what_a_segment_still_holds() {
    let tail = Tail::new(Position(0));
    tail.append(segment([1, 2], 1));
    tail.append(segment([4, 6], 1));
    tail.trim(Position(5));
    assert_eq!(between(&tail, 4, 9), None, "only the log knows what is gone");
    assert_eq!(between(&tail, 5, 9), Some(vec![6]));
    tail.trim(Position(3));
    assert_eq!(between(&tail, 4, 9), None, "the floor never sinks");
}

#[test]
fn keeps_a_bounded_amount_and_always_the_newest() {
    let tail = Tail::new(Position(0));
    for position in 1..=5 {
        tail.append(segment([position], TAIL_BYTES_MAX / 4));
    }
    // Each takes a little more than its body, so that three fit.
    assert_eq!(between(&tail, 1, 9), None);
    assert_eq!(between(&tail, 2, 9), Some(vec![3, 4, 5]));
    tail.append(segment([6, 7], TAIL_BYTES_MAX));
    assert_eq!(between(&tail, 5, 9), Some(vec![6, 7]), "however large the newest is");
    assert_eq!(between(&tail, 4, 9), None);
}

#[test]
fn the_last_one_to_leave_is_told() {
    let tail = Tail::new(Position(0));
    let (first, second) = (tail.join(Arc::default()), tail.join(Arc::default()));
    assert!(!tail.leave(first));
    assert!(tail.leave(second));
}

/// A small generator (SplitMix64).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

#[test]
fn merging_is_sorting_without_repeats() {
    for seed in 0..3_000 {
        let mut random = Random(seed);
        let mut want = std::collections::BTreeSet::new();
        let tails: SmallVec<[Slices; 2]> = (0..random.below(6))
            .map(|_| {
                let mut slices = Slices::new();
                let mut position = 0;
                for _ in 0..random.below(4) {
                    let whole: Vec<u64> = (0..1 + random.below(5))
                        .map(|_| {
                            position += 1 + random.below(3);
                            position
                        })
                        .collect();
                    // A tail gives a part of its oldest and of its newest segment.
                    let start = random.below(whole.len() as u64) as usize;
                    let end = start + 1 + random.below((whole.len() - start) as u64) as usize;
                    want.extend(&whole[start..end]);
                    slices.push(Slice::new(segment(whole, 1), start, end));
                }
                slices
            })
            .collect();
        let merged = merge(tails);
        assert!(merged.iter().all(|slice| !slice.is_empty()), "seed {seed}");
        assert_eq!(positions(&merged), want.into_iter().collect::<Vec<_>>(), "seed {seed}");
    }
}

#[test]
fn merging_takes_runs_rather_than_messages() {
    let slices = |positions: &[u64]| Slices::from_iter([Slice::whole(segment(positions.to_vec(), 1))]);
    let merged = merge(SmallVec::from_iter([slices(&[1, 2, 3, 7, 8]), slices(&[4, 5, 6])]));
    assert_eq!(positions(&merged), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(merged.len(), 3);
}
