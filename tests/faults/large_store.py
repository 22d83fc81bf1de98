"""Kills under load on a large store, on demand: it opens fast each time, and has everything that was acknowledged.

    BROKER=target/release/tailwire LARGE_KILLS=200 LARGE_MB=1000 python3 -B tests/faults/large_store.py

The exit code is 1 if anything was lost, or if an opening took longer than `LARGE_OPEN_S` (default 1), from the start of
the process to the line that says where it listens. Each kill is followed by an opening that is measured.
"""

import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path

from broker import Broker, panics
from ledger import Ledger, body_of
from load import Load, Subscriber, cursors_of, ndjson_body
from wire import Http, catch_up, pages

KILLS = int(os.environ.get("LARGE_KILLS", 200))
MEGABYTES = int(os.environ.get("LARGE_MB", 1000))
OPEN_S_MAX = float(os.environ.get("LARGE_OPEN_S", 1))
# Kills that one ledger looks back on: what is read after each kill stays small.
KILLS_PER_LEDGER = 5
FILL_BATCH, FILL_BYTES, FILL_TOPICS = 2000, 1000, 500


def fill(http: Http, megabytes: int) -> str:
    """Writes so much into many topics; gives the last cursor."""
    cursor = "earliest"
    for number in range(megabytes * 1_000_000 // (FILL_BATCH * FILL_BYTES)):
        lines = [
            {"topic": f"fill/{(number * 7 + n) % FILL_TOPICS}", "data": body_of(f"f{number}", n, FILL_BATCH, FILL_BYTES)}
            for n in range(FILL_BATCH)
        ]
        answer = http.request("POST", "/stream", ndjson_body(lines), {"content-type": "application/x-ndjson"})
        assert answer.status == 201, answer.body
        cursor = cursors_of(answer)[-1]
    return cursor


def faults_since(http: Http, ledger: Ledger, after: str) -> list[str]:
    lines = catch_up(pages(http, "/topics/**", after))
    return ledger.faults([line for line in lines if line["kind"] == "message"])


def run(data: Path, dice: random.Random) -> list[float]:
    with Broker(data) as broker:
        after = fill(broker.http, MEGABYTES)
        broker.kill()
    print(f"{sum(path.stat().st_size for path in data.iterdir()) / 1e6:.0f} MB on the disk", flush=True)
    times: list[float] = []
    ledger = Ledger()
    with Broker(data) as broker:
        times.append(broker.open_s)
        broker.kill()
    for kill in range(KILLS):
        if kill % KILLS_PER_LEDGER == 0 and kill > 0:
            after, ledger = ledger.newest, Ledger()
        with Broker(data) as broker:
            times.append(broker.open_s)
            load = Load(broker.port, ledger, dice.getrandbits(32), f"large-{kill}").start()
            reader = Subscriber(broker.port, ledger, "/topics/kept/**", "latest")
            time.sleep(dice.uniform(0.05, 0.5))
            broker.kill()
            load.join()
            reader.join()
        with Broker(data) as broker:
            times.append(broker.open_s)
            faults = faults_since(broker.http, ledger, after)
            assert not faults, f"kill {kill}: {len(faults)} faults: {faults[:5]}"
            assert not panics(broker.stderr)
            broker.kill()
    return times


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="tailwire-large-") as name:
        times = sorted(run(Path(name) / "data", random.Random(os.environ.get("FAULT_SEED"))))
    print(
        f"{len(times)} openings after {KILLS} kills: median {statistics.median(times):.3f} s, "
        f"90 % {times[len(times) * 9 // 10]:.3f} s, 99 % {times[len(times) * 99 // 100]:.3f} s, longest {times[-1]:.3f} s"
    )
    return 1 if times[-1] > OPEN_S_MAX else 0


if __name__ == "__main__":
    sys.exit(main())
