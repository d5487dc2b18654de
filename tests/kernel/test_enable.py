# SPDX-License-Identifier: GPL-2.0-or-later
"""`dynamos.enable=0`: nothing is gated, and everything is the original."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.kernel import control, guest
from tests.kernel.control import Commander, Controlled, Follower
from tests.kernel.guest import CORE, RANDOM, SUBSYSTEM
from tests.kernel.load import holds, storm
from tests.kernel.target import Target, blocked, new, release

only_direct = pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
ENABLE = Path("/sys/module", CORE, "parameters/enable")


@pytest.fixture
def enabled_again() -> Iterator[None]:
    """Whatever the test does, the module is on afterwards."""
    yield
    if ENABLE.exists():
        ENABLE.write_text("1")


@pytest.mark.usefixtures("bare", "enabled_again")
def test_off_from_the_beginning_nothing_is_registered() -> None:
    before = guest.enabled_functions()
    guest.insert(CORE, "enable=0")
    assert ENABLE.read_text() == "0\n"
    with Follower() as events:
        assert guest.answer(lambda: guest.insert(SUBSYSTEM)) == "EPERM"
        [refused] = events.only("refused")
        assert "enable" in refused.fields["reason"]
    assert guest.loaded() == [CORE]
    assert guest.enabled_functions() == before
    ENABLE.write_text("1")
    guest.insert(SUBSYSTEM)
    ENABLE.write_text("0")
    assert guest.answer(lambda: guest.insert(RANDOM)) == "EPERM"
    assert guest.enabled_functions() == before
    ENABLE.write_text("1")
    guest.insert(RANDOM)
    assert guest.gated_functions() == list(guest.FUNCTIONS)


@only_direct
@pytest.mark.usefixtures("enabled_again")
@pytest.mark.parametrize(
    "how", ["", "mode=exclusive timeout_ms=60000", "mode=per-object", "mode=scoped scope=share:1/1"]
)
def test_off_later_everything_goes_to_the_original(selftest: Controlled, how: str) -> None:
    selftest.switch("b", *how.split())
    with Follower() as events:
        ENABLE.write_text("0")
        assert (selftest.active(), selftest.partial()) == ("original", "none")
        assert Target().result("value 5") == 6
        names = [event.name for event in events.read()]
        assert names.index("disabled") < names.index("switched")
        for line in ("switch selftest b", "switch selftest c mode=scoped scope=cpus:0"):
            assert guest.answer(partial(control.command, line)) == "EPERM"
            refused = events.wait_for("refused", errno=str(errno.EPERM))
            assert "enable" in refused.fields["reason"]
        selftest.switch("original")
        ENABLE.write_text("0")
        ENABLE.write_text("1")
        assert [event.name for event in events.only("enabled")] == ["enabled"]
    selftest.switch("b")
    assert Target().result("value 5") == 1006


@only_direct
@pytest.mark.usefixtures("enabled_again")
def test_a_switch_that_is_under_way_is_given_up(selftest: Controlled) -> None:
    """It began before the module was switched off, and would end afterwards."""
    new(1)
    line = "switch selftest b mode=exclusive timeout_ms=60000"
    with (
        blocked(1) as inside,
        storm("value 5") as results,
        Commander(line) as commander,
        Follower() as events,
    ):
        guest.wait_until(holds(selftest, 1), "the switch waits for who is inside")
        ENABLE.write_text("0")
        refused = events.wait_for("refused", by=str(commander.pid))
        assert refused.fields["errno"] == str(errno.ECANCELED)
        release(1, inside)
    assert (selftest.active(), selftest.partial()) == ("original", "none")
    assert results["value 5"] == {6}


@only_direct
@pytest.mark.usefixtures("enabled_again")
def test_off_once_more_tries_once_more(selftest: Controlled) -> None:
    """Whoever asks is not told that all is well because somebody has asked before."""
    new(1)
    selftest.switch("layout", "mode=exclusive", "timeout_ms=60000")
    with Follower() as events, blocked(1) as inside:
        for _ in range(2):
            assert guest.answer(partial(ENABLE.write_text, "0")) == "ETIMEDOUT"
            assert (ENABLE.read_text(), selftest.active()) == ("0\n", "layout")
        release(1, inside)
        guest.wait_until(
            lambda: not guest.answer(partial(ENABLE.write_text, "0")), "everything goes"
        )
        assert selftest.active() == "original"
        assert len(events.only("disabled")) == 1


@only_direct
@pytest.mark.usefixtures("enabled_again")
def test_off_after_a_parameter_was_set(selftest: Controlled) -> None:
    # A kernel that checks its locks has then seen both orders of the registry's and a parameter's.
    control.command("set selftest layout refuse_transfer=0")
    selftest.switch("b")
    ENABLE.write_text("0")
    assert selftest.active() == "original"


def test_only_yes_or_no_is_taken(backend: str) -> None:
    assert backend
    for text in ("2", "maybe", "-"):
        assert guest.answer(partial(ENABLE.write_text, text)) == "EINVAL"
        assert ENABLE.read_text() == "1\n"
