"""Ground for attacks: a broker to be attacked, a healthy client beside the attack, and clients that misbehave by hand."""

import base64
import contextlib
import http.client
import json
import os
import resource
import socket
import statistics
import struct
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../blackbox"))

from broker import PATIENCE_S, Broker  # noqa: E402

__all__ = ["PATIENCE_S", "Attacked", "Healthy", "Http2", "half_open", "web_socket"]

HOST = "127.0.0.1"
MIB = 1 << 20


def allow_many_sockets():
    """The attacker's own limit of open files."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class Attacked(Broker):
    """A broker whose memory and time are watched."""

    def __init__(self):
        allow_many_sockets()
        super().__init__()

    @property
    def pid(self):
        return self._process.pid

    def peak_bytes(self):
        """The most memory that it had since `forget_peak`."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            line = next(line for line in status if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024

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


class Healthy(threading.Thread):
    """A client that publishes and is answered, all the while. `times_ms` has how long that took."""

    def __init__(self, broker, pause_s=0.02):
        super().__init__(daemon=True)
        self._broker, self._pause_s, self._over = broker, pause_s, threading.Event()
        self.times_ms, self.failures = [], []

    def run(self):
        connection = http.client.HTTPConnection(HOST, self._broker.port, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            while not self._over.wait(self._pause_s):
                began = time.monotonic()
                try:
                    connection.request("POST", "/topics/healthy", b"1", {"Content-Type": "application/json"})
                    response = connection.getresponse()
                    response.read()
                    if response.status != 201:
                        self.failures.append(response.status)
                except OSError as error:
                    self.failures.append(error)
                    connection.close()
                self.times_ms.append((time.monotonic() - began) * 1000)

    def over(self):
        """Ends it; returns the median and the 99th percentile in milliseconds."""
        self._over.set()
        self.join(PATIENCE_S)
        times = sorted(self.times_ms) or [0]
        return statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.99))]


def half_open(port, data=b"", receive_bytes=None):
    """A socket that has sent so much, and reads nothing by itself."""
    own = socket.socket()
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
