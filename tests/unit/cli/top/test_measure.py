# SPDX-License-Identifier: GPL-2.0-or-later
"""What top measures: calls a second over loads and unloads, draining, since when, sparklines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.cli.top.measure import (
    HISTORY_SECONDS,
    Interval,
    Meter,
    Picture,
    draining,
    each,
    spark,
)
from dynamosd.testing import FakeModule

WALL = 1_700_000_000.0
ALL = ("readahead", "", "")
ORDER = ("readahead", "page_cache_ra_order", "original")


class Measured:
    """Reads a fake module, each time two seconds later."""

    def __init__(self, module: FakeModule) -> None:
        """Begin with nothing read."""
        self.module = module
        self.meter = Meter()
        self.now = 100.0
        self.daemon: dict[str, Any] | None = None

    def __call__(self) -> Picture:
        """Read it."""
        self.now += 2.0
        kernel = self.module.kmod.read() if self.module.kmod.loaded else None
        return self.meter.feed(self.now, WALL + self.now, kernel, self.daemon)


@pytest.fixture
def measure(module: FakeModule) -> Measured:
    """Give one."""
    return Measured(module)


def test_calls_a_second_are_those_since_the_reading_before(measure: Measured) -> None:
    measure.module.call("readahead", "page_cache_ra_order", 1000)
    first = measure()
    assert (first.seconds, first.rates) == (0.0, {})
    measure.module.call("readahead", "page_cache_ra_order", 10)
    measure.module.call("readahead", "page_cache_ra_unbounded", 4)
    second = measure()
    assert second.seconds == 2.0
    assert second.rates[ORDER] == 5.0
    assert second.rates[ALL] == 7.0
    assert second.rates["readahead", "page_cache_ra_order", "random"] == 0.0
    assert measure().rates[ALL] == 0.0


def test_counters_that_began_again_are_never_negative(measure: Measured) -> None:
    measure.module.call("readahead", "page_cache_ra_order", 1000)
    measure()
    measure.module.unload("readahead", "random")
    measure.module.remove()
    measure.module.insert()
    measure.module.register("readahead", ["page_cache_ra_order"])
    measure.module.call("readahead", "page_cache_ra_order", 6)
    assert measure().rates == {ORDER: 3.0, ALL: 3.0}


def test_an_edition_that_was_loaded_meanwhile_counts_from_nothing(measure: Measured) -> None:
    measure()
    measure.module.load("readahead", "streaming", ["page_cache_ra_order"])
    measure.module.kmod.switch("readahead", "streaming")
    measure.module.call("readahead", "page_cache_ra_order", 8)
    assert measure().rates["readahead", "page_cache_ra_order", "streaming"] == 4.0


def test_of_a_subsystem_that_is_new_nothing_is_known_yet(measure: Measured) -> None:
    measure()
    measure.module.register("pipe", ["pipe_write"])
    measure.module.call("pipe", "pipe_write", 8)
    assert ("pipe", "", "") not in measure().rates
    measure.module.call("pipe", "pipe_write", 8)
    assert measure().rates["pipe", "", ""] == 4.0


def test_a_module_that_goes_leaves_a_gap(measure: Measured) -> None:
    measure()
    measure()
    measure.module.remove()
    gone = measure()
    assert (gone.kernel, gone.seconds, gone.rates) == (None, 0.0, {})
    measure.module.insert()
    measure.module.register("readahead", ["page_cache_ra_order"])
    assert measure().rates == {}
    back = measure()
    assert back.rates[ALL] == 0.0
    assert [(each.start, each.end) for each in back.history] == [(102.0, 104.0), (108.0, 110.0)]


def test_history_is_a_minute_long(measure: Measured) -> None:
    for _ in range(100):
        picture = measure()
    assert len(picture.history) == HISTORY_SECONDS / 2
    assert picture.history[0].start == picture.now - HISTORY_SECONDS


# ----------------------------------------------------------------------------------- since when


def test_since_a_switch_that_was_seen(measure: Measured) -> None:
    assert measure().since == {}
    measure.module.kmod.switch("readahead", "random")
    assert measure().since == {"readahead": WALL + 104.0}
    assert measure().since == {"readahead": WALL + 104.0}


def test_since_a_switch_that_the_daemon_tells_of(measure: Measured) -> None:
    told = {"to": "random", "time": "2023-11-14T22:13:20.000Z"}
    measure.daemon = {"last_switches": {"readahead": told}}
    assert measure().since == {}
    measure.module.kmod.switch("readahead", "random")
    other = Measured(measure.module)
    other.daemon = measure.daemon
    assert other().since == {"readahead": WALL}
    told["time"] = "nonsense"
    assert other().since == {}


def test_what_was_seen_of_a_module_that_is_gone_is_forgotten(measure: Measured) -> None:
    measure()
    measure.module.kmod.switch("readahead", "random")
    measure()
    measure.module.remove()
    measure()
    measure.module.insert()
    measure.module.register("readahead", ["page_cache_ra_order"])
    measure()
    assert measure().since == {}


# ------------------------------------------------------------------------------------- draining


def drained(module: FakeModule) -> dict[tuple[str, str], int]:
    subsystem = module.kmod.read().subsystems["readahead"]
    return {
        (function.name, edition): draining(subsystem, function, edition, counts)
        for function, edition, counts in each(subsystem)
    }


def test_draining_is_what_no_new_call_gets(module: FakeModule) -> None:
    module.call("readahead", "page_cache_ra_order", blocked=2)
    module.call("readahead", "page_cache_ra_unbounded", blocked=3)
    assert set(drained(module).values()) == {0}
    module.kmod.switch("readahead", "random")
    found = drained(module)
    assert found["page_cache_ra_order", "original"] == 2
    # `random` has one function only: the other one goes on in `original`.
    assert found["page_cache_ra_unbounded", "original"] == 0


def test_neither_edition_drains_while_one_is_partial(module: FakeModule) -> None:
    module.call("readahead", "page_cache_ra_order", blocked=2)
    module.kmod.switch("readahead", "random", "scoped", scope="cpus:0")
    module.call("readahead", "page_cache_ra_order", blocked=1, which="random")
    assert set(drained(module).values()) == {0}
    module.kmod.switch("readahead", "original")
    assert drained(module)["page_cache_ra_order", "random"] == 1


# ----------------------------------------------------------------------------------- sparklines


def test_a_cell_has_the_mean_of_its_time() -> None:
    history = (Interval(40.0, 50.0, {ALL: 6.0}), Interval(50.0, 60.0, {ALL: 2.0}))
    assert spark(history, ALL, 60.0, 6) == [None] * 4 + [6.0, 2.0]
    assert spark(history, ALL, 60.0, 3) == [None, None, 4.0]
    assert spark(history, ALL, 90.0, 6) == [None, 6.0, 2.0, None, None, None]
    assert spark(history, ORDER, 60.0, 2) == [None, None]


@given(
    st.lists(st.tuples(st.floats(0.01, 30.0), st.integers(0, 10**9)), max_size=30),
    st.integers(1, 60),
)
def test_cells_are_never_outside_of_what_was_measured(
    measured: list[tuple[float, int]], cells: int
) -> None:
    now, history = 0.0, []
    for seconds, rate in measured:
        history.append(Interval(now, now + seconds, {ALL: rate}))
        now += seconds
    found = spark(tuple(history), ALL, now, cells)
    assert len(found) == cells
    rates = [rate for _, rate in measured]
    assert all(
        min(rates) * 0.999 <= value <= max(rates) * 1.001 for value in found if value is not None
    )
    assert not measured or found[-1] is not None
