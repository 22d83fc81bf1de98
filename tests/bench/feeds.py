"""Figures of polling: what an entry costs, 304s beside nginx, the bytes of a day, ten thousand long-polls at one cursor.

    BROKER=target/release/tailwire python3 tests/bench/feeds.py [--rounds 3] [encoding] [unchanged] [day] [longpolls]

The machine should have nothing else to do. Broker and nginx run on the first core, what loads them on the others. A figure is the
median of its rounds, and what is compared was measured in the same round; behind it stand the least and the greatest.
"""

import argparse
import contextlib
import csv
import http.client
import io
import json
import multiprocessing
import os
import socket
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../blackbox"))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../caches"))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../feeds"))

from broker import Broker, ask  # noqa: E402
from fronts import PATIENCE_S, Front  # noqa: E402
from longpolls import Crowd, statuses  # noqa: E402

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../..")
REQUESTS = 100_000
CONNECTIONS = 32
POLLS = 1_440
MESSAGES = 100
LONG_POLLS = 10_000
WAIT_S = 20
TICKS = os.sysconf("SC_CLK_TCK")
OTHER_CORES = set(range(os.cpu_count() or 1)) - {0} or {0}

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


def shown(values, digits=1):
    """The median, and how far the rounds lie apart."""
    middle, least, most = statistics.median(values), min(values), max(values)
    return f"{middle:,.{digits}f} ({least:,.{digits}f} to {most:,.{digits}f})"


def encoding(_rounds):
    """By a program of its own, in the release profile."""
    command = ["cargo", "run", "--quiet", "--release", "--package", "tailwire-wire", "--example", "encoding"]
    table = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for row in csv.DictReader(io.StringIO(table)):
        entry, document, size = row["entry_us"], row["document_us"], int(row["document_bytes"])
        print(f"{row['format']} of {row['messages']}: an entry {entry} µs, 100 as a document {document} µs, {size:,} bytes")


def hammer(port, path, headers):
    """Requests that are answered 304, by `ab`, on the other cores."""
    url = f"http://127.0.0.1:{port}{path}"
    given = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    command = ["ab", "-q", "-k", "-c", str(CONNECTIONS), "-n", str(REQUESTS), *given, url]
    done = subprocess.run(
        command, check=True, capture_output=True, text=True, preexec_fn=lambda: os.sched_setaffinity(0, OTHER_CORES)
    )
    failed = [line for line in done.stdout.splitlines() if line.startswith("Failed requests")]
    assert failed and failed[0].split()[-1] == "0", done.stdout
    rate = next(line for line in done.stdout.splitlines() if line.startswith("Requests per second"))
    return float(rate.split()[3])


def unchanged(rounds):
    broker = Broker()
    static = Static(broker.port)
    try:
        publish(broker.port, "news", 100)
        last = ask(broker.port, "GET", "/topics/news?last=1")[0].getheader("Tailwire-Cursor")

        def own(path, headers=None):
            return broker.port, path, headers or {}, [broker._process.pid]

        cases = [
            ("nginx, a file of 50 KB", static.port, "/feed", {}, processes(static._process.pid)),
            ("Atom feed", *own("/topics/news?format=atom")),
            ("Atom feed by A-IM", *own("/topics/news?format=atom", {"A-IM": "feed"})),
            ("JSON Feed", *own("/topics/news?format=jsonfeed")),
            ("page of the newest 100", *own("/topics/news?last=100")),
            ("message", *own(f"/messages/{last}")),
        ]
        rates, costs, shares = ({what: [] for what, *_ in cases} for _ in range(3))
        for _ in range(rounds):
            reference = None
            for what, port, path, headers, pids in cases:
                pin(pids, 0)
                headers = headers | {"If-None-Match": ask(port, "GET", path)[0].getheader("ETag")}
                assert ask(port, "GET", path, headers=headers)[0].status == 304, path
                before = cpu_s(pids)
                rates[what].append(hammer(port, path, headers))
                costs[what].append((cpu_s(pids) - before) / REQUESTS * 1e6)
                reference = reference or costs[what][-1]
                shares[what].append(costs[what][-1] / reference)
        for what in rates:
            rate, cost, share = shown(rates[what], 0), shown(costs[what]), shown(shares[what], 2)
            print(f"304, {what}: {rate} a second, {cost} µs of CPU, {share} × nginx")
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


def day(_rounds):
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


def publish_latencies(port, seconds, out):
    """One publish after the other, in a process of its own: nothing else is between its clock and the broker."""
    os.sched_setaffinity(0, OTHER_CORES)
    # Before those who read ten thousand answers on the same core.
    with contextlib.suppress(PermissionError):
        os.nice(-10)
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
    out.send(latencies)


class Publisher:
    """Publishes for so many seconds."""

    def __init__(self, port, seconds):
        self._latencies, out = multiprocessing.Pipe(duplex=False)
        self._process = multiprocessing.get_context("spawn").Process(target=publish_latencies, args=(port, seconds, out))
        self._process.start()
        out.close()

    def p99_ms(self):
        latencies = self._latencies.recv()
        self._process.join()
        return percentile(latencies, 0.99) * 1000


def longpolls(rounds):
    """All wait at one cursor; nobody is answered late, and publishing elsewhere is hardly slower, also while they are answered."""
    broker = Broker()
    pin([broker._process.pid], 0)
    os.sched_setaffinity(0, OTHER_CORES)
    publish(broker.port, "polled")
    late, reached, shares, alone, beside, found = [], [], [], [], [], {}
    for _ in range(rounds):
        cursor = ask(broker.port, "GET", "/topics/polled?last=1")[0].getheader("Tailwire-Cursor")
        alone.append(Publisher(broker.port, WAIT_S / 2).p99_ms())
        # Connections that ask for nothing are closed after a while.
        crowd = Crowd(broker.port, LONG_POLLS)
        crowd.ask(f"/topics/polled?after={cursor}&wait={WAIT_S}")
        publisher = Publisher(broker.port, WAIT_S)
        answers = crowd.take()
        late.append(max(answer.after_s for answer in answers) - WAIT_S)
        found.update(statuses(answers))
        beside.append(publisher.p99_ms())
        shares.append(beside[-1] / alone[-1])
        # And once more, ended by a message: one look at the log, and one answer for all.
        crowd.ask(f"/topics/polled?after={cursor}&wait=50")
        while f'tailwire_connections{{transport="long-poll"}} {LONG_POLLS}\n' not in broker.metrics():
            time.sleep(0.01)
        began = time.monotonic()
        publish(broker.port, "polled")
        found.update(statuses(crowd.take()))
        reached.append(time.monotonic() - began)
        crowd.close()
    broker.stop()
    print(f"{LONG_POLLS:,} long-polls at one cursor: {found}")
    print(f"the last answer {shown(late, 2)} s after its wait of {WAIT_S} s; a message reached all within {shown(reached, 2)} s")
    print(f"publish p99 alone {shown(alone, 2)} ms, while they wait and are answered {shown(beside, 2)} ms: {shown(shares, 2)} ×")


def main():
    known = {"encoding": encoding, "unchanged": unchanged, "day": day, "longpolls": longpolls}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("what", nargs="*", choices=[*known, []])
    asked = parser.parse_args()
    print(f"load of the machine before: {os.getloadavg()[0]:.1f}")
    for name in asked.what or known:
        known[name](asked.rounds)


if __name__ == "__main__":
    main()
