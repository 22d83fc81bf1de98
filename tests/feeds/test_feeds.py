"""Feeds as readers of the field see them: feedparser, lxml, and plain HTTP."""

import http.client
import json
import os
import sys
import unittest

import feedparser
from lxml import etree

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../blackbox"))

from broker import PATIENCE_S, Broker  # noqa: E402

ATOM = "{http://www.w3.org/2005/Atom}"


class Feeds(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.broker = Broker()

    @classmethod
    def tearDownClass(cls):
        cls.broker.stop()

    def setUp(self):
        self.topic = f"feeds/{self._testMethodName}"

    def ask(self, method, path, body=None, headers=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.broker.port, timeout=PATIENCE_S)
        connection.request(method, path, body=body, headers=headers or {})
        response = connection.getresponse()
        raw = response.read()
        connection.close()
        return response, raw

    def publish(self, body, media_type="application/json"):
        body = body if isinstance(body, bytes) else body.encode()
        response, raw = self.ask("POST", f"/topics/{self.topic}", body, {"Content-Type": media_type})
        self.assertEqual(response.status, 201, raw)

    def feed(self, query="format=atom", headers=None):
        return self.ask("GET", f"/topics/{self.topic}?{query}", headers=headers)

    def test_a_reader_finds_titles_links_and_texts(self):
        self.publish('{"title":"First","text":"Hello","url":"https://example.com/1","author":"Ada"}')
        self.publish("Second\nand more", "text/plain")
        response, raw = self.feed()
        self.assertEqual(response.status, 200)
        self.assertEqual(response.getheader("Content-Type"), "application/atom+xml")
        parsed = feedparser.parse(raw, response_headers=dict(response.headers))
        self.assertFalse(parsed.bozo, parsed.get("bozo_exception"))
        self.assertEqual([entry.title for entry in parsed.entries], ["Second", "First"])
        first = parsed.entries[1]
        self.assertEqual(first.link, "https://example.com/1")
        self.assertEqual(first.author, "Ada")
        self.assertEqual(json.loads(first.content[0].value)["text"], "Hello")
        self.assertTrue(first.id.startswith("urn:uuid:"))
        self.assertEqual(parsed.feed.title, self.topic)

    def test_links_lead_to_the_broker(self):
        self.publish('{"text":"no link of its own"}')
        url = f"http://127.0.0.1:{self.broker.port}/topics/{self.topic}?format=atom"
        parsed = feedparser.parse(url)
        self.assertEqual(parsed.status, 200)
        link = parsed.entries[0].link
        self.assertTrue(link.startswith(f"http://127.0.0.1:{self.broker.port}/messages/"), link)
        response, raw = self.ask("GET", link.split(str(self.broker.port), 1)[1])
        self.assertEqual((response.status, raw), (200, b'{"text":"no link of its own"}'))

    def test_hostile_messages_give_sound_documents(self):
        hostile = [
            ('{"title":"]]> & <b> \\u0000 \\u202e"}', "application/json"),
            ("\x00\x0b\u2028\ufffe", "text/plain"),
            (b"\xff\xfe<script>", "text/html"),
            (b"\x89PNG" * 100, "image/png"),
            (b"x" * 1_000_000, "application/octet-stream"),
            ('{"title":["a"],"url":"javascript:alert(1)","published":"never"}', "application/json"),
        ]
        for body, media_type in hostile:
            self.publish(body, media_type)
        _, raw = self.feed()
        entries = etree.fromstring(raw).findall(f"{ATOM}entry")
        self.assertEqual(len(entries), len(hostile))
        hrefs = [entry.find(f"{ATOM}link").get("href") for entry in entries]
        self.assertFalse(any(href.startswith("javascript") for href in hrefs), hrefs)
        _, raw = self.feed("format=jsonfeed")
        items = json.loads(raw)["items"]
        self.assertEqual(len(items), len(hostile))
        self.assertTrue(all(item["content_text"] or item["title"] for item in items))

    def test_json_feed(self):
        self.publish('{"title":"First","n":1}')
        response, raw = self.feed(headers={"Accept": "application/feed+json"}, query="")
        self.assertEqual(response.getheader("Content-Type"), "application/feed+json")
        feed = json.loads(raw)
        self.assertEqual(feed["version"], "https://jsonfeed.org/version/1.1")
        self.assertEqual(feed["items"][0]["_tailwire"]["data"], {"title": "First", "n": 1})
        self.assertTrue(feed["items"][0]["id"])

    def test_what_is_known_is_not_sent_again(self):
        for number in range(3):
            self.publish(str(number))
        response, raw = self.feed()
        tag = response.getheader("ETag")
        response, raw = self.feed(headers={"If-None-Match": tag})
        self.assertEqual((response.status, raw), (304, b""))
        self.assertEqual(response.getheader("ETag"), tag)
        delta = {"If-None-Match": tag, "A-IM": "feed"}
        response, raw = self.feed(headers=delta)
        self.assertEqual(response.status, 304)
        self.publish("3")
        self.publish("4")
        response, raw = self.feed(headers=delta)
        self.assertEqual((response.status, response.getheader("IM")), (226, "feed"))
        self.assertIn("a-im", (response.headers.get_all("Vary") and ",".join(response.headers.get_all("Vary"))))
        self.assertEqual([entry.title for entry in feedparser.parse(raw).entries], ["4", "3"])
        newest = response.getheader("ETag")
        response, raw = self.feed(headers={"If-None-Match": newest, "A-IM": "feed"})
        self.assertEqual(response.status, 304)
        # A reader that doesn't know deltas gets the whole document.
        response, raw = self.feed(headers={"If-None-Match": tag})
        self.assertEqual((response.status, len(feedparser.parse(raw).entries)), (200, 5))

    def test_a_delta_over_a_gap_is_the_whole_document(self):
        self.publish("1")
        response, _ = self.feed()
        tag = response.getheader("ETag")
        self.publish("2")
        self.assertEqual(self.ask("DELETE", f"/topics/{self.topic}")[0].status, 204)
        self.publish("3")
        response, raw = self.feed(headers={"If-None-Match": tag, "A-IM": "feed"})
        self.assertEqual(response.status, 200)
        self.assertEqual([entry.title for entry in feedparser.parse(raw).entries], ["3"])

    def test_nothing_yet_is_a_feed_without_entries(self):
        for query in ["format=atom", "format=atom&after=latest"]:
            response, raw = self.feed(query)
            self.assertEqual(response.status, 200)
            self.assertFalse(feedparser.parse(raw).bozo)
        response, raw = self.feed("format=jsonfeed")
        self.assertEqual((response.status, json.loads(raw)["items"]), (200, []))

    def test_a_feed_begins_with_the_newest_and_pages_on(self):
        for number in range(5):
            self.publish(str(number))
        _, raw = self.feed("format=atom&limit=2")
        self.assertEqual([entry.title for entry in feedparser.parse(raw).entries], ["4", "3"])
        seen, query = [], "format=atom&limit=2&after=earliest"
        while query:
            _, raw = self.feed(query)
            parsed = feedparser.parse(raw)
            seen += reversed([entry.title for entry in parsed.entries])
            following = [link.href for link in parsed.feed.links if link.rel == "next"]
            query = following[0].split("?", 1)[1] if following else None
        self.assertEqual(seen, ["0", "1", "2", "3", "4"])

    def test_patterns_and_sets_are_feeds(self):
        self.publish('{"title":"one"}')
        for path in ["/topics/feeds/**?format=atom", f"/stream?topic={self.topic}&topic=other&format=atom"]:
            _, raw = self.ask("GET", path)
            parsed = feedparser.parse(raw)
            self.assertFalse(parsed.bozo)
            self.assertIn(self.topic, [entry.tags[0].term for entry in parsed.entries])


if __name__ == "__main__":
    unittest.main()
