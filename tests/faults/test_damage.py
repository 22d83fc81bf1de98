"""A stopped store is damaged: a byte changes, or a file is cut. The broker refuses it in one clear sentence, or serves
right bytes only. It never panics, no message comes with other bytes than were published, and nothing that was
acknowledged is missing without a word."""

import shutil
import time
from collections import Counter
from pathlib import Path

from broker import Broker, Refused, panics
from ledger import Ledger
from load import Load
from settings import FLIPS, FaultTest
from verify import read_all
from wire import pages

# What may become of a damaged store.
REFUSED, WHOLE, TOLD, UNREADABLE = "refused", "whole", "gap told", "reads refused"
# What may not: the end of the store is gone, with messages or with DELETEs and epochs, and nobody is told.
SILENT, UNDONE = "silent loss", "end undone"
PANIC, LOUD, UNCLEAR, WRONG = "panic", "refused with a panic", "unclear refusal", "wrong"
# What a log that only lost its end has: messages and DELETEs of the end are gone, and epochs, which name the cursors.
_OF_THE_END = ("lost: ", "not whole: ", "undone: ", "half done: ", "moved: ")
# Lost messages of one store for which is asked whether a reader is told.
_PROBES = 5


class Damage(FaultTest):
    def test_damage_is_refused_or_told(self) -> None:
        sound = [self._store("closed", clean=True), self._store("killed", clean=False)]
        outcomes: Counter[str] = Counter()
        stories: list[str] = []
        for number in range(FLIPS):
            data = self.folder / "damaged"
            shutil.rmtree(data, ignore_errors=True)
            origin, promised = self.dice.choice(sound)
            shutil.copytree(origin, data)
            what = f"{number}: {origin.name} store, {self._damage(data)}"
            outcome, story = self._try(data, promised)
            outcomes[outcome] += 1
            if outcome not in (REFUSED, WHOLE, TOLD, UNREADABLE):
                stories.append(f"{outcome} | {what} | {story}")
        print(f"\n{FLIPS} damaged stores: {dict(outcomes)}")
        self.assertEqual(stories, [], "\n" + "\n".join(stories))

    def _store(self, name: str, clean: bool) -> tuple[Path, Ledger]:
        ledger = Ledger()
        data = self.folder / name
        for run in range(2):
            with Broker(data) as broker:
                load = Load(broker.port, ledger, self.dice.getrandbits(32), f"{name}-{run}").start()
                time.sleep(0.25)
                if clean:
                    load.stop()
                    broker.stop()
                else:
                    broker.kill()
                    load.join()
        # What the clients don't know they learn from the sound store.
        with Broker(shutil.copytree(data, self.folder / "copy")) as broker:
            self.assertEqual(ledger.faults(read_all(broker.http)), [])
        shutil.rmtree(self.folder / "copy")
        return data, ledger

    def _damage(self, data: Path) -> str:
        """Large files are hit more often, as on a disk; but every file now and then."""
        files = [path for path in data.rglob("*") if path.is_file() and path.stat().st_size > 0]
        # It only takes room, and most of it.
        files = [path for path in files if path.name != "ballast"]
        sizes = [path.stat().st_size for path in files]
        by_size = self.dice.random() < 0.8
        path = self.dice.choices(files, sizes if by_size else None)[0]
        size = path.stat().st_size
        if self.dice.random() < 0.25:
            left = self.dice.randrange(size)
            with path.open("r+b") as file:
                file.truncate(left)
            return f"{path.name} cut from {size} to {left}"
        at, bit = self.dice.randrange(size), 1 << self.dice.randrange(8)
        with path.open("r+b") as file:
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ bit]))
        return f"{path.name} byte {at} of {size}: {byte:#04x} ^ {bit:#04x}"

    def _try(self, data: Path, promised: Ledger) -> tuple[str, str]:
        try:
            broker = Broker(data)
        except Refused as refused:
            return self._judge_refusal(refused)
        with broker:
            outcome, story = self._read(broker, promised)
            broker.stop()
            return (PANIC, panic) if (panic := panics(broker.stderr)) else (outcome, story)

    def _judge_refusal(self, refused: Refused) -> tuple[str, str]:
        if panic := panics(refused.said):
            return LOUD, panic
        sentences = [line for line in refused.said.splitlines() if line.startswith("tailwire: ")]
        is_clear = refused.code == 1 and len(sentences) == 1 and "backtrace" not in refused.said
        return (REFUSED, "") if is_clear else (UNCLEAR, f"{refused.code}: {refused.said[-300:]}")

    def _read(self, broker: Broker, promised: Ledger) -> tuple[str, str]:
        try:
            log = read_all(broker.http)
        except AssertionError as error:
            is_refusal = broker.http.get("/topics/**").status in (200, 500, 503)
            return (UNREADABLE if is_refusal else WRONG), str(error)
        faults = promised.faults(log, learns=False)
        if others := [fault for fault in faults if not fault.startswith(_OF_THE_END)]:
            return f"{WRONG}: {others[0].partition(':')[0]}", "; ".join(others[:3])
        if any(fault.startswith(_OF_THE_END[2:]) for fault in faults):
            return UNDONE, ""
        if not faults:
            return WHOLE, ""
        untold = self._untold(broker, promised, {line["cursor"] for line in log})
        return (SILENT, f"{len(faults)} lost, as {untold}") if untold else (TOLD, "")

    def _untold(self, broker: Broker, promised: Ledger, left: set[str]) -> str:
        """A lost message that a reader who had all before it isn't told of."""
        kept = sorted(
            (cursor, group.topics[index])
            for group in promised.groups.values()
            for index, cursor in group.cursors.items()
            if group.topics[index].startswith("kept/")
        )
        lost = [at for at, (cursor, _) in enumerate(kept) if cursor not in left and at > 0]
        for at in self.dice.sample(lost, min(_PROBES, len(lost))):
            cursor, topic = kept[at]
            gaps = [line for line in pages(broker.http, f"/topics/{topic}", kept[at - 1][0]) if line["kind"] == "gap"]
            if not any(gap["to"] >= cursor for gap in gaps):
                return f"{cursor} in {topic}"
        return ""
