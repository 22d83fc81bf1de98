"""The scripts in examples/follow get every message, through crashes of the broker, a gap and a drain."""

import os
import queue
import random
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request
from pathlib import Path

from broker import PATIENCE_S, Broker

# For how long they are followed; in tests/run a round, which is some seconds.
FOLLOW_S = int(os.environ.get("FOLLOW_S", "0"))
FOLDER = os.path.join(os.path.dirname(__file__), "../../examples/follow")
SCRIPTS = {
    "shell": ["sh", "follow.sh"],
    "wget": ["sh", "follow-wget.sh"],
    "python": ["python3", "-B", "follow.py"],
    "php": ["php", "follow.php"],
}


class Follower:
    """A script that runs, and what it has printed."""

    def __init__(self, command, url):
        self._state = Path(tempfile.mktemp(prefix="tailwire-follow-"))
        self._command = [*command, url, str(self._state)]
        self.lines = queue.Queue()
        self.missed = queue.Queue()
        self.start()

    def start(self):
        # A group of its own, so that what a shell script waits for ends with it.
        self._process = subprocess.Popen(
            self._command, cwd=FOLDER, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        for pipe, lines in [(self._process.stdout, self.lines), (self._process.stderr, self.missed)]:
            threading.Thread(target=self._read, args=[pipe, lines], daemon=True).start()

    @staticmethod
    def _read(pipe, lines):
        with pipe:
            for line in pipe:
                lines.put(line.strip())

    def expect(self, test, numbers):
        for number in numbers:
            try:
                got = self.lines.get(timeout=PATIENCE_S)
            except queue.Empty:
                got = "nothing"
            test.assertEqual(got, str(number), self._command)

    def stands_at(self, cursor):
        """Waits until it has written down that it goes on there."""
        deadline = time.monotonic() + PATIENCE_S
        while not (self._state.exists() and cursor in self._state.read_text()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._command} does not come to {cursor}")
            time.sleep(0.01)

    def pause(self):
        """Ends the script; its state stays."""
        os.killpg(self._process.pid, 9)
        self._process.wait(PATIENCE_S)

    def stop(self):
        self.pause()
        self._state.unlink(missing_ok=True)


class Examples(unittest.TestCase):
    def setUp(self):
        self.broker = Broker()
        self.addCleanup(self.broker.stop)

    def url(self, name):
        return f"http://127.0.0.1:{self.broker.port}/topics/orders/{name}"

    def publish(self, name, numbers):
        for number in numbers:
            request = urllib.request.Request(self.url(name), str(number).encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                self.assertEqual(answer.status, 201)
                cursor = answer.headers["Tailwire-Cursor"]
        return cursor

    def delete(self, name):
        request = urllib.request.Request(self.url(name), method="DELETE")
        urllib.request.urlopen(request, timeout=PATIENCE_S).close()

    def test_each_follows(self):
        """For a round; with FOLLOW_S in the environment for so many seconds, and at the pace of people."""
        until = time.monotonic() + FOLLOW_S
        followers = {name: Follower(command, self.url(name)) for name, command in SCRIPTS.items()}
        try:
            first, dice = 0, random.Random(3)
            while first == 0 or time.monotonic() < until:
                # Now and then for longer than a poll waits.
                pauses = iter([dice.choice([0, 1, 5, 40]) if FOLLOW_S else 0 for _ in range(6)])
                self.follow(followers, first, pauses)
                first += 18
        finally:
            for follower in followers.values():
                follower.stop()

    def follow(self, followers, first, pauses):
        def meet(start, end):
            time.sleep(next(pauses))
            numbers = range(first + start, first + end)
            ends = {name: self.publish(name, numbers) for name in followers}
            for follower in followers.values():
                follower.expect(self, numbers)
            return ends

        meet(0, 3)
        meet(3, 6)
        self.broker.kill()
        time.sleep(next(pauses))
        self.broker.start_again()
        meet(6, 9)
        self.broker.drain()
        self.broker.start_again()
        ends = meet(9, 12)
        for name, follower in followers.items():
            follower.stands_at(ends[name])
            follower.pause()
            self.publish(name, range(first + 12, first + 15))
            self.delete(name)
            self.publish(name, range(first + 15, first + 18))
            follower.start()
        for name, follower in followers.items():
            follower.expect(self, range(first + 15, first + 18))
            self.assertIn("missed: deleted", follower.missed.get(timeout=PATIENCE_S), name)
            self.assertTrue(follower.lines.empty(), name)


if __name__ == "__main__":
    unittest.main()
