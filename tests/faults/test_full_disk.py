"""A small file system is filled to its end: publishes are refused before anything breaks, reads go on, and once there
is room again so do publishes, without a restart."""

import os
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from broker import Broker
from ledger import Ledger
from settings import FaultTest
from verify import publish, read_all, verify
from wire import BROKEN, HOST, Http

SIZE_MB = 80
# Bytes of a message's body; large, so that it doesn't take long.
MESSAGE_BYTES = 500_000


class FullDisk(FaultTest):
    def setUp(self) -> None:
        super().setUp()
        self.disk = self.folder / "disk"
        self.disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "tmpfs", str(self.disk)]
        mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
        if not mounted:
            self.skipTest("mounting a small file system takes root, and a kernel that allows it")
        self.addCleanup(lambda: subprocess.run(["umount", "--lazy", str(self.disk)], check=True))
        self.data = self.disk / "data"
        self.filler = self.disk / "filler"
        self.ballast = self.data / "ballast"
        self.ledger = Ledger()

    def test_publishes_are_refused_and_reads_go_on(self) -> None:
        with Broker(self.data) as broker:
            self._fill(broker)
            self.assertEqual(self.ledger.faults(read_all(broker.http)), [])
            self.assertEqual(broker.http.get("/healthz").status, 200)
            self.assertGreater(shutil.disk_usage(self.disk).free, 1 << 20, "nothing was kept in reserve")
            broker.stop()
        with Broker(self.data) as broker:
            self.assertEqual(self.ledger.faults(read_all(broker.http)), [])
            # The engine may have given some of its file back when it was opened.
            self._fill(broker)

    def test_publishes_go_on_when_there_is_room(self) -> None:
        with Broker(self.data) as broker:
            publish(self, broker.http, self.ledger, "kept/first")
            self._take_rest()
            self.assertEqual(self._try(broker), "507 storage-full")
            self.filler.unlink()
            self.eventually(lambda: self._try(broker) == "201")
            self.assertEqual(broker.http.get("/readyz").status, 200)
            broker.kill()
        with Broker(self.data) as broker:
            verify(self, broker, self.ledger, "", self.dice)

    def test_a_broker_whose_own_log_is_on_the_full_disk(self) -> None:
        """It can't say what is wrong there; that is no reason to end."""
        with Broker(self.data, log=self.disk / "stderr") as broker:
            publish(self, broker.http, self.ledger, "kept/first")
            self._take_rest()
            self.assertEqual(self._try(broker), "507 storage-full")
            self.filler.unlink()
            self.assertEqual(self._try(broker), "201")

    def test_a_delete_makes_room_for_other_messages(self) -> None:
        with Broker(self.data) as broker:
            self._fill(broker)
            answer = broker.http.request("DELETE", "/topics/kept/large")
            self.assertEqual(answer.status, 204, answer.body)

    def test_what_would_free_room_waits_for_it_and_goes_on_by_itself(self) -> None:
        """Retention and DELETE write, too; on a disk without any room they must not be what breaks the log."""
        with Broker(self.data) as broker:
            options = broker.http.request("PUT", "/options/aged/**", b'{"max_age":1}', {"content-type": "application/json"})
            self.assertEqual(options.status, 200, options.body)
            for number in range(50):
                publish(self, broker.http, self.ledger, f"kept/{number}")
                posted = broker.http.request("POST", f"/topics/aged/{number}", b"x", {"content-type": "text/plain"})
                self.assertEqual(posted.status, 201, posted.body)
            self._take_rest()
            self.assertEqual(broker.http.get("/readyz").json["status"], "storage-full")
            for number in range(50):
                answer = broker.http.request("DELETE", f"/topics/kept/{number}")
                self.assertEqual(f"{answer.status} {answer.code}", "507 storage-full")
            # Long enough for what has an age of a second to be due.
            time.sleep(2.5)
            self.assertEqual(self._try(broker), "507 storage-full")
            self.filler.unlink()
            self.eventually(lambda: self._try(broker) == "201")
            # All of them are trimmed: reading from the beginning finds nothing.
            self.eventually(lambda: b'"data":"x"' not in broker.http.get("/topics/aged/**?last=100").body)
            self.assertEqual(broker.http.get("/readyz").status, 200)
            self.assertEqual(broker.http.request("DELETE", "/topics/kept/7").status, 204)

    def test_a_start_on_a_disk_without_any_room(self) -> None:
        """It starts, to read, by means of its ballast; and makes that anew once there is room."""
        for ends_well in (True, False):
            self.note = f"ended well: {ends_well}"
            with Broker(self.data) as broker:
                for _ in range(5):
                    publish(self, broker.http, self.ledger, "kept/large", MESSAGE_BYTES)
                broker.stop() if ends_well else broker.kill()
            self._take_rest()
            with Broker(self.data) as broker:
                self.assertEqual(self.ledger.faults(read_all(broker.http)), [])
                self.assertEqual(self._try(broker), "507 storage-full")
                self.assertFalse(self.ballast.exists())
                broker.stop() if ends_well else broker.kill()
            self.filler.unlink()
            with Broker(self.data) as broker:
                self.assertTrue(self.ballast.exists())
                verify(self, broker, self.ledger, "", self.dice)

    def test_a_start_without_room_or_ballast_waits_for_room(self) -> None:
        """It can't read, as the engine writes when it opens; but it says so, leaves the log alone, and goes on by itself."""
        for ends_well in (True, False):
            self.note = f"ended well: {ends_well}"
            with Broker(self.data) as broker:
                publish(self, broker.http, self.ledger, "kept/large", MESSAGE_BYTES)
                broker.stop() if ends_well else broker.kill()
            self.ballast.unlink()
            self._take_rest()
            before = {path: path.read_bytes() for path in self.data.iterdir() if path.is_file()}
            port, log = _free_port(), self.folder / f"stderr-{ends_well}"
            with ThreadPoolExecutor(1) as pool:
                starting = pool.submit(Broker, self.data, log=log, port=port)
                self.eventually(lambda port=port: _answer(port, "/healthz") == "200 None")
                self.assertEqual(_answer(port, "/readyz"), "503 None")
                self.assertEqual(_answer(port, "/topics/kept/large"), "507 storage-full")
                self.assertEqual(_answer(port, "/topics/kept/large", "POST"), "507 storage-full")
                self.assertEqual(_answer(port, "/topics/kept/large?format=sse"), "200 None")
                self.assertFalse(starting.done())
                self.assertEqual({path: path.read_bytes() for path in before}, before)
                self.filler.unlink()
                self.eventually(lambda port=port: _answer(port, "/readyz") == "200 None")
                with starting.result() as broker:
                    self.assertEqual(self._try(broker), "201")
                    self.assertIn("the disk is full", broker.stderr)
                    verify(self, broker, self.ledger, "", self.dice)

    def _fill(self, broker: Broker) -> None:
        for _ in range(2 * SIZE_MB):
            answer = self._try(broker, MESSAGE_BYTES)
            if answer != "201":
                break
        self.assertEqual(answer, "507 storage-full")

    def _try(self, broker: Broker, size: int = 60) -> str:
        name, [body] = self.ledger.begin(["kept/large"], [size])
        answer = broker.http.request("POST", "/topics/kept/large", body.encode(), {"content-type": "text/plain"})
        if answer.status == 201:
            self.ledger.acknowledge(name, [answer.json["cursor"]])
            return "201"
        if answer.code != "outcome-unknown":
            self.ledger.refuse(name)
        return f"{answer.status} {answer.code}"

    def _take_rest(self) -> None:
        with self.filler.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096):
                try:
                    while file.write(bytes(size)) == size:
                        pass
                except OSError:
                    pass


def _free_port() -> int:
    with socket.create_server((HOST, 0)) as server:
        return server.getsockname()[1]


def _answer(port: int, path: str, method: str = "GET") -> str:
    """What one request is answered, on a connection of its own: its status, and its code if it is a problem."""
    http = Http(port)
    try:
        answer = http.request(method, path, b"x" if method == "POST" else None)
        return f"{answer.status} {answer.code}"
    except BROKEN as error:
        return str(error)
    finally:
        http.close()
