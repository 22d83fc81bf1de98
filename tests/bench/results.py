"""What the rounds measured, one sample each, and what can be said of several: their median and their spread."""

import statistics
from dataclasses import dataclass, field


@dataclass
class Results:
    # (table, row, column): one figure a round.
    samples: dict[tuple[str, str, str], list[float]] = field(default_factory=dict)
    # What went wrong with a row: the document says it beside the figures.
    notes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    # By a peer's title: its version, or why it isn't there.
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, table: str, row: str, **figures: float | None) -> None:
        for column, figure in figures.items():
            if figure is not None:
                self.samples.setdefault((table, row, column), []).append(figure)

    def note(self, table: str, row: str, what: str) -> None:
        notes = self.notes.setdefault((table, row), [])
        if what not in notes:
            notes.append(what)

    def median(self, table: str, row: str, column: str) -> float | None:
        samples = self.samples.get((table, row, column))
        return statistics.median(samples) if samples else None

    def spread(self, table: str, row: str, column: str) -> float | None:
        """The distance from the least to the greatest sample, as a part of the median; none of fewer than two."""
        samples = self.samples.get((table, row, column), [])
        middle = statistics.median(samples) if samples else 0
        return (max(samples) - min(samples)) / middle if len(samples) > 1 and middle > 0 else None

    def rows(self, table: str) -> list[str]:
        """The rows of a table that have a figure or a note, in the order in which they came."""
        of_table = [row for of, row, _ in self.samples if of == table]
        of_notes = [row for of, row in self.notes if of == table]
        return list(dict.fromkeys(of_table + of_notes))
