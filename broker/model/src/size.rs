//! How large a message a client takes whole. A larger one comes to it as its metadata, with a reference to the message.

use std::num::NonZeroU32;

use crate::limits::{SIZE_BOUND_MIN, SIZE_BOUND_ROOM};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SizeBound {
    bytes: NonZeroU32,
    depth: u8,
}

impl SizeBound {
    /// The bound of a client whose largest line has `max_bytes`; `None` below the least. It is rounded down by less than an
    /// eighth, so that clients of nearly the same bound share their encodings.
    pub fn new(max_bytes: u64) -> Option<Self> {
        let max_bytes = u32::try_from(max_bytes).unwrap_or(u32::MAX);
        let steps = max_bytes.checked_ilog2()?.saturating_sub(3);
        let rounded = max_bytes >> steps << steps;
        let bytes = NonZeroU32::new(rounded.checked_sub(SIZE_BOUND_ROOM)?)?;
        (max_bytes >= SIZE_BOUND_MIN).then_some(Self { bytes, depth: 0 })
    }

    /// The same, for references that are read so many levels below the broker's root.
    #[must_use]
    pub fn at_depth(self, depth: usize) -> Self {
        // A topic has fewer segments.
        Self { depth: u8::try_from(depth).unwrap_or(u8::MAX), ..self }
    }

    /// What an encoding may have.
    pub const fn bytes(self) -> usize {
        self.bytes.get() as usize
    }

    /// How many levels a reference has to climb.
    pub const fn depth(self) -> u8 {
        self.depth
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn bounds_leave_room_and_are_rounded_by_less_than_an_eighth() {
        let room = SIZE_BOUND_ROOM as usize;
        let least = u64::from(SIZE_BOUND_MIN);
        for too_small in [0, 1, 255, least - 1] {
            assert_eq!(SizeBound::new(too_small), None, "{too_small}");
        }
        // What clients have by default is kept as it is.
        for whole in [least, 32 << 10, 64 << 10, 1 << 20, 100 << 10] {
            let bound = SizeBound::new(whole).unwrap();
            assert!(bound.bytes() + room <= whole as usize);
            assert!(whole == 100 << 10 || bound.bytes() + room == whole as usize, "{whole}");
        }
        let distinct: std::collections::HashSet<_> = (least..2 << 20).filter_map(SizeBound::new).collect();
        assert!(distinct.len() <= 80, "{}", distinct.len());
        for bytes in (least..2 << 20).step_by(997).chain([u64::from(u32::MAX), u64::MAX]) {
            let (bound, asked) =
                (SizeBound::new(bytes).unwrap().bytes() + room, bytes.min(u64::from(u32::MAX)));
            assert!(bound as u64 <= asked && (asked - bound as u64) * 8 < asked, "{bytes}: {bound}");
        }
    }

    #[test]
    fn a_depth_is_kept_beside() {
        let bound = SizeBound::new(32 << 10).unwrap();
        assert_eq!((bound.depth(), bound.at_depth(3).depth()), (0, 3));
        assert_eq!(bound.at_depth(300).bytes(), bound.bytes());
    }
}
