# SPDX-License-Identifier: GPL-2.0-or-later
"""Functions of a module that comes after its gates' subsystem, goes, and comes back."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from tests.kernel import guest
from tests.kernel.control import Controlled, Follower
from tests.kernel.guest import SELFTEST_B, SELFTEST_MODULES, TARGET
from tests.kernel.target import Target, gather, parameter

ORIGINAL, NEW = 6, 1006
"""What `value 5` gives."""

ROUNDS = 4
WITHOUT_TARGET = tuple(name for name in SELFTEST_MODULES if name != TARGET)
SWITCHES = (
    ("b", "mode=exclusive", "timeout_ms=60000"),
    ("c", "mode=per-object"),
    ("original",),
    ("b", "mode=scoped", "scope=cpus:0"),
    ("original",),
)


@pytest.fixture
def early(backend: str) -> Iterator[Controlled]:
    """Give the subsystem `selftest` without the module that has its functions."""
    assert backend
    guest.load_all(WITHOUT_TARGET)
    if TARGET in guest.loaded():
        guest.remove_when_free(TARGET)
    subsystem = Controlled("selftest")
    yield subsystem
    guest.let_callers_go()
    subsystem.switch_and_drain("original", "timeout_ms=60000")


def backends(subsystem: Controlled) -> set[str]:
    """How the gates send calls on, each kind once."""
    names = [path.name for path in (subsystem.folder / "functions").iterdir()]
    assert len(names) == 13
    return {subsystem.backend(name) for name in names}


def test_the_subsystem_is_there_before_the_target(early: Controlled, backend: str) -> None:
    assert backends(early) == {"waiting"}
    assert parameter(SELFTEST_B, "original") == 0
    assert int(early.value("functions", "target_value", "address"), 16) == 0
    early.switch("b")
    with Follower() as events:
        guest.insert(TARGET)
        gated = events.only("gated")
    assert len(gated) == 13
    assert {event.fields["backend"] for event in gated} == {backend}
    assert Target().result("value 5") == NEW
    assert backends(early) == {backend}
    assert int(early.value("functions", "target_value", "address"), 16) != 0


def test_the_target_goes_and_comes_back(early: Controlled, backend: str) -> None:
    guest.insert(TARGET)
    early.switch_and_drain("b")
    calls = early.number("target_value", "b", "calls")
    for number in range(2):
        assert Target().result("value 5") == NEW
        with Follower() as events:
            guest.remove(TARGET)
            went = events.read()
        assert len([event for event in went if event.name == "ungated"]) == 13
        waiting = [event for event in went if event.name == "waiting"]
        assert len(waiting) == 13
        assert {event.fields["module"] for event in waiting} == {TARGET}
        assert backends(early) == {"waiting"}
        assert parameter(SELFTEST_B, "original") == 0
        assert early.active() == "b"
        # What was counted is not forgotten.
        assert early.number("target_value", "b", "calls") == calls + number + 1
        guest.insert(TARGET)
        assert backends(early) == {backend}
        assert parameter(SELFTEST_B, "original") == ORIGINAL
    early.switch("original", "mode=exclusive", "timeout_ms=60000")
    assert Target().result("value 5") == ORIGINAL


def test_switching_goes_on_without_the_target(early: Controlled) -> None:
    for edition, *options in SWITCHES:
        early.switch(edition, *options)
    early.switch_and_drain("b", "mode=exclusive", "timeout_ms=60000")
    guest.insert(TARGET)
    assert Target().result("value 5") == NEW


def test_the_target_comes_and_goes_under_switches(early: Controlled) -> None:
    over = threading.Event()

    def come_and_go() -> None:
        try:
            for _ in range(ROUNDS):
                guest.insert(TARGET)
                for _ in range(10):
                    assert Target().result("value 5") in {ORIGINAL, NEW, NEW + 1000}
                guest.remove_when_free(TARGET)
        finally:
            over.set()

    def switch() -> None:
        while not over.is_set():
            for edition, *options in SWITCHES:
                early.switch(edition, *options)

    gather(come_and_go, switch)
    assert backends(early) == {"waiting"}
    guest.insert(TARGET)
    assert Target().result("value 5") in {ORIGINAL, NEW, NEW + 1000}
