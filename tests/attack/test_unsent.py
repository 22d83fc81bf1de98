"""Requests that are not finished: one budget for all of them, an end to each, and no time of the processor."""

import time
import unittest

from ground import MIB, Attacked, Healthy, fragment, half_open, is_closed, web_socket

# What all connections together may have sent and not finished, and what the process has beside that.
UNSENT_BYTES_MAX = 64 * MIB
BESIDE_BYTES = 80 * MIB


class UnfinishedRequests(unittest.TestCase):
    def setUp(self):
        self.broker = Attacked()
        self.addCleanup(self.broker.stop)

    def bounded(self, sockets):
        peak = self.broker.peak_bytes()
        print(f"\n{self.id()}: {peak // MIB} MiB at most")
        self.assertLess(peak, UNSENT_BYTES_MAX + BESIDE_BYTES)
        self.assertEqual(self.broker.request("POST", "/topics/a", b"1")[0], 201)
        for own in sockets:
            own.close()

    def send(self, own, data):
        """As much of it as the broker takes in a moment."""
        own.settimeout(0.2)
        try:
            own.sendall(data)
        except OSError:
            pass

    def test_fragments_of_websocket_messages(self):
        self.broker.forget_peak()
        part = fragment(b"x" * (64 << 10)) + b"".join(fragment(b"x" * (64 << 10), opcode=0) for _ in range(13))
        sockets = []
        for _ in range(150):
            own = web_socket(self.broker.port)
            self.send(own, part)
            sockets.append(own)
        self.bounded(sockets)

    def test_uploads(self):
        self.broker.forget_peak()
        head = f"POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\nContent-Length: {8 * MIB - 1}\r\n\r\n"
        sockets = []
        for _ in range(60):
            own = half_open(self.broker.port, head.encode())
            self.send(own, b"1\n" * (4 * MIB - 1))
            sockets.append(own)
        self.bounded(sockets)

    def test_uploads_in_chunks(self):
        self.broker.forget_peak()
        head = b"POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunk = b"10000\r\n" + b"1\n" * (32 << 10) + b"\r\n"
        sockets = []
        for _ in range(60):
            own = half_open(self.broker.port, head)
            self.send(own, chunk * 120)
            sockets.append(own)
        self.bounded(sockets)

    def test_each_has_an_end(self):
        heads = half_open(self.broker.port, b"GET /topics/a HT")
        body = half_open(self.broker.port, b"POST /topics/a HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n1")
        message = web_socket(self.broker.port)
        message.sendall(fragment(b"x"))
        self.assertTrue(is_closed(heads, 20), "half a head")
        self.assertTrue(is_closed(body, 50), "half a body")
        # Heartbeats go on meanwhile; the message has to end all the same.
        self.assertTrue(is_closed(message, 50), "half a message")
        for own in (heads, body, message):
            own.close()

    def test_one_byte_costs_no_processor(self):
        sockets = [half_open(self.broker.port, b"P") for _ in range(3_000)]
        time.sleep(1)
        before, began = self.broker.cpu_seconds(), time.monotonic()
        time.sleep(4)
        share = (self.broker.cpu_seconds() - before) / (time.monotonic() - began)
        print(f"\n{self.id()}: {share:.1%} of a core")
        self.assertLess(share, 0.05)
        for own in sockets:
            own.close()


class Options(unittest.TestCase):
    def setUp(self):
        self.broker = Attacked()
        self.addCleanup(self.broker.stop)

    def batch_seconds(self):
        """The fastest of some batches of 10,000 messages to as many topics."""
        times = []
        for run in range(4):
            lines = b"\n".join(b'{"topic":"a/%d/%d/c/d/e/f/g/h","data":1}' % (run, n) for n in range(10_000))
            began = time.monotonic()
            status, _, answer = self.broker.request("POST", "/stream", lines, {"Content-Type": "application/x-ndjson"})
            times.append(time.monotonic() - began)
            self.assertEqual(status, 201, answer)
        return min(times)

    def test_a_thousand_patterns_cost_a_publish_nothing(self):
        alone = self.batch_seconds()
        set_count = 0
        for n in range(1_000):
            segments = "/".join("*" if n >> bit & 1 else "x" for bit in range(10))
            status, _, answer = self.broker.request("PUT", f"/options/{segments}/**", b'{"max_messages":1000}', {"Content-Type": "application/json"})
            self.assertIn(status, (200, 204, 429), answer)
            set_count += status != 429
        beside = self.batch_seconds()
        print(f"\n{self.id()}: {alone * 1000:.0f} ms a batch alone, {beside * 1000:.0f} ms with {set_count} patterns")
        self.assertGreater(set_count, 5)
        self.assertLess(beside, alone * 1.5 + 0.05)


if __name__ == "__main__":
    unittest.main()
