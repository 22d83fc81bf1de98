"""Subscribers whose sockets take little at a time, and who pause now and then, read exactly what was published.

Node can't set the size of a receive buffer, and the kernel's usual ones take more than what is written at once: only
small ones make the broker leave off in the middle of a message, and go on there.
"""

import base64
import http.client
import json
import random
import selectors
import socket
import time
import unittest
from concurrent.futures import ThreadPoolExecutor

from broker import PATIENCE_S, Broker
from reader import KINDS, Reader

RECEIVE_BYTES = [2304, 4608, 8192, 16_384]
TOPICS = ["slow/a", "slow/b"]
ROUNDS = 5
REQUESTS = 80
# Of a read: whether the reader then pauses, and for how many looks at the others.
PAUSE_CHANCE = 0.02
PAUSE_LOOKS_MAX = 1500
# Nobody else has had anything to read for so long.
QUIET_S = 0.008

# How the stuck ones listen: to a stream, over WebSocket, or to one page.
STUCK = [
    "Accept: text/event-stream\r\n",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    "",
]
STUCK_CLIENTS = 120
STUCK_S = 4
# The 64 MB that may be held, as much again of pages that are read and not written, what the allocator keeps of both, and
# what comes before the second is over after which they let go.
STUCK_BYTES_MAX = 300 << 20


class SlowSockets(unittest.TestCase):
    def setUp(self):
        self.broker = Broker()
        self.addCleanup(self.broker.stop)
        self.random = random.Random(7)
        # No two places of it look alike.
        self.noise = base64.b64encode(self.random.randbytes(40_000)).decode()
        self.select = selectors.DefaultSelector()
        self.addCleanup(self.select.close)
        self.paused, self.looks = {}, 0
        self.readers = [
            Reader(self.broker.port, kind, topic, receive_bytes)
            for kind in KINDS for topic in [TOPICS[0], "slow/*"] for receive_bytes in RECEIVE_BYTES
        ]
        for reader in self.readers:
            self.addCleanup(reader.socket.close)
            self.select.register(reader.socket, selectors.EVENT_READ, reader)

    def test_each_reads_exactly_what_was_published(self):
        with ThreadPoolExecutor(1) as publisher:
            while not all(reader.ready for reader in self.readers):
                self.look()
            # After each round all have heard all: the next one finds their connections idle.
            for _ in range(ROUNDS):
                requests = [self.request() for _ in range(REQUESTS)]
                published = publisher.submit(self.publish, requests)
                counts = {topic: sum(len(lines) for of, lines in requests if topic in (of, "slow/*"))
                          for topic in [TOPICS[0], "slow/*"]}
                # Heartbeats come even to one to whom a message never does: what is missing by then is told below.
                end = time.monotonic() + PATIENCE_S
                while any(len(reader.heard) < counts[reader.topic] for reader in self.readers):
                    self.look()
                    if time.monotonic() > end:
                        break
                for reader in self.readers:
                    expected = [said for topic, said in published.result() if reader.topic in (topic, "slow/*")]
                    self.compare(reader, expected)

    def request(self) -> tuple[str, list[dict]]:
        """One message or several, mostly short ones."""
        count = 1 if self.random.random() < 0.7 else self.random.randint(2, 30)
        sizes = [self.random.choice([50, 120, 120, 500, 500, 2000, 9000] if count > 1 else [50, 120, 2000, 20_000])
                 for _ in range(count)]
        starts = [self.random.randrange(20_000) for _ in sizes]
        lines = [{"p": self.noise[start : start + size]} for start, size in zip(starts, sizes)]
        return self.random.choice(TOPICS), lines

    def publish(self, requests: list[tuple[str, list[dict]]]) -> list[tuple[str, tuple[str, dict]]]:
        """Each message's topic, and the cursor and the data that its readers are to hear."""
        connection = http.client.HTTPConnection("127.0.0.1", self.broker.port, timeout=PATIENCE_S)
        said = []
        for topic, lines in requests:
            body = "\n".join(json.dumps(line) for line in lines).encode()
            kind = "application/json" if len(lines) == 1 else "application/x-ndjson"
            connection.request("POST", f"/topics/{topic}", body, {"Content-Type": kind})
            receipt = json.loads(connection.getresponse().read())
            said += [(topic, (one["cursor"], line)) for one, line in zip(receipt.get("receipts", [receipt]), lines)]
        connection.close()
        return said

    def look(self) -> None:
        """Reads from those who have something, and don't pause."""
        self.looks += 1
        ready = self.select.select(QUIET_S if self.paused else PATIENCE_S)
        self.assertTrue(ready or self.paused, f"silence; {[len(one.heard) for one in self.readers]} were heard")
        for reader, until in list(self.paused.items()):
            if until <= self.looks or not ready:
                del self.paused[reader]
                self.select.register(reader.socket, selectors.EVENT_READ, reader)
        for key, _ in ready:
            key.data.read()
            if self.random.random() < PAUSE_CHANCE:
                self.select.unregister(key.fileobj)
                self.paused[key.data] = self.looks + self.random.randint(1, PAUSE_LOOKS_MAX)

    def compare(self, reader: Reader, expected: list[tuple[str, dict]]) -> None:
        for at, (heard, said) in enumerate(zip(reader.heard, expected)):
            reader.check(heard == said, f"at {at}: {heard} instead of {said}")
        reader.check(len(reader.heard) == len(expected), f"{len(reader.heard)} instead of {len(expected)}")
        reader.heard.clear()


class StuckSockets(unittest.TestCase):
    def test_large_messages_that_nobody_takes_are_bounded_for_all_together(self):
        """Each of those who read nothing has the rest of a message that has begun, which is nobody else's."""
        broker = Broker()
        self.addCleanup(broker.stop)
        for _ in range(3):
            self.request(broker, "POST", "/topics/large", json.dumps("x" * 990_000).encode())
        self.request(broker, "GET", "/topics/large?after=earliest")
        before = broker.resident_bytes()
        for kind in STUCK:
            for _ in range(STUCK_CLIENTS):
                stuck = socket.socket()
                stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES[0])
                stuck.connect(("127.0.0.1", broker.port))
                self.addCleanup(stuck.close)
                stuck.sendall(f"GET /topics/large?after=earliest HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}\r\n".encode())
        most, end = 0, time.monotonic() + STUCK_S
        while time.monotonic() < end:
            # Who asks for a page doesn't wait for them.
            self.request(broker, "GET", "/topics/large?last=1")
            most = max(most, broker.resident_bytes() - before)
            time.sleep(0.2)
        self.assertLess(most, STUCK_BYTES_MAX)

    def request(self, broker: Broker, method: str, path: str, body: bytes | None = None) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", broker.port, timeout=PATIENCE_S)
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        answer.read()
        connection.close()
        self.assertIn(answer.status, (200, 201))


if __name__ == "__main__":
    unittest.main()
