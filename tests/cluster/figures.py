"""What a cluster of three nodes on three NATS servers does on this machine, all on loopback: publishes a second, what they cost
each process, and how fast a blank node is made.

    BROKER=target/release/tailwire NATS_SERVER=target/nats/nats-server python3 tests/cluster/figures.py
"""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from cluster import BROKER, Cluster, until
from crowd import Http

SECONDS = os.environ.get("SECONDS_EACH", "10")
# Name, and what is under way how.
COURSES = [
    ("1 in flight", ["--transport", "ws", "--connections", "1", "--in-flight", "1"]),
    ("256 in flight", ["--transport", "ws", "--connections", "4", "--in-flight", "64"]),
    ("256 connections by POST", ["--transport", "http", "--connections", "256"]),
    ("1024 in flight", ["--transport", "ws", "--connections", "16", "--in-flight", "64"]),
]
TICK = os.sysconf("SC_CLK_TCK")


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, Cluster(Path(folder)).start() as cluster:
        processes = {f"node b{node.number}": node for node in cluster.nodes}
        processes |= {f"server {server.name}": server for server in cluster.servers}
        for name, args in COURSES:
            before = {title: cpu_s(one.process.pid) for title, one in processes.items()}
            url = f"http://127.0.0.1:{cluster.nodes[0].port}"
            command = [BROKER, "bench", "publish", "--json", "--url", url, "--seconds", SECONDS, *args]
            ran = subprocess.run(command, capture_output=True, text=True, check=False)
            report = json.loads(ran.stdout)
            count = report["messages"]
            used = {title: (cpu_s(one.process.pid) - before[title]) / count * 1e6 for title, one in processes.items()}
            print(f"{name}: {json.dumps(report)}")
            print("   µs a message: " + ", ".join(f"{title} {value:.1f}" for title, value in used.items()), flush=True)
        node = cluster.nodes[2]
        until("all are level", lambda: all(one.is_ready for one in cluster.nodes))
        metrics = Http(cluster.nodes[0].operations_port).get("/metrics").body.decode()
        held = next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith("tailwire_log_messages "))
        node.stop()
        shutil.rmtree(node.data / "replica")
        began = time.monotonic()
        node.start()
        until("the blank node is ready", lambda: node.is_ready, 600)
        took = time.monotonic() - began
        print(f"blank node: {held:.0f} messages in {took:.1f} s, {held / took:.0f} a second")


if __name__ == "__main__":
    main()
