"""A subscriber on a raw socket, which takes nothing that the protocol and its framing don't allow."""

import base64
import json
import os
import re
import socket

from broker import PATIENCE_S

# What each asks for.
KINDS = {"ws": "", "sse": "text/event-stream", "ndjson": "application/x-ndjson"}
SEGMENT_BYTES = 536
HEX = re.compile(rb"[1-9a-f][0-9a-f]*")


class Reader:
    """`heard` has the messages, each as its cursor and its data; `ready` once it was told that it is at the end."""

    def __init__(self, port: int, kind: str, topic: str, receive_bytes: int):
        self.kind, self.topic, self.heard = kind, topic, []
        self.name = f"{kind} of {topic} with {receive_bytes} bytes"
        self.ready = False
        self._framed, self._text = bytearray(), bytearray()
        self.socket = socket.socket()
        # Before it connects, so that the window that it offers never was larger.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        # The kernel lets a sender buffer some segments in any case, and over loopback one has 64 KB.
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(("127.0.0.1", port))
        key = base64.b64encode(os.urandom(16)).decode()
        more = f"Accept: {KINDS[kind]}\r\n" if kind != "ws" else (
            f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n")
        self.socket.sendall(f"GET /topics/{topic} HTTP/1.1\r\nHost: 127.0.0.1\r\n{more}\r\n".encode())
        while (end := self._framed.find(b"\r\n\r\n")) < 0:
            self._framed += self.socket.recv(1024)
        status = self._framed.split(b" ", 2)[1]
        self.check(status == (b"101" if kind == "ws" else b"200"), self._framed)
        del self._framed[: end + 4]
        self._parse()

    def check(self, holds: bool, what: object) -> None:
        if not holds:
            raise AssertionError(f"{self.name}: {bytes(what[:200]) if isinstance(what, bytearray) else what!r:.200}")

    def read(self) -> None:
        got = self.socket.recv(65_536)
        self.check(bool(got), "the broker ended it")
        self._framed += got
        self._parse()

    def _parse(self) -> None:
        if self.kind == "ws":
            while (frame := self._frame()) is not None:
                self._line(json.loads(frame))
            return
        while (chunk := self._chunk()) is not None:
            self._text += chunk
        *whole, rest = self._text.split(b"\n\n" if self.kind == "sse" else b"\n")
        self._text = bytearray(rest)
        for text in whole:
            self._event(text.decode()) if self.kind == "sse" else self._line(json.loads(text))

    def _frame(self) -> bytes | None:
        """RFC 6455 §5.2: whole text messages, not masked, of the shortest length that can say it."""
        have = self._framed
        if len(have) < 2:
            return None
        self.check(have[0] == 0x81 and have[1] < 128, have)
        at, least = {126: (4, 126), 127: (10, 65_536)}.get(have[1], (2, 0))
        if len(have) < at:
            return None
        length = int.from_bytes(have[2:at]) if at > 2 else have[1]
        self.check(length >= least, have)
        return self._take(at, length, 0)

    def _chunk(self) -> bytes | None:
        """RFC 9112 §7.1: a size in hexadecimal, never that of the last chunk."""
        end = self._framed.find(b"\r\n")
        if end < 0:
            return self.check(len(self._framed) < 10, self._framed)
        self.check(HEX.fullmatch(self._framed[:end]) is not None, self._framed)
        return self._take(end + 2, int(self._framed[:end], 16), 2)

    def _take(self, at: int, length: int, closing: int) -> bytes | None:
        end = at + length
        if len(self._framed) < end + closing:
            return None
        self.check(self._framed[end : end + closing] == b"\r\n"[:closing], self._framed[end - 20 :])
        taken = bytes(self._framed[at:end])
        del self._framed[: end + closing]
        return taken

    def _event(self, text: str) -> None:
        fields = dict(line.split(": ", 1) for line in text.split("\n"))
        self.check(set(fields) in [{"id", "data"}, {"id", "event", "data"}, {"retry", "id", "event", "data"}], text)
        if "event" in fields:
            self._line(json.loads(fields["data"]))
        elif "data" in fields:
            self.heard.append((fields["id"], json.loads(fields["data"])))

    def _line(self, line: dict) -> None:
        self.check(line["kind"] in {"message", "heartbeat", "caught_up", "welcome", "ok"}, line)
        self.ready |= line["kind"] == "caught_up"
        if line["kind"] == "message":
            self.heard.append((line["cursor"], line["data"]))
