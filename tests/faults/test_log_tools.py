"""`tailwire log`: looking at stores, mending damaged ones, carrying messages elsewhere. A look changes nothing; a repair
gives back all that can be read, at its old cursors, and tells readers of the rest; an export is imported as it was."""

import json
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from broker import BINARY, PATIENCE_S, Broker, environment, panics
from damage import damage, store, untold
from ledger import Ledger
from settings import FLIPS, FaultTest
from verify import publish, read_all

# A damaged store is looked at, repaired and served, so fewer of them are.
REPAIRS = max(1, FLIPS // 4)
SOUND, DAMAGED, UNDONE = 0, 1, 2
JSON = {"content-type": "application/json"}
# What a repair may not give back: it was in what can't be read.
_LOST = ("lost: ", "not whole: ")
# Where what says that it is gone can't be read either.
_UNDONE = ("undone: ", "half done: ")


def log_tool(*words: object, text: bytes = b"") -> subprocess.CompletedProcess:
    command = [BINARY, "log", *map(str, words)]
    return subprocess.run(
        command, input=text, capture_output=True, env=environment({}), timeout=PATIENCE_S, check=False
    )


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def log_metrics(broker: Broker) -> dict:
    """What `/metrics` says of the log, by the words of `tailwire log stats`."""
    found: dict = {}
    for name, labels, value in re.findall(
        r"^tailwire_log_(\w+)(?:\{(.*)\})? ([\d.]+)$", broker.metrics(), re.MULTILINE
    ):
        if name == "name_info":
            known = dict(re.findall(r'(\w+)="([^"]*)"', labels))
            found |= {"id": known["id"], "format": int(known["format"])}
        elif name != "pages_total":
            found[name] = float(value) if "." in value else int(value)
    return found


def without_cursors(lines: bytes) -> list[dict]:
    messages = [json.loads(line) for line in lines.splitlines()]
    for message in messages:
        del message["cursor"]
    return messages


def untrimmed(messages: list[dict]) -> list[dict]:
    """Those of topics that no option bounds."""
    return [message for message in messages if message["topic"].startswith("kept/")]


def was_heard(fault: str, promised: Ledger) -> bool:
    """What no client was ever told of, and only a sound copy of the store taught, may be gone without a word."""
    cursor = fault.partition(" at ")[2].partition(" ")[0]
    return not fault.startswith("lost: ") or cursor <= promised.told


class LogTools(FaultTest):
    def test_help_says_what_there_is(self) -> None:
        done = log_tool("--help")
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        for command in (b"stats", b"check", b"repair", b"export", b"import"):
            self.assertIn(command, done.stdout)
            own = log_tool(command.decode(), "--help")
            self.assertEqual((own.returncode, b"--data" in own.stdout), (0, True), command)

    def test_a_log_that_is_open_is_left_alone(self) -> None:
        data = self.folder / "data"
        with Broker(data):
            for command in (["check"], ["stats"], ["repair"], ["export"], ["import", "-"]):
                done = log_tool(*command, "--data", data)
                self.assertEqual(done.returncode, UNDONE, command)
                self.assertIn(b"stop it first", done.stderr)
        done = log_tool("check", "--data", self.folder / "none")
        self.assertEqual((done.returncode, b"there is no log" in done.stderr), (UNDONE, True), done.stderr)
        self.assertFalse((self.folder / "none").exists())

    def test_a_look_changes_nothing(self) -> None:
        for clean in (True, False):
            data, ledger = store(self, f"sound-{clean}", clean)
            before = files(self.folder)
            check = log_tool("check", "--data", data)
            self.assertEqual(check.returncode, SOUND, check.stdout)
            self.assertTrue(check.stdout.splitlines()[-1].startswith(b"sound: "), check.stdout)
            stats = log_tool("stats", "--json", "--data", data)
            figures = json.loads(stats.stdout)
            export = log_tool("export", "--data", data)
            repair = log_tool("repair", "--data", data)
            self.assertEqual((repair.returncode, b"nothing to repair" in repair.stderr), (SOUND, True))
            self.assertEqual(files(self.folder), before)
            with Broker(data) as broker:
                log = read_all(broker.http)
                self.assertEqual(ledger.faults(log), [])
                exported = [json.loads(line) for line in export.stdout.splitlines()]
                self.assertEqual(figures["messages"], len(exported))
                # The broker goes on with what retention and compaction had yet to do when it ended.
                self.assertGreaterEqual(len(exported), len(log))
                self.assertEqual(untrimmed(exported), untrimmed(log))
                topics = broker.http.get("/topics?limit=1000").json["topics"]
                self.assertEqual(figures["topics"], len(topics))

    def test_metrics_say_what_stats_say(self) -> None:
        """Before a stop in good order and after it, which is a commit of its own; also of what an earlier process left."""
        data = self.folder / "data"
        for run in (1, 2):
            with Broker(data) as broker:
                for number in range(20):
                    headers = {"idempotency-key": f'"{run}-{number}"'}
                    answer = broker.http.request("POST", f"/topics/t{number % 7}", b"x" * 100, headers)
                    self.assertEqual(answer.status, 201)
                options = broker.http.request("PUT", f"/options/o{run}", b'{"max_messages":3}', JSON)
                self.assertEqual(options.status, 200, options.body)
                self.assertEqual(broker.http.request("DELETE", f"/topics/t{run - 1}").status, 204)
                # In steps after the start, as is what a DELETE leaves to do.
                self.eventually(lambda broker=broker, run=run: log_metrics(broker)["keys"] == 20 * run)
                metrics = log_metrics(broker)
                broker.stop()
            figures = json.loads(log_tool("stats", "--json", "--data", data).stdout)
            acknowledged = figures.pop("acknowledged")
            figures["acknowledged_commits"] = acknowledged["commits"] - 1
            figures["acknowledged_position"] = acknowledged["position"]
            figures["commits"] -= 1
            for word in ("head", "tail"):
                figures[f"{word}_position"] = figures.pop(word)
            figures["epoch"] = int(figures["epoch"], 32)
            # How the order stands, which tools that look at files can't know.
            self.assertEqual((metrics.pop("behind_seconds"), metrics.pop("writable")), (0, 1))
            # The stop writes, too.
            self.assertAlmostEqual(figures.pop("file_bytes"), metrics.pop("file_bytes"), delta=1 << 20)
            self.assertEqual(metrics, figures)

    def test_an_export_is_imported_as_it_was(self) -> None:
        data, _ = store(self, "origin", clean=True)
        lines = self.folder / "lines"
        self.assertEqual(log_tool("export", "--out", lines, "--data", data).returncode, SOUND)
        again = log_tool("export", "--out", lines, "--data", data)
        self.assertEqual(again.returncode, UNDONE, "a file is not written over")
        target = self.folder / "target"
        for count in (1, 2):
            done = log_tool("import", lines, "--data", target)
            self.assertEqual(done.returncode, SOUND, done.stderr)
            self.assertEqual(b"is there twice" in done.stderr, count == 2, done.stderr)
            check = log_tool("check", "--data", target)
            self.assertEqual(check.returncode, SOUND, check.stdout)
            exported = without_cursors(log_tool("export", "--data", target).stdout)
            wanted = without_cursors(lines.read_bytes())
            if count == 2:
                # The same again, with the same times, though these run backwards then.
                wanted += wanted
            self.assertEqual(exported, wanted)

    def test_a_bad_line_leaves_nothing_of_its_batch(self) -> None:
        data = self.folder / "data"
        lines = b'{"topic":"a","data":1}\n{"topic":"a"}\n'
        done = log_tool("import", "-", "--data", data, text=lines)
        self.assertEqual(done.returncode, UNDONE)
        self.assertIn(b"line 2: `data` is missing; 0 messages before it were imported", done.stderr)
        self.assertEqual(log_tool("export", "--data", data).stdout, b"")

    def test_a_repaired_log_has_what_can_be_read_and_tells_of_the_rest(self) -> None:
        sound = [store(self, "closed", clean=True), store(self, "killed", clean=False)]
        outcomes: Counter[str] = Counter()
        stories: list[str] = []
        for number in range(REPAIRS):
            folder = self.folder / "place"
            shutil.rmtree(folder, ignore_errors=True)
            origin, promised = self.dice.choice(sound)
            data = shutil.copytree(origin, folder / "data")
            what = f"{number}: {origin.name} store, {damage(data, self.dice)}"
            try:
                outcome, story = self._mend(data, promised)
            except AssertionError as error:
                outcome, story = "can't be read", str(error)
            outcomes[outcome] += 1
            if story:
                stories.append(f"{outcome} | {what} | {story}")
        print(f"\n{REPAIRS} stores to be repaired: {dict(outcomes)}")
        self.assertEqual(stories, [], "\n" + "\n".join(stories))

    def _mend(self, data: Path, promised: Ledger) -> tuple[str, str]:
        before = files(data)
        check = log_tool("check", "--data", data)
        said = check.stdout.decode()
        if check.returncode == UNDONE or panics(check.stderr.decode()):
            return "can't be looked at", check.stderr.decode()
        repair = log_tool("repair", "--data", data)
        if repair.returncode != SOUND or panics(repair.stderr.decode()):
            return "can't be repaired", repair.stderr.decode()
        kept = [path for path in data.parent.iterdir() if path != data]
        if check.returncode == DAMAGED:
            if len(kept) != 1 or {path.name: it for path, it in files(kept[0]).items()} != {
                path.name: it for path, it in before.items()
            }:
                return "the damaged log is not kept", f"{kept}"
            again = log_tool("check", "--data", data)
            if again.returncode != SOUND:
                return "not sound after it", again.stdout.decode()
        elif kept:
            return "a sound log was repaired", said
        with Broker(data) as broker:
            log = read_all(broker.http)
            faults = [fault for fault in promised.faults(log, learns=False) if was_heard(fault, promised)]
            others = [fault for fault in faults if not fault.startswith(_LOST + _UNDONE)]
            if others:
                return "wrong", "; ".join(others[:3])
            if check.returncode == SOUND:
                return "sound", "; ".join(faults[:3])
            unheard = {cursor for group in promised.groups.values() for cursor in group.cursors.values()}
            unheard = {cursor for cursor in unheard if cursor > promised.told}
            left = unheard | {line["cursor"] for line in log}
            if missing := untold(broker, promised, left, self.dice):
                return "silent loss", missing
            publish(self, broker.http, Ledger(), "kept/new")
            newest = read_all(broker.http)[-1]["cursor"]
            if newest <= promised.newest:
                return "a cursor comes again", f"{newest} after {promised.newest}"
        if any(fault.startswith(_UNDONE) for fault in faults):
            return "mended, a DELETE undone", ""
        return "mended, with losses" if faults else "mended, whole", ""

    def test_a_store_that_is_cut_to_pieces_gives_what_is_left(self) -> None:
        """The engine has nothing to go by: the middle of its file alone, and no other file."""
        data, ledger = store(self, "data", clean=True)
        whole = (data / "db").read_bytes()
        for path in data.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        (data / "db").write_bytes(whole[len(whole) // 4 : len(whole) * 3 // 4])
        check = log_tool("check", "--data", data)
        self.assertEqual(check.returncode, DAMAGED, check.stderr)
        export = log_tool("export", "--data", data)
        lines = [json.loads(line) for line in export.stdout.splitlines()]
        self.assertGreater(len(lines), 10, check.stdout)
        repair = log_tool("repair", "--data", data)
        self.assertEqual(repair.returncode, SOUND, repair.stderr)
        with Broker(data) as broker:
            self.assertEqual([line["cursor"] for line in read_all(broker.http)], [line["cursor"] for line in lines])
            faults = ledger.faults(lines, learns=False)
            self.assertEqual([fault for fault in faults if not fault.startswith(_LOST + _UNDONE)], [])
            publish(self, broker.http, Ledger(), "kept/new")
