//! The list of a log's openings, by which positions get their epoch and cursors are judged.

use crate::cursor::{Cursor, Epoch, Position};

/// How the log stood when an epoch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opening {
    /// A new, empty log.
    Created,
    /// The epoch before was closed in good order.
    Clean,
    /// The epoch before was not closed: a crash, a kill, a copy of a running log.
    Unclean,
}

/// One opening of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// Its number.
    pub epoch: Epoch,
    /// The position of the first message that it may hold.
    pub first: Position,
    /// How the log stood then.
    pub opening: Opening,
}

/// Every opening of a log, oldest first; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epochs(Vec<EpochStart>);

/// Where a cursor stands among the epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CursorValidity {
    /// In the committed span of its epoch.
    Good,
    /// Beyond the span of its epoch, which ends at this position and was followed by this opening (`None`: the current epoch).
    Beyond(Position, Option<Opening>),
    /// Its epoch is not listed, and came after one that is: it is of another state of this log, which has no more than what stands
    /// up to this position in common with it.
    Lost(Position),
    /// It is of a log that this one knows nothing of.
    Unknown,
}

impl Epochs {
    /// The list; `None` when it is empty or not increasing.
    pub fn new(starts: Vec<EpochStart>) -> Option<Self> {
        let increasing = starts.windows(2).all(|w| w[0].epoch < w[1].epoch && w[0].first <= w[1].first);
        (!starts.is_empty() && increasing).then_some(Self(starts))
    }

    /// All of them.
    pub fn starts(&self) -> &[EpochStart] {
        &self.0
    }

    /// Whether it is one of them.
    pub fn lists(&self, epoch: Epoch) -> bool {
        self.0.binary_search_by_key(&epoch, |start| start.epoch).is_ok()
    }

    /// The newest epoch, in which messages are written.
    pub fn current(&self) -> EpochStart {
        self.0[self.0.len() - 1]
    }

    /// The cursor of a position: its epoch is the one that it was written in.
    pub fn cursor_at(&self, position: Position) -> Cursor {
        let current = self.current();
        let epoch = if position >= current.first {
            current.epoch
        } else {
            let following = self.0.partition_point(|start| start.first <= position);
            self.0[following.saturating_sub(1)].epoch
        };
        Cursor { epoch, position }
    }

    /// The end of all that may have been lost up to a position. Where an epoch begins right behind it, that epoch is its own: the
    /// damage may have taken the list's last entries, too, and cursors of these were greater than any of an epoch before.
    pub fn end_of_loss(&self, upto: Position) -> Cursor {
        let following = self.0.partition_point(|start| start.first <= upto);
        match self.0.get(following) {
            Some(next) if next.first == upto.next() => Cursor { epoch: next.epoch, position: upto },
            _ => self.cursor_at(upto),
        }
    }

    /// Where another state of this log, with an epoch that is not listed, has left it: at the end of the last epoch before. That
    /// one has ended: the current one is still being written here, so nothing can have come after it, whatever the numbers
    /// say. And a position that the other state has given was free in it, so the two have it not in common.
    fn branch(&self, unlisted: Cursor) -> Option<Position> {
        let ended = &self.0[..self.0.len() - 1];
        let before = ended.partition_point(|start| start.epoch < unlisted.epoch);
        (before > 0).then(|| self.0[before].first.previous().min(unlisted.position.previous()))
    }

    /// Judges a cursor against the epochs and the newest committed position.
    pub fn validity(&self, cursor: Cursor, committed: Position) -> CursorValidity {
        let Ok(index) = self.0.binary_search_by_key(&cursor.epoch, |start| start.epoch) else {
            return self.branch(cursor).map_or(CursorValidity::Unknown, CursorValidity::Lost);
        };
        let following = self.0.get(index + 1);
        let end = following.map_or(committed, |next| next.first.previous());
        if cursor.position > end {
            return CursorValidity::Beyond(end, following.map(|next| next.opening));
        }
        let first = if index == 0 { Position::ZERO } else { self.0[index].first };
        if cursor.position < first { CursorValidity::Unknown } else { CursorValidity::Good }
    }
}
