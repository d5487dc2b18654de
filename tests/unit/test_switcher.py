# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.switcher: a switch is what is read back, not what was asked for."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from dynamosd.errors import DynamosError, InvalidInput
from dynamosd.kmod import Event, Kmod
from dynamosd.model import SwitchOptions
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
        def command(self, line: str) -> list[Event]:
            clock.advance(0.25)
            return module.command(line)

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
        def command(self, line: str) -> list[Event]:
            module.command(line)
            return module.command("switch readahead original")

    switcher = Switcher(Kmod(module.sysfs, module.device, TwoWriters()), clock.now)
    with pytest.raises(DynamosError, match="is original again"):
        switcher.switch("readahead", "random", "manual")
    result = switcher.attempt("readahead", "random", "policy")
    assert (result.result, result.origin) == ("failed", "original")


@pytest.mark.parametrize(
    ("edition", "mode", "result", "reason"),
    [
        ("random", "concurrent", "ok", ""),
        ("random", "scoped", "refused", "mode scoped needs a scope="),
        ("none", "concurrent", "refused", "subsystem readahead has no edition none"),
    ],
)
def test_attempt(switcher: Switcher, edition: str, mode: str, result: str, reason: str) -> None:
    answer = switcher.attempt("readahead", edition, "policy", SwitchOptions(mode))
    assert (answer.result, answer.reason, answer.origin) == (result, reason, "original")
    assert answer.trigger == "policy"


def test_attempt_without_the_module(switcher: Switcher, module: FakeModule) -> None:
    module.remove()
    result = switcher.attempt("readahead", "random", "policy")
    assert (result.result, result.origin) == ("failed", "")
    assert "not loaded" in result.reason


# ------------------------------------------------------------------------------------------ modes


def test_mode_is_the_modules_choice_unless_it_is_said(
    switcher: Switcher, module: FakeModule
) -> None:
    (module.sysfs / "readahead/editions/random/modes").write_text("exclusive scoped\n")
    result = switcher.switch("readahead", "random", "manual")
    assert (result.mode, result.partial, result.changed) == ("exclusive", False, True)
    assert not switcher.switch("readahead", "random", "manual").changed
    (module.sysfs / "readahead/editions/original/modes").write_text("concurrent\n")
    refused = switcher.attempt("readahead", "original", "policy")
    assert (refused.result, refused.mode) == ("refused", "")


def test_scoped_switch_is_confirmed_by_partial(switcher: Switcher, module: FakeModule) -> None:
    options = SwitchOptions("scoped", scope="cpus:0-3")
    result = switcher.switch("readahead", "random", "manual", options)
    assert (result.origin, result.target, result.result) == ("original", "random", "ok")
    assert (result.partial, result.scope, result.changed) == (True, "cpus:0-3", True)
    assert module.kmod.read_active("readahead") == "original"
    assert not switcher.switch("readahead", "random", "manual", options).changed
    wider = switcher.switch(
        "readahead", "random", "manual", SwitchOptions("scoped", None, "cpus:0")
    )
    assert wider.changed


def test_partial_edition_taken_to_all(switcher: Switcher, module: FakeModule) -> None:
    module.kmod.switch("readahead", "random", "scoped", scope="handler")
    result = switcher.switch("readahead", "random", "manual")
    assert (result.origin, result.partial, result.changed) == ("original", False, True)
    assert module.kmod.read_active("readahead") == "random"


def test_partial_edition_taken_back_to_none(switcher: Switcher, module: FakeModule) -> None:
    module.kmod.switch("readahead", "random", "scoped", scope="handler")
    result = switcher.switch("readahead", "original", "manual")
    assert (result.origin, result.target, result.partial) == ("random", "original", False)
    assert result.changed


@pytest.mark.parametrize(("blocked", "partial"), [(0, False), (2, True)])
def test_per_object_switch_is_confirmed_either_way(
    switcher: Switcher, module: FakeModule, blocked: int, *, partial: bool
) -> None:
    module.call("readahead", "page_cache_ra_order", blocked=blocked)
    result = switcher.switch("readahead", "random", "manual", SwitchOptions("per-object"))
    assert (result.mode, result.partial) == ("per-object", partial)


def test_exclusive_switch_that_ends_partial_is_not_one(
    module: FakeModule, clock: ManualClock
) -> None:
    class Meddler:
        def command(self, line: str) -> list[Event]:
            module.command(line)
            module.command("switch readahead original")
            return module.command("switch readahead random mode=scoped scope=handler")

    switcher = Switcher(Kmod(module.sysfs, module.device, Meddler()), clock.now)
    with pytest.raises(DynamosError, match="is original with random in part again"):
        switcher.switch("readahead", "random", "manual", SwitchOptions("exclusive", 0.5))


def test_subsystem_that_goes_during_the_switch(module: FakeModule, clock: ManualClock) -> None:
    class Remover:
        def command(self, line: str) -> list[Event]:
            said = module.command(line)
            shutil.rmtree(module.sysfs / "readahead")
            return said

    switcher = Switcher(Kmod(module.sysfs, module.device, Remover()), clock.now)
    with pytest.raises(DynamosError, match="is gone again"):
        switcher.switch("readahead", "random", "manual")


def test_module_that_does_not_know_of_partial(switcher: Switcher, module: FakeModule) -> None:
    class OldModule:
        def command(self, line: str) -> list[Event]:
            for name in ("partial", "scope"):
                (module.sysfs / "readahead" / name).write_text("none\n")
            said = module.command(line)
            for name in ("partial", "scope"):
                (module.sysfs / "readahead" / name).unlink()
            return said

    old = Switcher(Kmod(module.sysfs, module.device, OldModule()), switcher.now)
    for target in ("random", "original"):
        result = old.switch("readahead", target, "manual")
        assert (result.result, result.partial, result.scope) == ("ok", False, None)


def test_timeout_names_who_is_inside(switcher: Switcher, module: FakeModule) -> None:
    module.call("readahead", "page_cache_ra_order", blocked=1)
    options = SwitchOptions("exclusive", 0.25)
    result = switcher.attempt("readahead", "random", "policy", options)
    assert (result.result, result.mode, result.origin) == ("refused", "exclusive", "original")
    said = "1 threads were inside for 250 ms; still inside: a reader[1001] in page_cache_ra_order"
    assert result.reason == said
