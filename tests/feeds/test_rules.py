"""Feeds held against the rules of RFC 4287, RFC 5005 and JSON Feed 1.1, as validators know them."""

import json
import re
import unittest
from collections import Counter
from datetime import datetime
from urllib.parse import urljoin, urlsplit

from client import Case
from lxml import etree

ATOM = "{http://www.w3.org/2005/Atom}"
HISTORY = "{http://purl.org/syndication/history/1.0}"
BASE = "{http://www.w3.org/XML/1998/namespace}base"
# RFC 3339 §5.6, in capitals (RFC 4287 §3.3).
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+")
IRI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:\S+")
# One of each, and at most one (§4.1.1, §4.1.2).
FEED = ({"id", "title", "updated"}, {"subtitle", "generator", "rights", "icon", "logo"})
ENTRY = ({"id", "title", "updated"}, {"content", "published", "rights", "source", "summary"})

MESSAGES = [
    ("application/json", '{"title":"A <b>title</b>","text":"Text\\nof two lines","url":"https://example.com/1","author":"Ada"}'),
    ("application/json", '{"published":"2026-11-30T10:00:00.5+01:00","author":[{"name":"Ada"},{"name":"Bob"}],"id":7}'),
    ("application/json", '{"title":"","text":" ","author":"","url":"","id":""}'),
    ("application/json", '{"title":"]]> \\u0000 \\u202e \\ufffe","url":"javascript:alert(1)","published":"0000-00-00"}'),
    ("application/json", "[[[[]]]]"),
    ("application/json", "-0.50"),
    ("application/vnd.a+json", '{"title":"vendor"}'),
    ("text/plain", "one\r\ntwo ]]> \x00\x0b\x1f"),
    ("text/plain", ""),
    ("text/html", "<script>alert(1)</script>"),
    ("image/svg+xml", "<svg onload='alert(1)'/>"),
    ("image/png", "\x01\x02"),
    ("image/png", ""),
    ("application/octet-stream", "x" * 100_000),
    ("multipart/mixed; boundary=x", "--x--"),
]


def name(element):
    return etree.QName(element).localname


class Rules(Case):
    arguments = ("--public-url", "https://rt.example.com/rt")

    def publish_all(self):
        for media_type, body in MESSAGES:
            self.publish(body, media_type)

    def one_of_each(self, element, rules):
        needed, allowed = rules
        counts = Counter(name(child) for child in element if child.tag.startswith(ATOM))
        for child in needed:
            self.assertEqual(counts[child], 1, child)
        for child in allowed:
            self.assertLessEqual(counts[child], 1, child)

    def date(self, element):
        self.assertRegex(element.text, DATE)
        return datetime.fromisoformat(element.text)

    def document(self, raw, url):
        """Checks an Atom document; gives its root."""
        feed = etree.fromstring(raw)
        self.assertEqual(feed.tag, f"{ATOM}feed")
        self.one_of_each(feed, FEED)
        base = urljoin(url, feed.get(BASE))
        self.assertRegex(feed.findtext(f"{ATOM}id"), IRI)
        self.assertTrue(feed.findtext(f"{ATOM}title").strip())
        self.assertTrue(feed.find(f"{ATOM}author/{ATOM}name").text.strip())
        links = [link for link in feed.findall(f"{ATOM}link")]
        self.assertEqual([urljoin(base, link.get("href")) for link in links if link.get("rel") == "self"], [url])
        self.assertTrue(all(urlsplit(urljoin(base, link.get("href"))).netloc for link in links))
        relations = Counter(link.get("rel") for link in links)
        self.assertEqual(set(relations.values()), {1}, relations)
        # Metadata stands before entries, which validators ask for.
        kinds = [name(child) for child in feed]
        if "entry" in kinds:
            self.assertEqual(set(kinds[kinds.index("entry"):]), {"entry"})
        is_archive = feed.find(f"{HISTORY}archive") is not None
        self.assertEqual(is_archive, "current" in relations)
        if is_archive:
            self.assertTrue({"prev-archive", "next-archive"} & set(relations), relations)
        entries = feed.findall(f"{ATOM}entry")
        ids = [entry.findtext(f"{ATOM}id") for entry in entries]
        self.assertEqual(len(set(ids)), len(ids))
        dates = [self.entry(entry, base) for entry in entries]
        self.assertEqual(dates, sorted(dates, reverse=True))
        if dates:
            self.assertEqual(self.date(feed.find(f"{ATOM}updated")), dates[0])
        return feed

    def entry(self, entry, base):
        self.one_of_each(entry, ENTRY)
        self.assertRegex(entry.findtext(f"{ATOM}id"), IRI)
        self.assertTrue(entry.findtext(f"{ATOM}title").strip())
        self.date(entry.find(f"{ATOM}published"))
        for author in entry.findall(f"{ATOM}author"):
            self.assertTrue(author.findtext(f"{ATOM}name").strip())
        alternates = entry.findall(f"{ATOM}link[@rel='alternate']")
        self.assertEqual(len(alternates), 1)
        self.assertIn(urlsplit(urljoin(base, alternates[0].get("href"))).scheme, ["http", "https"])
        self.assertTrue(all(category.get("term") for category in entry.findall(f"{ATOM}category")))
        content = entry.find(f"{ATOM}content")
        kind, source = content.get("type"), content.get("src")
        if kind not in (None, "text"):
            # No markup, no XML, and never active: base64 or a reference, of which there is a summary (§4.1.3.2, §4.1.3.3).
            self.assertRegex(kind, MEDIA_TYPE)
            self.assertNotRegex(kind, "^(text|multipart|message)/|xml$|^x?html$")
            self.assertTrue(entry.findtext(f"{ATOM}summary").strip())
        if source is None:
            self.assertEqual(len(content), 0)
            self.assertTrue(kind in (None, "text") or content.text)
        else:
            self.assertTrue(urljoin(base, source).startswith(f"{base}messages/"))
            self.assertEqual((content.text, len(content)), (None, 0))
        return self.date(entry.find(f"{ATOM}updated"))

    def test_atom(self):
        url = f"https://rt.example.com/rt/topics/{self.topic}?format=atom"
        self.document(self.feed()[1], url)
        self.publish_all()
        response, raw = self.feed()
        self.assertEqual(response.getheader("Content-Type"), "application/atom+xml")
        self.document(raw, url)
        for query in ["format=atom&limit=3", "format=atom&after=earliest&limit=3", "format=atom&last=2&wait=1"]:
            self.document(self.feed(query)[1], url.replace("format=atom", query))

    def test_atom_of_archives_patterns_and_sets(self):
        for start in range(0, 600, 200):
            self.publish_numbers(range(start, start + 200))
        self.publish_all()
        root = "https://rt.example.com/rt"
        for path in [f"/topics/{self.topic}?format=atom", "/topics/feeds/*?format=atom",
                     f"/stream?topic={self.topic}&topic=feeds/other&format=atom"]:
            met = 0
            while path:
                feed = self.document(self.ask("GET", path)[1], root + path)
                previous = feed.find(f"{ATOM}link[@rel='prev-archive']")
                path = previous.get("href").removeprefix(root) if previous is not None else None
                met += 1
            self.assertGreater(met, 3)

    def test_json_feed(self):
        self.publish_all()
        response, raw = self.feed("format=jsonfeed")
        self.assertEqual(response.getheader("Content-Type"), "application/feed+json")
        feed = json.loads(raw)
        self.assertEqual(feed["version"], "https://jsonfeed.org/version/1.1")
        self.assertTrue(feed["title"])
        known = {"version", "title", "home_page_url", "feed_url", "description", "next_url", "authors", "language", "hubs", "items"}
        self.assertEqual({member for member in feed if not member.startswith("_")} - known, set())
        self.assertEqual(feed["feed_url"], f"https://rt.example.com/rt/topics/{self.topic}?format=jsonfeed")
        texts = {"id", "url", "external_url", "title", "content_text", "content_html", "summary", "date_published", "date_modified"}
        for item in feed["items"]:
            members = {member for member in item if not member.startswith("_")}
            self.assertEqual(members - texts - {"authors", "tags"}, set())
            self.assertTrue(all(isinstance(item[member], str) for member in members & texts), item)
            self.assertTrue(item["id"] and ("content_text" in item or "content_html" in item))
            self.assertIn(urlsplit(item.get("url", "https:")).scheme, ["http", "https"])
            for member in ["date_published", "date_modified"]:
                self.assertRegex(item[member], DATE)
            self.assertTrue(all(author["name"] for author in item.get("authors", [{"name": "none"}])))
            self.assertEqual(item["tags"], [self.topic])
        self.assertEqual(len({item["id"] for item in feed["items"]}), len(MESSAGES))


if __name__ == "__main__":
    unittest.main()
