"""The files in deploy/ are taken by the programs that they are for, and a cluster that is set up by them works."""

import base64
import hashlib
import hmac
import json
import re
import shutil
import subprocess
import tempfile
import time
import unittest
import urllib.request
from pathlib import Path

from cluster import BROKER, NATS, ROOT, Process, free_ports, until

DEPLOY = ROOT / "deploy"
SECRET = "a-secret-of-thirty-two-bytes-and-more"
URL = "http://127.0.0.1:8245"


def token(audience: str) -> str:
    """As an application gives it out (RFC 7519)."""
    grants = {"subscribe": ["**"], "publish": ["**"]}
    claims = {"iss": "https://app.example.com", "sub": "a", "aud": audience, "exp": int(time.time()) + 600, "tailwire": grants}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in ({"alg": "HS256"}, claims)]
    mac = hmac.new(SECRET.encode(), b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


class DeployFiles(unittest.TestCase):
    def setUp(self):
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        for name, text in [
            ("nats_password", "a-password"), ("nats_password.conf", 'NATS_PASSWORD: "a-password"\n'), ("token_secret", SECRET),
        ]:
            (self.folder / name).write_text(text)

    def run_tool(self, *command: object) -> None:
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def secrets(self, text: str) -> str:
        return re.sub(r"file:/run/secrets/(tailwire/)?", f"file:{self.folder}/", text)

    def test_a_cluster_by_the_files_for_compose_takes_publishes(self):
        clients, monitors, routes = (free_ports(9)[at::3] for at in range(3))
        conf = (DEPLOY / "compose/nats.conf").read_text()
        for at in range(3):
            conf = conf.replace(f"nats-{at + 1}:6222", f"127.0.0.1:{routes[at]}")
        for at in range(3):
            own = self.folder / f"nats-{at + 1}"
            own.mkdir()
            text = conf.replace("/var/lib/nats", str(own)).replace("./nats_password.conf", "../nats_password.conf")
            for port, other in [(4222, clients[at]), (8222, monitors[at]), (6222, routes[at])]:
                text = text.replace(f"0.0.0.0:{port}", f"127.0.0.1:{other}")
            (own / "nats.conf").write_text(text)
            command = ["env", f"SERVER_NAME=nats-{at + 1}", NATS, "--config", str(own / "nats.conf")]
            self.begin(Process(command, own / "log"))
        # A node asks most of them at its start, and ends if they are not there.
        for port in monitors:
            until("a server is there", lambda port=port: self.status(port, "/healthz?js-server-only=true") == 200)

        listening = free_ports(2)
        toml = self.secrets((DEPLOY / "compose/tailwire.toml").read_text())
        for at in range(3):
            toml = toml.replace(f"nats-{at + 1}:4222", f"127.0.0.1:{clients[at]}")
            toml = toml.replace(f"nats-{at + 1}:8222", f"127.0.0.1:{monitors[at]}")
        nodes = []
        for port in listening:
            own = self.folder / f"node-{port}"
            own.mkdir()
            text = toml.replace("0.0.0.0:8245", f"127.0.0.1:{port}").replace("0.0.0.0:8246", "127.0.0.1:0")
            (own / "tailwire.toml").write_text(text)
            command = [BROKER, "serve", "--config", str(own / "tailwire.toml"), "--data", str(own / "data"), "--node", str(port)]
            nodes.append(self.begin(Process(command, own / "log")))
        for node, port in zip(nodes, listening, strict=True):
            until(lambda node=node: node.said, lambda port=port: self.status(port) == 200)

        headers = {"Authorization": f"Bearer {token(URL)}", "Host": "127.0.0.1:8245", "Content-Type": "application/json"}
        ask = urllib.request.Request(f"http://127.0.0.1:{listening[0]}/topics/a", b'"hello"', headers)
        with urllib.request.urlopen(ask, timeout=30) as answer:
            self.assertEqual(answer.status, 201)
            cursor = json.load(answer)["cursor"]
        ask = urllib.request.Request(f"http://127.0.0.1:{listening[1]}/messages/{cursor}", headers=headers)
        with urllib.request.urlopen(ask, timeout=30) as answer:
            self.assertEqual(answer.read(), b'"hello"')

    def begin(self, process: Process) -> Process:
        process.start()
        self.addCleanup(process.kill)
        return process

    @staticmethod
    def status(port: int, path: str = "/readyz") -> int:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status
        except OSError:
            return 0

    def test_haproxy_takes_its_file(self):
        self.run_tool("haproxy", "-c", "-f", DEPLOY / "compose/haproxy.cfg")

    def test_the_settings_in_the_manifest_for_kubernetes_are_good(self):
        manifest = (DEPLOY / "kubernetes/tailwire.yaml").read_text()
        block = re.search(r"tailwire\.toml: \|\n((?: {4}.*\n|\n)+)", manifest)
        path = self.folder / "tailwire.toml"
        path.write_text(self.secrets(re.sub(r"^ {4}", "", block[1], flags=re.MULTILINE)))
        self.run_tool(BROKER, "config", "check", "--config", path)

    @unittest.skipUnless(shutil.which("systemd-analyze"), "there is no systemd here")
    def test_systemd_takes_the_unit(self):
        for name in ["tailwire.service", "tailwire.socket"]:
            text = (DEPLOY / "systemd" / name).read_text()
            (self.folder / name).write_text(text.replace("/usr/local/bin/tailwire", BROKER))
        self.run_tool("systemd-analyze", "verify", "--man=no", self.folder / "tailwire.service")


if __name__ == "__main__":
    unittest.main()
