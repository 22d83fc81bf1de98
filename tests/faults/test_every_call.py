"""The disk fails at its nth call, for every n that a short life of a broker has: whatever call that is, nothing is
acknowledged behind it, and nothing that was is lost.

The life is always the same: one request after the other, each of another kind, and an end in good order. How many calls
that takes need not be known: n grows until a life comes to its end without the nth.
"""

import errno
import json
import shutil
from collections.abc import Iterator

from broker import Broker, panics
from disk import FATES, NONE, Disk
from ledger import LAST, OPTIONS, Delete, Keyed, Ledger
from load import cursors_of, ndjson_body
from settings import FaultTest
from shim import ANY, Shim
from verify import publish, verify
from wire import Answer, Http

# At least so many calls a life has; else it is not what it should be.
CALLS_MIN = 30
# A failing disk may come back, or not.
WAYS = ((errno.EIO, 1), (errno.EIO, None), (errno.ENOSPC, None))
# The outcomes of a request of which nothing is stored.
NOT_DONE = {"storage-failed", "storage-full", "overloaded"}


class EveryCall(FaultTest):
    def setUp(self) -> None:
        super().setUp()
        self.root, self.sample, self.place = (self.folder / name for name in ("disk", "sample", "shim"))
        self.place.mkdir()
        self.sample.mkdir()
        self.kept = Ledger()
        with Broker(self.sample / "data") as broker:
            publish(self, broker.http, self.kept, "kept/first")
            broker.stop()

    def test_every_call_of_a_life_fails_once_and_for_good(self) -> None:
        for error, times in WAYS:
            nth = 1
            while self._lifetime(nth, error, times):
                nth += 1
            self.assertGreater(nth, CALLS_MIN)

    def _lifetime(self, nth: int, error: int, times: int | None) -> bool:
        """Whether it has an nth call."""
        end = self.dice.choice(("cut", "stop"))
        torn = self.dice.random() < 0.5
        self.note = f"call {nth}, {errno.errorcode[error]} {times or 'many'} times, torn: {torn}, then {end}"
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.sample, self.root)
        disk, shim, ledger = Disk(self.root), Shim(self.place, self.root), Ledger()
        ledger.groups |= self.kept.groups
        ledger.skip(len(self.kept.groups))
        with self.subTest(nth=nth, error=error, times=times), Broker(self.root / "data", shim) as broker:
            shim.fail(ANY, nth, error, times, torn)
            for request in requests(broker.http, ledger):
                failed_before = shim.fired > 0
                answer = request()
                if failed_before:
                    self._check_refused(broker, answer)
            broker.stop()
            self.assertEqual(panics(broker.stderr), "")
        fired = shim.fired > 0
        if end == "cut":
            disk.replay(shim.journal)
            disk.cut(self.root, self.dice.choice(FATES + (NONE, NONE)), self.dice)
        with self.subTest(nth=nth, error=error, times=times), Broker(self.root / "data") as broker:
            verify(self, broker, ledger, "", self.dice)
        return fired

    def _check_refused(self, broker: Broker, answer: Answer) -> None:
        self.assertIn(answer.status, (503, 507), "it was acknowledged, and the disk had failed")
        self.assertEqual(broker.http.get("/readyz").status, 503)
        self.assertEqual(broker.http.get("/healthz").status, 200)


def requests(http: Http, ledger: Ledger) -> Iterator:
    """What the life is made of: the requests, to be called in their order."""
    text, lines = {"content-type": "text/plain"}, {"content-type": "application/x-ndjson"}

    def post(topics: list[str], size: int, key: str | None = None) -> Answer:
        name, bodies = ledger.begin(topics, [size] * len(topics))
        headers = text if len(topics) == 1 else lines
        path, body = f"/topics/{topics[0]}", bodies[0].encode() if len(topics) == 1 else ndjson_body(bodies)
        if len(set(topics)) > 1:
            each = [{"topic": topic, "data": data, "type": "text/plain"} for topic, data in zip(topics, bodies, strict=True)]
            path, body = "/stream", "\n".join(map(json.dumps, each)).encode()
        if key:
            headers = headers | {"idempotency-key": f'"{key}"'}
            ledger.keyed.append(Keyed(path, body, headers, name))
        answer = http.request("POST", path, body, headers)
        if answer.status == 201:
            ledger.acknowledge(name, cursors_of(answer))
        elif answer.code in NOT_DONE:
            ledger.refuse(name)
        return answer

    def delete() -> Answer:
        done = Delete("gone/a", ledger.newest)
        ledger.deletes.append(done)
        answer = http.request("DELETE", "/topics/gone/a")
        done.outcome = "done" if answer.status < 300 else "refused" if answer.code in NOT_DONE else "unknown"
        return answer

    def limit() -> Answer:
        body = json.dumps(OPTIONS[LAST][0]).encode()
        return http.request("PUT", f"/options/{LAST}", body, {"content-type": "application/json"})

    yield lambda: post(["kept/a"], 60)
    yield lambda: post(["kept/b"], 60, "one")
    yield lambda: post(["gone/a"] * 3, 100)
    # Some chunks in one commit, and a message in fragments.
    yield lambda: post(["kept/c"] * 60, 200)
    yield lambda: post(["kept/a"], 20_000)
    yield delete
    yield lambda: post(["kept/a", "kept/b", "kept/c"] * 4, 100, "many")
    yield limit
    yield lambda: post([LAST], 60)
    yield lambda: post([LAST], 60)
    yield lambda: post(["kept/b"], 60)
