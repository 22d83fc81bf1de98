"""Draws docs/retry.svg: what following a topic costs a client that obeys Retry-After, by simulation.

    python3 tests/bench/retry.py
"""

import csv
import io
import os
import subprocess

import plot

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
SERIES = [
    ("polls only", "peer", "0"),
    ("waits 25 s", "limit", "25"),
    ("waits 55 s", "ours", "55"),
]


def main():
    command = ["cargo", "run", "--quiet", "--package", "tailwire-model", "--example", "polling"]
    table = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    rows = [row for row in csv.DictReader(io.StringIO(table)) if row["arrivals"] == "Scattered"]
    series = []
    for label, kind, wait_s in SERIES:
        points = [
            # A poll that waits has its message at once: a hundredth of a second stands for that.
            (max(float(row["latency_mean_s"]), 0.01), float(row["polls_per_message"]))
            for row in rows
            if row["wait_s"] == wait_s
        ]
        series.append((label, kind, points))
    svg = plot.lines(
        "Polls per message against latency",
        "Retry-After obeyed, messages that come by chance, from one a second to one an hour in the mean",
        "mean latency in seconds",
        series,
        marks=[0.01, 0.1, 1, 10],
    )
    with open(os.path.join(ROOT, "docs/retry.svg"), "w", encoding="utf-8") as out:
        out.write(svg)
    print(table, end="")


if __name__ == "__main__":
    main()
