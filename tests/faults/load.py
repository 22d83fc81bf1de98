"""Clients that publish flat out until the broker is gone, each by another way, and note in a ledger what they hear."""

import contextlib
import itertools
import json
import random
import threading
from collections.abc import Callable

from ledger import COMPACT, DONE, OPTIONS, REFUSED, Delete, Keyed, Ledger
from wire import BROKEN, Answer, Http, WebSocket, ndjson

# 4xx and these mean that nothing was done (docs/PROTOCOL.md, "Retrying safely").
_NOT_DONE = {"overloaded", "draining", "storage-failed", "storage-full"}
# A WebSocket's unanswered requests; it reads no further beyond 64.
_PIPELINE = 16


class Load:
    """All clients of one run. What a broker must not do, seen by any of them, ends up in `errors`."""

    def __init__(self, port: int, ledger: Ledger, seed: int, run: str):
        self._port = port
        self._ledger = ledger
        self._run = run
        self.stopping = threading.Event()
        self.errors: list[BaseException] = []
        # Answers by status and code, such as "503 outcome-unknown".
        self.answers: dict[str, int] = {}
        self._lock = threading.Lock()
        self._socket: WebSocket | None = None
        clients: list[Callable[[Http, random.Random], None]] = [
            self._singles, self._singles, self._keyed, self._batches, self._mixed, self._socket_singles, self._deletes,
            self._bounded,
        ]  # fmt: skip
        self._threads = [
            threading.Thread(target=self._guard, args=(client, random.Random(f"{seed}/{number}")), daemon=True)
            for number, client in enumerate(clients)
        ]

    def start(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def join(self) -> None:
        """Returns when every client has ended: after `stop`, or because the broker died."""
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client doesn't end"
        if self.errors:
            raise self.errors[0]

    def stop(self) -> None:
        self.stopping.set()
        if self._socket:
            self._socket.close()
        self.join()

    def _guard(self, client: Callable[[Http, random.Random], None], dice: random.Random) -> None:
        http = Http(self._port)
        try:
            client(http, dice)
        except BROKEN:
            pass
        except BaseException as error:
            self.errors.append(error)
        finally:
            http.close()

    def _topic(self, dice: random.Random) -> str:
        return f"kept/{dice.randint(0, 20)}/{dice.randint(0, 3)}"

    def _singles(self, http: Http, dice: random.Random) -> None:
        while not self.stopping.is_set():
            topic = self._topic(dice)
            name, [body] = self._ledger.begin([topic], [_size(dice)])
            self._publish(http, name, f"/topics/{topic}", body.encode(), {"content-type": "text/plain"})

    def _keyed(self, http: Http, dice: random.Random) -> None:
        while not self.stopping.is_set():
            topic = self._topic(dice)
            name, [body] = self._ledger.begin([topic], [_size(dice)])
            headers = {"content-type": "text/plain", "idempotency-key": f'"{self._run}-{name}"'}
            request = Keyed(f"/topics/{topic}", body.encode(), headers, name)
            self._ledger.keyed.append(request)
            self._publish(http, name, request.path, request.body, headers)

    def _batches(self, http: Http, dice: random.Random) -> None:
        while not self.stopping.is_set():
            topic = self._topic(dice)
            sizes = [_size(dice) for _ in range(dice.choice((1, 5, 60)))]
            name, bodies = self._ledger.begin([topic] * len(sizes), sizes)
            self._publish(http, name, f"/topics/{topic}", ndjson_body(bodies), {"content-type": "application/x-ndjson"})

    def _mixed(self, http: Http, dice: random.Random) -> None:
        while not self.stopping.is_set():
            topics = [self._topic(dice) for _ in range(dice.choice((2, 30)))]
            name, bodies = self._ledger.begin(topics, [_size(dice) for _ in topics])
            lines = [
                json.dumps({"topic": topic, "data": body, "type": "text/plain"})
                for topic, body in zip(topics, bodies, strict=True)
            ]
            headers = {"content-type": "application/x-ndjson", "idempotency-key": f'"{self._run}-{name}"'}
            request = Keyed("/stream", "\n".join(lines).encode(), headers, name)
            self._ledger.keyed.append(request)
            self._publish(http, name, request.path, request.body, headers)

    def _socket_singles(self, _: Http, dice: random.Random) -> None:
        self._socket = socket = WebSocket(self._port, "/stream")
        names: dict[int, str] = {}

        def send(count: int) -> None:
            lines = []
            for _ in range(count):
                topic = self._topic(dice)
                name, [body] = self._ledger.begin([topic], [_size(dice)])
                names[len(names)] = name
                publish = {"kind": "publish", "id": len(names) - 1, "topic": topic, "data": body}
                lines.append(publish | {"type": "text/plain"})
            socket.send_all(lines)

        with contextlib.suppress(*BROKEN):
            send(_PIPELINE)
            for line in socket.lines():
                if line["kind"] == "ok" and "cursor" in line:
                    self._count("201")
                    self._ledger.acknowledge(names[line["id"]], [line["cursor"]])
                elif line["kind"] == "error":
                    self._refused(names[line["id"]], line["status"], line["code"])
                else:
                    continue
                if self.stopping.is_set():
                    break
                send(1)
        socket.close()

    def _deletes(self, http: Http, dice: random.Random) -> None:
        """Writes to a topic of its own, and empties it; stops at the first answer that it doesn't get."""
        topic = f"gone/{self._run}"
        while not self.stopping.is_set():
            upto = ""
            for _ in range(dice.randint(1, 6)):
                sizes = [_size(dice) for _ in range(dice.choice((1, 1, 30)))]
                name, bodies = self._ledger.begin([topic] * len(sizes), sizes)
                lines = "\n".join(json.dumps(body) for body in bodies)
                headers = {"content-type": "application/x-ndjson"}
                if not self._publish(http, name, f"/topics/{topic}", lines.encode(), headers):
                    return
                upto = self._ledger.groups[name].cursors[len(sizes) - 1]
            delete = Delete(topic, upto)
            self._ledger.deletes.append(delete)
            answer = http.request("DELETE", f"/topics/{topic}")
            if answer.status != 204:
                if answer.code in _NOT_DONE:
                    delete.outcome = REFUSED
                self._count(f"{answer.status} {answer.code}")
                return
            delete.outcome = DONE

    def _bounded(self, http: Http, dice: random.Random) -> None:
        """Writes to topics with options, and changes these now and then."""
        topics = list(OPTIONS)
        for turn in itertools.count():
            if self.stopping.is_set():
                return
            topic = topics[turn % len(topics)]
            if turn < len(topics) or dice.random() < 0.01:
                self._set_options(http, topic, dice.choice(OPTIONS[topic]))
            sizes = [_size(dice) for _ in range(dice.choice((1, 5, 60)))]
            key = f"key-{dice.randint(0, 40)}" if topic == COMPACT else None
            name, bodies = self._ledger.begin([topic] * len(sizes), sizes, key)
            path = f"/topics/{topic}" + (f"?key={key}" if key else "")
            self._publish(http, name, path, ndjson_body(bodies), {"content-type": "application/x-ndjson"})

    def _set_options(self, http: Http, topic: str, options: dict) -> None:
        answer = http.request("PUT", f"/options/{topic}", json.dumps(options).encode(), {"content-type": "application/json"})
        if answer.status != 200:
            self._count(f"{answer.status} {answer.code}")

    def _publish(self, http: Http, name: str, path: str, body: bytes, headers: dict) -> bool:
        """Whether it was acknowledged."""
        answer = http.request("POST", path, body, headers)
        if answer.status == 201:
            self._count("201")
            self._ledger.acknowledge(name, cursors_of(answer))
            return True
        self._refused(name, answer.status, answer.code)
        return False

    def _refused(self, name: str, status: int, code: str | None) -> None:
        self._count(f"{status} {code}")
        if status < 500 or code in _NOT_DONE:
            self._ledger.refuse(name)
            # A broker that takes nothing more is asked now and then, not flat out.
            self.stopping.wait(0.02)

    def _count(self, answer: str) -> None:
        with self._lock:
            self.answers[answer] = self.answers.get(answer, 0) + 1


def cursors_of(answer: Answer) -> list[str]:
    receipts = answer.json.get("receipts") or [answer.json]
    return [receipt["cursor"] for receipt in receipts]


def ndjson_body(lines: list[object]) -> bytes:
    return "\n".join(json.dumps(line) for line in lines).encode()


def _size(dice: random.Random) -> int:
    """Mostly small; some that fill a chunk of the log, or take several."""
    roll = dice.random()
    if roll < 0.94:
        return dice.randint(0, 300)
    return dice.randint(3000, 9000) if roll < 0.99 else dice.randint(20_000, 60_000)


class Subscriber:
    """Reads a stream into the ledger until it ends; `cursor` is where it would resume, "" if it was never given one."""

    def __init__(self, port: int, ledger: Ledger, path: str, after: str):
        self.cursor = "" if after == "earliest" else after
        self.errors: list[BaseException] = []
        self._ledger = ledger
        self._thread = threading.Thread(target=self._run, args=(port, path, after), daemon=True)
        self._thread.start()

    def _run(self, port: int, path: str, after: str) -> None:
        try:
            for line in ndjson(port, path, after):
                self._ledger.saw(line)
                self.cursor = line.get("cursor", self.cursor)
        except BROKEN:
            pass
        except BaseException as error:
            self.errors.append(error)

    @property
    def is_open(self) -> bool:
        return self._thread.is_alive()

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive(), "a subscriber doesn't end"
        if self.errors:
            raise self.errors[0]
