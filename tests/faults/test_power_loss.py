"""The power goes while publishers are at it, again and again on one store: nothing that was acknowledged is lost."""

import json
import shutil
import time

from broker import Broker, Refused, panics
from disk import FATES, GAPPED, NONE, PREFIX, SOME, Disk
from ledger import KEPT, Ledger
from load import Load, Subscriber, cursors_of
from settings import CUTS, FaultTest
from shim import ANY, SYNC, WRITE, Shim
from verify import read_all, verify
from wire import BROKEN, catch_up, pages

# Cuts on one store before the next one begins, so that verifying it stays quick.
CUTS_PER_STORE = 8
# How long a publisher may go on if the cut was meant for a call that doesn't come.
RUN_S_MAX = 1.5
# Stores whose file is used again, and the batches that fill each, before the cut and until it.
REUSED_CUTS, REUSED_ROUNDS = 2, 60


class Store:
    """A data folder over several lives of a broker, and what was promised on it."""

    def __init__(self, test: FaultTest, name: str, lies: bool = False):
        self._test = test
        self._dice = test.dice
        self.root = test.folder / name
        self.root.mkdir()
        self.data = self.root / "data"
        self._lies = lies
        self.ledger = Ledger()
        self.resume = ""
        self._runs = 0

    def run_until_cut(self, fate: str) -> None:
        """One life, a cut, and the folder as it is afterwards."""
        self._runs += 1
        place = self._test.folder / "shim"
        place.mkdir(exist_ok=True)
        disk = Disk(self.root)
        shim = Shim(place, self.root, self._lies)
        plan = self._plan(shim)
        self._test.note = f"run {self._runs}: {plan}, what was not synced: {fate}"
        try:
            broker = Broker(self.data, shim)
        except Refused as refused:
            self._test.assertEqual(refused.code, -9, f"it doesn't start: {refused.said}")
        else:
            self._publish(broker, plan)
        disk.replay(shim.journal)
        left = self.root.with_name("left")
        disk.cut(left, fate, self._dice)
        shutil.rmtree(self.root)
        left.rename(self.root)

    def _plan(self, shim: Shim) -> str:
        """Where the cut comes: at a time, at a call while publishing or opening, or after a clean end."""
        roll = self._dice.random()
        if roll < 0.15:
            nth = self._dice.randint(1, 12)
            shim.kill(ANY, nth)
            return f"at call {nth} from its start"
        if roll < 0.6:
            kind, nth = self._dice.choice((WRITE, SYNC)), self._dice.randint(4, 400)
            shim.kill(kind, nth)
            return f"at {'write' if kind == WRITE else 'sync'} {nth}"
        return "after a clean end" if roll < 0.7 else "at a time"

    def _publish(self, broker: Broker, plan: str) -> None:
        with broker:
            load = Load(broker.port, self.ledger, self._dice.getrandbits(32), f"{self.root.name}-{self._runs}").start()
            reader = Subscriber(broker.port, self.ledger, f"/topics/{KEPT}", self.resume or "earliest")
            run_s = self._dice.uniform(0.02, 0.4) if " time" in plan or "clean" in plan else RUN_S_MAX
            wait_for_end(broker, run_s)
            if "clean" in plan:
                broker.stop()
            else:
                broker.kill()
            load.join()
            reader.join()
            self.resume = reader.cursor

    def verify(self) -> None:
        """Starts a broker on what is left, without the shim, and ends it in one way or the other."""
        try:
            broker = Broker(self.data)
        except Refused as refused:
            # What a cut leaves of a folder's very first start may be no log; it is told, and holds nothing.
            self._test.assertEqual(self.ledger.acknowledged, 0, f"{self._test.note}: it doesn't start: {refused}")
            shutil.rmtree(self.data)
            return
        with broker:
            verify(self._test, broker, self.ledger, self.resume, self._dice)
            self.resume = self.ledger.newest
            broker.stop() if self._dice.random() < 0.5 else broker.kill()


def wait_for_end(broker: Broker, seconds: float) -> None:
    """Lets it run for so long, or until it ends by itself."""
    end = time.monotonic() + seconds
    while broker.is_alive and time.monotonic() < end:
        time.sleep(0.01)


class PowerLoss(FaultTest):
    def test_nothing_acknowledged_is_lost(self) -> None:
        acknowledged = 0
        for first in range(0, CUTS, CUTS_PER_STORE):
            store = Store(self, f"store-{first}")
            for _ in range(first, min(CUTS, first + CUTS_PER_STORE)):
                store.run_until_cut(self.dice.choice(FATES))
                store.verify()
            acknowledged += store.ledger.acknowledged
            shutil.rmtree(store.root)
        self.assertGreater(acknowledged, CUTS, "too little was published for a test")

    def test_a_cut_while_opening_after_a_cut(self) -> None:
        """Recovery itself writes; a cut may come between any two of its calls."""
        store = Store(self, "store")
        store.run_until_cut(PREFIX)
        store.verify()
        store.run_until_cut(PREFIX)
        nth, opened = 1, False
        while not opened:
            self.note = f"at call {nth} of opening"
            opened = self._open_and_cut(store, nth)
            nth += 1
        store.verify()
        self.assertGreater(nth, 3)

    def test_a_cut_while_the_file_is_used_again(self) -> None:
        """Retention frees parts of the file, and what comes is written over them, faster than it is promised to be durable:
        what was durable must not go with it, however the disk orders what it has yet to write."""
        kept = "\n".join(json.dumps(f"{'k' * 200}") for _ in range(20)).encode()
        noise = "\n".join(json.dumps("x" * 900) for _ in range(300)).encode()
        for cut in range(REUSED_CUTS):
            root = self.folder / f"reused-{cut}"
            root.mkdir()
            place = self.folder / "shim"
            place.mkdir(exist_ok=True)
            disk, shim = Disk(root), Shim(place, root)
            with Broker(root / "data", shim) as broker:
                options = json.dumps({"durability": "relaxed", "max_messages": 400}).encode()
                broker.http.request("PUT", "/options/noise/**", options, {"content-type": "application/json"})
                acknowledged = _fill(broker, kept, noise, REUSED_ROUNDS)
                # In mid-air, with whatever is not synced yet.
                shim.kill(WRITE, self.dice.randint(1, 40))
                acknowledged += _fill(broker, kept, noise, REUSED_ROUNDS)
                broker.kill()
            disk.replay(shim.journal)
            self.assertGreater(len(acknowledged), 20, "too little was published for a test")
            for fate in (SOME, SOME, GAPPED, GAPPED, PREFIX):
                self.note = f"cut {cut}, what was not synced: {fate}"
                left = self.folder / "left"
                disk.cut(left, fate, self.dice)
                with Broker(left / "data") as broker:
                    there = {line["cursor"] for line in catch_up(pages(broker.http, "/topics/kept"))}
                    self.assertEqual([cursor for cursor in acknowledged if cursor not in there], [])
                    broker.kill()
            shutil.rmtree(root)

    def _open_and_cut(self, store: Store, nth: int) -> bool:
        place = self.folder / "shim"
        disk = Disk(store.root)
        shim = Shim(place, store.root)
        shim.kill(ANY, nth)
        opened = True
        try:
            with Broker(store.data, shim) as broker:
                broker.kill()
        except Refused as refused:
            self.assertEqual(refused.code, -9, refused.said)
            opened = False
        disk.replay(shim.journal)
        disk.cut(store.root, self.dice.choice(FATES), self.dice)
        return opened


def _fill(broker: Broker, kept: bytes, noise: bytes, rounds: int) -> list[str]:
    """Publishes until the broker is gone, for so many rounds at most; gives the cursors that are promised to be durable."""
    acknowledged: list[str] = []
    batch = {"content-type": "application/x-ndjson"}
    try:
        for round_ in range(rounds):
            broker.http.request("POST", f"/topics/noise/{round_ % 4}", noise, batch)
            if round_ % 3 == 0:
                answer = broker.http.request("POST", "/topics/kept", kept, batch)
                acknowledged += cursors_of(answer) if answer.status == 201 else []
    except BROKEN:
        pass
    return acknowledged


class LyingDisk(FaultTest):
    """The tests above can fail: on a disk whose fdatasync does nothing they find that messages are gone."""

    def test_a_disk_that_lies_loses_what_was_acknowledged(self) -> None:
        for attempt in range(10):
            store = Store(self, f"store-{attempt}", lies=True)
            store.run_until_cut(NONE)
            if self._faults(store):
                return
        self.fail("10 cuts on a disk that keeps nothing, and nothing was missed")

    def _faults(self, store: Store) -> list[str]:
        if not store.data.exists():
            return ["nothing is left"] if store.ledger.acknowledged else []
        try:
            broker = Broker(store.data)
        except Refused as refused:
            self.assertEqual(panics(refused.said), "")
            return [str(refused)]
        with broker:
            faults = store.ledger.faults(read_all(broker.http))
            self.assertTrue(all(fault.startswith("lost: ") for fault in faults), faults[:3])
            return faults
