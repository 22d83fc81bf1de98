"""Answers that nobody reads: their memory is bounded from the first byte, for all connections together."""

import time
import unittest

from ground import MIB, Attacked, Cgroup, Healthy, Http2, half_open

# Of the whole process: answers that were begun or queued, the store's cache, the connections, and what the allocator keeps of
# pages that were read.
PROCESS_BYTES_MAX = 256 * MIB


class UnreadAnswers(unittest.TestCase):
    def setUp(self):
        self.broker = Attacked()
        self.addCleanup(self.broker.stop)
        self.broker.publish_batch("large", 1_000, 1_000)

    def attacked(self, attack, seconds=4):
        """The most memory, and the healthy client's times before and during."""
        alone = Healthy(self.broker)
        alone.start()
        time.sleep(2)
        _, alone_p99 = alone.over()
        self.broker.forget_peak()
        healthy = Healthy(self.broker)
        healthy.start()
        sockets = attack()
        self.addCleanup(lambda: [own.close() for own in sockets])
        time.sleep(seconds)
        _, p99 = healthy.over()
        peak = self.broker.peak_bytes()
        print(f"\n{self.id()}: {peak // MIB} MiB at most; healthy p99 {alone_p99:.1f} ms alone, {p99:.1f} ms beside it")
        self.assertEqual(healthy.failures, [])
        self.assertLess(peak, PROCESS_BYTES_MAX)
        return alone_p99, p99

    def test_http2_streams_whose_windows_are_closed(self):
        def attack():
            connections = [Http2(self.broker.port, window=0) for _ in range(40)]
            for own in connections:
                heads = [own.head("/topics/large?limit=1000")[1] for _ in range(100)]
                own.socket.sendall(b"".join(heads))
            return [own.socket for own in connections]

        self.attacked(attack)

    def test_http1_requests_that_are_pipelined(self):
        request = b"GET /topics/large?limit=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 8
        self.attacked(lambda: [half_open(self.broker.port, request, 4096) for _ in range(3_000)])

    def test_single_messages(self):
        status, _, receipt = self.broker.request("POST", "/topics/one", b"x" * MIB, {"Content-Type": "text/plain"})
        self.assertEqual(status, 201)
        request = f"GET /messages/{receipt['cursor']} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode() * 4
        self.attacked(lambda: [half_open(self.broker.port, request, 4096) for _ in range(1_000)])

    def test_lists_of_topics(self):
        lines = b"\n".join(b'{"topic":"%s/%d","data":1}' % (b"n" * 200, n) for n in range(3_000))
        status, _, answer = self.broker.request("POST", "/stream", lines, {"Content-Type": "application/x-ndjson"})
        self.assertEqual(status, 201, answer)
        request = b"GET /topics?limit=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 8
        self.attacked(lambda: [half_open(self.broker.port, request, 4096) for _ in range(1_500)])

    def test_waiting_polls_that_are_answered_and_not_read(self):
        request = b"GET /topics/live?wait=30&after=latest HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

        def attack():
            sockets = [half_open(self.broker.port, request, 4096) for _ in range(1_500)]
            time.sleep(1)
            self.broker.request("POST", "/topics/live", b"x" * (MIB - 1), {"Content-Type": "text/plain"})
            return sockets

        self.attacked(attack)


class SmallGroup(unittest.TestCase):
    def test_ten_thousand_connections_that_read_nothing(self):
        group = Cgroup(PROCESS_BYTES_MAX)
        self.addCleanup(group.remove)
        broker = Attacked(begin=group.enter)
        self.addCleanup(broker.stop)
        broker.publish_batch("large", 1_000, 1_000)
        healthy = Healthy(broker)
        healthy.start()
        request = b"GET /topics/large?limit=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 4
        sockets = [half_open(broker.port, request, 4096) for _ in range(10_000)]
        self.addCleanup(lambda: [own.close() for own in sockets])
        time.sleep(4)
        _, p99 = healthy.over()
        print(f"\n{self.id()}: {group.peak_bytes() // MIB} MiB of the group; healthy p99 {p99:.1f} ms")
        self.assertTrue(broker.is_alive(), "the kernel has killed it")
        self.assertEqual(healthy.failures, [])


if __name__ == "__main__":
    unittest.main()
