"""A stopped store is damaged: a byte changes, or a file is cut. The broker refuses it in one clear sentence, or serves
right bytes only. It never panics, no message comes with other bytes than were published, and nothing that was
acknowledged is missing without a word."""

import shutil
from collections import Counter
from pathlib import Path

from broker import Broker, Refused, panics
from damage import damage, store, untold
from ledger import Ledger
from settings import FLIPS, FaultTest
from verify import read_all

# What may become of a damaged store.
REFUSED, WHOLE, TOLD, UNREADABLE = "refused", "whole", "gap told", "reads refused"
# What may not: the end of the store is gone, with messages or with DELETEs and epochs, and nobody is told.
SILENT, UNDONE = "silent loss", "end undone"
PANIC, LOUD, UNCLEAR, WRONG = "panic", "refused with a panic", "unclear refusal", "wrong"
# What a log that only lost its end has: messages and DELETEs of the end are gone, and epochs, which name the cursors.
_OF_THE_END = ("lost: ", "not whole: ", "undone: ", "half done: ", "moved: ")


class Damage(FaultTest):
    def test_damage_is_refused_or_told(self) -> None:
        sound = [store(self, "closed", clean=True), store(self, "killed", clean=False)]
        outcomes: Counter[str] = Counter()
        stories: list[str] = []
        for number in range(FLIPS):
            data = self.folder / "damaged"
            shutil.rmtree(data, ignore_errors=True)
            origin, promised = self.dice.choice(sound)
            shutil.copytree(origin, data)
            what = f"{number}: {origin.name} store, {damage(data, self.dice)}"
            outcome, story = self._try(data, promised)
            outcomes[outcome] += 1
            if outcome not in (REFUSED, WHOLE, TOLD, UNREADABLE):
                stories.append(f"{outcome} | {what} | {story}")
        print(f"\n{FLIPS} damaged stores: {dict(outcomes)}")
        self.assertEqual(stories, [], "\n" + "\n".join(stories))

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
        what = untold(broker, promised, {line["cursor"] for line in log}, self.dice)
        return (SILENT, f"{len(faults)} lost, as {what}") if what else (TOLD, "")
