"""Publishers and readers that know nothing of nodes: each asks whichever comes next, and goes on where it was."""

import json
import random
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))

from wire import BROKEN, Http, WebSocket, ndjson, pages, sse  # noqa: E402

TOPICS = [f"crowd/{number}" for number in range(8)]
# A request that gets no answer is made again elsewhere, by its key.
ANSWER_S_MAX = 12


class Publisher(threading.Thread):
    """Publishes one message after the other, each with a key, and asks until it is told that it is there."""

    def __init__(self, name: str, ports: list[int], seed: int):
        super().__init__(daemon=True)
        self.title = name
        self.acknowledged: dict[str, str] = {}
        # Every body that was ever sent: what is not acknowledged may be there or not.
        self.sent: set[str] = set()
        self.errors: list[str] = []
        self.longest_s = 0.0
        self.stopping = threading.Event()
        self._ports = ports
        self._dice = random.Random(seed)

    def run(self) -> None:
        number = 0
        http, port = None, 0
        last = time.monotonic()
        while not self.stopping.is_set():
            number += 1
            body = f"{self.title}-{number}"
            topic = self._dice.choice(TOPICS)
            headers = {"content-type": "text/plain", "idempotency-key": f'"{body}"'}
            self.sent.add(body)
            while True:
                if http is None:
                    port = self._dice.choice(self._ports)
                    http = Http(port, ANSWER_S_MAX)
                try:
                    answer = http.request("POST", f"/topics/{topic}", body.encode(), headers)
                except BROKEN:
                    answer = None
                if answer is not None and answer.status == 201:
                    self.acknowledged[body] = answer.json["cursor"]
                    now = time.monotonic()
                    self.longest_s = max(self.longest_s, now - last)
                    last = now
                    if self._dice.random() < 0.02:
                        http.close()
                        http = None
                    break
                if answer is not None and answer.status < 500:
                    self.errors.append(f"{body} at {port}: {answer.status} {answer.body!r}")
                    return
                http.close()
                http = None
                if self.stopping.wait(0.05):
                    return
        if http:
            http.close()


class Reader(threading.Thread):
    """Reads all topics from the beginning, at one node and by one transport after the other."""

    TRANSPORTS = ("ndjson", "sse", "pages", "websocket")

    def __init__(self, name: str, ports: list[int], seed: int):
        super().__init__(daemon=True)
        self.title = name
        self.seen: dict[str, str] = {}
        self.cursor = "earliest"
        self.errors: list[str] = []
        self.hops = 0
        self.stopping = threading.Event()
        self._ports = ports
        self._dice = random.Random(seed)

    def run(self) -> None:
        while not self.stopping.is_set() and not self.errors:
            port, transport = self._dice.choice(self._ports), self._dice.choice(self.TRANSPORTS)
            stay_until = time.monotonic() + self._dice.uniform(0.1, 2.0)
            self.hops += 1
            try:
                for line in self._lines(port, transport):
                    self._take(line, f"{transport} at {port}")
                    if self.errors or time.monotonic() > stay_until or self.stopping.is_set():
                        break
            except (*BROKEN, AssertionError, ValueError, KeyError):
                # A node that is away, behind or detached: another one may not be.
                self.stopping.wait(0.05)

    def _lines(self, port: int, transport: str):
        path = "/stream?topic=crowd/**"
        if transport == "pages":
            http = Http(port, ANSWER_S_MAX)
            try:
                yield from pages(http, "/topics/crowd/**", self.cursor)
            finally:
                http.close()
            self.stopping.wait(0.02)
        elif transport == "websocket":
            socket = WebSocket(port, f"{path}&after={self.cursor}")
            try:
                yield from socket.lines()
            finally:
                socket.close()
        else:
            lines = ndjson if transport == "ndjson" else sse
            yield from lines(port, "/topics/crowd/**", self.cursor)

    def _take(self, line: dict, where: str) -> None:
        kind = line.get("kind")
        if kind == "gap":
            self.errors.append(f"{self.title}: {where} told a gap after {self.cursor}: {json.dumps(line)}")
            return
        if kind == "message":
            body, cursor = line["data"], line["cursor"]
            if self.cursor != "earliest" and cursor <= self.cursor:
                self.errors.append(f"{self.title}: {where} gave {cursor} after {self.cursor}")
            if body in self.seen:
                self.errors.append(f"{self.title}: {where} gave {body} again, at {cursor} after {self.seen[body]}")
            self.seen[body] = cursor
        if "cursor" in line and (self.cursor == "earliest" or line["cursor"] > self.cursor):
            self.cursor = line["cursor"]


class Crowd:
    """Some of each."""

    def __init__(self, ports: list[int], seed: int, publishers: int = 8, readers: int = 8):
        self.publishers = [Publisher(f"p{number}", ports, seed * 100 + number) for number in range(publishers)]
        self.readers = [Reader(f"r{number}", ports, seed * 100 + 50 + number) for number in range(readers)]

    def start(self) -> "Crowd":
        for one in [*self.publishers, *self.readers]:
            one.start()
        return self

    @property
    def errors(self) -> list[str]:
        return [error for one in [*self.publishers, *self.readers] for error in one.errors]

    @property
    def acknowledged(self) -> dict[str, str]:
        return {body: cursor for one in self.publishers for body, cursor in one.acknowledged.items()}

    @property
    def count(self) -> int:
        return sum(len(one.acknowledged) for one in self.publishers)

    def stop_publishers(self) -> None:
        for one in self.publishers:
            one.stopping.set()
        for one in self.publishers:
            one.join(60)
            assert not one.is_alive(), "a publisher does not end"

    def stop_readers(self) -> None:
        for one in self.readers:
            one.stopping.set()
        for one in self.readers:
            one.join(60)
            assert not one.is_alive(), "a reader does not end"


def whole_log(port: int) -> list[tuple]:
    """All that a node has, as a client reads it."""
    http = Http(port)
    try:
        lines = list(pages(http, "/topics/crowd/**"))
        assert all(line["kind"] != "gap" for line in lines), "a gap"
        return [
            (line["cursor"], line["topic"], line["time"], line.get("key"), json.dumps(line["data"]))
            for line in lines
            if line["kind"] == "message"
        ]
    finally:
        http.close()
