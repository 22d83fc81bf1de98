"""Room for answers is shared: who takes none of theirs keeps nobody else from being answered."""

import time
import unittest

from ground import Attacked, Healthy, Http2, half_open

REQUEST = b"GET /topics/large?limit=1000 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
PAGE = ("GET", "/topics/small?limit=10")
# What reading a page takes beside attackers, in milliseconds: they take the processor's time, too, but no room of others, for
# which a request waits up to 5 s.
READ_MS_MAX = 4_000


class Fair(unittest.TestCase):
    flags = ()

    def setUp(self):
        self.broker = Attacked(*self.flags)
        self.addCleanup(self.broker.stop)
        self.broker.publish_batch("large", 1_000, 1_000)
        self.broker.publish_batch("small", 10, 100)

    def reads(self, attack, source, headers=()):
        sockets = attack()
        self.addCleanup(lambda: [own.close() for own in sockets])
        time.sleep(0.5)
        healthy = Healthy(self.broker, PAGE, source=source, headers=headers)
        healthy.start()
        time.sleep(3)
        median, p99 = healthy.over()
        print(f"\n{self.id()}: healthy reads {median:.1f} ms, p99 {p99:.1f} ms")
        self.assertEqual(healthy.failures, [])
        self.assertLess(p99, READ_MS_MAX)


class Fairness(Fair):
    def test_one_connection_with_all_its_streams(self):
        def attack():
            own = Http2(self.broker.port, window=0)
            own.socket.sendall(b"".join(own.head("/topics/large?limit=1000")[1] for _ in range(100)))
            return [own.socket]

        self.reads(attack, "127.0.0.1")

    def test_a_thousand_connections_of_one_address(self):
        self.reads(lambda: [half_open(self.broker.port, REQUEST * 8, 4096) for _ in range(1_000)], "127.0.0.2")

    def test_five_connections_that_go_on_asking(self):
        def attack():
            connections = [Http2(self.broker.port, window=0) for _ in range(5)]
            for own in connections:
                own.socket.sendall(b"".join(own.head("/topics/large?limit=1000")[1] for _ in range(100)))
            return [own.socket for own in connections]

        self.reads(attack, "127.0.0.1")


class BehindProxy(Fair):
    """All come from the one address of a proxy that is believed."""

    flags = ("--trusted-proxy", "127.0.0.1")

    def test_a_thousand_connections_of_one_client(self):
        request = REQUEST.replace(b"\r\n\r\n", b"\r\nX-Forwarded-For: 203.0.113.1\r\n\r\n")
        attack = lambda: [half_open(self.broker.port, request * 8, 4096) for _ in range(1_000)]  # noqa: E731
        self.reads(attack, "127.0.0.1", {"X-Forwarded-For": "203.0.113.2"})


if __name__ == "__main__":
    unittest.main()
