# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.exposition: what it writes is what Prometheus' own library would write, and faster."""

from __future__ import annotations

import dataclasses
import math
import time
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector, CollectorRegistry

from bench.metrics import kernel_of, measure, sample_of, signals_of, snapshot_of
from dynamosd.exposition import Exposition, Family
from dynamosd.metrics import DEFINITIONS, LATENCY_BUCKETS, Histogram, Page

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    from dynamosd.exposition import Labels
    from dynamosd.metrics import Snapshot

GAUGE = Family("dynamos_gauge", "gauge", ("one", "two"), 'A "gauge"\nof C:\\.')
COUNTER = Family("dynamos_count_total", "counter", (), "A counter.")
HISTOGRAM = Family("dynamos_time_seconds", "histogram", ("one",), "A histogram.")
ENDS = (0.001, 1.0, 60.0)

numbers = st.floats() | st.integers(-(2**60), 2**60)
counts = st.lists(st.integers(0, 2**50), min_size=4, max_size=4).map(tuple)


class Fixed(Collector):
    """Gives metrics to the library."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        """Keep them."""
        self._metrics = list(metrics)

    def collect(self) -> Iterator[Metric]:
        """Give them."""
        return iter(self._metrics)


def theirs(*metrics: Metric) -> str:
    """Give what the library writes."""
    registry = CollectorRegistry()
    registry.register(Fixed(metrics))
    return generate_latest(registry).decode()


def their_family(family: Family, values: Mapping[Labels, float]) -> Metric:
    """Give the library a counter or a gauge."""
    kind = CounterMetricFamily if family.type == "counter" else GaugeMetricFamily
    made = kind(family.name, family.help, labels=family.labels)
    for labels, value in values.items():
        made.add_metric(labels, value)
    return made


def their_histogram(
    family: Family, values: Mapping[Labels, Histogram], ends: Iterable[float]
) -> Metric:
    """Give the library a histogram."""
    made = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    bounds = [*map(str, ends), "+Inf"]
    for labels, each in values.items():
        sums = [sum(each.counts[: place + 1]) for place in range(len(bounds))]
        made.add_metric(labels, list(zip(bounds, map(float, sums), strict=True)), each.total)
    return made


Read = dict[tuple[str, str, str, tuple[tuple[str, str], ...]], float]


def read(text: str) -> Read:
    """Take a page apart; not a number is written as one that is equal to itself."""
    return {
        (family.documentation, family.type, each.name, tuple(sorted(each.labels.items()))): (
            -12345.0 if math.isnan(each.value) else float(each.value)
        )
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


@given(st.dictionaries(st.tuples(st.text(), st.text()), numbers))
def test_gauges_are_what_the_library_writes(values: dict[Labels, float]) -> None:
    ours = Exposition(1000)
    expected = read(theirs(their_family(GAUGE, values)))
    assert read(ours.write(GAUGE, values)) == expected
    # The second time the heads are known.
    assert read(ours.write(GAUGE, values)) == expected


@given(numbers)
def test_counters_without_labels(value: float) -> None:
    ours = Exposition(1).write(COUNTER, {(): value})
    assert read(ours) == read(theirs(their_family(COUNTER, {(): value})))


@given(st.dictionaries(st.tuples(st.text()), st.builds(Histogram, counts, st.floats(0.0, 1e9))))
def test_histograms_are_what_the_library_writes(values: dict[Labels, Histogram]) -> None:
    ours = Exposition(1000)
    expected = read(theirs(their_histogram(HISTOGRAM, values, ENDS)))
    for _ in range(2):
        assert read(ours.write_histograms(HISTOGRAM, values, ENDS)) == expected


def test_labels_that_go_are_forgotten_and_new_ones_are_written() -> None:
    ours = Exposition(2)
    for names in ("ab", "bc", "cd"):
        values: dict[Labels, float] = {(name, ""): float(ord(name)) for name in names}
        assert read(ours.write(GAUGE, values)) == read(theirs(their_family(GAUGE, values)))
    assert len(ours._heads[GAUGE.name]) == 2


def test_a_metric_has_no_more_series_than_allowed() -> None:
    ours = Exposition(2)
    shown = read(ours.write(GAUGE, {(name, ""): 1.0 for name in "abc"}))
    assert {dict(labels)["one"] for *_, labels in shown} == {"a", "b"}
    assert ours.left_out == {GAUGE.name: 1}


def page_of(functions: int) -> Snapshot:
    """Give a snapshot of so many functions."""
    samples = [sample_of(time, kernel_of(10, functions // 10, 1000 * time)) for time in (1, 2)]
    return snapshot_of(samples[-1], signals_of(*samples))


def the_library_writes(snapshot: Snapshot) -> str:
    """Let the library write a whole page."""
    return theirs(
        *(
            their_family(each, snapshot.values[each.name])
            for each in DEFINITIONS
            if snapshot.values.get(each.name)
        ),
        *(
            their_histogram(each, snapshot.histograms[each.name], LATENCY_BUCKETS)
            for each in DEFINITIONS
            if snapshot.histograms.get(each.name)
        ),
    )


def test_whole_page_is_what_the_library_writes() -> None:
    snapshot, page = page_of(20), Page()
    page.show(snapshot)
    expected = read(the_library_writes(snapshot))
    assert len(expected) > 1000
    assert read(page.text().decode()) == expected


def test_many_functions_cost_little() -> None:
    """Compared with the library in the same run: ``make bench-metrics`` has the time itself."""
    snapshot, page = page_of(1000), Page()

    def ours() -> float:
        # Another one that says the same, as after a tick.
        page.show(dataclasses.replace(snapshot))
        begin = time.thread_time()
        page.text()
        return time.thread_time() - begin

    def library() -> float:
        begin = time.thread_time()
        the_library_writes(snapshot)
        return time.thread_time() - begin

    ours()
    assert min(ours() for _ in range(3)) * 3 < min(library() for _ in range(2))


def test_benchmark_makes_the_largest_page() -> None:
    result = measure(scrapes=1)
    assert result.functions == 1000
    assert result.series > 1000 * (3 * (22 + 22) + 20)
    assert result.page_bytes < 20e6
    assert result.cpu_seconds > 0.0
