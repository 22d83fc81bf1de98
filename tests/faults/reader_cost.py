"""What a reader of old data costs the others, on demand: commits a second, and the latency of live delivery, with and
without somebody who replays the log as fast as he can.

    BROKER=target/release/tailwire READER_ROUNDS=4 python3 -B tests/faults/reader_cost.py

Rounds with and without the reader follow each other in one run, so that a busy machine is busy for both; what is compared
are their medians. The exit code is 1 if either is worse by more than a quarter. The publishers are the binary's own
`bench`, in a process of its own; the replaying reader takes bytes off a socket and looks at none of them. They share the
machine's cores with the broker all the same: on two cores a part of what is seen is that.
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

ROUNDS = int(os.environ.get("READER_ROUNDS", 4))
SECONDS = int(os.environ.get("READER_SECONDS", 5))
MEGABYTES = int(os.environ.get("READER_MB", 200))
WORSE_MAX = 1.25
# Between two messages whose latency is measured.
PACE_S = 0.01
LIVE = "live/0"


def replay(port: int, stopping: threading.Event) -> None:
    """Streams the stored topics from the beginning, and again from there when it is through."""
    while not stopping.is_set():
        with socket.create_connection((HOST, port), 10) as stream, contextlib.suppress(OSError):
            stream.sendall(f"GET /topics/fill/**?after=earliest&format=ndjson HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode())
            last = b""
            while not stopping.is_set() and b'"kind":"caught_up"' not in last:
                data = stream.recv(1 << 20)
                if not data:
                    break
                # The line may be parted between two reads.
                last = last[-100:] + data[-400:]


def latencies(port: int, stopping: threading.Event, found: list[float]) -> None:
    for line in ndjson(port, f"/topics/{LIVE}", "latest"):
        if stopping.is_set():
            return
        if line["kind"] == "message":
            found.append(time.monotonic() - line["data"]["sent"])


def publish_live(port: int, stopping: threading.Event) -> None:
    http = Http(port)
    # One more after the end, so that the one who measures sees that it is over.
    is_last = False
    while not is_last:
        is_last = stopping.wait(PACE_S)
        body = json.dumps({"sent": time.monotonic()}).encode()
        http.request("POST", f"/topics/{LIVE}", body, {"content-type": "application/json"})
    http.close()


def measure(port: int, with_reader: bool) -> tuple[float, float]:
    """Commits a second, and the median latency in ms."""
    stopping, found = threading.Event(), []
    threads = [
        threading.Thread(target=latencies, args=(port, stopping, found)),
        threading.Thread(target=publish_live, args=(port, stopping)),
    ]
    if with_reader:
        threads.append(threading.Thread(target=replay, args=(port, stopping)))
    for thread in threads:
        thread.start()
    http = Http(port)
    before, began = commits(http), time.monotonic()
    command = [BINARY, "bench", "publish", "--url", f"http://{HOST}:{port}", "--seconds", str(SECONDS)]
    subprocess.run([*command, "--connections", "16", "--json"], check=True, stdout=subprocess.DEVNULL)
    rate = (commits(http) - before) / (time.monotonic() - began)
    stopping.set()
    for thread in threads:
        thread.join(30)
    http.close()
    return rate, statistics.median(found) * 1000


def commits(http: Http) -> float:
    lines = http.get("/metrics").body.decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("tailwire_commits_total "))


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="tailwire-reader-") as name, Broker(Path(name) / "data") as broker:
        fill(broker.http, MEGABYTES)
        results: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for number in range(2 * ROUNDS):
            with_reader = number % 2 == 1
            rate, latency = measure(broker.port, with_reader)
            results[with_reader].append((rate, latency))
            print(f"{'with' if with_reader else 'without':7} {rate:8.0f} commits/s, live p50 {latency:7.2f} ms", flush=True)
        broker.stop()
    medians = {with_reader: [statistics.median(each) for each in zip(*found)] for with_reader, found in results.items()}
    slower = medians[False][0] / medians[True][0]
    later = medians[True][1] / medians[False][1]
    print(f"with the reader: {slower:.2f} times fewer commits a second, {later:.2f} times the latency")
    return 1 if max(slower, later) > WORSE_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
