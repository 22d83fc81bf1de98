"""The document says what was measured, and nothing else."""

import itertools
import unittest
import xml.dom.minidom
from datetime import datetime, timezone
from pathlib import Path
from unittest import mock

import document
import goals
import measures
import peers
import plot
import plots
import rival
from document import Run
from measures import Bench
from results import Results
from scales import FULL


def run(**changes) -> Run:
    told = {
        "when": datetime(2026, 1, 2, tzinfo=timezone.utc), "revision": "abc", "machine": [("cores", "2")],
        "scale": FULL, "everything": True, "rounds": 3,
    }
    return Run(**(told | changes))


def quiet() -> Results:
    results = Results()
    for results.round, figure in enumerate([1.0, 1.02, 1.05]):
        results.add("fanout", document.LIMIT, sparse_cpu_us=figure, flat_cpu_us=figure)
        results.add("fanout", "Tailwire, WebSocket", sparse_cpu_us=2 * figure)
    return results


class Document(unittest.TestCase):
    def test_a_figure_is_the_median_of_its_rounds(self):
        self.assertIn("| Tailwire, WebSocket | 2.04 | 2.00 | – |", document.text(run(), quiet(), [], set()))

    def test_a_ratio_is_the_median_of_those_of_the_rounds(self):
        results = Results()
        # The medians' own ratio is 1; and the second round has no limit.
        for results.round, (own, limit) in enumerate([(2.0, 1.0), (9.0, None), (6.0, 2.0), (4.0, 4.0)]):
            results.add("fanout", document.LIMIT, sparse_cpu_us=limit)
            results.add("fanout", "Tailwire, WebSocket", sparse_cpu_us=own)
        self.assertIn("| Tailwire, WebSocket | ≈ 5.00 | ≈ 2.00 |", document.text(run(), results, [], set()))
        self.assertEqual(results.samples[("fanout", "Tailwire, WebSocket", "times_limit")], {0: 2, 2: 3, 3: 1})

    def test_a_way_is_compared_with_the_limit_of_its_framing(self):
        results = Results()
        for framing, figure in [("WebSocket", 1.0), ("SSE", 2.0)]:
            results.add("fanout", f"limit program, {framing}", sparse_cpu_us=figure)
        for row in ["Tailwire, SSE", "Tailwire, SSE over HTTP/2", "ws, a broadcast, WebSocket", "Tailwire, NDJSON"]:
            results.add("fanout", row, sparse_cpu_us=4.0)
        text = document.text(run(), results, [], set())
        self.assertIn("| Tailwire, SSE | 4.00 | 2.00 |", text)
        self.assertIn("| Tailwire, SSE over HTTP/2 | 4.00 | 4.00 |", text)
        self.assertIn("| ws, a broadcast, WebSocket | 4.00 | 4.00 |", text)
        # The one that it has could not be measured: another is not put in its place.
        self.assertIn("| Tailwire, NDJSON | 4.00 | – |", text)

    def test_flat_out_has_its_latency_and_says_what_makes_it_cheap(self):
        results = quiet()
        results.add("fanout", "Tailwire, WebSocket", flat_cpu_us=0.3, flat_p50_ms=40.0, flat_p99_ms=90.0)
        text = document.text(run(), results, [], set())
        self.assertIn("| flat out, µs CPU | flat out p50, ms | flat out p99, ms |", text)
        self.assertIn("| 0.300 | 40.0 | 90.0 |", text)
        self.assertIn("\n\nSparse, each message is a write of its own", text)

    def test_what_was_not_measured_has_no_section(self):
        text = document.text(run(), quiet(), [], set())
        self.assertNotIn("Replay", text)
        self.assertNotIn("deliveries/s", text)
        self.assertNotIn(".svg", text)

    def test_a_quiet_full_run_is_not_called_noisy(self):
        self.assertNotIn("Noisy", document.text(run(), quiet(), [], set()))

    def test_noise_is_told(self):
        wild = quiet()
        wild.round = 3
        wild.add("fanout", document.LIMIT, sparse_cpu_us=3.0)
        for noisy, results in [
            (run(neighbours=0.5), quiet()), (run(everything=False), quiet()), (run(), wild), (run(), Results()),
            (run(rounds=2), quiet()),
        ]:
            results.add("idle", "Tailwire, WebSocket", memory_bytes=1)
            text = document.text(noisy, results, [], set())
            self.assertIn("Noisy: not for comparing", text)
            self.assertIn("The machine was not quiet", text)
        self.assertNotIn("The machine was not quiet", document.text(run(), quiet(), [], set()))

    def test_what_the_rival_does_better_stands_first(self):
        results = quiet()
        for row, memory, rate in [("Tailwire", 1500, 10), (rival.TITLE, 750, 8)]:
            results.add("idle", f"{row}, SSE", memory_bytes=memory)
            results.add("publish", f"{row}, POST", **{"256_per_s": rate})
        lines = document.text(run(), results, [], set()).splitlines()
        first = lines.index("| --- | ---: | ---: | ---: | --- |") + 1
        self.assertEqual(lines[first], "| an idle SSE stream: memory, bytes | 1,500 | 750 | 2.00 | behind |")
        self.assertEqual(lines[first + 1], "| publishes over 256 connections: rate, /s | 10.0 | 8.00 | 1.25 | ahead |")
        self.assertNotIn("nearest rival", document.text(run(), quiet(), [], set()))

    def test_samples_that_lie_apart_are_marked(self):
        results = quiet()
        for results.round, figure in enumerate([1, 2, 3]):
            results.add("replay", "Nchan, SSE", cpu_us=figure)
        self.assertIn("| Nchan, SSE | ≈ 2.00 |", document.text(run(), results, [], set()))

    def test_what_failed_and_what_is_missing_is_named(self):
        results = quiet()
        results.skipped["NATS core"] = "no package"
        results.note("replay", "Redis, XRANGE", "could not be measured: it ended")
        text = document.text(run(left_out=["ws"]), results, [], set())
        self.assertIn("Not measured: NATS core: no package.", text)
        self.assertIn("- Redis, XRANGE: could not be measured: it ended.", text)
        self.assertIn("Not asked for: ws.", text)

    def test_plots_are_of_what_there_is(self):
        results = quiet()
        results.add("subscribers", "10", tailwire_cpu_us=5.0)
        self.assertEqual(set(plots.drawn(results)), {"fanout-sparse", "fanout-flat"})
        results.add("subscribers", "100", tailwire_cpu_us=4.0)
        self.assertIn("subscribers-growth", plots.drawn(results))


class Figures(float):
    """What any measurement says of itself: 1 everywhere, and no faults."""

    def __getitem__(self, _key: str) -> "Figures":
        return Figures(1)

    def get(self, _key: str, otherwise: int = 0) -> int:
        return otherwise

    def values(self) -> list[int]:
        return []


def limited(files: int) -> mock.Mock:
    """The limits of a process that may have so many files open."""
    return mock.Mock(getrlimit=lambda _: (files, files))


class Goals(unittest.TestCase):
    def said(self, results: Results, goal: str) -> str:
        lines = document.text(run(), results, [], set()).splitlines()
        return next(line for line in lines if line.startswith(f"| {goal} |")).removeprefix(f"| {goal} | ")

    def test_a_goal_is_met_up_to_its_bound(self):
        for figure, said in [(2999, "met"), (3000, "met"), (3001, "not met")]:
            results = Results()
            results.add("idle", "Tailwire, WebSocket", memory_bytes=figure)
            line = self.said(results, "an idle connection, WebSocket: memory")
            self.assertEqual(line, f"at most 3,000 bytes | {plot.number(figure)} | {said} |")

    def test_bounds_of_time_are_wider_on_a_slower_machine_and_others_are_not(self):
        for figure, said in [(50, "met"), (51, "not met")]:
            results = Results()
            results.add("fanout", document.LIMIT, sparse_cpu_us=2 * goals.REFERENCE_US)
            results.add("publish", "Tailwire, POST", **{"256_cpu_us": figure, "256_per_s": 20_000})
            results.add("idle", "Tailwire, SSE", memory_bytes=4001)
            self.assertIn(f" | {said} |", self.said(results, "a publish by POST, 256 connections: CPU"))
            self.assertIn(" | met |", self.said(results, "a publish by POST, 256 connections: rate"))
            self.assertIn(" | not met |", self.said(results, "an idle connection, SSE: memory"))
            self.assertIn("2.00 times as much", document.text(run(), results, [], set()))

    def test_a_rate_is_met_from_its_bound_on(self):
        for figure, said in [(39_900, "not met"), (40_000, "met"), (50_000, "met")]:
            results = Results()
            results.add("publish", "Tailwire, POST", **{"256_per_s": figure})
            line = self.said(results, "a publish by POST, 256 connections: rate")
            self.assertEqual(line, f"at least 40,000/s | {figure:,} | {said} |")

    def test_what_was_not_measured_is_neither_met_nor_missed(self):
        line = self.said(quiet(), "a sparse delivery, SSE: CPU")
        self.assertEqual(line, "at most 1.2 × the limit | – | not measured |")
        line = self.said(quiet(), "a sparse delivery, WebSocket: CPU")
        self.assertEqual(line, "at most 1.2 × the limit | 2.00 | not met |")

    def test_nothing_is_met_by_a_figure_of_nothing(self):
        results = quiet()
        results.add("idle", "Tailwire, NDJSON", memory_bytes=0)
        line = self.said(results, "an idle connection, NDJSON: memory")
        self.assertEqual(line, "at most 4,000 bytes | – | not measured |")

    def test_a_run_without_any_has_no_section(self):
        self.assertNotIn("Goals", document.text(run(), Results(), [], set()))

    def test_ratios_are_of_one_round(self):
        results = Results()
        row = "Tailwire, POST, one at a time, `sync`"
        # Of the medians it is 1, of the rounds 2.
        for results.round, (own, disk, after) in enumerate([(2.0, 1.0, 1.0), (6.0, 2.0, 1.05), (4.0, 4.0, 9.0)]):
            results.add("single", goals.DISK, p50_ms=disk)
            results.add("single", row, p50_ms=own)
            results.add("topics", "1000000", before_cpu_us=1.0, after_cpu_us=after)
        self.assertIn("| ≈ 2.00 | not met |", self.said(results, "one publish at a time, POST: p50"))
        self.assertIn("| ≈ 1.05 | met |", self.said(results, "1,000,000 topics: CPU of a publish"))

    def test_faults_stand_beside_a_goal_that_was_met_with_them(self):
        results = Results()
        results.add("fanout", document.LIMIT, sparse_cpu_us=1)
        results.add("fanout", "Tailwire, WebSocket", flat_cpu_us=0.5, sparse_cpu_us=1)
        results.note("fanout", "Tailwire, WebSocket", "flat out: 5 lost")
        self.assertIn("met, with faults: see below |", self.said(results, "a delivery flat out, WebSocket: CPU"))
        self.assertIn("| met |", self.said(results, "a sparse delivery, WebSocket: CPU"))

    def test_a_full_run_measures_each(self):
        results = Results()
        bench = Bench(Path(), Path(), FULL, results)
        # What is read later is more.
        readings = itertools.count(1)
        running = mock.MagicMock()
        running.__enter__().server.configure_mock(**{
            f"{what}.side_effect": readings for what in ["cpu_ns", "resident_bytes", "rested_bytes"]})
        load = mock.MagicMock()
        load.__enter__().run.return_value = Figures(1)
        with mock.patch.multiple(
            measures, Load=mock.Mock(return_value=load), SETTLE_S=0, _appends=lambda _: [1.0] * 3,
            processes=mock.MagicMock(), resource=limited(FULL.crowd * 2), _bench=lambda *_: Figures(1), _run=lambda *_: Figures(1), _fanout=lambda *_: Figures(1),
        ), mock.patch.object(peers.Peer, "start", return_value=running):
            for peer in [peer for peer in peers.all_peers(Path()) if peer.name in {"limit", "tailwire"}]:
                for way in peer.ways:
                    measures.fanout(bench, peer, way)
                for way in peer.publishing:
                    measures.publish(bench, peer, way)
                measures.paced(bench, peer, peer.ways[0])
                if peer.name == "limit":
                    measures.commits(bench, peer, peer.ways[0])
            results.add("fanout", "Redis, RESP over TCP", flat_per_s=2.0)
            measures.storm(bench, peer)
            measures.topics(bench, peer)
            measures.alone(bench, peer)
            measures.beside(bench, peer)
            for transport in measures.CROWDS:
                measures.crowd(bench, peer, transport)
        text = document.text(run(), results, [], set())
        self.assertNotIn("not measured |", text)
        self.assertIn("| flat out p50, ms | flat out p99, ms |", text)
        self.assertIn("| idle, bytes | after messages, bytes |", text)
        self.assertIn("| added, µs CPU |", text)
        self.assertIn("| × alone | server's CPU, cores |", text)
        self.assertIn("| × the limit program with commits, p50 |", text)
        for row in ["2,000 messages/s to 10 subscribers", "10 messages/s to 1,000 subscribers, WebSocket"]:
            self.assertIn(f"| limit program with commits, {row} |", text)

    def test_the_fastest_peer_is_that_of_the_same_round(self):
        results = Results()
        for results.round, (own, first, second) in enumerate([(6.0, 2.0, 3.0), (2.0, 8.0, 1.0), (3.0, None, 2.0)]):
            results.add("fanout", "Tailwire, SSE", flat_per_s=own)
            results.add("fanout", "Redis, RESP over TCP", flat_per_s=first)
            results.add("fanout", "ws, a broadcast, WebSocket", flat_per_s=second)
            # It is no peer.
            results.add("fanout", "limit program, SSE", flat_per_s=100.0)
        line = self.said(results, "flat out, SSE: deliveries a second")
        self.assertEqual(line, "at least 1 × the fastest peer's | ≈ 1.50 | met |")

    def test_latency_is_what_goes_beyond_the_limit_and_a_commit_of_its_round(self):
        for own, said in [([5.0, 4.0, 9.0], "met"), ([5.0, 6.5, 9.0], "not met")]:
            results = Results()
            # The third round has no limit.
            for results.round, (figure, limit, disk) in enumerate(zip(own, [3.0, 3.0, None], [1.0, 1.0, 1.0])):
                results.add("latency", goals.PACED["tailwire"], delivery_p50_ms=figure)
                results.add("latency", goals.PACED["limit"], delivery_p50_ms=limit)
                results.add("single", goals.DISK, p50_ms=disk)
            line = self.said(results, "10 messages/s to 1,000 subscribers, p50: beyond the limit program's and a commit")
            self.assertTrue(line.endswith(f"| {said} |"), line)
            self.assertIn("at most 1 ms", line)

    def test_a_storm_has_a_rate_and_a_cost(self):
        results = Results()
        got = {"connections_per_s": 7_900.0, "server_cpu_us_per_connection": 60.0}
        peer = next(peer for peer in peers.all_peers(Path()) if peer.name == "tailwire")
        with mock.patch.object(measures, "_bench", lambda *_: got):
            measures.storm(Bench(Path(), Path(), FULL, results), peer)
        self.assertTrue(self.said(results, "10,000 WebSocket handshakes: rate").endswith("| not met |"))
        self.assertTrue(self.said(results, "10,000 WebSocket handshakes: CPU of each").endswith("| met |"))

    def test_a_long_poll_that_waits_is_held_to_what_parking_takes(self):
        results = Results()
        results.add("crowd", "Tailwire, 15,000 connections, long-poll", idle_bytes=9_000, after_bytes=9_000)
        self.assertTrue(self.said(results, "15,000 connections at once, long-poll: memory of each").endswith("| met |"))
        self.assertTrue(self.said(results, "15,000 long-polls that wait, parked: memory of each").endswith("| not met |"))

    def test_what_the_load_generator_says_stands_beside_its_figures(self):
        results = Results()
        got = {"lost": 0, "messages_unknown": 3, "fell_behind": "of 9 publishes that were due, 4 were not sent"}
        with mock.patch.object(measures.processes, "bench", lambda *_: got):
            measures._run(Bench(Path(), Path(), FULL, results), mock.MagicMock(), "many", "a", ["fanout"])
        self.assertEqual(results.notes[("many", "a")], ["messages unknown: 3", got["fell_behind"]])

    def crowd(self, results: Results, files: int, got: dict) -> str:
        peer = next(peer for peer in peers.all_peers(Path()) if peer.name == "tailwire")
        with mock.patch.multiple(measures, resource=limited(files), _bench=lambda *_: got):
            measures.crowd(Bench(Path(), Path(), FULL, results), peer, "sse")
        return self.said(results, "15,000 connections at once, SSE: cut off")

    def test_every_connection_is_to_stay_open(self):
        got = {"ended": {"closed": 2, "reading": 1}, "server_cpu_us_per_connection": 50,
               "held_bytes_per_connection": 4001, "after_bytes_per_connection": 4000}
        results = Results()
        self.assertEqual(self.crowd(results, 20_000, got), "at most 0 | 3.00 | not met |")
        self.assertIn("| 3.00 | 50.0 | 4,001 | 4,000 |", document.text(run(), results, [], set()))
        for when, said in [("at once", "not met |"), ("that had messages", "met |")]:
            line = self.said(results, f"15,000 connections {when}, SSE: memory of each")
            self.assertTrue(line.endswith(f"| {said}"), line)

    def test_more_connections_than_files_are_left_out(self):
        results = quiet()
        self.assertEqual(self.crowd(results, 15_100, {}), "at most 0 | – | not measured |")
        said = "- Tailwire, 15,000 connections, SSE: left out: a process may have 15,100 files open here."
        self.assertIn(said, document.text(run(), results, [], set()))

    def test_patterns_that_cost_less_than_can_be_told_meet_their_bound(self):
        for figure, said in [(-0.1, "met"), (0, "met"), (2, "met"), (2.1, "not met")]:
            results = Results()
            results.add("patterns", "100,000 topics", added_us=figure)
            line = self.said(results, "10,000 patterns, 100,000 topics: CPU of a publish's search")
            self.assertTrue(line.endswith(f"| {said} |"), line)

    def test_live_delivery_is_compared_with_that_of_its_round(self):
        results = Results()
        for results.round, (alone, beside) in enumerate([(1.0, 6.0), (10.0, 20.0), (2.0, 11.0)]):
            results.add("beside", goals.ALONE, delivery_p99_ms=alone)
            results.add("beside", goals.BESIDE, delivery_p99_ms=beside)
        line = self.said(results, "a live delivery beside 100 clients that replay: p99")
        self.assertEqual(line, "at most 5 × alone | ≈ 5.50 | not met |")


class Plot(unittest.TestCase):
    def test_numbers_have_three_digits(self):
        for value, expected in [(0.1234, "0.123"), (2.0, "2.00"), (12.34, "12.3"), (1234.5, "1,230"), (0, "0"),
                                (999_900, "1,000,000"), (100, "100")]:
            self.assertEqual(plot.number(value), expected)

    def test_plots_are_xml_whatever_the_labels(self):
        for svg in [
            plot.bars("a < b", "µs & ms", [("x & y", "ours", 1.0), ("z", "peer", 2.0)]),
            plot.lines("growth", "µs", "n", [("a", "ours", [(1, 3.0), (10, 3.0)]), ("b", "limit", [(1, 3.0)])]),
        ]:
            xml.dom.minidom.parseString(svg)


if __name__ == "__main__":
    unittest.main()
