//! The gap rule: what a cursor has not seen and never will, and where reading goes on.

use crate::{
    cursor::{Cursor, Position},
    epochs::{CursorValidity, Epochs, Opening},
};

/// Why messages are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapReason {
    /// Retention took them.
    Retention,
    /// A DELETE took them.
    Deleted,
    /// The log was not closed in good order and lost its end, or was damaged and repaired.
    Unclean,
    /// The log is an older state of itself, as from a backup.
    Rewound,
    /// The cursor is from a log that this one does not know.
    Epoch,
}

impl GapReason {
    /// The word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retention => "retention",
            Self::Deleted => "deleted",
            Self::Unclean => "unclean",
            Self::Rewound => "rewound",
            Self::Epoch => "epoch",
        }
    }
}

/// Messages after `from` and up to `to` that the client has not seen may no longer exist. Reading goes on after `from`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Where reading goes on: what the client's cursor is from here.
    pub from: Cursor,
    /// How far messages may be missing.
    pub to: Cursor,
    /// Why.
    pub reason: GapReason,
}

/// The cause of a trim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrimReason {
    /// A retention rule.
    Retention,
    /// A DELETE.
    Deleted,
    /// Damage: what was left was saved by a repair.
    Lost,
}

/// The highest position taken from a topic, or from any topic of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trim {
    /// Every message of the topic up to here is gone.
    pub upto: Position,
    /// The cause of the last trim.
    pub reason: TrimReason,
}

impl Trim {
    /// The farther of two; where both end in one place, damage counts: it may have taken more than is known.
    #[must_use]
    pub fn farther(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let place = |trim: Self| (trim.upto, trim.reason == TrimReason::Lost);
        match (a, b) {
            (Some(a), Some(b)) => Some(if place(b) > place(a) { b } else { a }),
            (a, b) => a.or(b),
        }
    }

    /// No cursor of what is gone lies beyond this one.
    pub fn end(self, epochs: &Epochs) -> Cursor {
        match self.reason {
            TrimReason::Retention | TrimReason::Deleted => epochs.cursor_at(self.upto),
            TrimReason::Lost => epochs.end_of_loss(self.upto),
        }
    }
}

/// The extent of a filter in the log, as far as the rule asks.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// The newest committed position of the log.
    pub committed: Position,
    /// The filter's oldest retained message, if it has one.
    pub head: Option<Position>,
    /// How far any topic of the filter was trimmed.
    pub trimmed: Option<Trim>,
}

/// Where reading goes on, and what was lost before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// Read the messages after this position.
    pub after: Position,
    /// Tell the client this first.
    pub gap: Option<Gap>,
}

/// Decides where a client with `cursor` goes on. `known` is the end of a gap that the client has acknowledged.
pub fn resume(epochs: &Epochs, extent: &Extent, cursor: Cursor, known: Option<Cursor>) -> Resume {
    let (after, loss) = match epochs.validity(cursor, extent.committed) {
        CursorValidity::Good => (cursor.position, None),
        CursorValidity::Beyond(end, Some(Opening::Unclean)) => (end, Some(GapReason::Unclean)),
        CursorValidity::Beyond(end, _) | CursorValidity::Lost(end) => (end, Some(GapReason::Rewound)),
        CursorValidity::Unknown => {
            (extent.head.map_or(extent.committed, Position::previous), Some(GapReason::Epoch))
        }
    };
    let from = epochs.cursor_at(after);
    let trimmed = trimmed_gap(epochs, extent.trimmed, after, known);
    let gap = match loss {
        None => trimmed,
        Some(reason) => {
            let seen = if reason == GapReason::Epoch { from } else { cursor };
            let to = trimmed.map_or(seen, |gap| gap.to.max(seen));
            Some(Gap { from, to, reason })
        }
    };
    Resume { after, gap }
}

/// The gap that trimming opens before a reader at `after`, if any beyond what is `known`.
pub fn trimmed_gap(
    epochs: &Epochs,
    trimmed: Option<Trim>,
    after: Position,
    known: Option<Cursor>,
) -> Option<Gap> {
    let trim = trimmed.filter(|trim| trim.upto > after)?;
    let to = trim.end(epochs);
    if known.is_some_and(|known| to <= known) {
        return None;
    }
    let reason = match trim.reason {
        TrimReason::Retention => GapReason::Retention,
        TrimReason::Deleted => GapReason::Deleted,
        TrimReason::Lost => GapReason::Unclean,
    };
    Some(Gap { from: epochs.cursor_at(after), to, reason })
}
