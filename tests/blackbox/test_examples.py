"""The scripts in examples/follow get every message, through crashes of the broker, a gap and a drain."""

import os
import queue
import subprocess
import tempfile
import threading
import unittest
import urllib.error
import urllib.request

from broker import PATIENCE_S, Broker

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
        self._state = tempfile.mktemp(prefix="tailwire-follow-")
        self._command = [*command, url, self._state]
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
        got = [self.lines.get(timeout=PATIENCE_S) for _ in numbers]
        test.assertEqual(got, [str(number) for number in numbers])

    def pause(self):
        """Ends the script; its state stays."""
        os.killpg(self._process.pid, 9)
        self._process.wait(PATIENCE_S)

    def stop(self):
        self.pause()
        if os.path.exists(self._state):
            os.remove(self._state)


class Examples(unittest.TestCase):
    def setUp(self):
        self.broker = Broker()
        self.addCleanup(self.broker.stop)
        self.url = f"http://127.0.0.1:{self.broker.port}/topics/orders"

    def publish(self, numbers):
        for number in numbers:
            request = urllib.request.Request(self.url, str(number).encode(), {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
                self.assertEqual(answer.status, 201)

    def test_each_follows(self):
        for name, command in SCRIPTS.items():
            with self.subTest(name):
                self.follows(command)

    def follows(self, command):
        request = urllib.request.Request(self.url, method="DELETE")
        urllib.request.urlopen(request, timeout=PATIENCE_S).close()
        self.publish(range(3))
        follower = Follower(command, self.url)
        try:
            follower.expect(self, range(3))
            self.publish(range(3, 6))
            follower.expect(self, range(3, 6))
            self.broker.kill()
            self.broker.start_again()
            self.publish(range(6, 9))
            follower.expect(self, range(6, 9))
            self.broker.drain()
            self.broker.start_again()
            self.publish(range(9, 12))
            follower.expect(self, range(9, 12))
            follower.pause()
            self.publish(range(12, 15))
            urllib.request.urlopen(request, timeout=PATIENCE_S).close()
            self.publish(range(15, 18))
            follower.start()
            follower.expect(self, range(15, 18))
            self.assertIn("missed: deleted", follower.missed.get(timeout=PATIENCE_S))
            self.assertTrue(follower.lines.empty())
        finally:
            follower.stop()


if __name__ == "__main__":
    unittest.main()
