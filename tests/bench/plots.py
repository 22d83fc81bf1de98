"""Which of the results are drawn, and how."""

import plot
from results import Results, whose


def drawn(results: Results) -> dict[str, str]:
    """By their names, which begin with their table's."""
    plots = {}
    for table, name, key, title, unit in [
        ("fanout", "sparse", "sparse_cpu_us", "Fan-out, sparse", "µs of server CPU per delivery; less is better"),
        ("fanout", "flat", "flat_cpu_us", "Fan-out, flat out", "µs of server CPU per delivery; less is better"),
        ("idle", "memory", "memory_bytes", "Memory of an idle connection", "bytes of the process; less is better"),
        ("publish", "cpu", "256_cpu_us", "Acknowledged publish, 256 under way",
         "µs of server CPU per message; less is better; * is on disk"),
        ("replay", "cpu", "cpu_us", "Replay", "µs of server CPU per stored message; less is better"),
    ]:
        rows = [(row, results.median(table, row, key)) for row in results.rows(table)]
        rows = [
            (row + (" *" if results.median(table, row, "durable") else ""), whose(row), figure)
            for row, figure in rows if figure is not None and figure > 0
        ]
        if rows:
            plots[f"{table}-{name}"] = plot.bars(title, unit, rows)
    for table, title, across in [
        ("subscribers", "CPU per delivery, by subscribers", "subscribers"),
        ("sizes", "CPU per delivery, by message size", "bytes"),
    ]:
        series = [("Tailwire", "ours", "tailwire_cpu_us"), ("limit program", "limit", "limit_cpu_us")]
        _lines(plots, results, table, title, "µs of server CPU; less is better", across, series)
    series = [("publish, before", "limit", "before_cpu_us"), ("publish, after", "ours", "after_cpu_us"),
              ("pattern delivery", "peer", "pattern_cpu_us")]
    _lines(plots, results, "topics", "Cost by topics", "µs of server CPU; less is better", "topics", series)
    return plots


def _lines(
    plots: dict[str, str], results: Results, table: str, title: str, unit: str, across: str,
    series: list[tuple[str, str, str]],
) -> None:
    found = []
    for label, kind, key in series:
        medians = [(float(row), results.median(table, row, key)) for row in results.rows(table) if row.isdigit()]
        points = [(at, figure) for at, figure in medians if figure is not None and figure > 0]
        if len(points) > 1:
            found.append((label, kind, points))
    if found:
        plots[f"{table}-growth"] = plot.lines(title, unit, across, found)
