"""Clients of Server-Sent Events and WebSockets for Python that others wrote, and Prometheus' own parsers of metrics."""

import asyncio
import json
import os
import subprocess
import sys
import unittest
import urllib.parse
import urllib.request

import httpx
import httpx_sse
import sseclient
import websockets.exceptions
import websockets.sync.client
from aiohttp_sse_client.client import EventSource
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open_metrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../blackbox"))

from broker import PATIENCE_S, Broker  # noqa: E402

BODIES = ["one", "two\nlines", '{"n":3}']


class Clients(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Broker()
        cls.base = f"http://127.0.0.1:{cls.broker.port}"

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def setUp(self):
        self.topic = f"sse/{self._testMethodName}"
        for body in BODIES:
            request = urllib.request.Request(f"{self.base}/topics/{self.topic}", body.encode(), method="POST")
            request.add_header("Content-Type", "text/plain")
            urllib.request.urlopen(request, timeout=PATIENCE_S).close()
        self.url = f"{self.base}/topics/{self.topic}?format=sse&after=earliest"

    def check(self, events):
        """Each event has a name and data; the unnamed ones are the messages; each has an id."""
        events = list(events)
        self.assertEqual([data for name, data, _ in events if name in ("message", None)], BODIES)
        self.assertEqual(events[0][0], "tailwire.open")
        for name, data, last_id in events:
            self.assertTrue(data, (name, data))
            self.assertRegex(last_id, r"^[0-9a-v]{8}-[0-9a-v]{11}$")

    def test_httpx_sse(self):
        with httpx.Client(timeout=PATIENCE_S) as client, httpx_sse.connect_sse(client, "GET", self.url) as source:
            self.check(until_caught_up((own.event, own.data, own.id) for own in source.iter_sse()))

    def test_sseclient_py(self):
        with urllib.request.urlopen(self.url, timeout=PATIENCE_S) as response:
            client = sseclient.SSEClient(iter(response.readline, b""))
            self.check(until_caught_up((own.event, own.data, own.id) for own in client.events()))

    def test_aiohttp_sse_client(self):
        async def read():
            events = []
            async with EventSource(self.url, timeout=PATIENCE_S) as source:
                async for own in source:
                    events.append((own.type, own.data, own.last_event_id))
                    if own.type == "tailwire.caught_up":
                        return events
            return events

        self.check(asyncio.run(read()))

    def test_lines_of_ndjson_are_not_split_by_characters(self):
        body = "a\u2028b\u2029c\u0085d"
        request = urllib.request.Request(f"{self.base}/topics/{self.topic}", body.encode(), method="POST")
        request.add_header("Content-Type", "text/plain; charset=utf-8")
        urllib.request.urlopen(request, timeout=PATIENCE_S).close()
        texts = []
        with httpx.stream("GET", self.url.replace("sse&", "ndjson&"), timeout=PATIENCE_S) as response:
            for line in response.iter_lines():
                line = json.loads(line)
                if line["kind"] == "message":
                    texts.append(line["data"])
                if line["kind"] == "caught_up":
                    break
        self.assertEqual(texts, [*BODIES, body])

    def test_websockets_reads_past_a_message_that_is_larger_than_it_takes(self):
        # By default it closes the connection at a message of more than 1 MiB.
        large = "\u0085" * (1 << 19)
        publish(self.url.split("?")[0], large)
        publish(self.url.split("?")[0], "last")
        url = self.url.split("?")[0].replace("http", "ws") + "?after=earliest"
        with websockets.sync.client.connect(url, subprotocols=["tailwire.v1"]) as socket:
            with self.assertRaises(websockets.exceptions.ConnectionClosed):
                list(until(lambda line: line["kind"] == "caught_up", map(json.loads, socket)))
        with websockets.sync.client.connect(url + f"&max_bytes={1 << 20}", subprotocols=["tailwire.v1"]) as socket:
            lines = list(until(lambda line: line["kind"] == "caught_up", map(json.loads, socket)))
        messages = [line for line in lines if line["kind"] == "message"]
        self.assertEqual([line.get("data") for line in messages], [*BODIES, None, "last"])
        self.assertEqual((messages[-2]["omitted"], messages[-2]["size"]), (True, len(large.encode())))
        href = urllib.parse.urljoin(self.url, messages[-2]["href"])
        with urllib.request.urlopen(href, timeout=PATIENCE_S) as response:
            self.assertEqual(response.read().decode(), large)

    def test_promtool_finds_nothing_in_the_text_format(self):
        # It knows no OpenMetrics: that is parsed below.
        text = self.broker.metrics().encode()
        checked = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, check=False)
        self.assertEqual((checked.returncode, checked.stdout.decode(), checked.stderr.decode()), (0, "", ""))

    def test_metrics_are_sound_in_both_formats(self):
        text = self.broker.metrics()
        families = {family.name: family for family in parse_text(text)}
        # This parser names a counter's family without its suffix.
        self.assertEqual(families["tailwire_messages_in"].type, "counter")
        self.assertEqual(families["tailwire_log_name_info"].type, "gauge")
        self.assertGreater(families["tailwire_messages_in"].samples[0].value, 0)
        for family in families.values():
            self.assertNotEqual((family.name, family.type), (family.name, "unknown"))
            self.assertTrue(family.documentation, family.name)
        request = urllib.request.Request(self.broker.metrics_url, headers={"Accept": "application/openmetrics-text"})
        open_metrics = urllib.request.urlopen(request, timeout=PATIENCE_S).read().decode()
        types = {family.name: family.type for family in parse_open_metrics(open_metrics)}
        self.assertEqual(types["tailwire_log_name"], "info")
        self.assertEqual(types["tailwire_messages_in"], "counter")


def publish(url, body):
    request = urllib.request.Request(url, body.encode(), method="POST")
    request.add_header("Content-Type", "text/plain; charset=utf-8")
    urllib.request.urlopen(request, timeout=PATIENCE_S).close()


def until(is_last, items):
    for item in items:
        yield item
        if is_last(item):
            return


def until_caught_up(events):
    for name, data, last_id in events:
        yield name, data, last_id
        if name == "tailwire.caught_up":
            return


if __name__ == "__main__":
    unittest.main()
