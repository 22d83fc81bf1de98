"""What the rounds measured, one sample each, and what can be said of several: their median and their spread."""

import statistics
from dataclasses import dataclass, field


def whose(row: str) -> str:
    """Whose figures a row has, by how it begins: ours, the limit program's, or a peer's."""
    return "ours" if row.startswith("Tailwire") else "limit" if row.startswith("limit") else "peer"


@dataclass
class Results:
    # (table, row, column): by its round, the figure; none of a round in which it could not be measured.
    samples: dict[tuple[str, str, str], dict[int, float]] = field(default_factory=dict)
    # The round to which figures are added.
    round: int = 0
    # What went wrong with a row: the document says it beside the figures.
    notes: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    # By a peer's title: its version, or why it isn't there.
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, table: str, row: str, **figures: float | None) -> None:
        for column, figure in figures.items():
            if figure is not None:
                self.samples.setdefault((table, row, column), {})[self.round] = figure

    def divide(self, table: str, row: str, column: str, over_row: str, over_column: str, into: str) -> None:
        """Adds the ratio of two figures of a table, of each round that has both: what slows a round down slows both."""
        self.divide_by(table, row, column, self.samples.get((table, over_row, over_column), {}), into)

    def divide_by(self, table: str, row: str, column: str, over: dict[int, float], into: str) -> None:
        """The same, over the figure of each round."""
        figures = self.samples.get((table, row, column), {})
        ratios = {at: figure / over[at] for at, figure in figures.items() if over.get(at)}
        if ratios:
            self.samples[(table, row, into)] = ratios

    def note(self, table: str, row: str, what: str) -> None:
        notes = self.notes.setdefault((table, row), [])
        if what not in notes:
            notes.append(what)

    def median(self, table: str, row: str, column: str) -> float | None:
        samples = self.samples.get((table, row, column))
        return statistics.median(samples.values()) if samples else None

    def spread(self, table: str, row: str, column: str) -> float | None:
        """The distance from the least to the greatest sample, as a part of the median; none of fewer than two."""
        samples = list(self.samples.get((table, row, column), {}).values())
        middle = statistics.median(samples) if samples else 0
        return (max(samples) - min(samples)) / middle if len(samples) > 1 and middle > 0 else None

    def rows(self, table: str) -> list[str]:
        """The rows of a table that have a figure or a note, in the order in which they came."""
        of_table = [row for of, row, _ in self.samples if of == table]
        of_notes = [row for of, row in self.notes if of == table]
        return list(dict.fromkeys(of_table + of_notes))
