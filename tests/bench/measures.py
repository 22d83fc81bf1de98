"""What is measured of a server: each function starts one, loads it, and adds its figures to the results."""

import json
import os
import resource
import tempfile
import time
import urllib.request
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import goals
import processes
from peers import Peer, Publishing, Replaying, Way, with_commits
from processes import Failed, Load
from results import Results
from scales import Scale

SPARSE_RATE = 20
# Time for a server to let go of what opening connections took, before its memory is read.
SETTLE_S = 1
# Time after which it should have let go of what a burst took.
REST_S = 10
IN_FLIGHT = 16
# A closed loop: connections that publish, publishes under way on each, and how many messages may be undelivered.
CLOSED = {"pipelined": (1, 16, 16), "16": (16, 1, 16), "256": (64, 1, 256)}
# How many connections are opened at once, by how `tailwire bench` names the transport; and what each is then delivered.
CROWDS = {"ws": "WebSocket", "sse": "SSE", "ndjson": "NDJSON", "longpoll": "long-poll"}
CROWD_MESSAGES = 100
# Files that a server or its load may have open beside its connections.
FILES_BESIDE = 200
PATTERNS = 10_000
REPLAY_CLIENTS_BESIDE = 100
REPLAY_CLIENTS = 10
REPLAY_S_MAX = 30
# Of which the disk's own time is told.
APPENDS = 1000
# What a receipt can stand for: on disk; there within 100 ms; in memory.
DURABILITIES = ["sync", "relaxed", "memory"]
# Connections and publishes under way on each.
OUTSTANDING = {"1": (1, 1), "16": (16, 1), "256": (256, 1), "pipelined": (4, 64)}


@dataclass(frozen=True)
class Bench:
    """What all measurements need: our binaries, a folder on a disk, the scale, and where the figures go."""

    binaries: Path
    data: Path
    scale: Scale
    results: Results

    @property
    def load(self) -> Path:
        return self.binaries / "peers"

    @property
    def tailwire(self) -> Path:
        return self.binaries / "tailwire"

    def row(self, peer: Peer, label: str) -> str:
        return f"{peer.title}, {label}"


def fanout(bench: Bench, peer: Peer, way: Way) -> None:
    """Idle connections, sparse messages, and messages flat out, each on a server that has done nothing before."""
    row, scale = bench.row(peer, way.label), bench.scale
    # Held long-polls are answered and asked again: they are never idle for long.
    if "longpoll" not in way.protocol:
        idle(bench, peer, way, row)
    with peer.start(bench.data) as running:
        arguments = ["--subscribers", str(scale.subscribers), "--rate", str(SPARSE_RATE)]
        sparse = _fanout(bench, running, way, "fanout", row, "sparse", arguments, scale.seconds)
        bench.results.add(
            "fanout", row, sparse_cpu_us=sparse["cpu_us"],
            delivery_p50_ms=sparse["delivery_us"]["p50"] / 1e3, delivery_p99_ms=sparse["delivery_us"]["p99"] / 1e3,
        )
    with peer.start(bench.data) as running:
        connections, in_flight = (1, IN_FLIGHT) if way.pipelines else (IN_FLIGHT, 1)
        arguments = [
            "--subscribers", str(scale.subscribers),
            "--connections", str(connections), "--in-flight", str(in_flight),
        ]
        flat = _fanout(bench, running, way, "fanout", row, "flat out", arguments, scale.seconds)
        bench.results.add(
            "fanout", row, flat_cpu_us=flat["cpu_us"], flat_per_s=flat["per_s"],
            flat_p50_ms=flat["delivery_us"]["p50"] / 1e3, flat_p99_ms=flat["delivery_us"]["p99"] / 1e3,
        )


def closed(bench: Bench, peer: Peer, way: Way) -> None:
    """Publishers that wait for subscribers: nothing piles up that could be written together."""
    row, scale = bench.row(peer, way.label), bench.scale
    for name, (connections, in_flight, undelivered) in CLOSED.items():
        arguments = [
            "--subscribers", str(scale.subscribers), "--connections", str(connections), "--in-flight", str(in_flight),
            "--undelivered", str(undelivered),
        ]
        with peer.start(bench.data) as running:
            got = _fanout(bench, running, way, "closed", row, name, arguments, scale.seconds)
        bench.results.add("closed", row, **{f"{name}_cpu_us": got["cpu_us"], f"{name}_per_s": got["per_s"]})


def idle(bench: Bench, peer: Peer, way: Way, row: str) -> None:
    """What a connection costs to open, and in memory while nothing is said."""
    count = bench.scale.idle
    with peer.start(bench.data) as running:
        # The first connection makes the server ready to serve; what that takes is not every connection's.
        with Load(bench.load, _arguments(running, "fanout", way.protocol, ["--subscribers", "1"])):
            pass
        memory, cpu = running.server.rested_bytes(), running.server.cpu_ns()
        with Load(bench.load, _arguments(running, "fanout", way.protocol, ["--subscribers", str(count)])):
            cpu = running.server.cpu_ns() - cpu
            time.sleep(SETTLE_S)
            memory = running.server.resident_bytes() - memory
        bench.results.add("idle", row, memory_bytes=memory / count, open_cpu_us=cpu / 1e3 / count)


def crowd_label(bench: Bench, transport: str) -> str:
    return f"{bench.scale.crowd:,} connections, {CROWDS[transport]}"


def crowd(bench: Bench, peer: Peer, transport: str) -> None:
    """Very many connections at once: whether they all open, and their memory before and after messages."""
    count, row = bench.scale.crowd, bench.row(peer, crowd_label(bench, transport))
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < count + FILES_BESIDE:
        bench.results.note("crowd", row, f"left out: a process may have {files:,} files open here")
        return
    got = _bench(bench, peer, "crowd", row, [
        "idle", "--transport", transport, "--connections", str(count), "--messages", str(CROWD_MESSAGES),
        "--seconds", "1",
    ])
    bench.results.add(
        "crowd", row, cut_off=sum(got["ended"].values()), open_cpu_us=got["server_cpu_us_per_connection"],
        idle_bytes=got["held_bytes_per_connection"], after_bytes=got["after_bytes_per_connection"],
    )


def storm(bench: Bench, peer: Peer) -> None:
    """Connections that come all together: how many a second there can be."""
    row = f"{bench.scale.storm:,} connections, WebSocket"
    got = _bench(bench, peer, "storm", row, ["idle", "--connections", str(bench.scale.storm), "--seconds", "1"])
    bench.results.add(
        "storm", row, open_per_s=got["connections_per_s"], open_cpu_us=got["server_cpu_us_per_connection"],
    )


def publish(bench: Bench, peer: Peer, way: Publishing) -> None:
    """Publishes to nobody, each acknowledged."""
    row = bench.row(peer, way.label)
    for name, (connections, in_flight) in OUTSTANDING.items():
        if in_flight > 1 and not way.pipelines:
            continue
        more = [
            "--connections", str(connections), "--in-flight", str(in_flight), "--seconds", str(bench.scale.seconds),
        ]
        with peer.start(bench.data) as running:
            got, cpu = _loaded(bench, running, "publish", way.protocol, more, bench.scale.seconds)
        _check(bench, "publish", row, name, got)
        if got["messages"]:
            bench.results.add("publish", row, **{
                f"{name}_cpu_us": cpu / got["messages"],
                f"{name}_per_s": got["messages"] / got["seconds"],
                f"{name}_p50_ms": got["receipt_us"]["p50"] / 1e3, f"{name}_p99_ms": got["receipt_us"]["p99"] / 1e3,
            }, durable=float(way.durable))


def process(bench: Bench, peer: Peer, way: Publishing) -> None:
    """The memory of the process itself: fresh, and once 256 publishers have come and gone."""
    connections, in_flight = OUTSTANDING["256"]
    more = [
        "--connections", str(connections), "--in-flight", str(in_flight), "--seconds", str(bench.scale.seconds),
    ]
    with peer.start(bench.data) as running:
        fresh = running.server.rested_bytes()
        _loaded(bench, running, "publish", way.protocol, more, bench.scale.seconds)
        time.sleep(REST_S)
        rested = running.server.resident_bytes()
    bench.results.add("process", bench.row(peer, way.label), fresh_mb=fresh / 1e6, grown_mb=(rested - fresh) / 1e6)


def replay(bench: Bench, peer: Peer, way: Replaying) -> None:
    """Clients that read what is stored, all at the same time."""
    row, messages = bench.row(peer, way.label), str(bench.scale.replayed)
    more = ["--connections", str(way.connections), "--messages", messages]
    fill = [*more, "--in-flight", str(way.in_flight), "--seconds", str(processes.SLACK_S)]
    read = [*more, "--subscribers", str(REPLAY_CLIENTS), "--drain", str(REPLAY_S_MAX)]
    with peer.start(bench.data) as running:
        filled, _ = _loaded(bench, running, "publish", way.fill, fill, processes.SLACK_S)
        if filled["messages"] != bench.scale.replayed:
            raise Failed(f"only {filled['messages']} of {messages} messages could be stored")
        got, cpu = _loaded(bench, running, "replay", way.protocol, read, REPLAY_S_MAX)
    _check(bench, "replay", row, "replay", got)
    if got["deliveries"]:
        bench.results.add(
            "replay", row, cpu_us=cpu / got["deliveries"], per_s=got["deliveries"] / got["seconds"]
        )


def growth(bench: Bench, peer: Peer, way: Way) -> None:
    """More subscribers, larger messages."""
    for count in bench.scale.growth_subscribers:
        arguments = ["--subscribers", str(count), "--rate", str(SPARSE_RATE)]
        _grow(bench, peer, way, "subscribers", count, arguments)
    for size in bench.scale.growth_sizes:
        arguments = ["--subscribers", "100", "--rate", str(SPARSE_RATE), "--size", str(size)]
        _grow(bench, peer, way, "sizes", size, arguments)


def _grow(bench: Bench, peer: Peer, way: Way, table: str, step: int, arguments: list[str]) -> None:
    with peer.start(bench.data) as running:
        got = _fanout(bench, running, way, table, str(step), peer.title, arguments, bench.scale.seconds)
    bench.results.add(table, str(step), **{
        f"{peer.name}_cpu_us": got["cpu_us"], f"{peer.name}_p99_ms": got["delivery_us"]["p99"] / 1e3,
    })


def paced(bench: Bench, peer: Peer, way: Way) -> None:
    """Few messages to many subscribers: how late they are, of the limit program and of the broker in the same way."""
    arguments = ["--subscribers", "1000", "--rate", "10", "--connections", "1"]
    with peer.start(bench.data) as running:
        row = goals.PACED[peer.name]
        got = _fanout(bench, running, way, "latency", row, "latency", arguments, bench.scale.paced_seconds)
    _latency(bench, row, got)


def commits(bench: Bench, limit: Peer, way: Way) -> None:
    """What the limit program takes where messages are few, without and with a commit before each is seen: beside a commit
    there is the time in which the machine falls asleep and wakes up."""
    synced, seconds = with_commits(limit), bench.scale.seconds
    paced(bench, synced, way)
    lone = ["--connections", "1", "--seconds", str(seconds)]
    with synced.start(bench.data) as running:
        got, cpu = _loaded(bench, running, "publish", way.protocol, lone, seconds)
    _check(bench, "single", goals.LONE, "alone", got)
    bench.results.add(
        "single", goals.LONE, **_percentiles(got["receipt_us"]), cpu_us=cpu / got["messages"],
        per_s=got["messages"] / got["seconds"],
    )
    for peer in [limit, synced]:
        row = f"{peer.title}, 2,000 messages/s to 10 subscribers"
        with peer.start(bench.data) as running:
            arguments = ["--subscribers", "10", "--rate", "2000"]
            got = _fanout(bench, running, way, "many", row, "fan-out", arguments, seconds)
        bench.results.add(
            "many", row, published_per_s=got["messages"] / got["seconds"], per_s=got["per_s"], cpu_us=got["cpu_us"],
            p99_ms=got["delivery_us"]["p99"] / 1e3,
        )


def _latency(bench: Bench, row: str, got: dict) -> None:
    bench.results.add("latency", row, **{
        f"{what}_{name.replace('.', '')}_ms": got[f"{what}_us"][name] / 1e3
        for what in ["receipt", "delivery"] for name in ["p50", "p99", "p99.9"]
    })


def topics(bench: Bench, peer: Peer) -> None:
    """More topics, by the broker's own load generator."""
    for count in bench.scale.growth_topics:
        patterns = PATTERNS if count == bench.scale.patterned else 0
        got = _bench(bench, peer, "topics", str(count), [
            "topics", "--topics", str(count), "--subscribers", "10", "--rate", "100", "--patterns", str(patterns),
        ])
        if patterns:
            cpu = got["patterns_server_cpu_us_per_message"]
            bench.results.add("patterns", f"{count:,} topics", **{
                f"{name}_us": cpu[name] for name in ["without", "with", "added"]
            })
        bench.results.add(
            "topics", str(count), bytes_per_topic=got["server_bytes_per_topic"],
            memory_mb=got["server_memory_after_mb"] - got["server_memory_before_mb"],
            before_cpu_us=got["publish_before"]["server_cpu_us_per_message"],
            after_cpu_us=got["publish_after"]["server_cpu_us_per_message"],
            pattern_cpu_us=got["server_cpu_us_per_delivery"],
            pattern_p99_ms=got["latency_us"]["p99"] / 1e3,
        )


def beside(bench: Bench, peer: Peer) -> None:
    """Live delivery, alone and while very many stored messages of another topic are read."""
    stored = ["replay", "--topic", "stored", "--messages", str(bench.scale.beside)]
    with peer.start(bench.data) as running:
        _run(bench, running, "beside", "replay", stored)
        for row, clients in [(goals.ALONE, 0), (goals.BESIDE, REPLAY_CLIENTS_BESIDE)]:
            replay = [*stored, "--clients", str(clients), *_where(running)]
            with processes.bench_beside(bench.tailwire, replay, running.server) if clients else nullcontext():
                began, cpu = time.monotonic_ns(), running.server.cpu_ns()
                got = _run(bench, running, "beside", row, ["latency", "--rate", "100", "--subscribers", "10"])
                cores = (running.server.cpu_ns() - cpu) / (time.monotonic_ns() - began)
            bench.results.add("beside", row, cores=cores, **{
                f"{what}_{name}_ms": got[f"{what}_us"][name] / 1e3
                for what in ["receipt", "delivery"] for name in ["p50", "p99"]
            })


def alone(bench: Bench, peer: Peer) -> None:
    """What only the broker's own load generator measures."""
    for count in bench.scale.growth_replayed:
        for transport in ["ndjson", "ws", "page"]:
            row = f"{count:,} messages, {transport}"
            got = _bench(bench, peer, "stored", row, [
                "replay", "--messages", str(count), "--transport", transport,
            ])
            bench.results.add(
                "stored", row, cpu_us=got["server_cpu_us_per_message"], per_s=got["reads_per_s"],
            )
    row = "Tailwire, 100 messages/s to 10 subscribers, WebSocket"
    _latency(bench, row, _bench(bench, peer, "latency", row, ["latency", "--rate", "100", "--subscribers", "10"]))
    bare = sorted(_appends(bench.data))
    bench.results.add("single", goals.DISK, **_percentiles(
        {"p50": bare[len(bare) // 2] * 1e6, "p99": bare[len(bare) * 99 // 100] * 1e6}))
    for row, more, durability in [
        *[(f"Tailwire, POST, one at a time, `{durability}`", [], durability) for durability in DURABILITIES],
        ("Tailwire, WebSocket, one at a time, `sync`", ["--transport", "ws"], "sync"),
        ("Tailwire, POST, NDJSON batches of 100 over 4 connections, `sync`",
         ["--batch", "100", "--connections", "4"], "sync"),
    ]:
        got = _bench(bench, peer, "single", row, ["publish", *more], durability)
        bench.results.add(
            "single", row, **_percentiles(got["latency_us"]), cpu_us=got["server_cpu_us_per_message"],
            per_s=got["published_per_s"],
        )
    for durability in DURABILITIES:
        row = f"2,000 messages/s over 100 topics with 10 subscribers each, `{durability}`"
        got = _bench(bench, peer, "many", row, [
            "fanout", "--topics", "100", "--subscribers", "1000", "--rate", "2000", "--in-flight", "64",
        ], durability)
        bench.results.add(
            "many", row, published_per_s=got["published_per_s"], per_s=got["deliveries_per_s"],
            cpu_us=got["server_cpu_us_per_delivery"], p99_ms=got["latency_us"]["p99"] / 1e3,
        )


def _appends(folder: Path) -> list[float]:
    """What the disk alone takes, in seconds: the least that an acknowledged publish can."""
    times = []
    with tempfile.NamedTemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(APPENDS):
            began = time.perf_counter()
            file.write(bytes(128))
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - began)
    return times


def _percentiles(us: dict[str, float]) -> dict[str, float]:
    return {"p50_ms": us["p50"] / 1e3, "p99_ms": us["p99"] / 1e3}


def _set_durability(port: int, durability: str) -> None:
    """For every topic of a broker of ours."""
    body = json.dumps({"durability": durability}).encode()
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(f"http://127.0.0.1:{port}/options/**", body, headers, method="PUT")
    urllib.request.urlopen(request, timeout=5).close()


def _bench(
    bench: Bench, peer: Peer, table: str, row: str, arguments: list[str], durability: str = "sync"
) -> dict:
    """Runs `tailwire bench` against a server that has just started."""
    with peer.start(bench.data) as running:
        if durability != "sync":
            _set_durability(running.port, durability)
        return _run(bench, running, table, row, arguments)


def _run(bench: Bench, running, table: str, row: str, arguments: list[str]) -> dict:
    """Runs `tailwire bench` against a server that runs already."""
    timed = arguments[0] != "replay" and "--seconds" not in arguments
    got = processes.bench(bench.tailwire, [
        *arguments, *_where(running), *(["--seconds", str(max(1, int(bench.scale.seconds)))] if timed else []),
    ], 4 * bench.scale.seconds)
    for fault in ["lost", "doubled", "reordered", "other_orders"]:
        if got.get(fault):
            bench.results.note(table, row, f"{fault}: {got[fault]}")
    for trouble in ["messages_refused", "messages_unknown"]:
        if got.get(trouble):
            bench.results.note(table, row, f"{trouble.replace('_', ' ')}: {got[trouble]}")
    for said in ["fell_behind", "server_gone"]:
        if got.get(said):
            bench.results.note(table, row, got[said])
    return got


def _where(running) -> list[str]:
    """The server, for `tailwire bench`."""
    return ["--url", f"http://127.0.0.1:{running.port}", "--pid", str(running.server.pid)]


def _fanout(
    bench: Bench, running, way: Way, table: str, row: str, what: str, arguments: list[str], seconds: float
) -> dict:
    # A server that acknowledges faster than it delivers would deliver for minutes.
    more = [*arguments, "--seconds", str(seconds), "--drain", str(2 * seconds)]
    got, cpu = _loaded(bench, running, "fanout", way.protocol, more, seconds)
    _check(bench, table, row, what, got)
    if not got["deliveries"]:
        raise Failed("nothing was delivered")
    return got | {"cpu_us": cpu / got["deliveries"], "per_s": got["deliveries"] / got["seconds"]}


def _loaded(bench: Bench, running, run: str, protocol: str, more: list[str], seconds: float) -> tuple[dict, float]:
    """What a run of the load generator says, and the server's CPU time meanwhile, in µs."""
    with Load(bench.load, _arguments(running, run, protocol, more)) as load:
        cpu = running.server.cpu_ns()
        got = load.run(seconds)
        return got, (running.server.cpu_ns() - cpu) / 1e3


def _arguments(running, run: str, protocol: str, more: list[str]) -> list[str]:
    return [run, "--protocol", protocol, *running.arguments(), *more]


def _check(bench: Bench, table: str, row: str, what: str, got: dict) -> None:
    """Takes note of all that makes a figure one of another kind than its neighbours."""
    delivered = got.get("deliveries", 0)
    faults = {
        "refused": got.get("refused", 0), "lost": got.get("lost", 0),
        "undelivered when its time was over": got.get("unfinished", 0), "repeated": got.get("repeated", 0),
        "out of order": got.get("reordered", 0), "subscribers cut off": got.get("ended", 0),
    }
    for fault, count in faults.items():
        if count:
            of = f" beside {delivered:,} deliveries" if fault == "lost" or fault.startswith("undelivered") else ""
            bench.results.note(table, row, f"{what}: {count:,} {fault}{of}")
