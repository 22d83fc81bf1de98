"""Behind a balancer without stickiness: the JavaScript client, by each of its transports, while nodes die one after the other."""

import json
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

from cluster import Cluster, Process, free_ports, until
from crowd import Crowd, Http, whole_log

TRANSPORTS = ("websocket", "stream", "long-poll", "poll")
HERE = Path(__file__).parent
# Messages that come while a node is dead.
MEANWHILE = 40


def haproxy(folder: Path, port: int, nodes: list[int]) -> Process:
    servers = "\n".join(
        f"    server b{number} 127.0.0.1:{node} check inter 300ms fall 1 rise 1" for number, node in enumerate(nodes)
    )
    config = folder / "haproxy.cfg"
    config.write_text(f"""
defaults
    mode http
    timeout connect 2s
    timeout client 75s
    timeout server 75s
    timeout tunnel 75s
    option redispatch
frontend clients
    bind 127.0.0.1:{port}
    default_backend nodes
backend nodes
    balance roundrobin
    option httpchk GET /readyz
{servers}
""")
    program = shutil.which("haproxy") or "/usr/sbin/haproxy"
    return Process([program, "-db", "-f", str(config)], folder / "haproxy.log")


class Follower(Process):
    """A program that follows all topics of the crowd by one transport."""

    def __init__(self, folder: Path, port: int, transport: str):
        self.transport = transport
        # Node.js 20 has its WebSocket behind a flag.
        command = ["node", "--no-warnings", "--experimental-websocket", str(HERE / "follow.mjs")]
        super().__init__([*command, f"http://127.0.0.1:{port}/", transport], folder / f"{transport}.log")

    @property
    def lines(self) -> list[dict]:
        # The last one may be half written.
        return [json.loads(line) for line in self.said.split("\n")[:-1]]


class Balancer(unittest.TestCase):
    def test_clients_notice_nothing_of_nodes_that_die(self) -> None:
        with tempfile.TemporaryDirectory() as name, Cluster(Path(name)).start() as cluster:
            folder, [port] = Path(name), free_ports(1)
            balancer = haproxy(folder, port, [node.port for node in cluster.nodes])
            followers = [Follower(folder, port, transport) for transport in TRANSPORTS]
            try:
                balancer.start()
                until(lambda: f"the balancer has nodes: {balancer.said}", lambda: self.is_answered(port))
                for follower in followers:
                    follower.start()
                self.run_crowd(cluster, port, followers)
            finally:
                for process in [*followers, balancer]:
                    process.kill()

    def is_answered(self, port: int) -> bool:
        http = Http(port)
        try:
            return http.get("/readyz").status == 200
        except OSError:
            return False
        finally:
            http.close()

    def run_crowd(self, cluster: Cluster, port: int, followers: list[Follower]) -> None:
        crowd = Crowd([port], 3, publishers=2, readers=0).start()
        try:
            for node in cluster.nodes:
                node.kill()
                here = crowd.count
                until("publishing goes on", lambda here=here: crowd.count > here + MEANWHILE or crowd.errors)
                node.start()
                cluster.wait_for(node)
        finally:
            crowd.stop_publishers()
        self.assertEqual(crowd.errors, [])
        acknowledged = crowd.acknowledged
        for follower in followers:
            name = follower.transport
            until(
                lambda follower=follower: f"{follower.transport} has all: {follower.said[-1000:]}",
                lambda follower=follower: acknowledged.keys() <= {line.get("data") for line in follower.lines},
            )
            lines = follower.lines
            self.assertEqual([line for line in lines if "gap" in line], [], name)
            cursors = [line["cursor"] for line in lines]
            self.assertEqual(cursors, sorted(set(cursors)), f"{name} has them once and in order")
            bodies = [line["data"] for line in lines]
            self.assertEqual(len(bodies), len(set(bodies)), name)
        stored = [(line[0], json.loads(line[4])) for line in whole_log(cluster.nodes[0].port)]
        for follower in followers:
            self.assertEqual([(line["cursor"], line["data"]) for line in follower.lines], stored, follower.transport)


if __name__ == "__main__":
    unittest.main()
