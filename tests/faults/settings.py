"""How much is tried. The defaults take seconds; a run to be sure of something sets more."""

import os
import random
import shutil
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path


def _number(name: str, default: int) -> int:
    return int(os.environ.get(name, default))


CUTS = _number("FAULT_CUTS", 8)
KILLS = _number("FAULT_KILLS", 6)
# Each of the first so many writes and syncs fails once.
STEPS = _number("FAULT_STEPS", 3)
FLIPS = _number("FAULT_FLIPS", 40)
# For how long each load is watched.
UNSYNCED_S = _number("FAULT_UNSYNCED_S", 2)
SEED = _number("FAULT_SEED", random.SystemRandom().randrange(1 << 32))
# Keep the folder of a test that failed.
KEEPS = os.environ.get("FAULT_KEEP") == "1"
# How long what comes by itself may take; how long after room comes back publishes may still be refused.
EVENTUALLY_S_MAX = 5


class FaultTest(unittest.TestCase):
    """A test with a folder and dice of its own. A failure names the seed, which repeats the dice, though not the
    threads."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tailwire-faults-")).resolve()
        self.dice = random.Random(f"{SEED}/{self.id()}")
        self.note = ""
        self.addCleanup(self._clean)

    def _clean(self) -> None:
        if KEEPS:
            print(f"{self.id()}: {self.folder}")
        else:
            shutil.rmtree(self.folder)

    def eventually(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + EVENTUALLY_S_MAX
        while not holds():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.05)

    def _formatMessage(self, msg: str | None, standardMsg: str) -> str:
        where = f" [FAULT_SEED={SEED} {self.note}]"
        return super()._formatMessage(msg, standardMsg) + where
