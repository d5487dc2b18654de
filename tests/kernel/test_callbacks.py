# SPDX-License-Identifier: GPL-2.0-or-later
"""What an edition's own code is asked, its extra state of objects, and its parameters."""

from __future__ import annotations

import os

import pytest

from tests.kernel import control, guest
from tests.kernel.control import Controlled, Follower
from tests.kernel.guest import SELFTEST_B, SELFTEST_LAYOUT
from tests.kernel.target import Target, free, new, parameter, parameters

pytestmark = [
    pytest.mark.usefixtures("selftest"),
    pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module"),
]

EXCLUSIVE = ("mode=exclusive", "timeout_ms=60000")
CALLBACKS = ("prepares", "commits", "aborts", "retires")
TRANSFERS = ("transfers_into", "transfers_out_of", "converted")
PARAMETER = "refuse_prepare"

HOSTILE = {
    "nothing": (f"{PARAMETER}=", "EINVAL"),
    "no name": ("=5", "EINVAL"),
    "a word": (f"{PARAMETER}=yes", "EINVAL"),
    "a number and more": (f"{PARAMETER}=5x", "EINVAL"),
    "two numbers": (f"{PARAMETER}==5", "EINVAL"),
    "beyond an int": (f"{PARAMETER}=2147483648", "EINVAL"),
    "beyond all numbers": (f"{PARAMETER}=" + "9" * 60, "EINVAL"),
    "too long": (f"{PARAMETER}=" + "0" * 193, "EINVAL"),
    "a format": (f"{PARAMETER}=%s%n", "EINVAL"),
    "half a name": ("refuse=5", "ESRCH"),
    "the module's full name": (f"{SELFTEST_B}.{PARAMETER}=5", "ESRCH"),
    "a path": (f"../{PARAMETER}=5", "ESRCH"),
    "one that is only to be read": ("prepares=5", "EPERM"),
}


def since(module: str, before: dict[str, int]) -> dict[str, int]:
    """How often each was called since ``before``."""
    now = parameters(module, *before)
    return {name: now[name] - before[name] for name in before}


@pytest.mark.parametrize(
    "options",
    [
        ("mode=concurrent",),
        EXCLUSIVE,
        ("mode=per-object", "objects=keep"),
        ("mode=scoped", "scope=cpus:0"),
    ],
    ids=lambda options: options[0],
)
def test_a_switch_there_and_back(selftest: Controlled, options: tuple[str, ...]) -> None:
    before = dict(parameters(SELFTEST_B, *CALLBACKS))
    agreed = {"prepares": 1, "commits": 1, "aborts": 0, "retires": 0}
    selftest.switch("b", *options)
    assert since(SELFTEST_B, before) == agreed
    # It retires before it is said to have drained.
    selftest.switch_and_drain("original")
    assert since(SELFTEST_B, before) == {**agreed, "retires": 1}


def test_a_switch_to_the_active_edition_asks_nobody(selftest: Controlled) -> None:
    selftest.switch("b")
    before = dict(parameters(SELFTEST_B, *CALLBACKS))
    selftest.switch("b")
    assert set(since(SELFTEST_B, before).values()) == {0}


def test_who_agreed_hears_that_nothing_came_of_it(selftest: Controlled) -> None:
    control.command(f"set selftest layout refuse_transfer={5}")
    before = dict(parameters(SELFTEST_LAYOUT, *CALLBACKS, *TRANSFERS))
    assert guest.answer(lambda: selftest.switch("layout", *EXCLUSIVE)) == "ECANCELED"
    expected = dict.fromkeys(before, 0) | {"prepares": 1, "transfers_into": 1, "aborts": 1}
    assert since(SELFTEST_LAYOUT, before) == expected


@pytest.mark.parametrize(
    "options",
    [("mode=concurrent",), EXCLUSIVE, ("mode=per-object",), ("mode=scoped", "scope=cpus:0")],
    ids=lambda options: options[0],
)
def test_who_refuses_is_asked_no_more(selftest: Controlled, options: tuple[str, ...]) -> None:
    control.command(f"set selftest b {PARAMETER}=5")
    before = dict(parameters(SELFTEST_B, *CALLBACKS))
    assert guest.answer(lambda: selftest.switch("b", *options)) == "ECANCELED"
    assert (selftest.active(), selftest.partial()) == ("original", "none")
    assert since(SELFTEST_B, before) == dict.fromkeys(before, 0) | {"prepares": 1}


def test_data_is_transferred_once_each_way(selftest: Controlled) -> None:
    new(1, 2)
    before = dict(parameters(SELFTEST_LAYOUT, *CALLBACKS, *TRANSFERS))
    selftest.switch("layout", *EXCLUSIVE)
    there = dict.fromkeys(before, 0) | {
        "prepares": 1,
        "transfers_into": 1,
        "converted": 2,
        "commits": 1,
    }
    assert since(SELFTEST_LAYOUT, before) == there
    selftest.switch_and_drain("original", *EXCLUSIVE)
    back = {**there, "transfers_out_of": 1, "converted": 4, "retires": 1}
    assert since(SELFTEST_LAYOUT, before) == back


def test_a_shadow_counts_and_goes_with_its_object(selftest: Controlled) -> None:
    target = Target()

    def uses(key: int) -> int:
        target.run(f"use {key}")
        return parameter(SELFTEST_LAYOUT, "shadow_uses")

    new(1, 2)
    selftest.switch("layout", *EXCLUSIVE)
    assert [uses(1), uses(1), uses(2), uses(1)] == [1, 2, 1, 3]
    # The next object is likely to be where the last one was.
    for _ in range(10):
        free([1])
        new(1)
        assert [uses(1), uses(1)] == [1, 2]
    # Also when it dies in another edition.
    selftest.switch_and_drain("original", *EXCLUSIVE)
    free([1])
    new(1)
    selftest.switch("layout", *EXCLUSIVE)
    assert [uses(1), uses(2)] == [1, 2]
    assert parameter(SELFTEST_LAYOUT, "shadow_failures") == 0
    assert parameter(SELFTEST_LAYOUT, "wrong") == 0


def test_a_parameter_is_set_and_shown(selftest: Controlled) -> None:
    shown = {path.name for path in (selftest.folder / "editions/b/parameters").iterdir()}
    assert shown == {*CALLBACKS, PARAMETER, "original"}
    assert not (selftest.folder / "editions/c/parameters").exists()
    with Follower() as events:
        control.command(f"set selftest b {PARAMETER}=16")
        [event] = events.only("parameter")
    assert event.fields == {
        "subsystem": "selftest",
        "edition": "b",
        "parameter": PARAMETER,
        "value": "16",
        "by": str(os.getpid()),
    }
    assert selftest.value("editions", "b", "parameters", PARAMETER) == "16"
    assert parameter(SELFTEST_B, PARAMETER) == 16


@pytest.mark.parametrize("what", HOSTILE)
def test_a_value_that_cannot_be(selftest: Controlled, what: str) -> None:
    assignment, expected = HOSTILE[what]
    with Follower() as events:
        said = guest.answer(lambda: control.command(f"set selftest b {assignment}"))
        [event] = events.read()
    assert said == expected
    assert event.name == "refused"
    assert event.fields["reason"]
    assert selftest.value("editions", "b", "parameters", PARAMETER) == "0"
