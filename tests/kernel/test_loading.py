# SPDX-License-Identifier: GPL-2.0-or-later
"""Loading and unloading: gates come with the first edition, go with the last, nothing stays."""

from __future__ import annotations

import os

import pytest

from tests.kernel import control, guest
from tests.kernel.guest import CORE, EDITIONS, FUNCTIONS, MODULES, RANDOM, STREAMING, SUBSYSTEM

CYCLES = 50


def backends() -> set[str]:
    return {function.backend for function in control.readahead().functions.values()}


def refused(name: str) -> bool:
    """Whether a module cannot be removed because it is in use."""
    return guest.answer(lambda: guest.remove(name)) == guest.IN_USE


@pytest.mark.usefixtures("bare")
def test_loading_changes_nothing() -> None:
    untouched = guest.enabled_functions()

    assert guest.run("modprobe", SUBSYSTEM).returncode == 0
    assert guest.loaded() == [CORE, SUBSYSTEM]
    assert guest.enabled_functions() == untouched
    assert backends() == {"none"}
    assert control.active() == "original"

    with control.Follower() as events:
        assert guest.run("modprobe", RANDOM).returncode == 0
        names = [event.name for event in events.read()]
    assert names == ["gated", "gated", "gated", "loaded"]
    assert guest.gated_functions() == list(FUNCTIONS)
    assert backends() == {"direct"}
    assert control.active() == "original"
    assert control.switches() == 0

    with control.Follower() as events:
        guest.insert(STREAMING)
        assert [event.name for event in events.read()] == ["loaded"]
    assert control.active() == "original"
    assert sorted(control.readahead().editions) == list(EDITIONS)

    guest.remove(RANDOM)
    assert guest.gated_functions() == list(FUNCTIONS)
    assert sorted(control.readahead().editions) == ["original", "streaming"]

    with control.Follower() as events:
        guest.remove(STREAMING)
        # Who was in the original when its gates went keeps its text for a moment.
        names = [event.name for event in events.read() if event.name != "drained"]
    assert names == ["ungated", "ungated", "ungated", "unloaded"]
    assert guest.enabled_functions() == untouched
    assert backends() == {"none"}
    assert control.switches() == 0
    guest.remove_when_free(SUBSYSTEM)
    guest.remove_when_free(CORE)
    assert not control.SYSFS.exists()
    assert not control.DEVICE.exists()


@pytest.mark.usefixtures("bare")
@pytest.mark.parametrize("first", [RANDOM, STREAMING])
def test_modules_come_and_go_in_any_order_that_their_dependencies_allow(first: str) -> None:
    second = ({RANDOM, STREAMING} - {first}).pop()
    untouched = guest.enabled_functions()

    for name in (CORE, SUBSYSTEM, first, second):
        guest.insert(name)
    assert guest.loaded() == sorted(MODULES)
    assert refused(CORE)
    assert refused(SUBSYSTEM)
    for name in (first, second):
        guest.remove(name)
    assert refused(CORE)
    assert guest.enabled_functions() == untouched
    for name in (SUBSYSTEM, CORE):
        guest.remove_when_free(name)
    assert guest.loaded() == []


@pytest.mark.usefixtures("bare")
def test_an_edition_needs_its_subsystem() -> None:
    assert guest.answer(lambda: guest.insert(RANDOM)) == "ENOENT"
    assert guest.loaded() == []


@pytest.mark.usefixtures("bare")
def test_an_edition_that_is_named_like_a_file_beside_it_is_refused() -> None:
    guest.load_all((CORE, guest.TARGET, guest.SELFTEST))
    with control.Follower() as events:
        assert guest.answer(lambda: guest.insert("dynamos_selftest_address")) == "EINVAL"
        [refusal] = events.only("refused")
    assert refusal.fields["command"] == "load selftest/address"
    assert "sysfs" in refusal.fields["reason"]
    assert [path.name for path in (control.SYSFS / "selftest/editions").iterdir()] == ["original"]


@pytest.mark.usefixtures("bare")
def test_an_open_device_keeps_the_module() -> None:
    guest.insert(CORE)
    fd = os.open(control.DEVICE, os.O_RDONLY)
    try:
        assert refused(CORE)
        assert guest.run("rmmod", CORE).returncode != 0
    finally:
        os.close(fd)
    guest.remove(CORE)
    assert guest.loaded() == []


@pytest.mark.usefixtures("bare")
def test_cycles_of_loading_leave_nothing_behind() -> None:
    guest.insert(CORE)
    guest.insert(SUBSYSTEM)
    untouched, there = guest.enabled_functions(), guest.loaded()
    for cycle in range(CYCLES):
        first, second = (RANDOM, STREAMING) if cycle % 2 else (STREAMING, RANDOM)
        guest.insert(first)
        if cycle % 5 == 0:
            guest.insert(second)
            guest.remove(second)
        guest.remove(first)
    assert guest.enabled_functions() == untouched
    assert guest.loaded() == there
    assert sorted(control.readahead().editions) == ["original"]
