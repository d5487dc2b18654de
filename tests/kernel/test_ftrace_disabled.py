# SPDX-License-Identifier: GPL-2.0-or-later
"""`kernel.ftrace_enabled`: off, it would take every gate out without a word."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel import control, guest
from tests.kernel.guest import CORE, RANDOM, SUBSYSTEM

SYSCTL = Path("/proc/sys/kernel/ftrace_enabled")


@pytest.fixture
def enabled_again() -> Iterator[None]:
    """Whatever the test does, ftrace is on afterwards."""
    yield
    SYSCTL.write_text("1")


@pytest.mark.usefixtures("modules", "enabled_again")
def test_ftrace_cannot_be_disabled_under_a_gate() -> None:
    assert guest.answer(lambda: SYSCTL.write_text("0")) == "EBUSY"
    assert guest.gated_functions() == list(guest.FUNCTIONS)
    control.switch_and_drain("random")
    assert control.active() == "random"


@pytest.mark.usefixtures("bare", "enabled_again")
def test_no_gate_while_ftrace_is_disabled_and_one_again_afterwards() -> None:
    guest.insert(CORE)
    guest.insert(SUBSYSTEM)
    SYSCTL.write_text("0")
    with control.Follower() as events:
        assert guest.answer(lambda: guest.insert(RANDOM)) == "EAGAIN"
        told = events.read()
    assert "loaded" not in [event.name for event in told]
    [refused] = [event for event in told if event.name == "refused"]
    assert refused.fields["command"] == "load readahead/random"
    assert "ftrace_enabled" in refused.fields["reason"]
    assert guest.loaded() == [CORE, SUBSYSTEM]
    SYSCTL.write_text("1")
    assert guest.gated_functions() == []
    guest.insert(RANDOM)
    assert guest.gated_functions() == list(guest.FUNCTIONS)
