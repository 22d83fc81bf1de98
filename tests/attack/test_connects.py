"""A flood of connects from one address, which limits refuse, keeps nobody else from connecting."""

import http.client
import multiprocessing
import selectors
import socket
import struct
import tempfile
import time
import unittest

from ground import HOST, PATIENCE_S, Attacked, percentile

LIMITS = b"[limits.address]\nconnections = 200\nconnects_per_second = 50\n"
AT_ONCE = 300
SECONDS = 4
# A connect that the kernel drops, since nobody accepts those before it, is tried again after a second.
CONNECT_MS_MAX = 900
# So many refusals a second make it a flood.
REFUSED_MIN = 500


class ConnectFlood:
    """Connects, is answered and breaks off, as fast as that goes, in a process of its own."""

    def __init__(self, port):
        context = multiprocessing.get_context("fork")
        self._over, self._count = context.Event(), context.Value("q", 0)
        self._process = context.Process(target=self._run, args=(port, self._over, self._count), daemon=True)
        self._process.start()

    @staticmethod
    def _run(port, over, count):
        def begin():
            own = socket.socket()
            own.setblocking(False)
            # No address and port is taken once it is closed.
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            own.connect_ex((HOST, port))
            selector.register(own, selectors.EVENT_READ)

        with selectors.DefaultSelector() as selector:
            for _ in range(AT_ONCE):
                begin()
            while not over.is_set():
                for key, _ in selector.select(0.1):
                    selector.unregister(key.fileobj)
                    key.fileobj.close()
                    count.value += 1
                    begin()
            for key in list(selector.get_map().values()):
                key.fileobj.close()

    def over(self):
        self._over.set()
        self._process.join(PATIENCE_S)
        return self._count.value


class Connects(unittest.TestCase):
    def setUp(self):
        settings = self.enterContext(tempfile.NamedTemporaryFile(suffix=".toml"))
        settings.write(LIMITS)
        settings.flush()
        self.broker = Attacked("--config", settings.name)
        self.addCleanup(self.broker.stop)

    def neighbour(self):
        """What a connection of its own and one request take a client of another address, in milliseconds."""
        times, until = [], time.monotonic() + SECONDS
        while time.monotonic() < until:
            began = time.monotonic()
            own = http.client.HTTPConnection(HOST, self.broker.port, timeout=PATIENCE_S, source_address=("127.0.0.2", 0))
            own.request("GET", "/topics?limit=1")
            self.assertEqual(own.getresponse().read()[:10], b'{"topics":')
            own.close()
            times.append((time.monotonic() - began) * 1000)
            # Within what an address may.
            time.sleep(0.03)
        return percentile(times, 0.5), percentile(times, 0.99)

    def test_another_address_connects_beside_it(self):
        alone = self.neighbour()
        flood = ConnectFlood(self.broker.port)
        beside = self.neighbour()
        count = flood.over()
        print(
            f"\n{self.id()}: {count // SECONDS} connects/s; a neighbour takes {alone[0]:.1f} ms, p99 {alone[1]:.1f} alone,"
            f" {beside[0]:.1f} ms, p99 {beside[1]:.1f} beside them"
        )
        self.assertGreater(count, REFUSED_MIN * SECONDS)
        self.assertLess(beside[1], CONNECT_MS_MAX)
        self.assertTrue(self.broker.is_alive())


if __name__ == "__main__":
    unittest.main()
