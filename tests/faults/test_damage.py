"""A stopped store is damaged: a byte changes, or a file is cut. The broker refuses it in one clear sentence, or serves
right bytes only. It never panics, no message comes with other bytes than were published, and nothing that was
acknowledged is missing without a word."""

import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from broker import Broker, Refused, panics
from damage import damage, damage_file, store, untold
from ledger import Ledger
from settings import FLIPS, FaultTest
from verify import read_all
from wire import Answer, WebSocket, catch_up, ndjson, pages, sse

# Damaged snapshots of each store.
SNAPSHOTS = max(2, FLIPS // 5)
# Messages that fill several segments of the engine's file: while they are written it moves what came before them.
LARGE = 20
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

    def test_a_damaged_snapshot_of_the_engine_is_done_without(self) -> None:
        for origin, promised in (store(self, "closed", clean=True), store(self, "killed", clean=False)):
            for _ in range(SNAPSHOTS):
                data = self.folder / "damaged"
                shutil.rmtree(data, ignore_errors=True)
                shutil.copytree(origin, data)
                [snapshot] = data.glob("snap.*")
                self.note = f"{origin.name} store, {damage_file(snapshot, self.dice)}"
                # As it is opened first, and then with the snapshot that was made anew.
                for _ in range(2):
                    self.assertEqual(self._try(data, promised), (WHOLE, ""))
                # What the engine makes nothing of may be spoiled: the length before the checksum.
                self.assertLessEqual(len(list(data.glob("damaged.snap.*"))), 1)
                self.assertEqual(len(list(data.glob("snap.*"))), 1)

    def test_reading_ends_before_damage_and_says_so(self) -> None:
        data = self.folder / "data"
        with Broker(data) as broker:
            cursors = [_publish(self, broker, "kept/a", f"mark {number:04}") for number in range(600)]
            for _ in range(LARGE):
                _publish(self, broker, "kept/b", "x" * 900_000)
            broker.stop()
        # From its second opening on the engine has no need to read what it wrote before, but for the last segment.
        with Broker(data) as broker:
            broker.stop()
        raw = (data / "db").read_bytes()
        self.assertIn(b"mark 0300", raw)
        (data / "db").write_bytes(raw.replace(b"mark 0300", b"mark 03~0"))
        with Broker(data) as broker:
            got = [self._read_to_damage(broker, read) for read in (_by_pages, _by_ndjson, _by_sse, _by_websocket)]
            for messages in got:
                self.assertEqual(messages, cursors[: len(messages)])
                self.assertTrue(100 < len(messages) <= 300, len(messages))
            self.assertEqual(len({len(messages) for messages in got}), 1, "each transport gets as far")
            # The rest of the log is there, for readers that begin behind it.
            self.assertEqual(catch_up(pages(broker.http, "/topics/kept/a", cursors[-2]))[0]["cursor"], cursors[-1])
            self.assertEqual(len(catch_up(ndjson(broker.port, "/topics/kept/b", "earliest"))), LARGE)
            self.assertEqual(broker.http.get(f"/messages/{cursors[300]}").code, "storage-damaged")
            self.assertEqual(broker.http.get("/readyz").status, 200)
            self.assertEqual(panics(broker.stderr), "")

    def _read_to_damage(self, broker: Broker, read: Callable[["Damage", Broker, str], list[str]]) -> list[str]:
        """What comes before the damage; asked from there, nothing does, and the broker says why."""
        cursors = read(self, broker, "earliest")
        self.assertEqual(read(self, broker, cursors[-1]), [])
        return cursors

    def assert_damaged(self, answer: Answer) -> None:
        self.assertEqual(f"{answer.status} {answer.code}", "500 storage-damaged")
        self.assertIsNone(answer.headers["retry-after"])

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


def _publish(test: FaultTest, broker: Broker, topic: str, text: str) -> str:
    answer = broker.http.request("POST", f"/topics/{topic}", text.ljust(400).encode(), {"content-type": "text/plain"})
    test.assertEqual(answer.status, 201, answer.body)
    return answer.json["cursor"]


def _by_pages(test: Damage, broker: Broker, after: str) -> list[str]:
    cursors = []
    while (answer := broker.http.get(f"/topics/kept/a?after={after}&limit=1000")).status == 200:
        cursors += [message["cursor"] for message in answer.json["messages"]]
        after = answer.json["cursor"]
    test.assert_damaged(answer)
    return cursors


def _by_ndjson(test: Damage, broker: Broker, after: str) -> list[str]:
    return _by_stream(test, broker, after, "ndjson", ndjson)


def _by_sse(test: Damage, broker: Broker, after: str) -> list[str]:
    return _by_stream(test, broker, after, "sse", sse)


def _by_stream(test: Damage, broker: Broker, after: str, name: str, lines: Callable) -> list[str]:
    """A stream that can't begin is refused; one that had begun ends."""
    try:
        return [line["cursor"] for line in lines(broker.port, "/topics/kept/a", after) if line["kind"] == "message"]
    except ConnectionError:
        test.assert_damaged(broker.http.get(f"/topics/kept/a?after={after}&format={name}"))
        return []


def _by_websocket(test: Damage, broker: Broker, after: str) -> list[str]:
    client = WebSocket(broker.port, f"/topics/kept/a?after={after}")
    try:
        lines = list(client.lines())
    finally:
        client.close()
    test.assertEqual(client.close_code, 1011)
    error = {"kind": "error", "id": 0, "status": 500, "code": "storage-damaged"}
    test.assertEqual(lines[-1] | error, lines[-1])
    return [line["cursor"] for line in lines if line["kind"] == "message"]
