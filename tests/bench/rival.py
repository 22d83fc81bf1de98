"""Tailwire beside the server that is nearest to it: what that one does better stands first."""

from dataclasses import dataclass

from plot import number
from results import Results

TITLE = "Durable Streams"


@dataclass(frozen=True)
class Comparison:
    what: str
    # Where the figures are: the rows of both begin with their titles and end with the way.
    table: str
    way: str
    key: str
    unit: str
    # More is better, instead of less.
    more: bool = False

    def rows(self) -> tuple[str, str]:
        return f"Tailwire, {self.way}", f"{TITLE}, {self.way}"

    def derived(self) -> str:
        return f"{self.key}_over_rival"


COMPARISONS = [
    Comparison("one publish at a time: CPU", "publish", "POST", "1_cpu_us", "µs"),
    Comparison("one publish at a time: p50", "publish", "POST", "1_p50_ms", "ms"),
    Comparison("publishes over 256 connections: CPU", "publish", "POST", "256_cpu_us", "µs"),
    Comparison("publishes over 256 connections: rate", "publish", "POST", "256_per_s", "/s", more=True),
    Comparison("a sparse delivery, SSE: CPU", "fanout", "SSE", "sparse_cpu_us", "µs"),
    Comparison("a sparse delivery, long-poll: CPU", "fanout", "long-poll", "sparse_cpu_us", "µs"),
    Comparison("flat out, SSE: deliveries a second", "fanout", "SSE", "flat_per_s", "/s", more=True),
    Comparison("flat out, long-poll: deliveries a second", "fanout", "long-poll", "flat_per_s", "/s", more=True),
    *[
        Comparison(f"closed loop, {name}: CPU of a delivery", "closed", "SSE", f"{key}_cpu_us", "µs")
        for key, name in [("pipelined", "one publisher, 16 pipelined"), ("16", "16 undelivered"), ("256", "256 undelivered")]
    ],
    Comparison("an idle SSE stream: memory", "idle", "SSE", "memory_bytes", "bytes"),
    Comparison("opening an SSE stream: CPU", "idle", "SSE", "open_cpu_us", "µs"),
    Comparison("replay, SSE: CPU a message", "replay", "SSE", "cpu_us", "µs"),
    Comparison("the fresh process: memory", "process", "POST", "fresh_mb", "MB"),
    Comparison("the process after a burst: memory that it grew by", "process", "POST", "grown_mb", "MB"),
]


def table(results: Results, cell) -> list[str]:
    """Lines of a table; none if nothing was measured of both. `cell` shows a figure as all tables do."""
    behind, ahead = [], []
    for own in COMPARISONS:
        ours, theirs = own.rows()
        results.divide(own.table, ours, own.key, theirs, own.key, own.derived())
        ratio = results.median(own.table, ours, own.derived())
        if ratio is None:
            continue
        shown = [cell(own.table, row, own.key, number) for row in (ours, theirs)]
        is_behind = ratio < 1 if own.more else ratio > 1
        said = "behind" if is_behind else "ahead"
        line = f"| {own.what}, {own.unit} | {shown[0]} | {shown[1]} | {number(ratio)} | {said} |"
        (behind if is_behind else ahead).append(line)
    lines = behind + ahead
    return [f"| | Tailwire | {TITLE} | ratio | |", "| --- | ---: | ---: | ---: | --- |", *lines] if lines else []
