"""A cluster on loopback: three NATS servers, three nodes of the broker, and a link for each pair of them."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from links import Link

ROOT = Path(__file__).parents[2]
BROKER = os.environ.get("BROKER") or str(ROOT / "target/release/tailwire")
NATS = os.environ.get("NATS_SERVER") or str(ROOT / "target/nats/nats-server")
# How long something may take that comes in the end. A bound for failure, not a wait.
PATIENCE_S = 60
SERVERS = 3


def free_ports(count: int) -> list[int]:
    """Ports below those that the system gives to others by itself."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(15_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            if port not in ports:
                ports.append(port)
    return ports


def until(what, holds, patience_s: float = PATIENCE_S):
    """Waits until something holds, and gives what it answered."""
    end = time.monotonic() + patience_s
    while time.monotonic() < end:
        if answer := holds():
            return answer
        time.sleep(0.05)
    raise AssertionError(f"{what() if callable(what) else what}: not within {patience_s} s")


class Process:
    """A process that may be killed, frozen, and begun again."""

    def __init__(self, command: list[str], log: Path):
        self.command = command
        # Variables that only this one has.
        self.env: dict[str, str] = {}
        self.log = log
        self.process: subprocess.Popen | None = None

    def start(self) -> None:
        env = {name: value for name, value in os.environ.items() if not name.startswith("TAILWIRE_")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env | {"RUST_BACKTRACE": "0"} | self.env
            )

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def send(self, how: int) -> None:
        if self.is_alive:
            self.process.send_signal(how)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        if self.process:
            self.process.wait(PATIENCE_S)

    def stop(self) -> int:
        """Ends it in good order; gives the exit code."""
        self.send(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    @property
    def said(self) -> str:
        return self.log.read_text(errors="replace") if self.log.exists() else ""


class NatsServer(Process):
    def __init__(self, number: int, folder: Path, ports: tuple[int, int, int], routes: list[int], sync: str):
        self.number = number
        self.name = f"n{number}"
        self.port, self.monitor, route = ports
        folder.mkdir(parents=True, exist_ok=True)
        routes_text = ", ".join(f'"nats-route://127.0.0.1:{port}"' for port in routes)
        config = folder / "nats.conf"
        config.write_text(f"""
server_name: {self.name}
listen: "127.0.0.1:{self.port}"
http: "127.0.0.1:{self.monitor}"
jetstream {{ store_dir: "{folder}", sync_interval: {sync}, max_file_store: 8GB, max_memory_store: 64MB }}
cluster {{ name: test, listen: "127.0.0.1:{route}", no_advertise: true, routes: [{routes_text}] }}
""")
        super().__init__([NATS, "--config", str(config)], folder / "nats.log")

    def ask(self, path: str) -> dict:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}{path}", timeout=5) as answer:
            return json.load(answer)

    @property
    def is_ready(self) -> bool:
        try:
            return self.ask("/healthz?js-server-only=true").get("status") == "ok"
        except OSError:
            return False


class Node(Process):
    """A node of the broker. Its port is its own for good, so that clients find it again."""

    def __init__(self, number: int, folder: Path, port: int, command: list[str]):
        self.number = number
        self.port = port
        self.data = folder / "data"
        folder.mkdir(parents=True, exist_ok=True)
        listen = [BROKER, "serve", "--listen", f"127.0.0.1:{port}", "--admin-listen", "127.0.0.1:0"]
        super().__init__([*listen, "--data", str(self.data), "--node", f"b{number}", *command], folder / "broker.log")

    @property
    def operations_port(self) -> int:
        """Where it is asked for metrics, since it was started last."""
        return int(re.findall(r"metrics\s+http://127\.0\.0\.1:(\d+)/", self.said)[-1])

    def status(self) -> str:
        """What it says of itself; nothing if it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=2) as answer:
                return json.load(answer)["status"]
        except urllib.error.HTTPError as error:
            return json.load(error).get("status", "")
        except (OSError, ValueError):
            return ""

    @property
    def is_ready(self) -> bool:
        return self.status() == "ready"


class Cluster:
    def __init__(self, folder: Path, nodes: int = 3, sync: str = "always", more: list[str] | None = None):
        ports = free_ports(3 * SERVERS + nodes)
        triples = [tuple(ports[3 * number : 3 * number + 3]) for number in range(SERVERS)]
        # Which server's way to which other one, and which node's way to which server.
        self.routes = {
            (one, other): Link(triples[other][2]) for one in range(SERVERS) for other in range(SERVERS) if one != other
        }
        self.ways = {(node, server): Link(triples[server][0]) for node in range(nodes) for server in range(SERVERS)}
        self.servers = [
            NatsServer(
                number,
                folder / f"n{number}",
                triples[number],
                [self.routes[number, other].port for other in range(SERVERS) if other != number],
                sync,
            )
            for number in range(SERVERS)
        ]
        monitors = ",".join(f"http://127.0.0.1:{server.monitor}" for server in self.servers)
        self.nodes = []
        for number in range(nodes):
            servers = ",".join(f"nats://127.0.0.1:{self.ways[number, server].port}" for server in range(SERVERS))
            command = ["--cluster", servers, "--cluster-monitors", monitors, *(more or [])]
            self.nodes.append(Node(number, folder / f"b{number}", ports[3 * SERVERS + number], command))

    def start(self) -> "Cluster":
        self.start_servers()
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            self.wait_for(node)
        return self

    def wait_for(self, node: Node) -> None:
        until(lambda: f"node {node.number} is ready, which is {node.status()!r}: {node.said[-3000:]}", lambda: node.is_ready)

    def start_servers(self) -> None:
        for server in self.servers:
            server.start()
        for server in self.servers:
            until(f"server {server.name} is ready", lambda server=server: server.is_ready)

    def leader(self) -> NatsServer:
        """The server that leads the stream."""

        def find() -> NatsServer | None:
            for server in self.servers:
                if not server.is_alive:
                    continue
                try:
                    found = server.ask("/jsz?streams=true&accounts=true")
                except OSError:
                    continue
                for account in found.get("account_details") or []:
                    for stream in account.get("stream_detail") or []:
                        leader = (stream.get("cluster") or {}).get("leader")
                        for one in self.servers:
                            if one.name == leader and one.is_alive:
                                return one
            return None

        return until("the stream has a leader", find)

    def isolate(self, server: int) -> list[Link]:
        """Cuts a server off from all others and all nodes. Answers the links that are to be mended."""
        links = [link for pair, link in self.routes.items() if server in pair]
        links += [link for (_, to), link in self.ways.items() if to == server]
        for link in links:
            link.cut()
        return links

    def detach(self, node: int) -> list[Link]:
        """Cuts a node off from all servers."""
        links = [link for (one, _), link in self.ways.items() if one == node]
        for link in links:
            link.cut()
        return links

    def close(self) -> None:
        for process in [*self.nodes, *self.servers]:
            process.thaw()
            process.kill()
        for link in [*self.routes.values(), *self.ways.values()]:
            link.close()

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


