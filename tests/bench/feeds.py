"""Figures of polling: 304s beside nginx, the bytes of a day, ten thousand long-polls at one cursor.

    BROKER=target/release/tailwire python3 tests/bench/feeds.py [unchanged] [day] [longpolls]

The machine should have nothing else to do. The broker runs on one core, and what loads it on the others.
"""

import http.client
import json
import os
import resource
import selectors
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../blackbox"))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../caches"))

from broker import Broker, ask  # noqa: E402
from fronts import PATIENCE_S, Front  # noqa: E402

REQUESTS = 40_000
CONNECTIONS = 32
POLLS = 1_440
MESSAGES = 100
LONG_POLLS = 10_000
WAIT_S = 20
TICKS = os.sysconf("SC_CLK_TCK")

NGINX = """
daemon off; {user} worker_processes 1; pid nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000; {temp}
  server {{ listen 127.0.0.1:{port}; root {folder}; }}
}}
"""


class Static(Front):
    """nginx that serves files."""

    name = "static"

    def command(self, _broker_port):
        os.mkdir(os.path.join(self.folder, "temp"))
        kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        temp = " ".join(f"{kind}_temp_path temp/{kind};" for kind in kinds)
        user = "user root;" if os.getuid() == 0 else ""
        with open(os.path.join(self.folder, "nginx.conf"), "w", encoding="ascii") as out:
            out.write(NGINX.format(user=user, temp=temp, port=self.port, folder=self.folder))
        with open(os.path.join(self.folder, "feed"), "w", encoding="ascii") as out:
            out.write("x" * 50_000)
        return ["nginx", "-p", self.folder, "-c", os.path.join(self.folder, "nginx.conf"), "-e", "stderr"]


def publish(port, topic, count=1):
    lines = "\n".join(json.dumps({"title": f"message {number}", "text": "x" * 80}) for number in range(count))
    response, raw = ask(port, "POST", f"/topics/{topic}", lines, {"Content-Type": "application/x-ndjson"})
    assert response.status == 201, raw


def processes(pid):
    """A process and its children."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
        return [pid, *(int(child) for child in children.read().split())]


def cpu_s(pids):
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def pin(pids, core):
    for pid in pids:
        for task in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(task), {core})


def hammer(port, path, tag):
    """Requests that are answered 304, by `ab`, on the other cores."""
    url = f"http://127.0.0.1:{port}{path}"
    command = ["ab", "-q", "-k", "-c", str(CONNECTIONS), "-n", str(REQUESTS), "-H", f"If-None-Match: {tag}", url]
    cores = set(range(os.cpu_count())) - {0} or {0}
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, cores)
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith("Failed requests")]
    assert failed and failed[0].split()[-1] == "0", done.stdout
    rate = next(line for line in done.stdout.splitlines() if line.startswith("Requests per second"))
    return float(rate.split()[3])


def unchanged():
    broker = Broker()
    static = Static(broker.port)
    try:
        publish(broker.port, "news", 100)
        last = ask(broker.port, "GET", "/topics/news?last=1")[0].getheader("Tailwire-Cursor")
        cases = [
            ("nginx, a file of 50 KB", static.port, "/feed", processes(static._process.pid)),
            ("Atom feed", broker.port, "/topics/news?format=atom", [broker._process.pid]),
            ("JSON Feed", broker.port, "/topics/news?format=jsonfeed", [broker._process.pid]),
            ("page of the newest 100", broker.port, "/topics/news?last=100", [broker._process.pid]),
            ("message", broker.port, f"/messages/{last}", [broker._process.pid]),
        ]
        reference = None
        for what, port, path, pids in cases:
            pin(pids, 0)
            response, _ = ask(port, "GET", path)
            tag = response.getheader("ETag")
            assert ask(port, "GET", path, headers={"If-None-Match": tag})[0].status == 304, path
            before = cpu_s(pids)
            rate = hammer(port, path, tag)
            cost = (cpu_s(pids) - before) / REQUESTS * 1e6
            reference = reference or cost
            print(f"304, {what:<24} {rate:>9,.0f}/s {cost:>7.1f} µs of CPU, {cost / reference:.2f} × nginx")
    finally:
        static.stop()
        broker.stop()


class Counted:
    """A connection that is kept open, and counts what goes over it."""

    def __init__(self, port):
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._file = self._socket.makefile("rb")
        self.bytes = 0

    def get(self, path, headers=()):
        lines = [f"GET {path} HTTP/1.1", "Host: localhost:8245", *headers, "", ""]
        request = "\r\n".join(lines).encode()
        self._socket.sendall(request)
        self.bytes += len(request)
        status, found = None, {}
        while (line := self._file.readline()) not in (b"\r\n", b""):
            self.bytes += len(line)
            if status is None:
                status = int(line.split()[1])
            else:
                name, value = line.decode().split(":", 1)
                found[name.lower()] = value.strip()
        self.bytes += 2
        body = self._file.read(int(found.get("content-length", 0)))
        self.bytes += len(body)
        return status, found

    def close(self):
        self._file.close()
        self._socket.close()


def day():
    """A poll a minute, and a message in every fourteenth of them, as fast as it goes."""
    every = POLLS // MESSAGES
    for name, more in [
        ("tag", []),
        ("tag, gzip", ["Accept-Encoding: gzip"]),
        ("tag, A-IM: feed (226)", ["A-IM: feed"]),
        ("tag, A-IM: feed, gzip", ["A-IM: feed", "Accept-Encoding: gzip"]),
    ]:
        broker = Broker()
        publish(broker.port, "day", 150)
        reader, tag, statuses = Counted(broker.port), None, {}
        reader.get("/topics/day?format=atom")
        reader.bytes = 0
        for minute in range(POLLS):
            if minute % every == 0 and minute // every < MESSAGES:
                publish(broker.port, "day")
            headers = [f"If-None-Match: {tag}"] if tag else []
            status, found = reader.get("/topics/day?format=atom", [*headers, *more])
            tag = found.get("etag", tag)
            statuses[status] = statuses.get(status, 0) + 1
        print(f"a day of polling, {name:<24} {reader.bytes:>9,} bytes, {statuses}")
        reader.close()
        broker.stop()
    broker = Broker()
    publish(broker.port, "day", 150)
    stream = socket.create_connection(("127.0.0.1", broker.port))
    request = b"GET /topics/day?format=sse HTTP/1.1\r\nHost: localhost:8245\r\n\r\n"
    stream.sendall(request)
    received = b""
    while b"caught_up" not in received:
        received += stream.recv(65536)
    for _ in range(MESSAGES):
        publish(broker.port, "day")
    while received.count(b"message 0") < MESSAGES:
        received += stream.recv(65536)
    # The day has a heartbeat for each 15 s of silence; one is waited for, to know what it takes.
    messages = len(received)
    while b"tailwire.heartbeat" not in received[messages:] or not received.endswith(b"\n\n\r\n"):
        received += stream.recv(65536)
    beat = len(received) - messages
    beats = 24 * 3600 // 15 - MESSAGES
    total = len(request) + messages + beat * beats
    print(f"a day of SSE: {messages:,} bytes of messages, and some {beats} heartbeats of {beat}: {total:,} bytes")
    stream.close()
    broker.stop()


def percentile(values, share):
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def publish_latencies(port, seconds):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)
    latencies, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        connection.request("POST", "/topics/other", "1", {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
        assert response.status == 201
        latencies.append(time.monotonic() - began)
    connection.close()
    return latencies


def longpolls():
    """All wait at one cursor; nobody is answered late, and publishing elsewhere is hardly slower."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 3 * LONG_POLLS), hard))
    broker = Broker()
    publish(broker.port, "polled")
    cursor = ask(broker.port, "GET", "/topics/polled")[0].getheader("Tailwire-Cursor")
    alone = publish_latencies(broker.port, WAIT_S / 2)
    request = f"GET /topics/polled?after={cursor}&wait={WAIT_S} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    selector, asked = selectors.DefaultSelector(), {}
    began = time.monotonic()
    for _ in range(LONG_POLLS):
        client = socket.create_connection(("127.0.0.1", broker.port))
        client.sendall(request)
        asked[client] = time.monotonic()
        selector.register(client, selectors.EVENT_READ)
    print(f"{LONG_POLLS:,} long-polls were asked within {time.monotonic() - began:.1f} s")
    beside = []
    publisher = threading.Thread(
        target=lambda: beside.extend(publish_latencies(broker.port, max(1, WAIT_S - (time.monotonic() - began) - 3)))
    )
    publisher.start()
    late, statuses = [], {}

    def take(left):
        while left:
            for key, _ in selector.select(PATIENCE_S):
                client = key.fileobj
                head = client.recv(4096)
                late.append(time.monotonic() - asked[client])
                statuses[head[9:12]] = statuses.get(head[9:12], 0) + 1
                selector.unregister(client)
                left -= 1

    take(LONG_POLLS)
    publisher.join()
    print(f"answered within {max(late):.2f} s of {WAIT_S} s: {statuses}")
    p99s = percentile(alone, 0.99) * 1000, percentile(beside, 0.99) * 1000
    print(f"publish p99 alone {p99s[0]:.2f} ms, beside them {p99s[1]:.2f} ms: {p99s[1] / p99s[0]:.2f} ×")
    # And once more, ended by a message: one look at the log for all.
    late.clear()
    statuses.clear()
    for client in asked:
        client.sendall(request)
        selector.register(client, selectors.EVENT_READ)
    ask(broker.port, "GET", "/healthz")
    began = time.monotonic()
    asked.update({client: began for client in asked})
    publish(broker.port, "polled")
    take(LONG_POLLS)
    print(f"a message reached all within {max(late):.2f} s: {statuses}")
    for client in asked:
        client.close()
    broker.stop()


def main():
    known = {"unchanged": unchanged, "day": day, "longpolls": longpolls}
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    for name in sys.argv[1:] or known:
        known[name]()


if __name__ == "__main__":
    main()
