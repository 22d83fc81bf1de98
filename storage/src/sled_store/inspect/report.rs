//! The report of a look at a log: findings, with their positions, and figures.

use tailwire_model::{Epoch, Position};
use uuid::Uuid;

/// Findings of one severity that are kept; of the others only the number is known. A file that is all rubbish must not
/// fill the memory with words about it.
const KEPT_MAX: usize = 100;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Worth knowing; the log is sound with it.
    Note,
    /// Something is not as it was written, or missing.
    Damage,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The positions that it is about, if it is about any.
    pub positions: Option<(Position, Position)>,
    /// The finding, in words.
    pub what: String,
}

/// All that was found.
#[derive(Debug, Clone, Default)]
pub struct Findings {
    kept: Vec<Finding>,
    notes: usize,
    damages: usize,
}

impl Findings {
    /// The findings, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = &Finding> {
        self.kept.iter()
    }

    /// How many more there were.
    pub fn left_off(&self) -> usize {
        self.notes + self.damages - self.kept.len()
    }

    /// How many of them are damage.
    pub fn damages(&self) -> usize {
        self.damages
    }

    /// Whether none of them is damage.
    pub fn is_sound(&self) -> bool {
        self.damages == 0
    }

    pub(super) fn note(&mut self, positions: Option<(Position, Position)>, what: impl Into<String>) {
        self.notes += 1;
        self.keep(self.notes, Finding { severity: Severity::Note, positions, what: what.into() });
    }

    pub(super) fn damage(&mut self, positions: Option<(Position, Position)>, what: impl Into<String>) {
        self.damages += 1;
        self.keep(self.damages, Finding { severity: Severity::Damage, positions, what: what.into() });
    }

    fn keep(&mut self, count: usize, finding: Finding) {
        if count <= KEPT_MAX {
            self.kept.push(finding);
        }
    }

    /// These, and then others.
    #[must_use]
    pub(super) fn and(mut self, others: Self) -> Self {
        self.kept.extend(others.kept);
        self.notes += others.notes;
        self.damages += others.damages;
        self
    }
}

/// The figures of a log. Parts that can't be read are not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// The version of everything stored, if it is known.
    pub format: Option<u32>,
    /// The log's own name.
    pub id: Option<Uuid>,
    /// Topics that have messages, or had and were trimmed.
    pub topics: u64,
    /// Messages that are retained.
    pub messages: u64,
    /// Their bytes, as [`Draft::cost`](tailwire_model::Draft::cost) counts them.
    pub bytes: u64,
    /// The bytes of the files.
    pub file_bytes: u64,
    /// Oldest retained and newest position that was ever given.
    pub head: Option<Position>,
    /// See `head`.
    pub tail: Position,
    /// How often the log was opened.
    pub epochs: u64,
    /// The newest epoch.
    pub epoch: Option<Epoch>,
    /// The number of the last commit that the store holds.
    pub commits: u64,
    /// The number and the newest position of the last commit that was acknowledged, if that is known.
    pub acknowledged: Option<(u64, Position)>,
    /// Topics that were trimmed.
    pub trims: u64,
    /// Idempotency keys that are remembered.
    pub keys: u64,
    /// Topics and patterns that have options.
    pub options: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_is_counted_and_not_kept() {
        let mut findings = Findings::default();
        for n in 0..500 {
            findings.damage(Some((Position(n), Position(n))), "broken");
        }
        findings.note(None, "seen all the same");
        let findings = findings.and(Findings::default());
        assert_eq!((findings.damages(), findings.left_off(), findings.iter().count()), (500, 400, 101));
        assert!(!findings.is_sound());
    }
}
