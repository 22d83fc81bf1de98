"""Writes the results down: BENCHMARKS.md and its plots. What was not measured in the run is not in it."""

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

import goals
import plots
import rival
from measures import CLOSED, CROWD_MESSAGES, PATTERNS, REPLAY_CLIENTS, REPLAY_CLIENTS_BESIDE, SPARSE_RATE
from peers import Peer
from plot import number
from results import Results
from scales import Scale

# Samples of one figure that lie further apart than this, as a part of it, are marked.
SPREAD_MAX = 0.20
# So much for the limit program alone, whose work is always the same: beyond it, the machine was not quiet.
NOISE_MAX = 0.10
# Cores that others kept busy meanwhile, on average.
NEIGHBOURS_MAX = 0.1
LIMIT = "limit program, WebSocket"
# The framings that the limit program knows; every other way is compared with its WebSocket.
LIMIT_FRAMINGS = {"WebSocket", "SSE", "NDJSON"}

FLAT_OUT = (
    "Sparse, each message is a write of its own to each connection, and the limit program's figure is a lower bound. "
    "Flat out it is none: what counts there is how many messages go into one write. The limit program takes the requests "
    "that are readable at once, writes their messages to all subscribers together (`--coalesce`), and only then answers: "
    "so one write to a subscriber that keeps up carries at most the 16 messages under way. Tailwire answers without "
    "waiting for its subscribers, and gathers what is pending for a connection into one write, up to 64 KB; so do some of "
    "the others in their ways. That is cheaper per message, and the messages come later: see the latencies. A figure below "
    "the limit's says that more was gathered, not that a write costs less; what a write costs is the sparse figure.\n\n"
    "Over HTTP/2 each stream has a TCP connection of its own here, as every other subscriber has: that is its worst case. "
    "It pays for a connection's settings, windows and header tables for one stream, which a browser with several streams "
    "pays once."
)
# Where an option exists that is not measured, its reason.
NOT_PEERS = (
    "Not among the peers: Mercure, which comes as a Go module that the module proxy did not serve where this program was "
    "written. Nor is TLS measured; nor how SSE, NDJSON, memory and publishing grow with subscribers and sizes, or WebSocket "
    "flat out."
)


@dataclass
class Run:
    when: datetime
    revision: str
    machine: list[tuple[str, str]]
    scale: Scale
    # Every peer was asked for, at full length.
    everything: bool
    # How many rounds are in it.
    rounds: int = 0
    minutes: float = 0
    # Cores that others kept busy.
    neighbours: float = 0
    left_out: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Column:
    title: str
    key: str
    show: Callable[[float], str] = number


def write(out: Path, run: Run, results: Results, present: list[Peer]) -> Path:
    """Writes the document and its plots to a folder; gives the document's path."""
    folder = out / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.svg"):
        old.unlink()
    drawn = plots.drawn(results)
    for name, svg in drawn.items():
        (folder / f"{name}.svg").write_text(svg)
    path = out / "BENCHMARKS.md"
    path.write_text(text(run, results, present, set(drawn)))
    return path


def text(run: Run, results: Results, present: list[Peer], drawn: set[str]) -> str:
    scale = run.scale
    _derive(results)
    parts = [
        "# Benchmarks\n\n<!-- Written by tests/bench/run: change that, not this. -->",
        _opening(run, results),
        _rival(results),
        _goals(run, results),
        _section(
            results, drawn, "fanout", "Fan-out",
            f"{scale.subscribers:,} subscribers of one topic, 128-byte messages. *Sparse* is {SPARSE_RATE} messages a "
            "second; *flat out* is as many as the server acknowledges with 16 under way, on a connection each, or on one "
            "where the protocol pipelines. CPU is the server's, per delivery. Latency is from before the publish is sent "
            "until a subscriber has read the payload, over all of them. *× limit* compares the sparse "
            "CPU with that of the limit program in the same framing (WebSocket, SSE or NDJSON) and the same round; all other "
            "ways (HTTP/2, long-poll, MQTT, NATS, RESP) are compared with the limit program's WebSocket.\n\n" + FLAT_OUT,
            [
                Column("sparse, µs CPU", "sparse_cpu_us"), Column("× limit", "times_limit"),
                Column("sparse p50, ms", "delivery_p50_ms"), Column("sparse p99, ms", "delivery_p99_ms"),
                Column("flat out, µs CPU", "flat_cpu_us"), Column("flat out, deliveries/s", "flat_per_s"),
                Column("flat out p50, ms", "flat_p50_ms"), Column("flat out p99, ms", "flat_p99_ms"),
            ],
        ),
        _section(
            results, drawn, "closed", "Fan-out in a closed loop",
            f"{scale.subscribers:,} subscribers by SSE as above, and publishers that wait for them: at most so many messages "
            "are published and not delivered to everybody. So no server gains by letting messages pile up and writing many "
            "at once. *Pipelined* is one publisher with 16 publishes under way on its connection, at most 16 messages "
            "undelivered; *16* is 16 publishers with one each, at most 16 undelivered; *256* is 64 publishers with one "
            "each, at most 256 undelivered.",
            [
                Column(f"{name}, {title}", f"{name}_{key}")
                for name in CLOSED for title, key in [("µs CPU", "cpu_us"), ("deliveries/s", "per_s")]
            ],
        ),
        _section(
            results, drawn, "idle", "Idle connections",
            f"{scale.idle:,} subscribers that hear nothing. Memory is what the process grew by (resident set), per "
            "connection; the kernel's socket buffers are not in it. CPU is that of opening one: TCP, HTTP, and "
            "subscribing. Of HTTP/2 each connection has one stream, the worst case.",
            [
                Column("memory, bytes", "memory_bytes", lambda figure: f"{figure:,.0f}"),
                Column("opening, µs CPU", "open_cpu_us"),
            ],
        ),
        _section(
            results, drawn, "crowd", "Very many connections",
            f"`tailwire bench idle`: so many connections at once to a server that has just started. Memory is as above: a "
            f"second and more after they opened, while long-polls wait, and again once {CROWD_MESSAGES} messages of 128 bytes were published to their topic, "
            "one after the other, each connection was found to have had all of them, and the server's memory stood still. *Cut "
            "off* are those that ended meanwhile.",
            [
                Column("cut off", "cut_off"), Column("opening, µs CPU", "open_cpu_us"),
                Column("idle, bytes", "idle_bytes", lambda figure: f"{figure:,.0f}"),
                Column("after messages, bytes", "after_bytes", lambda figure: f"{figure:,.0f}"),
            ],
        ),
        _section(
            results, drawn, "storm", "Connections that come together",
            "`tailwire bench idle`: so many WebSockets to a server that has just started, up to 100 of them being opened at a "
            "time, by a load generator on one core. CPU is the server's, per connection: TCP, the handshake, and subscribing.",
            [Column("opened/s", "open_per_s"), Column("µs CPU", "open_cpu_us")],
        ),
        _section(
            results, drawn, "publish", "Acknowledged publishes",
            "128-byte messages to one topic without subscribers, flat out, with so many unanswered: 1, 16 and 256 on a "
            "connection each; *pipelined* is 256 over four connections, where the protocol can. CPU is the server's, "
            "per message. **On disk** says that the acknowledgement waits for a flush to disk.",
            [
                Column("on disk", "durable", lambda figure: "yes" if figure else "no"),
                Column("1: µs CPU", "1_cpu_us"), Column("1: p50, ms", "1_p50_ms"),
                Column("16: µs CPU", "16_cpu_us"), Column("16: /s", "16_per_s"),
                Column("256: µs CPU", "256_cpu_us"), Column("256: /s", "256_per_s"),
                Column("256: p99, ms", "256_p99_ms"),
                Column("pipelined: µs CPU", "pipelined_cpu_us"), Column("pipelined: /s", "pipelined_per_s"),
            ],
        ),
        _section(
            results, drawn, "process", "The process itself",
            "Its memory (resident set) when it has just started with an empty folder, and by how much that is more 10 s after "
            "256 connections have published flat out and closed.",
            [Column("fresh, MB", "fresh_mb"), Column("grown, MB", "grown_mb")],
        ),
        _section(
            results, drawn, "replay", "Replay",
            f"{REPLAY_CLIENTS} clients at once, each of which reads {scale.replayed:,} stored messages of 128 bytes. CPU is "
            "the server's, per message that a client reads. The messages were published one by one, 256 under way, where "
            "the protocol can; so these are not the figures of one client alone that reads what came in large batches, which "
            "stand below under the growth of what is stored.",
            [Column("µs CPU a message", "cpu_us"), Column("messages/s", "per_s")],
        ),
        _durability(present),
        _section(
            results, drawn, "subscribers", "Growth: subscribers",
            f"As sparse fan-out: one topic, {SPARSE_RATE} messages a second, WebSocket. CPU is the server's, per "
            "delivery: that of the publish is in it, which few subscribers have to share. Of 10 it is most.",
            _beside_limit(), "subscribers",
        ),
        _section(
            results, drawn, "sizes", "Growth: message size",
            f"100 subscribers of one topic, {SPARSE_RATE} messages a second, WebSocket. CPU is the server's, per "
            "delivery.",
            _beside_limit(), "bytes",
        ),
        _section(
            results, drawn, "topics", "Growth: topics",
            "Topics with one message of 128 bytes each, created on an empty broker. Memory is what its process grew by "
            "meanwhile, their messages included: of few topics it is mostly what the store's caches took. Publishing is by POST to one topic over 16 connections, before "
            "and after. Then 10 WebSocket subscribers listen to all topics by a pattern, while 100 messages a second go "
            "to one topic after the other. A message's patterns are found by the segments of its own topic's name, however many "
            "other topics there are; its publish and commit are in the figure, shared by ten deliveries, and so is what the "
            "broker does beside them.",
            [
                Column("memory, MB", "memory_mb", lambda figure: f"{figure:.1f}"),
                Column("bytes a topic", "bytes_per_topic", lambda figure: f"{figure:,.0f}"),
                Column("publish before, µs CPU", "before_cpu_us"), Column("after", "after_cpu_us"),
                Column("pattern delivery, µs CPU", "pattern_cpu_us"), Column("p99, ms", "pattern_p99_ms"),
            ],
            "topics",
        ),
        _section(
            results, drawn, "patterns", "Patterns",
            f"{PATTERNS:,} patterns are listened to, 100 on each WebSocket, and each matches one of the topics (`tailwire bench "
            "topics --patterns`). A message to each of these came where it belongs, and nowhere else. What the patterns cost "
            "is measured by publishing, in batches, to a topic for which they have to be searched and which none of them "
            "matches, so that nothing is delivered: in short turns beside the patterns, and beside as many connections that "
            "listen to a topic each. CPU is the server's, per message: the medians of the turns, and of the differences of two "
            "that follow each other.",
            [
                Column("without patterns, µs CPU", "without_us"), Column("with them, µs CPU", "with_us"),
                Column("added, µs CPU", "added_us"),
            ],
        ),
        _section(
            results, drawn, "stored", "Growth: stored messages",
            "One client reads all of a topic, at one go or in pages of 1,000 (`tailwire bench replay`), which was filled in "
            "batches of 1,000. What many clients at once read is above, under replay.",
            [Column("µs CPU a message", "cpu_us"), Column("messages/s", "per_s")],
        ),
        _section(
            results, drawn, "many", "Many topics at once",
            "`tailwire bench fanout`, WebSocket. By the topics' option, an acknowledged message is on disk (`sync`), or will "
            "be within 100 ms (`relaxed`), or is in memory (`memory`). The limit program has one topic, and as many deliveries of "
            "each message; *with commits* it appends each message to a file and syncs that before it sends anything, as all that "
            "is readable at once shares a commit.",
            [
                Column("published/s", "published_per_s"), Column("deliveries/s", "per_s"),
                Column("µs CPU a delivery", "cpu_us"), Column("p99, ms", "p99_ms"),
            ],
        ),
        _section(
            results, drawn, "latency", "Latency at a steady rate",
            "From before the publish is sent to its receipt, and to each subscriber: 100 messages/s by `tailwire bench "
            "latency`, 10 messages/s by the load generator of all peers, of the limit program too. *Beyond* is by how much more "
            "than the limit program's latency and one commit, which is the disk's own append and sync at the same percentile, "
            "each delivery of Tailwire's takes, in the same round. *With commits* is what the limit program itself takes if it "
            "syncs each message before it sends it.",
            [
                Column(f"{what} {name}, ms", f"{what}_{name.replace('.', '')}_ms")
                for what in ["receipt", "delivery"] for name in ["p50", "p99", "p99.9"]
            ] + [Column(f"beyond, {name}, ms", f"beyond_{name}_ms") for name in ["p50", "p99"]],
        ),
        _section(
            results, drawn, "beside", "Live delivery beside a replay",
            f"100 messages a second to 10 WebSocket subscribers, as above: alone, and while {REPLAY_CLIENTS_BESIDE} clients at "
            f"once read {scale.beside:,} stored messages of another topic, each all of them, from before the first live "
            "message until after the last (`tailwire bench latency`, `tailwire bench replay`). Tailwire's readers of old data "
            "give way to those who publish: the server's CPU time says how much was read meanwhile, of the one core that it has.",
            [
                *[Column(f"{what} {name}, ms", f"{what}_{name}_ms")
                  for what in ["receipt", "delivery"] for name in ["p50", "p99"]],
                Column("× alone", "times_alone"), Column("server's CPU, cores", "cores"),
            ],
        ),
        _section(
            results, drawn, "single", "What a publish takes beside the disk",
            "`tailwire bench publish`, 128-byte messages, beside what the disk alone takes in the same round, called over and "
            "over by a program that does nothing else; and beside the limit program, measured by the load generator of all peers, "
            "where it appends and syncs each message before it answers: one thread, no store. Between two publishes of one client "
            "both cores fall asleep and have to be woken. CPU is the server's, per message.",
            [
                Column("p50, ms", "p50_ms"), Column("p99, ms", "p99_ms"),
                Column("messages/s", "per_s"), Column("µs CPU a message", "cpu_us"),
                Column("× the disk, p50", "times_disk"), Column("× the limit program with commits, p50", "times_limit"),
            ],
        ),
        _method(run, results),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _opening(run: Run, results: Results) -> str:
    scale = run.scale
    rounds = "one round" if run.rounds == 1 else f"{run.rounds} rounds, of which each figure is the median"
    lines = [
        f"What it costs to deliver, to publish, and to read again, on one machine, over loopback: {rounds}, "
        f"{scale.seconds:g} s a measurement, {run.minutes:.0f} min in all. Measured on {run.when:%Y-%m-%d at %H:%M} UTC at revision {run.revision}.",
        *_noise(run, results),
    ]
    return "\n\n".join(_wrapped(line) for line in lines if line)


def _noise(run: Run, results: Results) -> list[str]:
    """How far the figures can be trusted, by the program whose work is always the same."""
    known, parts = _limit_spreads(results), []
    if doubts := _doubts(run, results):
        parts.append(f"**Noisy: not for comparing.** {_sentence(doubts)}")
    if known:
        said = " and ".join(f"{spread:.0%} ({what})" for what, spread in known.items())
        parts.append(
            f"The noise of the machine: the limit program's CPU time per delivery differs between rounds by {said}. "
            f"A figure marked ≈ differs between its rounds by more than {SPREAD_MAX:.0%}."
        )
    return parts


def _limit_spreads(results: Results) -> dict[str, float]:
    spreads = {what: results.spread("fanout", LIMIT, key) for what, key in
               [("sparse", "sparse_cpu_us"), ("flat out", "flat_cpu_us")]}
    return {what: spread for what, spread in spreads.items() if spread is not None}


def _doubts(run: Run, results: Results) -> list[str]:
    """Why figures of this run are not to be compared with another's."""
    known, doubts = _limit_spreads(results), []
    if not run.everything:
        doubts.append("it was a quick or partial run")
    if run.everything and run.rounds < run.scale.rounds:
        doubts.append(f"it was ended after {run.rounds} of {run.scale.rounds} rounds")
    if run.neighbours > NEIGHBOURS_MAX:
        doubts.append(f"others kept {run.neighbours:.1f} cores of the machine busy meanwhile")
    if any(spread > NOISE_MAX for spread in known.values()):
        doubts.append("the limit program's own figures differ between rounds by more than a tenth")
    if not known:
        doubts.append("with fewer than two rounds of the limit program, its noise is not known")
    return doubts


def _sentence(doubts: list[str]) -> str:
    text = "; ".join(doubts)
    return text[:1].upper() + text[1:] + "."


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _goals(run: Run, results: Results) -> str:
    rows = goals.table(results, partial(_cell, results))
    if not rows:
        return ""
    about = (
        "What Tailwire is to reach, and what this run says of it. A figure is the median of its rounds, as in the sections "
        "below; what is compared was measured in the same round."
    )
    if (slow := goals.slowness(results)) > 1.05:
        about += (
            f" Bounds in µs and per second are for a machine on which a sparse delivery of the limit program takes "
            f"{goals.REFERENCE_US} µs by WebSocket. It took {slow:.2f} times as much here, and they count {slow:.2f} times wider."
        )
    if _doubts(run, results):
        about += " **The machine was not quiet or the run not whole: another may say otherwise of what is near its bound.**"
    return "\n".join(["## Goals", "", _wrapped(about), "", *rows])


def _rival(results: Results) -> str:
    rows = rival.table(results, partial(_cell, results))
    if not rows:
        return ""
    about = (
        f"{rival.TITLE} is the server nearest to Tailwire: written in Rust, and an acknowledgement waits for the disk. "
        "Where it is ahead stands first. *Ratio* is Tailwire's figure over its figure, of the same rounds."
    )
    return "\n".join(["## Beside the nearest rival", "", _wrapped(about), "", *rows])


def _section(
    results: Results, drawn: set[str], table: str, title: str, about: str, columns: list[Column], first: str = ""
) -> str:
    """A section with the columns that have a figure; nothing if there is no figure and nothing to say."""
    rows = results.rows(table)
    if not rows:
        return ""
    used = [column for column in columns if any((table, row, column.key) in results.samples for row in rows)]
    lines = [f"## {title}", "", *[line for part in about.split("\n\n") for line in (_wrapped(part), "")]]
    measured = [row for row in rows if any((table, row, column.key) in results.samples for column in used)]
    if measured:
        lines += [f"| {first} | {' | '.join(column.title for column in used)} |", f"| --- |{' ---: |' * len(used)}"]
        lines += [
            f"| {_row(row)} | {' | '.join(_cell(results, table, row, column.key, column.show) for column in used)} |" for row in measured
        ]
    notes = [f"- {_row(row)}: {note}." for row in rows for note in results.notes.get((table, row), [])]
    lines += ["", *notes] if notes else []
    for name in [name for name in sorted(drawn) if name.split("-")[0] == table]:
        lines += ["", f"![{title}](benchmarks/{name}.svg)"]
    return "\n".join(lines).rstrip()


def _derive(results: Results) -> None:
    """What follows from other figures: how many times the limit's a way's CPU time is, and what goals ask for."""
    for row in results.rows("fanout"):
        framing = row.rsplit(", ", 1)[-1]
        limit = f"limit program, {framing}" if framing in LIMIT_FRAMINGS else LIMIT
        results.divide("fanout", row, "sparse_cpu_us", limit, "sparse_cpu_us", "times_limit")
    goals.derive(results)


def _row(row: str) -> str:
    return f"{int(row):,}" if row.isdigit() else row


def _cell(results: Results, table: str, row: str, key: str, show: Callable[[float], str]) -> str:
    figure = results.median(table, row, key)
    if figure is None:
        return "–"
    spread = results.spread(table, row, key)
    mark = "≈ " if spread is not None and spread > SPREAD_MAX else ""
    return mark + show(figure)


def _beside_limit() -> list[Column]:
    return [
        Column("limit, µs CPU", "limit_cpu_us"), Column("Tailwire, µs CPU", "tailwire_cpu_us"),
        Column("limit p99, ms", "limit_p99_ms"), Column("Tailwire p99, ms", "tailwire_p99_ms"),
    ]


def _durability(present: list[Peer]) -> str:
    if not present:
        return ""
    rows = [f"| {peer.title} | {peer.durability} |" for peer in present]
    return "\n".join([
        "## What an acknowledgement is worth", "",
        "The figures above are of brokers that do different things. What each does with an acknowledged message:", "",
        "| | an acknowledged message is |", "| --- | --- |", *rows,
    ])


def _method(run: Run, results: Results) -> str:
    lines = ["## How it was measured", "", "| | |", "| --- | --- |"]
    lines += [f"| {name} | {value} |" for name, value in run.machine]
    lines += [f"| {title} | {version} |" for title, version in results.versions.items()]
    lines += [
        "",
        _wrapped("`tests/bench/run` does it all again. Each server runs alone, on a core of its own, in one process, with the "
        "configuration under `tests/bench/peers`; the load runs on another core. Every measurement begins with a server "
        "that has just started, but for live delivery beside a replay, which is one server's from filling it on. The same load generator (`tests/src/bin/peers`) measures all, each in its own protocol; "
        "where a text names `tailwire bench`, that did. CPU time is the process's own, by its clock. A delivery is a "
        "payload that has come whole; lost, repeated and misplaced ones are counted, and told above where there are any."),
    ]
    lines += ["", _wrapped(NOT_PEERS)]
    lines += [f"\nNot measured: {title}: {why}." for title, why in results.skipped.items()]
    if run.left_out:
        lines += [f"\nNot asked for: {', '.join(run.left_out)}."]
    return "\n".join(lines)
