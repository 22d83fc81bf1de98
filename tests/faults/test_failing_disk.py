"""A write or a sync fails: nothing that isn't durable is acknowledged, open streams stay, what is read is right, and a
restart finds everything that was acknowledged, even if the power went meanwhile."""

import errno
import shutil
import time
from collections.abc import Callable

from broker import Broker, Refused, panics
from disk import FATES, NONE, Disk
from ledger import KEPT, Ledger
from load import Load, Subscriber
from settings import STEPS, FaultTest
from shim import ANY, RANGE, SYNC, WRITE, Shim
from verify import publish, read_all, verify
from wire import catch_up, ndjson

# What a client may hear once the disk has failed (docs/PROTOCOL.md, "Retrying safely"), and before.
ALLOWED = {"201", "503 outcome-unknown", "503 storage-failed", "503 overloaded", "507 storage-full"}
UNHEALTHY = {"503 outcome-unknown", "503 storage-failed", "507 storage-full"}
# How long the load may take to come to the call that fails.
RUN_S_MAX = 3
# How long it goes on after that.
AFTER_S = 0.15


class ShimTest(FaultTest):
    def setUp(self) -> None:
        super().setUp()
        self.root = self.folder / "disk"
        self.data = self.root / "data"
        self.ledger = Ledger()
        self._place = self.folder / "shim"
        self._place.mkdir()


class FailingDisk(ShimTest):
    def test_a_sync_fails_with_eio(self) -> None:
        self._each(SYNC, errno.EIO)

    def test_a_write_fails_with_eio(self) -> None:
        self._each(WRITE, errno.EIO)

    def test_the_engines_own_sync_fails_with_eio(self) -> None:
        self._each(RANGE, errno.EIO)

    def test_a_write_fails_because_the_disk_is_full(self) -> None:
        self._each(WRITE, errno.ENOSPC)

    def test_a_sync_fails_because_the_disk_is_full(self) -> None:
        self._each(SYNC, errno.ENOSPC)

    def _each(self, kind: int, error: int) -> None:
        """The nth call fails, once or from there on, for each n."""
        for nth in range(1, STEPS + 1):
            for times in (1, None):
                torn = kind == WRITE and self.dice.random() < 0.5
                end = self.dice.choice(("cut", "kill", "stop"))
                self.note = f"call {nth}, {times or 'many'} times, torn: {torn}, then {end}"
                with self.subTest(nth=nth, times=times):
                    self._lifetime(lambda shim: shim.fail(kind, nth, error, times, torn), end)

    def _lifetime(self, break_disk: Callable[[Shim], None], end: str) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        self.root.mkdir()
        self.ledger = Ledger()
        disk, shim = Disk(self.root), Shim(self._place, self.root)
        with Broker(self.data, shim) as broker:
            publish(self, broker.http, self.ledger, "kept/first")
            reader = Subscriber(broker.port, self.ledger, f"/topics/{KEPT}", "earliest")
            load = Load(broker.port, self.ledger, self.dice.getrandbits(32), "load").start()
            break_disk(shim)
            self._wait_for(lambda: shim.fired > 0 or not broker.is_alive, "the call that was to fail doesn't come")
            time.sleep(AFTER_S)
            self.assertTrue(broker.is_alive, f"the broker died: {broker.stderr}")
            load.stop()
            self._check_failed(broker, load, reader)
            self._end(broker, end)
            reader.join()
            self.assertEqual(panics(broker.stderr), "")
        if end == "cut":
            disk.replay(shim.journal)
            disk.cut(self.root, self.dice.choice(FATES + (NONE, NONE)), self.dice)
        with Broker(self.data) as broker:
            verify(self, broker, self.ledger, reader.cursor, self.dice)

    def _check_failed(self, broker: Broker, load: Load, reader: Subscriber) -> None:
        self.assertLessEqual(set(load.answers), ALLOWED)
        self.assertTrue(set(load.answers) & UNHEALTHY, f"nobody was told: {load.answers}")
        self.assertEqual(broker.http.get("/healthz").status, 200)
        self.assertEqual(broker.http.get("/readyz").status, 503)
        self.assertTrue(reader.is_open, "an open stream ended")
        # A failed write can leave the engine with a page half split, which it can't read past before a restart: then
        # reading is refused, and nothing wrong is read.
        answer = broker.http.get("/topics/**?limit=1000")
        if f"{answer.status} {answer.code}" != "503 storage-failed":
            self._check_reading(broker)
        answer = broker.http.request("POST", "/topics/refused", b"x")
        self.assertIn(f"{answer.status} {answer.code}", UNHEALTHY)

    def _check_reading(self, broker: Broker) -> None:
        log = read_all(broker.http)
        self.assertEqual(self.ledger.faults(log), [])
        streamed = catch_up(ndjson(broker.port, f"/topics/{KEPT}", "earliest"))
        kept = [line["cursor"] for line in log if line["topic"].startswith("kept/")]
        self.assertEqual([line["cursor"] for line in streamed], kept)

    def _end(self, broker: Broker, end: str) -> None:
        if end == "stop":
            broker.stop()
        else:
            broker.kill()

    def _wait_for(self, condition: Callable[[], bool], why: str) -> None:
        end = time.monotonic() + RUN_S_MAX
        while not condition():
            self.assertLess(time.monotonic(), end, why)
            time.sleep(0.01)


class FailingOpening(ShimTest):
    """The disk fails while the log is opened: the broker says so in a sentence, and loses nothing by it."""

    def test_a_call_fails_with_eio(self) -> None:
        self._each_call(errno.EIO)

    def test_a_call_fails_because_the_disk_is_full(self) -> None:
        self._each_call(errno.ENOSPC)

    def _each_call(self, error: int) -> None:
        self._prepare()
        nth, refused = 1, True
        while refused:
            self.note = f"call {nth} of opening"
            with self.subTest(nth=nth):
                refused = False
                refused = self._open(nth, error)
            nth += 1
        self.assertGreater(nth, 3)
        with Broker(self.data) as broker:
            verify(self, broker, self.ledger, "", self.dice)

    def _prepare(self) -> None:
        """A store that was left in a hurry, so that opening it has something to do."""
        self.root.mkdir()
        with Broker(self.data) as broker:
            load = Load(broker.port, self.ledger, self.dice.getrandbits(32), "load").start()
            time.sleep(0.3)
            broker.kill()
            load.join()

    def _open(self, nth: int, error: int) -> bool:
        shim = Shim(self._place, self.root)
        shim.fail(ANY, nth, error)
        try:
            with Broker(self.data, shim) as broker:
                broker.kill()
                return shim.fired > 0
        except Refused as refused:
            assert_clear(self, refused)
            return True


def assert_clear(test: FaultTest, refused: Refused) -> None:
    """A refusal is one sentence for the operator, and no debris."""
    test.assertEqual(refused.code, 1, refused.said)
    test.assertEqual(panics(refused.said), "")
    lines = [line for line in refused.said.splitlines() if line.startswith("tailwire: ")]
    test.assertEqual(len(lines), 1, refused.said)
    test.assertNotIn("backtrace", refused.said)
