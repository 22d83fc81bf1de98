"""What an operator does to NATS: requests to JetStream, over a connection of the plain kind."""

import base64
import json
import socket
import uuid


class Nats:
    # A server that has just lost its leader may leave a request unanswered for good.
    TRIES = 6

    def __init__(self, port: int):
        self._port = port
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(("127.0.0.1", self._port), timeout=10)
        self._file = self._socket.makefile("rb")
        assert self._file.readline().startswith(b"INFO ")
        self._socket.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n')

    def ask(self, subject: str, request: object = None) -> dict:
        """Asks, and gives the answer. One that says that it can't be done is a failure."""
        answer = json.loads(self._ask(subject, request))
        assert "error" not in answer, answer
        return answer

    def refusal(self, subject: str, request: object) -> str:
        """Asks for what is refused, and gives the reason."""
        return json.loads(self._ask(subject, request))["error"]["description"]

    def message(self, stream: str, request: dict) -> tuple[int, bytes] | None:
        """A message of a stream, as its leader has it: its sequence, and its content; None if there is none such."""
        answer = json.loads(self._ask(f"$JS.API.STREAM.MSG.GET.{stream}", request))
        if "error" in answer:
            assert answer["error"]["code"] == 404, answer
            return None
        return answer["message"]["seq"], base64.b64decode(answer["message"].get("data", ""))

    def tell(self, subject: str, message: object) -> None:
        payload = json.dumps(message).encode()
        self._socket.sendall(f"PUB {subject} {len(payload)}\r\n".encode() + payload + b"\r\n")

    def _ask(self, subject: str, request: object) -> bytes:
        for _ in range(self.TRIES - 1):
            try:
                return self._ask_once(subject, request)
            except TimeoutError:
                self.close()
                self._connect()
        return self._ask_once(subject, request)

    def _ask_once(self, subject: str, request: object) -> bytes:
        inbox = f"_INBOX.{uuid.uuid4().hex}"
        payload = request if isinstance(request, bytes) else b"" if request is None else json.dumps(request).encode()
        lines = f"SUB {inbox} 1\r\nUNSUB 1 1\r\nPUB {subject} {inbox} {len(payload)}\r\n".encode()
        self._socket.sendall(lines + payload + b"\r\n")
        while line := self._file.readline():
            word, *rest = line.split()
            if word == b"PING":
                self._socket.sendall(b"PONG\r\n")
            elif word in (b"MSG", b"HMSG"):
                body = self._file.read(int(rest[-1]) + 2)[:-2]
                return body[int(rest[-2]) if word == b"HMSG" else 0 :]
        raise EOFError

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def __enter__(self) -> "Nats":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
