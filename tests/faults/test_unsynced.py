"""The engine may write over a part of its file once it has written a segment more, and knows nothing of what the disk has yet
to make durable. So no more than a segment may ever be written between two syncs of it, whatever is published, trimmed and
deleted; in a new log not nearly that, because the broker only estimates it."""

import json
import shutil
import time
import zlib

from broker import Broker
from disk import bytes_between_syncs
from settings import UNSYNCED_S, FaultTest
from shim import Shim

# Bytes of a segment in a log that is new, or was made with the engine's own settings; and what part of it may be written.
SEGMENTS = ((2 << 20, 0.6), (512 << 10, 1.0))
JSON, NDJSON = {"content-type": "application/json"}, {"content-type": "application/x-ndjson"}


class Unsynced(FaultTest):
    def test_large_messages_that_are_deleted(self) -> None:
        self._measure(_deleted(990_000))

    def test_large_messages_that_are_trimmed(self) -> None:
        self._measure(_trimmed(100_000))

    def test_small_messages_that_are_compacted(self) -> None:
        self._measure(_compacted)

    def _measure(self, publish) -> None:
        for segment_bytes, part in SEGMENTS:
            root, place = self.folder / "root", self.folder / "shim"
            for folder in (root, place):
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
            (root / "data").mkdir()
            (root / "data" / "conf").write_bytes(_settings(segment_bytes))
            shim = Shim(place, root)
            with Broker(root / "data", shim) as broker:
                end = time.monotonic() + UNSYNCED_S
                while time.monotonic() < end:
                    publish(broker)
                broker.kill()
            written = bytes_between_syncs(shim.journal, "/db")
            self.note = f"segments of {segment_bytes}"
            self.assertGreater(sum(written), 10 * segment_bytes, "too little was written for a test")
            self.assertLess(max(written), part * segment_bytes)


def _settings(segment_bytes: int) -> bytes:
    """The engine's file of settings, with the checksum that it puts behind them."""
    text = f"segment_size: {segment_bytes}\nuse_compression: false\nversion: 0.34\n".encode()
    return text + zlib.crc32(text).to_bytes(4, "little")


def _options(broker: Broker, term: str, **options: object) -> None:
    answer = broker.http.request("PUT", f"/options/{term}", json.dumps({"durability": "relaxed", **options}).encode(), JSON)
    assert answer.status == 200, answer.body


def _deleted(size: int):
    def publish(broker: Broker) -> None:
        _options(broker, "big/**")
        for topic in range(10):
            broker.http.request("POST", f"/topics/big/{topic}", json.dumps("x" * size).encode(), JSON)
        for topic in range(10):
            broker.http.request("DELETE", f"/topics/big/{topic}")
        broker.http.request("POST", "/topics/kept", b'"hello"', JSON)

    return publish


def _trimmed(size: int):
    def publish(broker: Broker) -> None:
        _options(broker, "big/**", max_messages=3)
        for topic in range(20):
            broker.http.request("POST", f"/topics/big/{topic % 7}", json.dumps("x" * size).encode(), JSON)
        broker.http.request("POST", "/topics/kept", b'"hello"', JSON)

    return publish


def _compacted(broker: Broker) -> None:
    _options(broker, "compact", compact=True)
    now = time.monotonic_ns()
    lines = [json.dumps({"key": f"{'k' * 100}{(now // 1000 * 7919 + n * 104_729) % 3000}", "data": "x" * 100}) for n in range(200)]
    for _ in range(5):
        broker.http.request("POST", "/topics/compact", "\n".join(lines).encode(), NDJSON)
    broker.http.request("POST", "/topics/kept", b'"hello"', JSON)
