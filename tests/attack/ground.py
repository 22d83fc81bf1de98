"""Ground for attacks: a broker to be attacked, a healthy client beside the attack, and clients that misbehave by hand."""

import base64
import contextlib
import http.client
import json
import multiprocessing
import os
import resource
import selectors
import socket
import struct
import sys
import time
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../blackbox"))

from broker import PATIENCE_S, Broker  # noqa: E402

__all__ = ["PATIENCE_S", "Attacked", "Cgroup", "Flood", "Healthy", "Http2", "half_open", "percentile", "web_socket"]

HOST = "127.0.0.1"
MIB = 1 << 20


def allow_many_sockets():
    """The attacker's own limit of open files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Cgroup:
    """A group of processes that may have so much memory; the kernel kills what takes more (cgroups, version 1 or 2)."""

    def __init__(self, bytes_max):
        self._path, limits = self._made()
        if self._path is None:
            raise unittest.SkipTest("there are no cgroups for memory here, or this user may not make one")
        for name, value in limits.items():
            with contextlib.suppress(OSError):
                self._write(name, value.format(bytes_max))

    @staticmethod
    def _made():
        name = f"tailwire-attack-{os.getpid()}-{time.monotonic_ns()}"
        versions = [
            ("/sys/fs/cgroup/memory", {"memory.limit_in_bytes": "{}", "memory.memsw.limit_in_bytes": "{}"}),
            ("/sys/fs/cgroup", {"memory.max": "{}", "memory.swap.max": "0"}),
        ]
        for folder, limits in versions:
            path = os.path.join(folder, name)
            try:
                os.mkdir(path)
            except OSError:
                continue
            if os.path.exists(os.path.join(path, next(iter(limits)))):
                return path, limits
            os.rmdir(path)
        return None, {}

    def _write(self, name, value):
        with open(os.path.join(self._path, name), "w", encoding="ascii") as file:
            file.write(value)

    def enter(self):
        """Puts the calling process into it."""
        self._write("cgroup.procs", str(os.getpid()))

    def peak_bytes(self):
        """The most that it ever had, with what the kernel has for it."""
        for name in ("memory.max_usage_in_bytes", "memory.peak"):
            with contextlib.suppress(OSError), open(os.path.join(self._path, name), encoding="ascii") as file:
                return int(file.read())
        return 0

    def remove(self):
        # It takes a moment until the kernel has noticed that it is empty.
        for _ in range(100):
            with contextlib.suppress(OSError):
                return os.rmdir(self._path)
            time.sleep(0.05)


class Attacked(Broker):
    """A broker whose memory and time are watched."""

    def __init__(self, *flags, begin=None):
        allow_many_sockets()
        super().__init__(*flags, begin=begin)

    def is_alive(self):
        return self._process.poll() is None

    @property
    def pid(self):
        return self._process.pid

    def peak_bytes(self):
        """The most memory that it had since `forget_peak`."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

    def rested_bytes(self):
        """Its memory once it stands still: commits end, and the store tidies up, after their answers."""
        seen = [self.resident_bytes()]
        until = time.monotonic() + PATIENCE_S
        while len(seen) < 10 or max(seen[-10:]) - min(seen[-10:]) > MIB:
            assert time.monotonic() < until, f"memory does not come to rest: {seen[-10:]}"
            time.sleep(0.1)
            seen.append(self.resident_bytes())
        return seen[-1]

    def forget_peak(self):
        with open(f"/proc/{self.pid}/clear_refs", "w", encoding="ascii") as refs:
            refs.write("5")

    def cpu_seconds(self):
        with open(f"/proc/{self.pid}/stat", encoding="ascii") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def request(self, method, path, body=None, headers=None, timeout=PATIENCE_S):
        connection = http.client.HTTPConnection(HOST, self.port, timeout=timeout)
        with contextlib.closing(connection):
            connection.request(method, path, body=body, headers=headers or {})
            response = connection.getresponse()
            raw = response.read()
            is_json = "json" in (response.getheader("Content-Type") or "")
            return response.status, response.headers, json.loads(raw) if is_json and raw else raw

    def publish_batch(self, topic, count, size):
        """So many JSON messages of so many bytes, in batches that fit."""
        each = max(1, min(10_000, 7 * MIB // size))
        while count > 0:
            lines = b"\n".join([b'"' + b"x" * (size - 2) + b'"'] * min(each, count))
            status, _, answer = self.request(
                "POST", f"/topics/{topic}", lines, {"Content-Type": "application/x-ndjson"}
            )
            assert status == 201, answer
            count -= each


class Healthy:
    """A client that asks and is answered, all the while, in a process of its own. By default it publishes."""

    def __init__(self, broker, request=("POST", "/topics/healthy", b"1"), pause_s=0.02, source=HOST, headers=()):
        context = multiprocessing.get_context("fork")
        self._over, (self._result, result) = context.Event(), context.Pipe(duplex=False)
        self.failures = []
        headers = {"Content-Type": "application/json", **dict(headers)}
        arguments = (broker.port, request, headers, pause_s, source, self._over, result)
        self._process = context.Process(target=self._run, args=arguments, daemon=True)

    def start(self):
        self._process.start()

    @staticmethod
    def _run(port, request, headers, pause_s, source, over, result):
        times_ms, failures = [], []
        connection = http.client.HTTPConnection(HOST, port, timeout=PATIENCE_S, source_address=(source, 0))
        while not over.wait(pause_s):
            began = time.monotonic()
            try:
                connection.request(*request, headers=headers)
                response = connection.getresponse()
                response.read()
                if response.status not in (200, 201, 202):
                    failures.append(response.status)
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))
                connection.close()
            times_ms.append((time.monotonic() - began) * 1000)
        connection.close()
        result.send((times_ms, failures))

    def over(self):
        """Ends it; returns the median and the 99th percentile in milliseconds."""
        self._over.set()
        assert self._result.poll(PATIENCE_S * 2), "the healthy client hangs"
        times, self.failures = self._result.recv()
        self._process.join(PATIENCE_S)
        return percentile(times, 0.5), percentile(times, 0.99)


def percentile(times, share):
    ordered = sorted(times) or [0]
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def half_open(port, data=b"", receive_bytes=None, source=None):
    """A socket that has sent so much, and reads nothing by itself."""
    own = socket.socket()
    if source:
        own.bind((source, 0))
    if receive_bytes:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    own.settimeout(PATIENCE_S)
    own.connect((HOST, port))
    if data:
        own.sendall(data)
    return own


def is_closed(own, within_s):
    """Whether the other end closes within a time; what it says until then is thrown away."""
    until = time.monotonic() + within_s
    while (left := until - time.monotonic()) > 0:
        own.settimeout(left)
        try:
            if not own.recv(1 << 16):
                return True
        except (ConnectionError, BrokenPipeError):
            return True
        except TimeoutError:
            return False
    return False


def web_socket(port, topic="hostile"):
    """A WebSocket by hand, after its handshake."""
    key = base64.b64encode(os.urandom(16)).decode()
    own = half_open(
        port,
        f"GET /topics/{topic} HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode(),
    )
    head = b""
    while b"\r\n\r\n" not in head:
        head += own.recv(4096)
    assert b" 101 " in head, head
    return own


def fragment(data, final=False, opcode=1):
    """A masked frame (RFC 6455 section 5.2)."""
    head = bytes([(0x80 if final else 0) | opcode])
    if len(data) < 126:
        head += bytes([0x80 | len(data)])
    elif len(data) < 1 << 16:
        head += b"\xfe" + struct.pack("!H", len(data))
    else:
        head += b"\xff" + struct.pack("!Q", len(data))
    return head + b"\0\0\0\0" + data


class Http2:
    """An HTTP/2 connection by hand (RFC 9113), whose windows are what the attack wants."""

    PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

    def __init__(self, port, window=65_535):
        settings = struct.pack("!HI", 4, window)
        self.socket = half_open(port, self.PREFACE + self.frame(4, 0, 0, settings))
        self._next = 1

    @staticmethod
    def frame(kind, flags, stream, payload=b""):
        return struct.pack("!I", len(payload))[1:] + bytes([kind, flags]) + struct.pack("!I", stream) + payload

    def head(self, path, fields=(), method="GET", ends=True):
        """A HEADERS frame, its fields as literals without indexing (RFC 7541 section 6.2.2)."""
        all_fields = [(":method", method), (":scheme", "http"), (":authority", HOST), (":path", path), *fields]
        block = b""
        for name, value in all_fields:
            block += b"\0" + self._string(name) + self._string(value)
        stream, self._next = self._next, self._next + 2
        return stream, self.frame(1, 4 | (1 if ends else 0), stream, block)

    @staticmethod
    def _string(text):
        raw = text.encode()
        if len(raw) < 127:
            return bytes([len(raw)]) + raw
        rest, out = len(raw) - 127, b"\x7f"
        while rest >= 128:
            out += bytes([rest % 128 + 128])
            rest //= 128
        return out + bytes([rest]) + raw

    def close(self):
        self.socket.close()


class Flood:
    """Connections that ask for the same over and over, as fast as they are answered, in a process of their own."""

    def __init__(self, port, request, connections=50, ahead=4):
        context = multiprocessing.get_context("fork")
        self._over, self._answered = context.Event(), context.Value("q", 0)
        arguments = (port, request, connections, ahead, self._over, self._answered)
        self._process = context.Process(target=self._run, args=arguments, daemon=True)
        self._process.start()

    @staticmethod
    def _run(port, request, connections, ahead, over, answered):
        with selectors.DefaultSelector() as selector:
            for _ in range(connections):
                own = half_open(port, request * ahead)
                own.setblocking(False)
                selector.register(own, selectors.EVENT_READ)
            while not over.is_set():
                for key, _ in selector.select(0.1):
                    try:
                        received = key.fileobj.recv(1 << 20)
                        answers = received.count(b"HTTP/1.1 ")
                        if answers:
                            key.fileobj.send(request * answers)
                            answered.value += answers
                    except BlockingIOError:
                        continue
                    except OSError:
                        received = b""
                    if not received:
                        selector.unregister(key.fileobj)
                        key.fileobj.close()
            for key in list(selector.get_map().values()):
                key.fileobj.close()

    def over(self):
        """Ends it; returns how many answers there were."""
        self._over.set()
        self._process.join(PATIENCE_S)
        return self._answered.value
