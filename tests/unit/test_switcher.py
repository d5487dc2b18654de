# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.switcher: a switch is what is read back, not what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dynamosd.errors import DynamosError, InvalidInput
from dynamosd.kmod import Kmod
from dynamosd.switcher import Switcher

if TYPE_CHECKING:
    from dynamosd.testing import FakeModule, ManualClock


@pytest.fixture
def switcher(module: FakeModule, clock: ManualClock) -> Switcher:
    """Give one for the fake module."""
    return Switcher(module.kmod, clock.now)


def test_switch(switcher: Switcher, module: FakeModule) -> None:
    result = switcher.switch("readahead", "random", "manual")
    assert (result.origin, result.target, result.result) == ("original", "random", "ok")
    assert module.kmod.read_active("readahead") == "random"


def test_duration(module: FakeModule, clock: ManualClock) -> None:
    class SlowDevice:
        def command(self, line: str) -> None:
            clock.advance(0.25)
            module.command(line)

    kmod = Kmod(module.sysfs, module.device, SlowDevice())
    result = Switcher(kmod, clock.now).switch("readahead", "random", "policy")
    assert result.duration_seconds == 0.25
    assert result.time == 1000.25


def test_unknown_subsystem(switcher: Switcher) -> None:
    with pytest.raises(InvalidInput, match="no subsystem readahaed") as caught:
        switcher.switch("readahaed", "random", "manual")
    assert "did you mean readahead?" in caught.value.hint


def test_switched_back_by_another_writer(module: FakeModule, clock: ManualClock) -> None:
    class TwoWriters:
        def command(self, line: str) -> None:
            module.command(line)
            module.command("switch readahead original")

    switcher = Switcher(Kmod(module.sysfs, module.device, TwoWriters()), clock.now)
    with pytest.raises(DynamosError, match="is original again"):
        switcher.switch("readahead", "random", "manual")
    result = switcher.attempt("readahead", "random", "policy")
    assert (result.result, result.origin) == ("failed", "original")


@pytest.mark.parametrize(
    ("edition", "mode", "result", "reason"),
    [
        ("random", "concurrent", "ok", ""),
        ("random", "scoped", "refused", "mode scoped is not supported by this version"),
        ("none", "concurrent", "refused", "subsystem readahead has no edition none"),
    ],
)
def test_attempt(switcher: Switcher, edition: str, mode: str, result: str, reason: str) -> None:
    answer = switcher.attempt("readahead", edition, "policy", mode)
    assert (answer.result, answer.reason, answer.origin) == (result, reason, "original")
    assert answer.trigger == "policy"


def test_attempt_without_the_module(switcher: Switcher, module: FakeModule) -> None:
    module.remove()
    result = switcher.attempt("readahead", "random", "policy")
    assert (result.result, result.origin) == ("failed", "")
    assert "not loaded" in result.reason
