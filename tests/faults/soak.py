"""A soak: appends at a steady rate to topics that are trimmed in every way, replays them all the while, and measures what
the broker takes of memory and disk. In a steady state neither may grow.

    BROKER=target/release/tailwire SOAK_MINUTES=35 python3 -B tests/faults/soak.py

It prints a line of figures every `SAMPLE_S`, and at the end what was found; the exit code is 1 if a bound was broken:

- the median of the last quarter of the run, of the memory and of the disk, is at most `GROWTH_MAX` times that of the
  third quarter, and `SLACK_BYTES` more (by half of the run everything has been trimmed many times over, and idempotency
  keys have come of age if it is long enough);
- after the first quarter, the data folder never takes more than `DISK_PER_LIVE_MAX` times the live bytes and what it took
  at the start. Live is what a whole replay reads of what is stored, counted as `max_bytes` counts it (docs/PROTOCOL.md).

It knows the broker's process and its folder, and no metric: what the broker says of itself is not believed here.
"""

import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from broker import Broker
from ledger import body_of, parse_body
from load import ndjson_body
from wire import Http, ndjson, pages

MINUTES = float(os.environ.get("SOAK_MINUTES", 35))
# Batches a second, and messages in each.
RATE = float(os.environ.get("SOAK_RATE", 20))
BATCH = 25
SAMPLE_S = 10
# A client whose key the broker remembers sends each so manieth batch.
KEYED_EVERY = 10
# Batches between two DELETEs.
DELETE_EVERY = 400
# A pause after each page of a replay, so that one goes on all the time and takes no core.
REPLAY_PAUSE_S = 0.1

GROWTH_MAX = 1.05
SLACK_BYTES = 1 << 20
DISK_PER_LIVE_MAX = 2.5

OPTIONS = {
    "soak/count/*": {"max_messages": 2000},
    "soak/age/*": {"max_age": 60},
    "soak/bytes/*": {"max_bytes": 1 << 20},
    "soak/compact/*": {"compact": True},
    "soak/last/*": {"last": True},
    "soak/relaxed/*": {"durability": "relaxed", "max_messages": 4000},
    "soak/memory/*": {"durability": "memory", "max_messages": 2000},
}
# Topics of each kind. Batches go to them in turn, so each kind gets the same share.
TOPICS = {"count": 8, "age": 4, "bytes": 4, "compact": 2, "last": 50, "relaxed": 2, "memory": 2, "gone": 1}
# Of each compacted topic.
KEYS = 2000
SIZES = (40, 120, 120, 300, 300, 300, 900, 2500)


@dataclass
class Sample:
    at_s: float
    rss: int
    disk: int
    live: int
    cpu_s: float


class Soak:
    def __init__(self, broker: Broker, data: Path):
        self._broker = broker
        self._data = data
        self._stopping = threading.Event()
        self.errors: list[BaseException] = []
        self.published = self.delivered = self.replays = self.live = 0
        self.start_bytes = folder_bytes(data)
        self.samples: list[Sample] = []

    def run(self) -> None:
        http = Http(self._broker.port)
        for term, options in OPTIONS.items():
            answer = http.request("PUT", f"/options/{term}", ndjson_body([options]), {"content-type": "application/json"})
            assert answer.status == 200, answer.body
        threads = [
            threading.Thread(target=self._guard, args=(work,), daemon=True)
            for work in (self._publish, self._replay, self._listen)
        ]
        for thread in threads:
            thread.start()
        self._measure()
        self._stopping.set()
        # The listener ends with its stream.
        self._broker.stop()
        for thread in threads:
            thread.join(60)

    def _guard(self, work: Callable[[Http], None]) -> None:
        try:
            work(Http(self._broker.port))
        except BaseException as error:
            if not self._stopping.is_set():
                self.errors.append(error)
                self._stopping.set()

    def _publish(self, http: Http) -> None:
        topics = [(kind, f"soak/{kind}/{n}") for n in range(max(TOPICS.values())) for kind in TOPICS if n < TOPICS[kind]]
        by_kind = {kind: [topic for other, topic in topics if other == kind] for kind in TOPICS}
        kinds = list(TOPICS)
        began, number = time.monotonic(), 0
        while not self._stopping.wait(max(0, began + number / RATE - time.monotonic())):
            kind = kinds[number % len(kinds)]
            turn = number // len(kinds)
            spread = by_kind[kind]
            lines = []
            for index in range(BATCH):
                size = SIZES[(number + index) % len(SIZES)]
                topic = spread[(turn * BATCH + index) % len(spread)]
                line = {"topic": topic, "type": "text/plain", "data": body_of(f"b{number}", index, BATCH, size)}
                if kind == "compact":
                    line["key"] = f"key-{(turn * BATCH + index) % KEYS}"
                lines.append(line)
            headers = {"content-type": "application/x-ndjson"}
            if number % KEYED_EVERY == 0:
                headers["idempotency-key"] = f'"soak-{number}"'
            answer = http.request("POST", "/stream", ndjson_body(lines), headers)
            assert answer.status == 201, answer.body
            self.published += BATCH
            number += 1
            if number % DELETE_EVERY == 0:
                assert http.request("DELETE", "/topics/soak/gone/0").status == 204

    def _replay(self, http: Http) -> None:
        """Reads everything from the beginning, again and again; what it read is what is alive."""
        while not self._stopping.is_set():
            live, since_pause, last = 0, 0, ""
            for line in pages(http, "/topics/**"):
                if line["kind"] != "message":
                    continue
                assert line["cursor"] > last, f"{line['cursor']} comes after {last}"
                assert parse_body(line["data"]), f"wrong bytes at {line['cursor']}"
                last = line["cursor"]
                if not line["topic"].startswith("soak/memory/"):
                    live += 64 + len(line["topic"]) + len(line["data"]) + len(line.get("key", ""))
                since_pause += 1
                if since_pause == 1000:
                    since_pause = 0
                    if self._stopping.wait(REPLAY_PAUSE_S):
                        return
            self.live = live
            self.replays += 1
            self._stopping.wait(REPLAY_PAUSE_S)

    def _listen(self, _: Http) -> None:
        last = ""
        for line in ndjson(self._broker.port, "/topics/soak/**", "latest"):
            if line["kind"] == "message":
                assert line["cursor"] > last, f"{line['cursor']} was delivered after {last}"
                last = line["cursor"]
                self.delivered += 1
        assert self._stopping.is_set(), "the stream ended"

    def _measure(self) -> None:
        began = time.monotonic()
        print(f"{'s':>6} {'RSS MB':>8} {'disk MB':>8} {'live MB':>8} {'d/l':>5} {'CPU %':>6} {'published':>10} replays")
        while not self._stopping.wait(SAMPLE_S) and time.monotonic() - began < MINUTES * 60:
            pid = self._broker.process.pid
            before = self.samples[-1].cpu_s if self.samples else 0.0
            sample = Sample(time.monotonic() - began, rss_bytes(pid), folder_bytes(self._data), self.live, cpu_s(pid))
            self.samples.append(sample)
            ratio = sample.disk / sample.live if sample.live else 0
            print(
                f"{sample.at_s:6.0f} {mb(sample.rss):8.2f} {mb(sample.disk):8.2f} {mb(sample.live):8.2f} {ratio:5.2f} "
                f"{(sample.cpu_s - before) * 100 / SAMPLE_S:6.1f} {self.published:10} {self.replays}",
                flush=True,
            )

    def faults(self) -> list[str]:
        faults = [f"{type(error).__name__}: {error}" for error in self.errors]
        quarter = MINUTES * 15
        third = [sample for sample in self.samples if 2 * quarter <= sample.at_s < 3 * quarter]
        fourth = [sample for sample in self.samples if 3 * quarter <= sample.at_s]
        if not third or not fourth:
            return [*faults, "it was too short to say anything"]
        for name in ("rss", "disk"):
            before, after = (statistics.median(getattr(sample, name) for sample in part) for part in (third, fourth))
            print(f"{name}: median of the third quarter {mb(before):.2f} MB, of the last {mb(after):.2f} MB")
            if after > before * GROWTH_MAX + SLACK_BYTES:
                faults.append(f"{name} grows: from {mb(before):.2f} to {mb(after):.2f} MB")
        ripe = [sample for sample in self.samples if sample.at_s >= quarter]
        worst = max(ripe, key=lambda sample: (sample.disk - self.start_bytes) / max(1, sample.live))
        ratio = (worst.disk - self.start_bytes) / max(1, worst.live)
        print(f"disk: at most {ratio:.2f} times the live bytes ({mb(worst.live):.2f} MB at {worst.at_s:.0f} s), "
              f"beside the {mb(self.start_bytes):.2f} MB of the start")
        if ratio > DISK_PER_LIVE_MAX:
            faults.append(f"the disk takes {ratio:.2f} times the live bytes")
        if self.delivered < self.published * 0.99:
            faults.append(f"{self.published} messages were published and {self.delivered} delivered")
        return faults


def mb(count: float) -> float:
    return count / 1e6


def rss_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def cpu_s(pid: int) -> float:
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def folder_bytes(folder: Path) -> int:
    """What its files take on the disk; one may go while this looks."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except FileNotFoundError:
            pass
    return total


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="tailwire-soak-") as name:
        data = Path(name) / "data"
        with Broker(data) as broker:
            soak = Soak(broker, data)
            soak.run()
            faults = soak.faults()
    print("\n".join(faults) or "it holds")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
