"""Plots as SVG, written by hand: bars that compare, lines that grow. They follow the reader's light or dark mode."""

import math
from html import escape

WIDTH = 760
_STYLE = """
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600; font-size: 15px }
  .note { fill: #57606a; font-size: 12px }
  .grid { stroke: #d0d7de; stroke-width: 1 }
  .ours { fill: #0969da; stroke: #0969da }
  .limit { fill: #8c959f; stroke: #8c959f }
  .peer { fill: #bc8c4c; stroke: #bc8c4c }
  .line { fill: none; stroke-width: 2 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .note { fill: #9da7b3 }
    .grid { stroke: #3d444d }
    .ours { fill: #4493f8; stroke: #4493f8 }
    .limit { fill: #767e88; stroke: #767e88 }
    .peer { fill: #d4a258; stroke: #d4a258 }
  }
"""


def bars(title: str, unit: str, rows: list[tuple[str, str, float]]) -> str:
    """One bar a row, from (label, class, figure); classes are `ours`, `limit` and `peer`."""
    top, step, left, right = 56, 26, 250, 70
    most = max(figure for _, _, figure in rows)
    room = WIDTH - left - right
    parts = [_text(16, 24, title, "title"), _text(16, 43, unit, "note")]
    for at, (label, kind, figure) in enumerate(rows):
        y = top + at * step
        length = max(1.0, room * figure / most)
        parts += [
            _text(left - 10, y + 15, label, anchor="end"),
            f'<rect class="{kind}" x="{left}" y="{y + 2}" width="{length:.1f}" height="{step - 9}" rx="2"/>',
            _text(left + length + 8, y + 15, number(figure)),
        ]
    return _svg(title, top + len(rows) * step + 12, parts)


def lines(
    title: str,
    unit: str,
    across: str,
    series: list[tuple[str, str, list[tuple[float, float]]]],
    marks: list[float] | None = None,
) -> str:
    """One line a series, from (label, class, points); both axes are logarithmic. `marks` stand below, or else each point."""
    left, right, top, height = 64, 150, 60, 240
    points = [point for _, _, of_one in series for point in of_one]
    across_all = [point[0] for point in points]
    x = _scale([*across_all, *(marks or [])], left, WIDTH - right)
    ticks = _ticks([point[1] for point in points])
    y = _scale(ticks, top + height, top)
    parts = [_text(16, 24, title, "title"), _text(16, 43, f"{unit}; both axes are logarithmic", "note")]
    for value in marks or sorted(set(across_all)):
        parts += [_text(x(value), top + height + 18, f"{value:,g}", "note", "middle")]
    for value in ticks:
        parts += [
            f'<line class="grid" x1="{left}" x2="{WIDTH - right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>',
            _text(left - 8, y(value) + 4, f"{value:,g}", "note", "end"),
        ]
    parts += [_text((left + WIDTH - right) / 2, top + height + 38, across, "note", "middle")]
    for label, kind, of_one in series:
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in of_one)
        parts += [f'<polyline class="{kind} line" style="fill:none" points="{path}"/>']
        parts += [f'<circle class="{kind}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3"/>' for a, b in of_one]
        end = of_one[-1]
        parts += [_text(x(end[0]) + 8, y(end[1]) + 4, label)]
    return _svg(title, top + height + 52, parts)


def number(value: float) -> str:
    """Three digits, with thousands parted: no measurement here is good for more."""
    if value == 0:
        return "0"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    rounded = round(value, 2 - math.floor(math.log10(abs(value))))
    text = f"{rounded:,.{digits}f}"
    return text.rstrip("0").rstrip(".") if "." in text and rounded >= 100 else text


def _scale(values: list[float], start: float, end: float):
    low, high = math.log10(min(values)), math.log10(max(values))
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    return lambda value: start + (math.log10(value) - low) / (high - low) * (end - start)


def _ticks(values: list[float]) -> list[float]:
    """1, 2 and 5 of every power of ten, from the last below all values to the first above."""
    low, high = min(values), max(values)
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    ticks = [float(f"{factor}e{power}") for power in powers for factor in (1, 2, 5)]
    first = max(at for at, tick in enumerate(ticks) if tick <= low)
    last = min(at for at, tick in enumerate(ticks) if tick >= high)
    return ticks[first:last + 1]


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    of_kind = f' class="{kind}"' if kind else ""
    return f'<text{of_kind} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(title: str, height: float, parts: list[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img">'
    return "\n".join([head, f"<title>{escape(title)}</title>", f"<style>{_STYLE}</style>", *parts, "</svg>", ""])
