"""Many long-polls for the same, by one thread: asked on a connection each, and their answers taken as they come."""

import contextlib
import resource
import selectors
import socket
import struct
import time
from collections import Counter
from dataclasses import dataclass

# How long the next answer may take. A bound for failure, not a wait.
PATIENCE_S = 90


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes
    # Since just before the request was sent.
    after_s: float


class Crowd:
    def __init__(self, port: int, count: int):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.suppress(ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2 * count + 1000)), hard))
        self._clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        self._asked: dict[socket.socket, float] = {}

    def ask(self, path: str, headers: str = "") -> None:
        request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()
        for client in self._clients:
            self._asked[client] = time.monotonic()
            client.sendall(request)

    def take(self) -> list[Answer]:
        """An answer for each, whole."""
        answers, received = [], {client: b"" for client in self._clients}
        with selectors.DefaultSelector() as selector:
            for client in self._clients:
                selector.register(client, selectors.EVENT_READ)
            while received:
                ready = selector.select(PATIENCE_S)
                if not ready:
                    raise TimeoutError(f"{len(received)} long-polls are not answered")
                for key, _ in ready:
                    client = key.fileobj
                    if not (part := client.recv(65536)):
                        raise EOFError("a long-poll's connection was closed")
                    received[client] += part
                    if answer := self._whole(client, received[client]):
                        answers.append(answer)
                        selector.unregister(client)
                        del received[client]
        return answers

    def _whole(self, client: socket.socket, received: bytes) -> Answer | None:
        head, end, body = received.partition(b"\r\n\r\n")
        if not end:
            return None
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        if len(body) < int(headers["content-length"]):
            return None
        return Answer(int(status.split()[1]), headers, body, time.monotonic() - self._asked[client])

    def reset(self) -> None:
        """Breaks all connections off: one that is only closed may still want its answer."""
        for client in self._clients:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self) -> None:
        for client in self._clients:
            client.close()


def statuses(answers: list[Answer]) -> dict[int, int]:
    return dict(Counter(answer.status for answer in answers))
