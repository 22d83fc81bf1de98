"""TCP links on loopback that can be cut: a proxy for each pair of processes that speak to each other."""

import contextlib
import selectors
import socket
import threading

CHUNK = 1 << 16


class Link:
    """Forwards connections to a port of loopback. Cut, it says nothing any more, and closes nothing: packets are lost."""

    def __init__(self, to: int):
        self._to = to
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self._passes = threading.Event()
        self._passes.set()
        self._ended = False
        self._sockets: set[socket.socket] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        self._passes.clear()

    def mend(self) -> None:
        """Lets through what waits, as a network does that is there again."""
        self._passes.set()

    def close(self) -> None:
        self._ended = True
        self._passes.set()
        self._listener.close()
        with self._lock:
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # A connection that is made over a cut link is not answered.
        self._passes.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self._to), timeout=5)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        pair = {client: server, server: client}
        for one in pair:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._sockets.update(pair)
        try:
            self._forward(pair)
        except OSError:
            pass
        finally:
            with self._lock:
                self._sockets.difference_update(pair)
            for one in pair:
                one.close()

    def _forward(self, pair: dict[socket.socket, socket.socket]) -> None:
        with selectors.DefaultSelector() as ready:
            for one in pair:
                ready.register(one, selectors.EVENT_READ)
            while not self._ended:
                for key, _ in ready.select():
                    self._passes.wait()
                    received = key.fileobj.recv(CHUNK)
                    if not received:
                        return
                    pair[key.fileobj].sendall(received)
