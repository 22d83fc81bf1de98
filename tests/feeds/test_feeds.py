"""Feeds as readers of the field see them: feedparser, lxml, and plain HTTP."""

import json
import os
import shutil
import tempfile
import unittest

import feedparser
from client import Case
from lxml import etree

ATOM = "{http://www.w3.org/2005/Atom}"


class Feeds(Case):
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

    def test_a_feed_is_called_what_its_options_say(self):
        self.publish('"1"')
        self.set_options(title="News & more", description="What came")
        parsed = feedparser.parse(self.feed()[1])
        self.assertEqual((parsed.feed.title, parsed.feed.subtitle), ("News & more", "What came"))
        feed = json.loads(self.feed("format=jsonfeed")[1])
        self.assertEqual((feed["title"], feed["description"]), ("News & more", "What came"))
        # It is the topic's own: a pattern is called otherwise.
        self.assertEqual(feedparser.parse(self.ask("GET", "/topics/feeds/*?format=atom")[1]).feed.title, "feeds/*")
        self.broker.kill()
        self.broker.start_again()
        self.assertEqual(feedparser.parse(self.feed()[1]).feed.title, "News & more")

    def test_a_feed_says_how_often_it_is_worth_a_look(self):
        self.publish('"1"')
        response, raw = self.feed()
        feed = etree.fromstring(raw)
        period = feed.find("{http://purl.org/rss/1.0/modules/syndication/}updatePeriod")
        self.assertEqual(period.text, "hourly")
        self.assertGreaterEqual(int(response.getheader("Retry-After")), 1)
        self.assertNotIn("hub", [link.get("rel") for link in feed.findall(f"{ATOM}link")])

    def test_many_readers_of_a_feed_cost_one_encoding(self):
        self.publish_numbers(range(300))
        tag = self.feed()[0].getheader("ETag")
        read = self.log_pages()
        for number in range(50):
            headers = {"If-None-Match": tag} if number % 2 else {}
            self.assertEqual(self.feed(headers=headers)[0].status, 304 if number % 2 else 200)
        self.assertEqual(self.log_pages(), read)
        # Who has it already is given none.
        out = self.metric("tailwire_messages_out_total")
        self.assertEqual(self.feed(headers={"If-None-Match": tag})[0].status, 304)
        self.assertEqual(self.metric("tailwire_messages_out_total"), out)
        self.assertEqual(self.feed()[0].status, 200)
        self.assertGreaterEqual(self.metric("tailwire_messages_out_total"), out + 100)
        self.publish('"new"')
        self.assertEqual(self.feed(headers={"If-None-Match": tag})[0].status, 200)
        self.assertGreater(self.log_pages(), read)

    def log_pages(self):
        return self.metric("tailwire_log_pages_total")

    def metric(self, name):
        lines = self.broker.metrics().splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith(f"{name} "))


class FeedsWithHub(Case):
    """The hub is a setting that is off unless it is set."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="tailwire-test-")
        cls.arguments = ("--config", os.path.join(cls.folder, "tailwire.toml"))
        with open(cls.arguments[1], "w", encoding="ascii") as file:
            file.write('websub_hub = "https://hub.example.com/?a=b&c=d"\n')
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.folder)

    def test_a_feed_names_its_hub(self):
        links = feedparser.parse(self.feed()[1]).feed.links
        self.assertIn(("hub", "https://hub.example.com/?a=b&c=d"), [(link.rel, link.href) for link in links])
        hubs = json.loads(self.feed("format=jsonfeed")[1])["hubs"]
        self.assertEqual(hubs, [{"type": "WebSub", "url": "https://hub.example.com/?a=b&c=d"}])


if __name__ == "__main__":
    unittest.main()
