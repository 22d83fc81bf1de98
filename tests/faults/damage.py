"""Stores to be damaged, ways to damage them, and whether a reader is told of what is lost."""

import random
import shutil
import time
from pathlib import Path

from broker import Broker
from ledger import Ledger
from load import Load
from settings import FaultTest
from verify import read_all
from wire import pages

# Lost messages of one store for which is asked whether a reader is told.
_PROBES = 5


def store(test: FaultTest, name: str, clean: bool) -> tuple[Path, Ledger]:
    """A stopped store of two runs, and what was promised of it."""
    ledger = Ledger()
    data = test.folder / name
    for run in range(2):
        with Broker(data) as broker:
            load = Load(broker.port, ledger, test.dice.getrandbits(32), f"{name}-{run}").start()
            time.sleep(0.25)
            if clean:
                load.stop()
                broker.stop()
            else:
                broker.kill()
                load.join()
    ledger.told = ledger.newest
    # What the clients don't know they learn from the sound store.
    with Broker(shutil.copytree(data, test.folder / "copy")) as broker:
        test.assertEqual(ledger.faults(read_all(broker.http)), [])
    shutil.rmtree(test.folder / "copy")
    return data, ledger


def damage(data: Path, dice: random.Random) -> str:
    """Large files are hit more often, as on a disk; but every file now and then."""
    files = [path for path in data.rglob("*") if path.is_file() and path.stat().st_size > 0]
    # It only takes room, and most of it.
    files = [path for path in files if path.name != "ballast"]
    sizes = [path.stat().st_size for path in files]
    by_size = dice.random() < 0.8
    return damage_file(dice.choices(files, sizes if by_size else None)[0], dice)


def damage_file(path: Path, dice: random.Random) -> str:
    size = path.stat().st_size
    if dice.random() < 0.25:
        left = dice.randrange(size)
        with path.open("r+b") as file:
            file.truncate(left)
        return f"{path.name} cut from {size} to {left}"
    at, bit = dice.randrange(size), 1 << dice.randrange(8)
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bit]))
    return f"{path.name} byte {at} of {size}: {byte:#04x} ^ {bit:#04x}"


def untold(broker: Broker, promised: Ledger, left: set[str], dice: random.Random) -> str:
    """A lost message that a reader who had all before it isn't told of; of those that a client was told of itself: what
    only a sound copy of the store taught was never acknowledged."""
    kept = sorted(
        (cursor, group.topics[index])
        for group in promised.groups.values()
        for index, cursor in group.cursors.items()
        if group.topics[index].startswith("kept/") and cursor <= promised.told
    )
    lost = [at for at, (cursor, _) in enumerate(kept) if cursor not in left and at > 0]
    for at in dice.sample(lost, min(_PROBES, len(lost))):
        cursor, topic = kept[at]
        gaps = [line for line in pages(broker.http, f"/topics/{topic}", kept[at - 1][0]) if line["kind"] == "gap"]
        # Of a log that the cursor is unknown to, everything is read again.
        if not any(gap["to"] >= cursor or gap["reason"] == "epoch" for gap in gaps):
            return f"{cursor} in {topic}"
    return ""
