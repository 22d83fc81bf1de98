"""The process is killed under load, again and again on one store. The kernel keeps what it was given, so everything
that was acknowledged, and everything that a subscriber saw, is there afterwards."""

import shutil
import time
from pathlib import Path

from broker import Broker, Refused
from ledger import GONE, KEPT, Ledger
from load import Load, Subscriber
from settings import KILLS, FaultTest
from shim import ANY, Shim
from verify import verify
from wire import resume_everywhere

# Kills on one store before the next one begins, so that verifying it stays quick.
KILLS_PER_STORE = 10


class Kill(FaultTest):
    def test_nothing_is_lost_or_comes_twice(self) -> None:
        acknowledged = 0
        for first in range(0, KILLS, KILLS_PER_STORE):
            data = self.folder / f"store-{first}"
            ledger = Ledger()
            self._lives(data, ledger, range(first, min(KILLS, first + KILLS_PER_STORE)))
            acknowledged += ledger.acknowledged
            shutil.rmtree(data)
        self.assertGreater(acknowledged, KILLS * 10, "too little was published for a test")

    def _lives(self, data: Path, ledger: Ledger, kills: range) -> None:
        resume = "earliest"
        for kill in kills:
            run_s = self.dice.uniform(0.01, 0.6)
            self.note = f"kill {kill} after {run_s:.3f} s"
            with Broker(data) as broker:
                load = Load(broker.port, ledger, self.dice.getrandbits(32), f"kill-{kill}").start()
                reader = Subscriber(broker.port, ledger, f"/topics/{KEPT}", resume)
                time.sleep(run_s)
                broker.kill()
                load.join()
                reader.join()
            with Broker(data) as broker:
                log = verify(self, broker, ledger, reader.cursor, self.dice)
                self._check_gap(broker, log)
                resume = ledger.newest
                broker.kill()

    def _check_gap(self, broker: Broker, log: list[dict]) -> None:
        """Where a DELETE took messages, each transport says so in the same words, and goes on."""
        first = log[0]["cursor"]
        left = [line["cursor"] for line in log[1:] if line["topic"].startswith("gone/")]
        views = resume_everywhere(broker.http, broker.port, f"/topics/{GONE}", first)
        gaps = {name: [line for line in lines if line["kind"] == "gap"] for name, lines in views.items()}
        for name, lines in views.items():
            cursors = [line["cursor"] for line in lines if line["kind"] == "message"]
            self.assertEqual(cursors, left, f"{name}: after the gap")
            self.assertEqual(_reasons(gaps[name]), _reasons(gaps["pages"]), f"{name}: gaps")


def _reasons(gaps: list[dict]) -> list[tuple]:
    return [(gap["from"], gap["to"], gap["reason"]) for gap in gaps]


class Opening(FaultTest):
    def test_killed_at_every_call_of_opening(self) -> None:
        """A process that dies before it serves leaves a store that opens."""
        root = self.folder / "disk"
        root.mkdir()
        data = root / "data"
        ledger = Ledger()
        with Broker(data) as broker:
            load = Load(broker.port, ledger, self.dice.getrandbits(32), "opening").start()
            time.sleep(0.4)
            broker.kill()
            load.join()
        nth = 1
        while not self._opens_before(nth, root, data):
            nth += 1
        self.assertGreater(nth, 3)
        with Broker(data) as broker:
            verify(self, broker, ledger, "", self.dice)

    def _opens_before(self, nth: int, root: Path, data: Path) -> bool:
        self.note = f"killed at call {nth}"
        shim = Shim(self.folder, root)
        shim.kill(ANY, nth)
        try:
            with Broker(data, shim) as broker:
                broker.kill()
                return True
        except Refused as refused:
            self.assertEqual(refused.code, -9, refused.said)
            return False
