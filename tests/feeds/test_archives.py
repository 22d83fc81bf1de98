"""Archives (RFC 5005 §4): a reader that follows them gets the whole log, each message once."""

import http.client
import json
import threading
import unittest
from urllib.parse import urljoin, urlsplit

import feedparser
from client import PATIENCE_S, Case
from lxml import etree

ATOM = "{http://www.w3.org/2005/Atom}"
HISTORY = "{http://purl.org/syndication/history/1.0}"


class Walker:
    """A reader of feeds on one connection: it knows nothing of the broker but what stands in the documents."""

    def __init__(self, port, before_each=lambda: None):
        self._before_each = before_each
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_S)

    def fetch(self, url):
        split = urlsplit(url)
        self._before_each()
        self._connection.request("GET", f"{split.path}?{split.query}")
        response = self._connection.getresponse()
        return response, response.read()

    def document(self, url):
        """Status, titles (newest first), and links by relation."""
        response, raw = self.fetch(url)
        if response.status != 200:
            return response.status, [], {}
        parsed = feedparser.parse(raw, response_headers={"content-location": url, "content-type": "application/atom+xml"})
        if parsed.bozo:
            raise parsed.bozo_exception
        base = urljoin(url, etree.fromstring(raw).get("{http://www.w3.org/XML/1998/namespace}base"))
        links = {link.rel: urljoin(base, link.href) for link in parsed.feed.links}
        return 200, [entry.title for entry in parsed.entries], links

    def walk(self, url):
        """All titles from the newest back, the archives that were met, and the last status."""
        status, titles, links = self.document(url)
        archives = []
        while status == 200 and "prev-archive" in links:
            archives.append(links["prev-archive"])
            status, more, links = self.document(archives[-1])
            titles += more
        return titles, archives, status


class Archives(Case):
    def url(self, query="format=atom"):
        return f"http://127.0.0.1:{self.broker.port}/topics/{self.topic}?{query}"

    def test_a_reader_gets_the_whole_log_each_message_once(self):
        for start in range(0, 4000, 500):
            self.publish_numbers(range(start, start + 500))
        titles, archives, status = Walker(self.broker.port).walk(self.url())
        self.assertEqual(status, 200)
        self.assertEqual(titles, [str(number) for number in reversed(range(4000))])
        self.assertGreater(len(archives), 20)

    def test_an_archive_never_changes_and_caches_may_keep_it(self):
        self.publish_numbers(range(1000))
        walker = Walker(self.broker.port)
        _, archives, _ = walker.walk(self.url())
        before = [walker.fetch(url) for url in archives]
        for response, raw in before:
            self.assertEqual(response.getheader("Cache-Control"), "public, max-age=31536000, immutable")
            self.assertIsNotNone(etree.fromstring(raw).find(f"{HISTORY}archive"))
        self.publish_numbers(range(1000, 2500))
        self.assertEqual([raw for _, raw in before], [walker.fetch(url)[1] for url in archives])
        _, grown, _ = walker.walk(self.url())
        self.assertEqual(grown[-len(archives):], archives)

    def test_archives_lead_forward_to_the_feed(self):
        self.publish_numbers(range(800))
        walker = Walker(self.broker.port)
        _, archives, _ = walker.walk(self.url())
        url, met = archives[-1], []
        while url:
            met.append(url)
            status, _, links = walker.document(url)
            self.assertEqual(status, 200)
            self.assertEqual(links["current"], self.url())
            url = links.get("next-archive")
        # The newest that it leads to are still part of the feed itself.
        self.assertEqual(met[:len(archives)], archives[::-1])

    def test_boundaries_are_the_same_in_every_format_and_for_a_set(self):
        self.publish_numbers(range(600))
        ends = []
        for path in [f"/topics/{self.topic}?format=jsonfeed", f"/stream?topic={self.topic}&format=jsonfeed"]:
            met, own = [], json.loads(self.ask("GET", path)[1])["_tailwire"]
            while "prev_archive" in own:
                met.append(own["prev_archive"].split("archive=")[1])
                own = json.loads(self.ask("GET", "/" + own["prev_archive"])[1])["_tailwire"]
            ends.append(met)
        _, archives, _ = Walker(self.broker.port).walk(self.url())
        ends.append([url.split("archive=")[1] for url in archives])
        self.assertEqual(ends[0], ends[1])
        self.assertEqual(ends[0], ends[2])
        self.assertGreater(len(ends[0]), 3)

    def test_while_publishing_goes_on_and_retention_trims_nothing_is_missed_or_met_twice(self):
        self.set_options(max_messages=2500)
        self.publish_numbers(range(3000))
        # Half an archive while each document is fetched: a walk is never overtaken at once, nor ever alone.
        turns, over = threading.Semaphore(0), threading.Event()

        def publish():
            number = 3000
            while turns.acquire() and not over.is_set():
                self.publish_numbers(range(number, number + 30))
                number += 30

        publisher = threading.Thread(target=publish)
        publisher.start()
        try:
            statuses = set()
            walker = Walker(self.broker.port, before_each=turns.release)
            for _ in range(3):
                titles, archives, status = walker.walk(self.url())
                statuses.add(status)
                numbers = [int(title) for title in titles]
                self.assertEqual(numbers, list(range(numbers[0], numbers[0] - len(numbers), -1)))
                self.assertGreater(len(archives), 5)
                if status == 200:
                    self.assertEqual(numbers[-1], 0)
        finally:
            over.set()
            turns.release()
            publisher.join()
        self.assertIn(410, statuses)

    def test_what_retention_took_is_gone_and_what_is_left_is_found(self):
        self.publish_numbers(range(500))
        walker = Walker(self.broker.port)
        _, archives, _ = walker.walk(self.url())
        self.assertEqual(self.ask("DELETE", f"/topics/{self.topic}")[0].status, 204)
        self.publish_numbers(range(500, 502))
        response, raw = walker.fetch(archives[0])
        self.assertEqual((response.status, json.loads(raw)["code"]), (410, "archive-gone"))
        self.assertEqual(response.getheader("Cache-Control"), "no-store")
        titles, archives, status = walker.walk(self.url())
        self.assertEqual((titles, archives, status), (["501", "500"], [], 200))

    def test_large_messages_make_small_archives(self):
        for number in range(12):
            self.publish_numbers([number], padding="x" * 300_000)
        titles, archives, status = Walker(self.broker.port).walk(self.url())
        self.assertEqual(status, 200)
        self.assertEqual(titles, [str(number) for number in reversed(range(12))])
        self.assertGreater(len(archives), 4)

    def test_what_is_no_archive(self):
        cursor = self.publish("1")
        response, raw = self.feed(f"format=atom&archive={cursor[:9]}00000vvvvvv")
        self.assertEqual((response.status, json.loads(raw)["code"]), (404, "message-not-found"))
        self.assertEqual(self.feed(f"archive={cursor}")[0].status, 400)
        response, _ = self.feed(f"format=atom&archive={cursor}")
        # Nothing follows it yet, so it may still get a link.
        self.assertEqual((response.status, response.getheader("Cache-Control")), (200, "private, no-cache"))

    def test_a_compacted_topic_has_no_archive_that_is_kept(self):
        self.set_options(compact=True)
        self.publish_numbers(range(400))
        walker = Walker(self.broker.port)
        titles, archives, status = walker.walk(self.url())
        self.assertEqual((len(titles), len(set(titles)), status), (400, 400, 200))
        for url in archives:
            self.assertEqual(walker.fetch(url)[0].getheader("Cache-Control"), "private, no-cache")


class PublicArchives(Case):
    arguments = ("--public-url", "https://rt.example.com/rt")

    def test_a_json_feed_names_the_older_items(self):
        self.publish_numbers(range(400))
        feed = json.loads(self.feed("format=jsonfeed")[1])
        self.assertEqual(feed["feed_url"], f"https://rt.example.com/rt/topics/{self.topic}?format=jsonfeed")
        titles = [item["title"] for item in feed["items"]]
        while "next_url" in feed:
            self.assertTrue(feed["next_url"].startswith("https://rt.example.com/rt/topics/"), feed["next_url"])
            feed = json.loads(self.ask("GET", feed["next_url"].removeprefix("https://rt.example.com/rt"))[1])
            titles += [item["title"] for item in feed["items"]]
        self.assertEqual(titles, [str(number) for number in reversed(range(400))])


if __name__ == "__main__":
    unittest.main()
