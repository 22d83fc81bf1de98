"""What a reader of old data costs the others, on demand: commits a second, and the latency of live delivery, with and
without somebody who replays the log as fast as he is given it.

    BROKER=target/release/tailwire READER_PAIRS=20 python3 -B tests/faults/reader_cost.py

One load runs all the time: the binary's own `bench publish`, and a subscriber whose messages' ages are measured. The
reader comes and goes beside it, a second each, so that whatever else the machine does meets both alike; each second with
him is compared with the one before, and what counts is the median of these ratios. The exit code is 1 if either is worse
by more than a quarter.

The reader has the kernel throw away what comes: what a client does with its messages, it does elsewhere. The load shares
the machine's cores with the broker; `READER_PINNED=1` gives the broker the first core and everything else the others.
"""

import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from broker import BINARY, Broker
from large_store import fill
from wire import HOST, Http, ndjson

PAIRS = int(os.environ.get("READER_PAIRS", 12))
MEGABYTES = int(os.environ.get("READER_MB", 200))
PINNED = os.environ.get("READER_PINNED") == "1"
WORSE_MAX = 1.25
WINDOW_S = 1.0
# After the reader has come or gone, before it counts.
SETTLING_S = 0.2
# Between two messages whose latency is measured.
PACE_S = 0.01
LIVE = "live/0"
STORED = "/topics/fill/**?after=earliest&format=ndjson"
CHUNK = 1 << 20


class Replay:
    """Streams the stored topics from the beginning, and again from there when it is through, while it is wanted."""

    def __init__(self, port: int):
        self._port = port
        self._wanted = threading.Event()
        self.bytes = 0
        # A round ends before the stored topics do: what comes is not looked at, and behind them stands what the load wrote.
        self._round = self._measure() * 9 // 10
        threading.Thread(target=self._run, daemon=True).start()

    def start(self) -> None:
        self._wanted.set()

    def stop(self) -> None:
        self._wanted.clear()

    def _connect(self) -> socket.socket:
        stream = socket.create_connection((HOST, self._port), 10)
        stream.sendall(f"GET {STORED} HTTP/1.1\r\nHost: {HOST}:{self._port}\r\n\r\n".encode())
        return stream

    def _measure(self) -> int:
        with self._connect() as stream:
            count, last = 0, b""
            while b'"kind":"caught_up"' not in last:
                data = stream.recv(CHUNK)
                assert data, "the stream ended"
                count += len(data)
                # The line may be parted between two reads.
                last = last[-100:] + data[-400:]
        return count

    def _run(self) -> None:
        while self._wanted.wait():
            with contextlib.suppress(OSError), self._connect() as stream:
                round_bytes = 0
                while self._wanted.is_set() and round_bytes < self._round:
                    data = stream.recv(CHUNK, socket.MSG_TRUNC)
                    round_bytes += len(data)
                    self.bytes += len(data)


class Live:
    """Publishes at a steady pace to a topic that it listens to."""

    def __init__(self, port: int):
        self._port = port
        self._found: list[float] = []
        for work in (self._listen, self._publish):
            threading.Thread(target=work, daemon=True).start()

    def take(self) -> list[float]:
        """The latencies in ms since it was last asked."""
        found, self._found = self._found, []
        return found

    def _listen(self) -> None:
        for line in ndjson(self._port, f"/topics/{LIVE}", "latest"):
            if line["kind"] == "message":
                self._found.append((time.monotonic() - line["data"]["sent"]) * 1000)

    def _publish(self) -> None:
        http = Http(self._port)
        # Until the broker has gone.
        with contextlib.suppress(OSError):
            while True:
                body = json.dumps({"sent": time.monotonic()}).encode()
                http.request("POST", f"/topics/{LIVE}", body, {"content-type": "application/json"})
                time.sleep(PACE_S)


class Window:
    """A second of it."""

    def __init__(self, broker: Broker, live: Live, replay: Replay):
        time.sleep(SETTLING_S)
        live.take()
        commits, read, began = committed(broker), replay.bytes, time.monotonic()
        time.sleep(WINDOW_S)
        latencies = live.take()
        spent = time.monotonic() - began
        self.rate = (committed(broker) - commits) / spent
        self.latency = statistics.median(latencies)
        self.read = (replay.bytes - read) / spent / 1e6

    def __str__(self) -> str:
        return f"{self.rate:6.0f} commits/s, live p50 {self.latency:6.2f} ms"


def committed(broker: Broker) -> float:
    lines = broker.metrics().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("tailwire_commits_total "))


def part_cores(process: int) -> None:
    """The broker gets the first core that this program may use, and everything started from here the others."""
    first, *others = sorted(os.sched_getaffinity(0))
    for task in Path(f"/proc/{process}/task").iterdir():
        os.sched_setaffinity(int(task.name), {first})
    os.sched_setaffinity(0, others)


def measure(broker: Broker) -> list[tuple[Window, Window]]:
    live, replay = Live(broker.port), Replay(broker.port)
    seconds = PAIRS * 2 * (WINDOW_S + SETTLING_S) * 2 + 10
    command = [BINARY, "bench", "publish", "--url", f"http://{HOST}:{broker.port}", "--seconds", str(int(seconds))]
    load = subprocess.Popen([*command, "--connections", "16"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    pairs = []
    try:
        time.sleep(WINDOW_S)
        for _ in range(PAIRS):
            without = Window(broker, live, replay)
            replay.start()
            pairs.append((without, Window(broker, live, replay)))
            replay.stop()
            print(f"without {pairs[-1][0]}; with {pairs[-1][1]}, {pairs[-1][1].read:.0f} MB/s read", flush=True)
        assert load.poll() is None, "the load has ended"
    finally:
        load.kill()
        load.wait()
    return pairs


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="tailwire-reader-") as name, Broker(Path(name) / "data") as broker:
        fill(broker.http, MEGABYTES)
        if PINNED:
            part_cores(broker.process.pid)
        pairs = measure(broker)
        broker.stop()
    slower = statistics.median(without.rate / beside.rate for without, beside in pairs)
    later = statistics.median(beside.latency / without.latency for without, beside in pairs)
    read = statistics.median(beside.read for _, beside in pairs)
    print(f"with the reader, who gets {read:.0f} MB/s: {slower:.2f} times fewer commits a second, {later:.2f} times the latency")
    return 1 if max(slower, later) > WORSE_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
