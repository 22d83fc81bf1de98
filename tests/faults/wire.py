"""Clients of the broker's protocol (docs/PROTOCOL.md), by the standard library alone: requests, and the streams."""

import base64
import contextlib
import http.client
import json
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

HOST = "127.0.0.1"
TIME_S_MAX = 30
# What may go wrong with a connection whose other end dies.
BROKEN = (OSError, http.client.HTTPException, EOFError)


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def code(self) -> str | None:
        """The code of a problem."""
        is_problem = self.headers.get_content_type() == "application/problem+json"
        return self.json["code"] if is_problem else None


class Http:
    """One connection, kept alive. Not for several threads."""

    def __init__(self, port: int, time_s_max: float = TIME_S_MAX):
        self._connection = http.client.HTTPConnection(HOST, port, timeout=time_s_max)

    def request(self, method: str, path: str, body: bytes | None = None, headers: dict | None = None) -> Answer:
        try:
            self._connection.request(method, path, body, headers or {})
            response = self._connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        except BROKEN:
            self._connection.close()
            raise

    def get(self, path: str, headers: dict | None = None) -> Answer:
        return self.request("GET", path, headers=headers)

    def close(self) -> None:
        self._connection.close()


def pages(http_: Http, path: str, after: str = "earliest") -> Iterator[dict]:
    """Lines as a stream would have them, by pages: messages, gaps, and caught_up at the end."""
    query = f"after={after}&limit=1000&format=json"
    while True:
        answer = http_.get(f"{path}?{query}")
        if answer.status == 410:
            gap = answer.json
            yield {"kind": "gap"} | {name: gap[name] for name in ("from", "to", "reason")}
            query = f"after={gap['from']}&gap={gap['to']}&limit=1000&format=json"
            continue
        assert answer.status in (200, 202), f"{answer.status} {answer.body!r}"
        page = answer.json
        for message in page["messages"]:
            yield {"kind": "message"} | message
        link = answer.headers["link"]
        query = link[link.index("?") + 1 : link.index(">")]
        if not page["more"]:
            yield {"kind": "caught_up", "cursor": page["cursor"]}
            return


def ndjson(port: int, path: str, after: str) -> Iterator[dict]:
    """Lines of a stream, until it ends or is closed. A line that is cut off is dropped."""
    with _stream(port, f"{path}?after={after}&format=ndjson") as response:
        with contextlib.suppress(*BROKEN):
            while (line := response.readline()).endswith(b"\n"):
                yield json.loads(line)


def sse(port: int, path: str, after: str) -> Iterator[dict]:
    """The same of an SSE stream, whose events carry whole lines."""
    with _stream(port, f"{path}?after={after}&format=sse&envelope=true") as response, contextlib.suppress(*BROKEN):
        data, cursor = [], None
        while (raw := response.readline()).endswith(b"\n"):
            name, _, value = raw.decode().rstrip("\n").partition(": ")
            if name == "data":
                data.append(value)
            elif name == "id":
                cursor = value
            elif not raw.strip():
                if data:
                    yield json.loads("\n".join(data))
                elif cursor:
                    yield {"kind": "heartbeat", "cursor": cursor}
                data, cursor = [], None


@contextlib.contextmanager
def _stream(port: int, path: str) -> Iterator[http.client.HTTPResponse]:
    connection = http.client.HTTPConnection(HOST, port, timeout=TIME_S_MAX)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        if response.status != 200:
            raise ConnectionError(f"no stream: {response.status} {response.read()!r}")
        yield response
    finally:
        connection.close()


class WebSocket:
    """A WebSocket of tailwire.v1 (RFC 6455, unfragmented text frames), with JSON lines in and out."""

    def __init__(self, port: int, path: str):
        self._socket = socket.create_connection((HOST, port), TIME_S_MAX)
        # What the broker closed with.
        self.close_code: int | None = None
        key = base64.b64encode(os.urandom(16)).decode()
        head = (
            f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: tailwire.v1\r\n\r\n"
        )
        self._in = self._socket.makefile("rb")
        try:
            self._socket.sendall(head.encode())
            status = self._in.readline()
            if b" 101 " not in status:
                raise ConnectionError(f"no WebSocket: {status!r}")
            while self._in.readline().strip():
                pass
        except OSError:
            self.close()
            raise

    def send(self, line: dict) -> None:
        self.send_all([line])

    def send_all(self, lines: list[dict]) -> None:
        self._socket.sendall(b"".join(_frame(json.dumps(line).encode()) for line in lines))

    def lines(self) -> Iterator[dict]:
        """What comes, until the other side closes or goes away, or this one is closed by another thread."""
        with contextlib.suppress(*BROKEN, ValueError):
            while True:
                first, second = self._exactly(2)
                length = second & 0x7F
                if length == 126:
                    (length,) = struct.unpack(">H", self._exactly(2))
                elif length == 127:
                    (length,) = struct.unpack(">Q", self._exactly(8))
                payload = self._exactly(length)
                if first & 0x0F == 8:
                    self.close_code = int.from_bytes(payload[:2], "big")
                    return
                if first & 0x0F == 1:
                    yield json.loads(payload)

    def _exactly(self, count: int) -> bytes:
        data = self._in.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def close(self) -> None:
        # A reader in another thread wakes up only from a shutdown.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._in.close()
        self._socket.close()


def _frame(payload: bytes) -> bytes:
    """A text frame; its mask is zero, which leaves the payload as it is."""
    length = len(payload)
    if length < 126:
        head = struct.pack(">BB", 0x81, 0x80 | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", 0x81, 0x80 | 126, length)
    else:
        head = struct.pack(">BBQ", 0x81, 0x80 | 127, length)
    return head + bytes(4) + payload


def websocket(port: int, path: str, after: str) -> Iterator[dict]:
    """Lines of the URL's subscription, as the streams have them."""
    client = WebSocket(port, f"{path}?after={after}")
    try:
        yield from (line for line in client.lines() if line.get("sub", 0) == 0)
    finally:
        client.close()


def catch_up(lines: Iterator[dict]) -> list[dict]:
    """The messages and gaps up to the tail."""
    got = []
    for line in lines:
        if line["kind"] == "caught_up":
            return got
        if line["kind"] in ("message", "gap"):
            got.append(line)
    raise AssertionError(f"the stream ended before it had caught up, after {len(got)} lines")


def resume_everywhere(http_: Http, port: int, path: str, after: str) -> dict[str, list[dict]]:
    """What each transport gives after a cursor."""
    return {
        "pages": catch_up(pages(http_, path, after)),
        "ndjson": catch_up(ndjson(port, path, after)),
        "sse": catch_up(sse(port, path, after)),
        "websocket": catch_up(websocket(port, path, after)),
    }
