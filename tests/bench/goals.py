"""What Tailwire is to reach, and whether a run shows that it does."""

from dataclasses import dataclass

from plot import number
from results import Results, whose

DISK = "the disk: an append of 128 bytes and `fdatasync`"
MILLION = 1_000_000
ALONE = "alone"
BESIDE = "beside 100 clients that replay"
# Whose latencies are compared, by the peers' names.
PACED = {
    name: f"{title}, 10 messages/s to 1,000 subscribers, WebSocket" for name, title in [
        ("limit", "limit program"), ("limit-commits", "limit program with commits"), ("tailwire", "Tailwire"),
    ]
}
LONE = "limit program with commits, POST, one at a time"
# Goals in microseconds and per second are for a machine on which the limit program's sparse delivery by WebSocket takes this much.
REFERENCE = ("fanout", "limit program, WebSocket", "sparse_cpu_us")
REFERENCE_US = 7.6


@dataclass(frozen=True)
class Goal:
    what: str
    # Where its figure is.
    table: str
    row: str
    key: str
    bound: float
    unit: str = ""
    # The bound is the least that it may be, instead of the most.
    least: bool = False
    # What notes of its measurement begin with, where a row has several measurements.
    during: str = ""
    # A figure of nothing is one; elsewhere it is finer than what can be told, and meets no goal.
    may_be_nothing: bool = False

    def asked(self) -> str:
        return f"{'at least' if self.least else 'at most'} {self.bound:,g}{self.unit}"

    def met(self, figure: float, slowness: float = 1) -> bool:
        """Whether it is reached on a machine that is so many times as slow as the reference."""
        scale = slowness if self.unit in (" µs", "/s") else 1
        return figure >= self.bound / scale if self.least else figure <= self.bound * scale

    def notes(self, results: Results) -> list[str]:
        """What went wrong as it was measured."""
        notes = results.notes.get((self.table, self.row), [])
        return [note for note in notes if note.startswith((self.during, "could not be measured"))]


def goals() -> list[Goal]:
    bare = ["WebSocket", "SSE", "NDJSON"]
    sparse = {**dict.fromkeys(bare, 1.2), "SSE over HTTP/2": 1.6, "long-poll": 1.6}
    flat = {**dict.fromkeys(bare, 1.0), "SSE over HTTP/2": 2.0}
    memory = {"WebSocket": 3000, "SSE": 4000, "NDJSON": 4000}
    found = [Goal(f"a sparse delivery, {way}: CPU", "fanout", f"Tailwire, {way}", "times_limit", bound,
                  " × the limit", during="sparse") for way, bound in sparse.items()]
    found += [Goal(f"a delivery flat out, {way}: CPU", "fanout", f"Tailwire, {way}", "flat_cpu_us", bound,
                   " µs", during="flat out") for way, bound in flat.items()]
    found += [Goal(f"an idle connection, {way}: memory", "idle", f"Tailwire, {way}", "memory_bytes", bound, " bytes")
              for way, bound in memory.items()]
    found += [Goal(f"opening a connection, {way}: CPU", "idle", f"Tailwire, {way}", "open_cpu_us", 60, " µs")
              for way in [*bare, "SSE over HTTP/2"]]
    storm = "10,000 connections, WebSocket"
    found += [
        Goal("10,000 WebSocket handshakes: CPU of each", "storm", storm, "open_cpu_us", 60, " µs"),
        Goal("10,000 WebSocket handshakes: rate", "storm", storm, "open_per_s", 8_000, "/s", least=True),
    ]
    # The bound is that there are more: so many times as many as the fastest peer's would be as many.
    found += [Goal(f"flat out, {way}: deliveries a second", "fanout", f"Tailwire, {way}", "times_best_peer", 1,
                   " × the fastest peer's", least=True, during="flat out") for way in bare]
    for what, row, name, cpu, rate in [
        ("a publish by POST, 256 connections", "Tailwire, POST", "256", 25, 40_000),
        ("a publish by WebSocket, pipelined", "Tailwire, WebSocket", "pipelined", 8, 100_000),
    ]:
        found += [
            Goal(f"{what}: CPU", "publish", row, f"{name}_cpu_us", cpu, " µs", during=f"{name}:"),
            Goal(f"{what}: rate", "publish", row, f"{name}_per_s", rate, "/s", least=True, during=f"{name}:"),
        ]
    row = "Tailwire, POST, NDJSON batches of 100 over 4 connections, `sync`"
    found += [
        Goal("a publish in NDJSON batches of 100: CPU", "single", row, "cpu_us", 8, " µs"),
        Goal("a publish in NDJSON batches of 100: rate", "single", row, "per_s", 100_000, "/s", least=True),
    ]
    found += [Goal(f"one publish at a time, {way}: p50", "single", f"Tailwire, {way}, one at a time, `sync`",
                   "times_disk", 1.3, " × the disk's append and sync") for way in ["POST", "WebSocket"]]
    found += [Goal(f"replay of 1,000,000 messages, {way}: CPU a message", "stored", f"{MILLION:,} messages, {way}",
                   "cpu_us", 1, " µs") for way in ["ndjson", "ws", "page"]]
    for way, bound in {**memory, "long-poll": 14_000}.items():
        row = f"Tailwire, 15,000 connections, {way}"
        found += [
            Goal(f"15,000 connections at once, {way}: cut off", "crowd", row, "cut_off", 0, may_be_nothing=True),
            Goal(f"15,000 connections at once, {way}: memory of each", "crowd", row, "idle_bytes", bound, " bytes"),
            Goal(f"15,000 connections that had messages, {way}: memory of each", "crowd", row, "after_bytes", bound, " bytes"),
        ]
    # Over plain HTTP/1.1, as here, it can be parked: held without what a request takes.
    found.append(Goal("15,000 long-polls that wait, parked: memory of each", "crowd",
                      "Tailwire, 15,000 connections, long-poll", "idle_bytes", 8_000, " bytes"))
    found += [Goal(f"10 messages/s to 1,000 subscribers, {name}: beyond the limit program's and a commit", "latency",
                   PACED["tailwire"], f"beyond_{name}_ms", 1, " ms", may_be_nothing=True) for name in ["p50", "p99"]]
    return [
        *found,
        Goal("10,000 patterns, 100,000 topics: CPU of a publish's search", "patterns", "100,000 topics", "added_us", 2, " µs",
             may_be_nothing=True),
        # A late percentile is a factor of two apart from run to run; one that waits for readers, each in turn, is tens.
        Goal(f"a live delivery {BESIDE}: p99", "beside", BESIDE, "times_alone", 5, " × alone"),
        Goal("2,000 messages/s over 100 topics, `sync`: CPU a delivery", "many",
             "2,000 messages/s over 100 topics with 10 subscribers each, `sync`", "cpu_us", 12, " µs"),
        Goal("1,000,000 topics: memory a topic", "topics", str(MILLION), "bytes_per_topic", 300, " bytes"),
        Goal("1,000,000 topics: CPU of a publish", "topics", str(MILLION), "after_times_before", 1.1, " × before them"),
    ]


def derive(results: Results) -> None:
    """The ratios and differences that goals are about, of one round each."""
    _derive_best_peer(results)
    for name in ["p50", "p99"]:
        beyond = {
            at: figure - limit - commit
            for at, (figure, limit, commit) in _rounds(results, [
                ("latency", PACED["tailwire"], f"delivery_{name}_ms"),
                ("latency", PACED["limit"], f"delivery_{name}_ms"), ("single", DISK, f"{name}_ms"),
            ])
        }
        if beyond:
            results.samples[("latency", PACED["tailwire"], f"beyond_{name}_ms")] = beyond
    # The others promise less, or more at once.
    for row in results.rows("single"):
        if row == LONE or row.endswith("one at a time, `sync`"):
            results.divide("single", row, "p50_ms", DISK, "p50_ms", "times_disk")
            results.divide("single", row, "p50_ms", LONE, "p50_ms", "times_limit")
    results.divide("beside", BESIDE, "delivery_p99_ms", ALONE, "delivery_p99_ms", "times_alone")
    for row in results.rows("topics"):
        results.divide("topics", row, "after_cpu_us", row, "before_cpu_us", "after_times_before")


def _derive_best_peer(results: Results) -> None:
    """How many times as many deliveries there are as the fastest peer has in the same round, when flat out."""
    best: dict[int, float] = {}
    for row in results.rows("fanout"):
        if whose(row) == "peer":
            for at, figure in results.samples.get(("fanout", row, "flat_per_s"), {}).items():
                best[at] = max(figure, best.get(at, 0))
    for row in results.rows("fanout"):
        if whose(row) == "ours":
            results.divide_by("fanout", row, "flat_per_s", best, "times_best_peer")


def _rounds(results: Results, keys: list[tuple[str, str, str]]) -> list[tuple[int, list[float]]]:
    """The figures of each round that has all of them."""
    samples = [results.samples.get(key, {}) for key in keys]
    return [(at, [of[at] for of in samples]) for at in samples[0] if all(at in of for of in samples)]


def slowness(results: Results) -> float:
    """How many times as much CPU time the limit program takes as on the machine that absolute goals are for; at least 1."""
    return max(1, (results.median(*REFERENCE) or 0) / REFERENCE_US)


def table(results: Results, cell) -> list[str]:
    """Lines of a table; none if the run has a figure for no goal. `cell` shows a figure as all tables do."""
    slow = slowness(results)
    lines, measured = ["| goal | | measured | |", "| --- | --- | ---: | --- |"], False
    for goal in goals():
        figure = results.median(goal.table, goal.row, goal.key)
        shown, said = "–", "not measured"
        if figure is not None and (figure > 0 or goal.may_be_nothing):
            measured = True
            shown, said = cell(goal.table, goal.row, goal.key, number), "met" if goal.met(figure, slow) else "not met"
            if goal.notes(results):
                said += ", with faults: see below"
        lines.append(f"| {goal.what} | {goal.asked()} | {shown} | {said} |")
    return lines if measured else []
