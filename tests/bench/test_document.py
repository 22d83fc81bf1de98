"""The document says what was measured, and nothing else."""

import unittest
import xml.dom.minidom
from datetime import datetime, timezone

import document
import plot
from document import Run
from measures import FULL
from results import Results


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
        ]:
            self.assertIn("Noisy: not for comparing", document.text(noisy, results, [], set()))

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
        self.assertEqual(set(document._plots(results)), {"fanout-sparse", "fanout-flat"})
        results.add("subscribers", "100", tailwire_cpu_us=4.0)
        self.assertIn("subscribers-growth", document._plots(results))


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
