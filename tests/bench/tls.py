"""Figures of TLS beside clear text: what a delivery costs, an idle connection, and a handshake with its request.

    BROKER=target/release/tailwire python3 tests/bench/tls.py [--rounds 3] [sparse] [idle] [handshakes]

The machine should have nothing else to do. The broker runs on the first core, its clients on the others. A figure is the median of
its rounds, in which clear text and TLS take turns; behind it stand the least and the greatest.
"""

import argparse
import base64
import os
import selectors
import socket
import ssl
import statistics
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../attack"))

from ground import HOST, PATIENCE_S, Attacked  # noqa: E402

SUBSCRIBERS = 500
RATE = 20
SECONDS = 5
IDLE = 2_000
HANDSHAKES = 3_000
OTHER_CORES = set(range(os.cpu_count() or 1)) - {0} or {0}
KINDS = {"clear text": (), "TLS": ("--tls-dev",)}
STREAM = "GET /topics/{topic}?format=sse&after=latest HTTP/1.1\r\nHost: localhost\r\n\r\n"
SOCKET = (
    "GET /topics/{topic}?after=latest HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n"
)
REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class Server(Attacked):
    """A broker on the first core, in clear text or with TLS by a certificate of its own."""

    def __init__(self, kind):
        self._context = None
        if kind == "TLS":
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE
        super().__init__(*KINDS[kind], begin=lambda: os.sched_setaffinity(0, {0}))

    def connect(self):
        own = socket.create_connection((HOST, self.port), timeout=PATIENCE_S)
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return self._context.wrap_socket(own) if self._context else own

    def listen(self, head, count, topic="bench"):
        """So many connections that have heard the first words."""
        key = base64.b64encode(os.urandom(16)).decode()
        opened = []
        for _ in range(count):
            own = self.connect()
            own.sendall(head.format(topic=topic, key=key).encode())
            opened.append(own)
        for own in opened:
            heard = b""
            while b"caughtup" not in heard.replace(b"-", b"").replace(b"_", b""):
                heard += own.recv(65_536)
        return opened


class Publisher:
    """One connection that publishes."""

    def __init__(self, server):
        self._own = server.connect()

    def publish(self):
        body = b'"' + b"x" * 126 + b'"'
        head = f"POST /topics/bench HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._own.sendall(head.encode() + body)
        answer = self._own.recv(65_536)
        assert answer.startswith(b"HTTP/1.1 201 "), answer


def sparse(kind):
    """µs of the server's CPU for a delivery."""
    server = Server(kind)
    try:
        selector = selectors.DefaultSelector()
        for own in server.listen(STREAM, SUBSCRIBERS):
            own.setblocking(False)
            selector.register(own, selectors.EVENT_READ)
        publisher, wanted = Publisher(server), SUBSCRIBERS * RATE * SECONDS
        began, cpu, delivered, published = time.monotonic(), server.cpu_seconds(), 0, 0
        while delivered < wanted:
            assert time.monotonic() < began + SECONDS + PATIENCE_S, f"{delivered} of {wanted} were delivered"
            if published < RATE * SECONDS and time.monotonic() >= began + published / RATE:
                publisher.publish()
                published += 1
            for key, _ in selector.select(0.005):
                try:
                    while data := key.fileobj.recv(65_536):
                        delivered += data.count(b"xxx\"")
                except (BlockingIOError, ssl.SSLWantReadError):
                    pass
        return (server.cpu_seconds() - cpu) * 1e6 / delivered
    finally:
        server.stop()


def idle(kind, head):
    """Bytes that an idle connection takes, before anything was said on it and after."""
    server = Server(kind)
    try:
        server.listen(head, 20)
        before = server.rested_bytes()
        opened = server.listen(head, IDLE)
        fresh = (server.rested_bytes() - before) / IDLE
        publisher = Publisher(server)
        for _ in range(5):
            publisher.publish()
        for own in opened:
            heard = 0
            while heard < 5:
                heard += own.recv(65_536).count(b"xxx\"")
        return fresh, (server.rested_bytes() - before) / IDLE
    finally:
        server.stop()


def handshakes(kind):
    """µs of the server's CPU for a connection with one request; of TLS with a full handshake."""
    server = Server(kind)
    try:
        def ask():
            own = server.connect()
            own.sendall(REQUEST)
            while own.recv(65_536):
                pass
            own.close()

        for _ in range(100):
            ask()
        cpu = server.cpu_seconds()
        for _ in range(HANDSHAKES):
            ask()
        return (server.cpu_seconds() - cpu) * 1e6 / HANDSHAKES
    finally:
        server.stop()


def table(rounds, titles, measure):
    """Rows of kinds, and the ratio to clear text in the same round."""
    figures = {kind: [] for kind in KINDS}
    for _ in range(rounds):
        for kind in KINDS:
            figures[kind].append(measure(kind))
    print("| | " + " | ".join(f"{title} | × clear text" for title in titles) + " |")
    print("| --- |" + " ---: |" * 2 * len(titles))
    for kind, own in figures.items():
        cells = []
        for at in range(len(titles)):
            ratios = [one[at] / clear[at] for one, clear in zip(own, figures["clear text"], strict=True)]
            cells += [shown([one[at] for one in own], 1), shown(ratios, 2)]
        print(f"| {kind} | " + " | ".join(cells) + " |", flush=True)


def shown(values, digits):
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("what", nargs="*", choices=["sparse", "idle", "handshakes", []])
    options = parser.parse_args()
    what = options.what or ["sparse", "idle", "handshakes"]
    os.sched_setaffinity(0, OTHER_CORES)
    if "sparse" in what:
        table(options.rounds, [f"SSE, {SUBSCRIBERS} × {RATE}/s: µs a delivery"], lambda kind: (sparse(kind),))
    if "idle" in what:
        titles = [f"{name}, bytes {when}" for name in ("WebSocket", "SSE") for when in ("idle", "after messages")]
        table(options.rounds, titles, lambda kind: (*idle(kind, SOCKET), *idle(kind, STREAM)))
    if "handshakes" in what:
        table(options.rounds, ["a connection and its request: µs"], lambda kind: (handshakes(kind),))


if __name__ == "__main__":
    main()
