# SPDX-License-Identifier: GPL-2.0-or-later
"""What top shows: rows and their order, columns that fit, keys."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.cli.arguments import TOP_KEYS, TOP_ORDERS
from dynamosd.cli.top.frame import (
    BARS,
    PLAIN_BARS,
    Paper,
    age_text,
    frame,
    furthest,
    rate_text,
    spark_text,
)
from dynamosd.cli.top.look import SORT_KEYS, Look, press
from dynamosd.cli.top.measure import Meter, Picture
from dynamosd.cli.top.rows import ORDERS, Row, filtered, ordered, policy_of, rows_of
from dynamosd.testing import FakeModule

WALL = 1_700_000_000.0


@pytest.fixture
def busy(module: FakeModule) -> Picture:
    """Give a picture of two subsystems, both called, one of them with threads that drain."""
    module.register("pipe", ["pipe_write"])
    module.load("pipe", "batched")
    meter = Meter()
    meter.feed(0.0, WALL, module.kmod.read(), None)
    module.call("readahead", "page_cache_ra_order", 2000, blocked=2)
    module.call("pipe", "pipe_write", 30)
    module.kmod.switch("readahead", "random")
    return meter.feed(2.0, WALL + 2.0, module.kmod.read(), None)


def text(picture: Picture, look: Look | None = None, paper: Paper | None = None) -> list[str]:
    return [line.plain for line in frame(picture, look or Look(), paper or Paper(), 2.0)]


def names(rows: list[Row]) -> list[str]:
    return [row.subsystem for row in rows]


# ----------------------------------------------------------------------------------------- rows


def test_a_row_for_each_subsystem(busy: Picture) -> None:
    _, state, _, head, first, second = text(busy)
    assert state == "1.0k calls/s, 2 in flight; no daemon; module 0.1.0"
    assert head.split() == [
        *("SUBSYSTEM", "ACTIVE", "CALLS/s", "LAST", "60s", "IN", "FLIGHT"),
        *("DRAINING", "SINCE", "POLICY"),
    ]
    assert first.split() == ["readahead", "random", "1.0k", "█", "2", "2", "0s", "no", "daemon"]
    assert second.split() == ["pipe", "original", "15", "█", "0", "0", "loaded", "no", "daemon"]


def test_a_row_for_each_edition_of_each_function(busy: Picture) -> None:
    lines = text(busy, Look(editions=True, sort="name"))[4:]
    assert [line.split()[:4] for line in lines] == [
        ["pipe", "pipe_write", "batched", "0"],
        ["pipe", "pipe_write", "original*", "15"],
        ["readahead", "page_cache_ra_order", "original", "1.0k"],
        ["readahead", "page_cache_ra_order", "random*", "0"],
        ["readahead", "page_cache_ra_unbounded", "original", "0"],
    ]
    assert lines[2].split()[-2:] == ["2", "2"]


def test_what_is_partial_or_in_quarantine_is_marked(module: FakeModule) -> None:
    module.kmod.switch("readahead", "random", "scoped", scope="cpus:0")
    picture = Meter().feed(0.0, WALL, module.kmod.read(), None)
    assert text(picture)[4].split()[1:3] == ["original", "~random"]
    module.kmod.quarantine("readahead", "random")
    picture = Meter().feed(0.0, WALL, module.kmod.read(), None)
    assert "random!" in " ".join(text(picture, Look(editions=True)))


@pytest.mark.parametrize(
    ("policies", "said"),
    [
        ([], "-"),
        ([{"mode": "enforce"}], "storm: not evaluated"),
        ([{"mode": "enforce", "phase": "active", "rule": "busy"}], "storm: active busy"),
        ([{"mode": "advise", "phase": "pending"}], "storm (advise): pending"),
        ([{"mode": "enforce", "phase": "active", "paused": "by root"}], "storm: paused"),
        ([{"mode": "observe"}, {"mode": "enforce", "phase": "frozen"}], "storm: frozen +1"),
    ],
)
def test_policies_in_a_few_words(module: FakeModule, policies: list[Any], said: str) -> None:
    daemon = {
        "policies": [{"name": "storm", "subsystem": "readahead", **each} for each in policies]
    }
    (subsystem,) = module.kmod.read().subsystems.values()
    assert policy_of(daemon, subsystem) == said
    assert policy_of(None, subsystem) == "no daemon"


def test_pin_goes_before_policies(module: FakeModule) -> None:
    pin = {"subsystem": "readahead", "edition": "random", "trouble": "it is not loaded"}
    storm = {"name": "storm", "subsystem": "readahead", "mode": "enforce", "phase": "paused"}
    kernel = module.kmod.read()
    (subsystem,) = kernel.subsystems.values()
    daemon: dict[str, Any] = {"pins": [pin], "policies": []}
    assert policy_of(daemon, subsystem) == "pinned"
    (row,) = rows_of(Picture(0.0, 0.0, kernel, daemon), editions=False)
    assert row.wrong
    assert policy_of(daemon | {"policies": [storm]}, subsystem) == "storm: pinned"
    free = daemon | {"pins": [{**pin, "subsystem": "other"}]}
    assert policy_of(free, subsystem) == "-"


def test_every_order_is_one_that_can_be_asked_for() -> None:
    assert tuple(ORDERS) == TOP_ORDERS
    assert sorted(SORT_KEYS.values()) == sorted(ORDERS)


def test_order_and_its_reverse(busy: Picture) -> None:
    rows = rows_of(busy, editions=False)
    assert names(ordered(rows, "calls")) == ["readahead", "pipe"]
    assert names(ordered(rows, "calls", reverse=True)) == ["pipe", "readahead"]
    assert names(ordered(rows, "name")) == ["pipe", "readahead"]
    assert names(ordered(rows, "draining")) == ["readahead", "pipe"]
    assert names(ordered(rows, "edition")) == ["pipe", "readahead"]
    assert names(ordered(rows, "since")) == ["readahead", "pipe"]


def test_what_is_not_known_comes_last(busy: Picture) -> None:
    first, second = rows_of(busy, editions=False)
    for reverse in (False, True):
        rows = [replace(first, rate=None), second]
        assert names(ordered(rows, "calls", reverse=reverse)) == ["readahead", "pipe"]


def test_equal_ones_are_in_the_order_of_their_names(busy: Picture) -> None:
    rows = [replace(row, rate=1.0) for row in rows_of(busy, editions=True)]
    for reverse in (False, True):
        found = ordered(reversed(rows), "calls", reverse=reverse)
        assert [row.key for row in found] == sorted(row.key for row in rows)


def test_filter_looks_at_names_editions_and_policies(busy: Picture) -> None:
    rows = rows_of(busy, editions=True)
    assert {row.function for row in filtered(rows, "RA_ORDER")} == {"page_cache_ra_order"}
    assert [row.edition for row in filtered(rows, "batch")] == ["batched"]
    assert filtered(rows, "no daemon") == rows
    assert filtered(rows, "bogus") == []
    assert text(busy, Look(filter="bogus"))[-1] == "nothing has that in its name"


# --------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize(
    ("rate", "said"),
    [
        *((None, "-"), (0.0, "0"), (0.04, "0.0"), (9.44, "9.4"), (10.0, "10"), (999.4, "999")),
        *((999.6, "1.0k"), (14200.0, "14.2k"), (999_960.0, "1.0M"), (2.5e9, "2.5G")),
    ],
)
def test_calls_a_second_in_words(rate: float | None, said: str) -> None:
    assert rate_text(rate) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        *((None, "-"), (math.inf, "loaded"), (0.4, "0s"), (59.9, "59s"), (60.0, "1m")),
        *((7199.0, "1h"), (86399.0, "23h"), (86400.0, "1d"), (9e6, "104d")),
    ],
)
def test_ages_in_words(seconds: float | None, said: str) -> None:
    assert age_text(seconds) == said


def test_sparklines() -> None:
    assert spark_text([None, 0.0, 50.0, 100.0], BARS) == " ▁▅█"
    assert spark_text([None, 0.0, 50.0, 100.0], PLAIN_BARS) == " _+#"
    assert spark_text([0.0, 0.0], BARS) == "▁▁"
    assert len(BARS) == len(PLAIN_BARS)


# -------------------------------------------------------------------------------------- fitting


@given(width=st.integers(1, 200), height=st.integers(1, 60), editions=st.booleans())
def test_it_fits_whatever_the_size(width: int, height: int, editions: bool) -> None:  # noqa: FBT001
    for look in (Look(editions=editions), Look(help=True), Look(filter="x" * 90, typing="x" * 90)):
        lines = text(BUSY, look, Paper(width, height))
        assert len(lines) == height
        assert max(map(len, lines)) <= width


def test_forty_columns_are_enough_for_the_figures(busy: Picture) -> None:
    lines = text(busy, paper=Paper(40, 12))
    assert lines[3] == "SUBSYSTEM  ACTIVE    CALLS/s  IN FLIGHT"
    assert lines[4] == "readahead  random       1.0k          2"
    assert text(busy, Look(editions=True), Paper(40, 12))[3].split() == [
        *("FUNCTION", "EDITION", "CALLS/s", "IN", "FLIGHT")
    ]


def test_eighty_columns_are_enough_for_all(busy: Picture) -> None:
    head = text(busy, paper=Paper(80, 24))[3].split("  ")
    assert [each.strip() for each in head if each] == [
        *("SUBSYSTEM", "ACTIVE", "CALLS/s", "LAST 60s", "IN FLIGHT", "DRAINING", "SINCE", "POLICY")
    ]


def test_rows_that_do_not_fit_can_be_scrolled_to(module: FakeModule) -> None:
    for number in range(30):
        module.register(f"s{number:02}", [f"f{number}"])
    picture = Meter().feed(0.0, WALL, module.kmod.read(), None)
    paper, look = Paper(80, 15), Look(sort="name")
    assert [line.split()[0] for line in text(picture, look, paper)[4:14]][-1] == "s08"
    last = furthest(picture, look, paper)
    assert last == 21
    for first in (last, 10**9):
        shown = text(picture, replace(look, first=first), paper)[4:14]
        assert [line.split()[0] for line in shown][-1] == "s29"


def test_what_is_wrong_with_the_module_is_said(module: FakeModule) -> None:
    gone = Picture(0.0, WALL, why="the kernel module is not loaded")
    assert text(gone)[1] == "the kernel module is not loaded; waiting for it"
    module.enable(0)
    picture = Meter().feed(0.0, WALL, module.kmod.read(), {"pid": os.getpid()})
    assert f"daemon {os.getpid()}" in text(picture)[1]
    assert "the module is switched off (enable=0)" in text(picture)[1]
    module.remove()
    module.insert()
    picture = Meter().feed(0.0, WALL, module.kmod.read(), None)
    assert text(picture)[-1] == "no subsystem is loaded: dynamosctl edition load"


# ----------------------------------------------------------------------------------------- keys


def pressed(*keys: str, look: Look | None = None) -> Look:
    found = look or Look()
    for key in keys:
        after = press(found, key)
        assert after is not None
        found = after
    return found


def test_keys_sort_and_the_same_again_reverses() -> None:
    assert pressed("f") == Look(sort="in-flight")
    assert pressed("f", "f") == pressed("f", "r") == Look(sort="in-flight", reverse=True)
    assert pressed("f", "f", "f") == Look(sort="in-flight")
    assert pressed("f", "f", "n") == Look(sort="name")


def test_keys_of_the_filter() -> None:
    typing = pressed("/", "q", "n", "backspace", " ")
    assert (typing.typing, typing.filter) == ("q ", "q ")
    assert pressed("enter", look=typing) == Look(filter="q ")
    assert pressed("escape", look=typing) == Look()
    assert pressed("up", "end of it", look=typing) == typing
    assert pressed("enter", "escape", look=typing) == Look()
    assert pressed("enter", "/", "x", look=typing).filter == "q x"


def test_other_keys() -> None:
    assert press(Look(), "q") is press(Look(help=True), "q") is None
    assert pressed("e", " ") == Look(editions=True, paused=True)
    assert pressed("h").help
    assert pressed("?", "n") == Look()
    assert pressed("down", "j", "k", "pagedown").first == 11
    assert pressed("up", "pageup") == Look()
    assert pressed("end", "home") == Look()
    assert pressed("x", "\t", "\x01") == Look()


def test_help_names_every_key() -> None:
    said = " ".join(f"{keys} {what}" for keys, what in TOP_KEYS).split()
    assert {*SORT_KEYS, *"rehqjk?/"} <= set(said)


def _busy() -> Picture:
    """Give a picture that needs no folder: hypothesis asks for it again and again."""
    import tempfile  # noqa: PLC0415 - only here
    from pathlib import Path  # noqa: PLC0415 - the same

    with tempfile.TemporaryDirectory() as folder:
        module = FakeModule(Path(folder))
        module.insert()
        for name in ("readahead", "a_subsystem_with_a_name_that_is_long"):
            module.register(name, [f"{name}_function", f"{name}_other"])
            module.load(name, "an_edition_with_a_long_name")
        return Meter().feed(0.0, WALL, module.kmod.read(), None)


BUSY = _busy()
