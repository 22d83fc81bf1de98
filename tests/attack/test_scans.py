"""Requests whose answers are looked for among many topics: publishes don't wait for that."""

import time
import unittest

from ground import Attacked, Flood, Healthy

TOPICS = 100_000
# So much later is a healthy publish answered than alone, on two cores of which the flood takes one; and this is noise.
TIMES_MAX, NOISE_MS = 2, 8
# Two cores have flood, load and broker to run, beside whatever else the machine does. Where publishes waited for the ends of
# scans they took 6 s.
P99_MS = 2_500


class Scans(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Attacked()
        for begin in range(0, TOPICS, 10_000):
            lines = b"\n".join(
                b'{"topic":"%s/%d/x","data":1}' % (b"n" * 100, n) for n in range(begin, begin + 10_000)
            )
            status, _, answer = cls.broker.request("POST", "/stream", lines, {"Content-Type": "application/x-ndjson"})
            assert status == 201, answer

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def flooded(self, path, port=None):
        alone = Healthy(self.broker)
        alone.start()
        # What any flood of requests costs on this machine.
        flood = Flood(self.broker.port, b"GET /topics/nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        time.sleep(4)
        flood.over()
        _, alone_p99 = alone.over()
        healthy = Healthy(self.broker)
        healthy.start()
        flood = Flood(port or self.broker.port, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode())
        time.sleep(4)
        answers = flood.over()
        _, p99 = healthy.over()
        print(f"\n{path}: {answers} answers; healthy p99 {alone_p99:.1f} ms beside cheap requests, {p99:.1f} ms beside these")
        self.assertEqual(healthy.failures, [])
        self.assertLess(p99, max(alone_p99 * TIMES_MAX + NOISE_MS, P99_MS))

    def test_lists_of_topics(self):
        self.flooded("/topics?limit=1000")

    def test_the_oldest_of_a_pattern(self):
        self.flooded("/topics/**?limit=1")

    def test_the_newest_of_a_pattern(self):
        self.flooded("/topics/**?last=1")

    def test_a_pattern_that_matches_nothing(self):
        self.flooded("/topics/*/*/nothing?limit=1")

    def test_feeds_of_a_pattern(self):
        self.flooded("/topics/*/*/nothing?format=atom&limit=1")

    def test_metrics(self):
        self.flooded("/metrics", self.broker.operations_port)

    def test_options(self):
        self.flooded("/options")


if __name__ == "__main__":
    unittest.main()
