"""The API by its own description: schemathesis asks for whatever /openapi.json permits, and for what it does not, and holds each
answer against it. $BROKER is the binary; the interpreter that runs this has schemathesis. $SCHEMA_EXAMPLES and $SCHEMA_SEED: how
many requests of a kind, and which."""

import os
import subprocess
import sys
import tempfile
import unittest
import urllib.request

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(FOLDER, "../blackbox"))

from broker import Broker  # noqa: E402

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
]
EXAMPLES = os.environ.get("SCHEMA_EXAMPLES", "25")
SEED = os.environ.get("SCHEMA_SEED", "1")
ACCESS = """
[access]
audience = "https://rt.example"
[[access.rule]]
who = "anonymous"
subscribe = ["**"]
publish = ["**"]
"""


class Schema(unittest.TestCase):
    def conforms(self, broker, *more):
        with tempfile.TemporaryDirectory() as folder:
            file = os.path.join(folder, "openapi.json")
            urllib.request.urlretrieve(f"http://127.0.0.1:{broker.port}/openapi.json", file)
            command = [sys.executable, "-m", "schemathesis.cli", "run", file, "--url", f"http://127.0.0.1:{broker.port}"]
            command += ["--phases", "examples,coverage,fuzzing", "--max-examples", EXAMPLES, "--seed", SEED, "--no-color"]
            command += ["--checks", ",".join(CHECKS), "--continue-on-failure", "--request-timeout", "20", *more]
            environment = {**os.environ, "SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": FOLDER}
            ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        self.assertEqual(ran.returncode, 0, ran.stdout + ran.stderr)
        self.assertRegex(ran.stdout, r"[1-9]\d{2,} generated")

    def test_a_broker_without_access_control(self):
        broker = Broker()
        self.addCleanup(broker.stop)
        self.conforms(broker)

    def test_its_operator(self):
        with tempfile.TemporaryDirectory() as folder:
            config = os.path.join(folder, "tailwire.toml")
            with open(config, "w", encoding="ascii") as file:
                file.write(ACCESS)
            broker = Broker("--config", config)
            self.addCleanup(broker.stop)
            self.conforms(broker, "--header", f"Authorization: Bearer {broker.operator_key()}")


if __name__ == "__main__":
    unittest.main()
