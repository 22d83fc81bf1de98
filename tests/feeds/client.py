"""What the tests of feeds share: requests, and a topic of their own for each test."""

import json
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../blackbox"))

from broker import PATIENCE_S, Broker, ask  # noqa: E402, F401


class Case(unittest.TestCase):
    arguments = ()

    @classmethod
    def setUpClass(cls):
        cls.broker = Broker(*cls.arguments)

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def setUp(self):
        self.topic = f"feeds/{self._testMethodName}"

    def ask(self, method, path, body=None, headers=None):
        return ask(self.broker.port, method, path, body, headers)

    def publish(self, body, media_type="application/json"):
        body = body if isinstance(body, bytes) else body.encode()
        response, raw = self.ask("POST", f"/topics/{self.topic}", body, {"Content-Type": media_type})
        self.assertEqual(response.status, 201, raw)
        return response.getheader("Tailwire-Cursor")

    def publish_numbers(self, numbers, padding=""):
        """Messages whose titles are these numbers, as one batch."""
        lines = [json.dumps({"title": str(number), "text": padding}) for number in numbers]
        response, raw = self.ask(
            "POST", f"/topics/{self.topic}", "\n".join(lines), {"Content-Type": "application/x-ndjson"}
        )
        self.assertEqual(response.status, 201, raw)

    def set_options(self, **options):
        body = json.dumps(options)
        response, raw = self.ask("PUT", f"/options/{self.topic}", body, {"Content-Type": "application/json"})
        self.assertEqual(response.status, 200, raw)

    def feed(self, query="format=atom", headers=None):
        return self.ask("GET", f"/topics/{self.topic}?{query}", headers=headers)
