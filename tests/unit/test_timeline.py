# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.timeline: the last hour, and never more than there is room for."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import pytest

from dynamosd import timeline
from dynamosd.api.timeline import KEEP_SECONDS, STEP_SECONDS, Timeline, text
from dynamosd.model import KernelState, Signal, SignalKey, Signals
from dynamosd.policy.load import load_policy
from dynamosd.timeline import MAX_CHANGES, MAX_POINTS, MAX_RECORDS, TimelineKeeper
from tests.unit.build import write_policy

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from dynamosd.policy.definition import Policy
    from dynamosd.testing import FakeModule

ORDER = "page_cache_ra_order"
WALL = 1_700_000_000.0


class Hour:
    """A keeper, and what it is given."""

    def __init__(self, module: FakeModule) -> None:
        """Begin at 1000 seconds."""
        self.keeper = TimelineKeeper(1000.0)
        self.kernel: KernelState | None = module.kmod.read()
        self.policies: tuple[Policy, ...] = ()
        self.values: Mapping[SignalKey, Signal] = {("cpu_busy", "", ""): Signal(0.123456)}

    def tick(self, at: float) -> Timeline:
        """Tick at a time after 1000 seconds."""
        now = 1000.0 + at
        signals = Signals(now, self.values)
        return self.keeper.tick(now, now + WALL, self.kernel, signals, self.policies)

    def found(self, at: float) -> dict[str, Any]:
        """Tick, and give the document."""
        made: dict[str, Any] = json.loads(text(self.tick(at)))
        return made

    def stand(self, active: str, partial: str | None = None) -> None:
        """Let other editions get the calls of `readahead`."""
        assert self.kernel is not None
        one = self.kernel.subsystems["readahead"]
        changed = dataclasses.replace(one, active=active, partial=partial)
        self.kernel = dataclasses.replace(self.kernel, subsystems={"readahead": changed})


@pytest.fixture
def hour(module: FakeModule) -> Hour:
    """Give one."""
    return Hour(module)


def changes(found: dict[str, Any]) -> list[tuple[float, str | None]]:
    """Give when which edition got active, in seconds since the beginning."""
    (one,) = found["subsystems"]
    return [(each["time_seconds"] - WALL - 1000.0, each["active"]) for each in one["changes"]]


def test_an_edition_is_known_from_its_tick_on(hour: Hour) -> None:
    hour.tick(0.0)
    hour.stand("random")
    hour.tick(3.0)
    hour.stand("random", "original")
    hour.kernel, before = None, hour.kernel
    hour.tick(5.0)
    hour.kernel = before
    found = hour.found(7.0)
    assert changes(found) == [(0.0, "original"), (3.0, "random"), (5.0, None), (7.0, "random")]
    assert found["subsystems"][0]["changes"][-1]["partial"] == "original"


def test_nothing_new_is_the_same_answer(hour: Hour) -> None:
    first = hour.tick(0.0)
    assert hour.tick(STEP_SECONDS - 1.0) is first
    second = hour.tick(STEP_SECONDS)
    assert second is not first
    assert text(second) is text(second)
    assert len(first.points) == 1


def test_what_is_older_than_an_hour_goes_but_not_the_edition_at_its_beginning(hour: Hour) -> None:
    hour.tick(0.0)
    hour.keeper.note({"kind": "decision", "reason": "old"}, 1000.0)
    hour.stand("random")
    hour.tick(10.0)
    found = hour.found(KEEP_SECONDS + 50.0)
    assert changes(found) == [(10.0, "random")]
    assert len(found["times_seconds"]) == 1
    assert found["records"] == []
    assert found["since_seconds"] == WALL + 1000.0 + 50.0


def test_subsystem_that_is_gone_for_an_hour_is_forgotten(hour: Hour) -> None:
    hour.tick(0.0)
    hour.kernel = None
    assert len(hour.found(1.0)["subsystems"]) == 1
    assert hour.found(KEEP_SECONDS + 20.0)["subsystems"] == []


def test_points_are_a_step_apart_and_no_more_than_an_hour_of_them(hour: Hour) -> None:
    for second in range(int(KEEP_SECONDS) + 100):
        hour.tick(float(second))
    found = hour.found(KEEP_SECONDS + 100.0)
    times = found["times_seconds"]
    assert len(times) == MAX_POINTS
    assert {round(b - a, 3) for a, b in itertools.pairwise(times)} == {STEP_SECONDS}
    assert found["signals"][0]["values"] == [0.1235] * MAX_POINTS


def test_a_loop_that_stood_still_leaves_a_gap_and_does_not_catch_up(hour: Hour) -> None:
    for at in (0.0, 100.0, 101.0, 110.0):
        hour.tick(at)
    found = [each - WALL - 1000.0 for each in hour.found(111.0)["times_seconds"]]
    assert found == [0.0, 100.0, 110.0]


@pytest.mark.parametrize(
    "signal",
    [Signal(None), Signal(5.0, trusted=False), Signal(math.nan), Signal(math.inf)],
)
def test_no_value_that_nobody_should_trust_or_that_is_no_json(hour: Hour, signal: Signal) -> None:
    hour.values = {("cpu_busy", "", ""): signal}
    assert hour.found(0.0)["signals"][0]["values"] == [None]


def test_what_policies_read_comes_first_and_the_rest_is_counted(hour: Hour, tmp_path: Path) -> None:
    many = {("in_flight", f"f{n:03}", ""): Signal(1.0) for n in range(100)}
    wanted = ("in_flight", ORDER, "")
    hour.values = {**many, ("errors_rate", "f", ""): Signal(1.0), wanted: Signal(2.0)}
    folder = tmp_path / "policies"
    folder.mkdir()
    hour.policies = (load_policy(write_policy(folder)),)
    found = hour.found(0.0)
    assert len(found["signals"]) == timeline.MAX_SIGNALS
    assert found["signals"][0]["text"] == f'in_flight("{ORDER}")'
    assert found["left_out"]["signals"] == 101 - timeline.MAX_SIGNALS


def test_changes_and_subsystems_and_records_are_bounded(hour: Hour) -> None:
    assert hour.kernel is not None
    one = hour.kernel.subsystems["readahead"]
    many = {f"s{n:03}": dataclasses.replace(one, name=f"s{n:03}") for n in range(40)}
    for turn in range(3 * MAX_CHANGES):
        active = ("original", "random")[turn % 2]
        now = {name: dataclasses.replace(each, active=active) for name, each in many.items()}
        hour.kernel = dataclasses.replace(hour.kernel, subsystems=now)
        hour.keeper.note({"kind": "switch", "reason": "x" * 10_000}, 1000.0 + turn)
        hour.tick(float(turn))
    found = hour.found(3.0 * MAX_CHANGES)
    assert len(found["subsystems"]) == timeline.MAX_SUBSYSTEMS
    assert found["left_out"]["subsystems"] == 40 - timeline.MAX_SUBSYSTEMS
    assert {len(each["changes"]) for each in found["subsystems"]} == {MAX_CHANGES}
    assert len(found["records"]) == MAX_RECORDS
    assert len(found["records"][0]["reason"]) == timeline.MAX_TEXT + 1


def test_of_a_record_only_what_the_status_says_too(hour: Hour) -> None:
    hour.keeper.note({"kind": "pause", "uid": 0, "reason": "lunch"}, 1000.0)
    hour.keeper.note(
        {"kind": "switch", "to": "random", "error": "", "uid": 0, "login": "me", "values": {}},
        1001.0,
    )
    assert hour.found(2.0)["records"] == [
        {"time_seconds": WALL + 1001.0, "kind": "switch", "to": "random"}
    ]


def test_times_are_those_of_the_clock_as_it_is_set_now(hour: Hour) -> None:
    hour.tick(0.0)
    later = hour.keeper.tick(1010.0, 5000.0, hour.kernel, None, ())
    found = json.loads(text(later))
    assert found["times_seconds"] == [4990.0, 5000.0]
    assert found["signals"][0]["values"] == [0.1235, None]
