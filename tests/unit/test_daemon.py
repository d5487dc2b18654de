# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.daemon and dynamosd.control: the whole loop, over a fake module and a manual clock."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import resource
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dynamosd import cli, daemon, journal, kmod, recording, status
from dynamosd.config import Config
from dynamosd.daemon import Daemon, World, read_policies
from dynamosd.errors import (
    DynamosError,
    Exhausted,
    InvalidInput,
    NotSupported,
    Refused,
    Unreachable,
)
from dynamosd.journald import Journald
from dynamosd.kmod import CommandFailed, Kmod
from dynamosd.model import FunctionSample, LeaseTerms
from dynamosd.policy.load import load_policy
from dynamosd.policy.names import names_of
from dynamosd.policy.problems import PolicyErrors
from dynamosd.probes.edition import DISTRUST_SAMPLES
from dynamosd.replay import as_recorded
from dynamosd.service import Service
from dynamosd.testing import FakeProbe
from tests.unit.build import DEFAULTS, write_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from dynamosd.kmod import Event
    from dynamosd.model import KernelState
    from dynamosd.testing import FakeModule, ManualClock

ORDER = "page_cache_ra_order"
KEY = ("readahead", ORDER, "original")


def rewrite(daemon: Daemon, file: Path, content: str | None) -> None:
    """Write a policy file anew, or take it away (None), and have the daemon read its policies."""
    if content is None:
        file.unlink()
    else:
        file.write_text(content)
    daemon.request_reload()


class House:
    """A daemon with everything around it, at 1000 seconds; the first tick is due."""

    def __init__(self, folder: Path, module: FakeModule, clock: ManualClock) -> None:
        """Prepare the folders."""
        self.folder = folder
        self.module = module
        self.clock = clock
        self.probe = FakeProbe(kmod=module.kmod)
        self.probes = 0
        self.said: list[str] = []
        self.policies = folder / "config"
        self.policies.mkdir()
        run = folder / "run"
        run.mkdir()
        self.settings = Config(
            self.policies, ("127.0.0.1", 0), folder / "journal", run, window_seconds=2.0
        )
        self.told: list[str] = []
        self.world = World(
            self.said.append,
            module.kmod,
            self.attach,
            clock,
            journald=Journald(),
            service=Service(lambda message: self.told.append(message.decode())),
        )
        self.page: Callable[[], bytes] = bytes
        self.daemon: Daemon | None = None

    def attach(self) -> FakeProbe:
        """Attach the probe."""
        self.probes += 1
        self.probe.closed, self.probe.between = False, bytes
        return self.probe

    def start(self) -> Daemon:
        """Make a daemon; it is not run yet."""
        kernel = self.module.kmod.read()
        policies = read_policies(self.settings, names_of(kernel), self.said.append)
        made = Daemon(self.settings, self.world, policies, kernel)
        made.attach()
        self.page = made.page.text
        self.daemon = made
        return made

    def run(self, seconds: float, plan: Mapping[float, Callable[[], object]] | None = None) -> int:
        """Run a daemon for some seconds, while the plan's actions happen; give its exit code."""
        made = self.start()
        for time, action in (plan or {}).items():
            self.clock.at(1000.0 + time, action)
        self.clock.at(1000.0 + seconds, made.request_stop)
        return made.run()

    def block(self, threads: int) -> None:
        """Let threads enter the function and stay."""
        self.module.call("readahead", ORDER, blocked=threads)

    def active(self) -> str | None:
        """Tell what is active."""
        return self.module.kmod.read_active("readahead")

    def events(self, *names: str) -> list[Event]:
        """Give the module's events of these kinds."""
        return [event for event in self.module.kmod.events() if event.name in names]

    def lease(self) -> str | None:
        """Tell how the lease stands."""
        return self.module.kmod.read().subsystems["readahead"].lease

    def records(self, kind: str) -> list[dict[str, Any]]:
        """Give the journal's records of a kind."""
        return [record for record in journal.read(self.settings.journal) if record["kind"] == kind]

    def switches(self) -> list[tuple[str, str, str, str]]:
        """Give the journal's switches: from, to, trigger, result."""
        keys = ("from", "to", "trigger", "result")
        found = [tuple(record[key] for key in keys) for record in self.records("switch")]
        return [(a, b, c, d) for a, b, c, d in found]

    def metric(self, name: str, **labels: str) -> float | None:
        """Give a value from the metrics' page."""
        for family in text_string_to_metric_families(self.page().decode()):
            for sample in family.samples:
                if sample.name == name and labels.items() <= sample.labels.items():
                    return sample.value
        return None


# ------------------------------------------------------------------------------------- switching


def test_switches_when_the_policy_says_so_and_back_when_it_leaves(house: House) -> None:
    seen: list[str | None] = []
    plan: dict[float, Callable[[], object]] = {
        2.5: lambda: house.block(3),
        3.5: lambda: seen.append(house.active()),
    }
    assert house.run(5.0, plan) == 0
    assert seen == ["random"]
    assert house.active() == "original"
    assert house.switches() == [
        ("original", "random", "policy", "ok"),
        ("random", "original", "exit", "ok"),
    ]
    switch = house.records("switch")[0]
    assert (switch["policy"], switch["rule"]) == ("storm", "busy")
    assert "in_flight" in switch["reason"]
    assert any("original -> random" in line for line in house.said)


def test_on_exit_hold_leaves_what_is_active(house: House) -> None:
    write_policy(house.policies, on_exit="hold")
    house.block(3)
    assert house.run(3.0) == 0
    assert house.active() == "random"


@pytest.mark.parametrize(("mode", "action"), [("advise", "switch"), ("observe", "stay")])
def test_only_an_enforcing_policy_switches(house: House, mode: str, action: str) -> None:
    write_policy(house.policies, mode=mode)
    house.block(3)
    house.run(4.0)
    assert house.switches() == []
    assert house.active() == "original"
    assert {record["action"] for record in house.records("decision")} == {action}


def test_leaving_keeps_its_hands_off_what_others_switched_without_a_policy(house: House) -> None:
    (house.policies / "storm.yaml").unlink()
    house.module.kmod.switch("readahead", "random")
    assert house.run(2.0) == 0
    assert house.active() == "random"
    assert any("none, only measuring" in line for line in house.said)


def test_adopts_what_it_finds(house: House) -> None:
    house.module.kmod.switch("readahead", "random")
    house.block(3)
    house.run(3.0)
    assert house.switches() == [("random", "original", "exit", "ok")]


def test_a_switch_by_hand_is_recorded_and_the_policy_goes_on_from_there(house: House) -> None:
    house.block(3)
    house.run(6.0, {3.5: lambda: house.module.kmod.switch("readahead", "original")})
    assert house.switches() == [
        ("original", "random", "policy", "ok"),
        ("random", "original", "manual", "ok"),
        ("original", "random", "policy", "ok"),
        ("random", "original", "exit", "ok"),
    ]
    assert house.metric("dynamos_switches_total", trigger="manual", result="ok") == 1


def test_intervals_of_policies_are_kept(house: House) -> None:
    write_policy(house.policies, interval="3s")
    house.run(10.5)
    assert house.metric("dynamos_policy_evaluations_total", policy="storm") == 4


def test_every_decision_is_recorded_and_unchanged_ones_are_folded(house: House) -> None:
    house.run(10.5)
    first, folded = house.records("decision")
    assert (first["action"], first["target"], first["rule"]) == ("stay", "original", "")
    assert folded["repeated"] == 10


def flapping(house: House, times: int) -> dict[float, Callable[[], object]]:
    """Let the function be busy and idle in turn, two seconds each."""
    plan: dict[float, Callable[[], object]] = {}
    for turn in range(times):
        plan[1.5 + 4 * turn] = lambda: house.block(3)
        plan[3.5 + 4 * turn] = lambda: house.module.leave("readahead")
    return plan


def test_policy_that_flaps_is_frozen_and_says_so(house: House) -> None:
    limits = "{maxSwitches: {count: 3, per: 1h}}"
    write_policy(house.policies, limits=limits)
    house.run(20.0, flapping(house, 4))
    assert [each[2] for each in house.switches()] == ["policy"] * 3 + ["exit"]
    assert house.active() == "original"
    why = "readahead stays as it is: frozen after too many switches"
    assert {each["reason"] for each in house.records("trouble")} == {why}
    assert len([line for line in house.said if why in line]) == 1
    assert house.metric("dynamos_policy_phase", policy="storm", phase="frozen") == 1
    # It stays with random, and is idle at 8, 9, 12, 13 and from 16 to 19.
    assert house.metric("dynamos_switches_suppressed_total", reason="frozen") == 8


def test_cooldown_delays_the_way_back(house: House) -> None:
    write_policy(house.policies, limits="{cooldown: 5s}")
    seen: list[tuple[float, str | None]] = []
    plan: dict[float, Callable[[], object]] = {
        1.5: lambda: house.block(3),
        2.5: lambda: house.module.leave("readahead"),
        6.5: lambda: seen.append((6.5, house.active())),
        7.5: lambda: seen.append((7.5, house.active())),
    }
    house.run(9.0, plan)
    assert seen == [(6.5, "random"), (7.5, "original")]
    first = next(each for each in house.records("decision") if each["suppressed"] == "cooldown")
    assert "cooldown, 1s of 5s" in first["reason"]


# ---------------------------------------------------------------------------- what is counted


def test_ticks_are_counted_and_the_last_one_is_dated(house: House) -> None:
    house.run(4.5)
    assert house.metric("dynamos_loop_ticks_total") == 5
    assert house.metric("dynamos_last_tick_timestamp_seconds") == house.clock.wall() - 0.5
    assert house.metric("dynamos_start_timestamp_seconds") == house.clock.wall() - 4.5
    assert house.metric("dynamos_loop_busy_seconds_total") == 0


def test_time_that_a_tick_takes_is_counted(house: House) -> None:
    def work() -> None:
        house.probe.between = lambda: house.clock.advance(0.25)

    house.run(4.5, {1.5: work})
    # Three ticks, in each of which the probe is read twice.
    assert house.metric("dynamos_loop_busy_seconds_total") == 1.5


def test_drain_is_timed_from_the_modules_events(house: House) -> None:
    house.block(3)
    house.run(6.5, {3.5: lambda: house.module.leave("readahead")})
    drained = "dynamos_drain_duration_seconds_count"
    # `original` was left with three threads inside, and `random` when nobody wanted it any more.
    assert house.metric(drained, subsystem="readahead", edition="original") == 1
    assert house.metric(drained, subsystem="readahead", edition="random") == 1
    assert house.metric("dynamos_events_lost_total") == 0


def test_counters_of_the_module_go_on_over_switches_and_a_restart(house: House) -> None:
    house.block(3)
    house.run(3.5)
    calls, switches = "dynamos_function_calls_total", "dynamos_subsystem_switches_total"
    assert house.metric(calls, function=ORDER, edition="original") == 4
    assert house.metric(switches, subsystem="readahead") == 1
    house.module.call("readahead", ORDER, 5)
    house.run(7.5)
    assert house.metric(calls, function=ORDER, edition="original") == 9
    # One more each time, when the daemon has left with `onExit: baseline`.
    assert house.metric(switches, subsystem="readahead") == 3
    assert house.metric("dynamos_switches_total", trigger="policy") == 1


def test_device_that_cannot_be_read_keeps_nothing_from_working(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_self: Kmod) -> str:
        raise Unreachable("may not be read")

    monkeypatch.setattr(Kmod, "read_held", refuse)
    house.block(3)
    house.run(3.5)
    assert house.switches()[0] == ("original", "random", "policy", "ok")


# ------------------------------------------------------------------- editions that come and go


def test_edition_that_vanishes_is_refused_once_in_the_journal_and_counted_each_time(
    house: House,
) -> None:
    house.module.load("readahead", "streaming")
    write_policy(house.policies, edition="streaming")
    house.clock.at(1001.5, lambda: house.module.unload("readahead", "streaming"))
    house.clock.at(1002.5, lambda: house.block(3))
    assert house.run(7.5) == 0
    assert house.switches()[0] == ("original", "streaming", "policy", "refused")
    assert "edition streaming is not loaded" in house.records("switch")[0]["error"]
    # Three of them: the first, and how often it came again.
    assert [record.get("repeated") for record in house.records("switch")] == [None, 4]
    refused = house.metric("dynamos_switches_total", result="refused", to="streaming")
    assert refused == 5
    assert len([line for line in house.said if "not loaded" in line]) == 1
    assert house.active() == "original"


def test_edition_that_comes_back_is_used(house: House) -> None:
    house.block(3)
    house.module.unload("readahead", "random")
    with pytest.raises(PolicyErrors):
        house.start()
    house.module.load("readahead", "random")
    plan: dict[float, Callable[[], object]] = {
        0.5: lambda: None,
        1.5: lambda: house.module.kmod.switch("readahead", "original"),
    }
    house.run(4.0, plan)
    assert house.switches()[0] == ("original", "random", "policy", "ok")


def test_subsystem_that_vanishes(house: House) -> None:
    import shutil  # noqa: PLC0415 - this test alone

    folder = house.module.sysfs / "readahead"
    assert house.run(6.0, {2.5: lambda: shutil.rmtree(folder)}) == 0
    assert len([line for line in house.said if "subsystem readahead is not loaded" in line]) == 1
    assert house.records("trouble")[0]["reason"] == "subsystem readahead is not loaded"


def test_subsystem_that_comes_later_is_gone_on_with_as_it_is_found(house: House) -> None:
    when = f"{DEFAULTS['when']}\n      for: 30s"
    write_policy(house.policies, when=when)
    house.module.load("readahead", "random")
    house.module.kmod.switch("readahead", "random")
    folder = house.module.sysfs / "readahead"
    aside = folder.rename(house.folder / "aside")

    def come() -> None:
        aside.rename(folder)
        house.block(3)

    assert house.run(4.5, {2.5: come}) == 0
    assert [line for line in house.said if line.endswith("[unknown-subsystem]")]
    assert house.records("trouble")[0]["reason"] == "subsystem readahead is not loaded"
    assert house.switches() == [("random", "original", "exit", "ok")]


def test_module_refuses(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_self: object, *_words: object, **_options: object) -> None:
        raise Refused("the module says no")

    house.block(3)
    monkeypatch.setattr(type(house.module.kmod), "switch", refuse)
    assert house.run(5.0) == 0
    assert house.switches()[0] == ("original", "random", "policy", "refused")
    assert len([line for line in house.said if "the module says no" in line]) == 1


# -------------------------------------------------------------------- scoped, per-object, exclusive


def scoped(house: House, scope: str = "cpus:0") -> None:
    """Let an operator try the edition on some calls."""
    house.module.kmod.switch("readahead", "random", "scoped", scope=scope)


def partial(house: House) -> str | None:
    """Tell what is partial."""
    return house.module.kmod.read().subsystems["readahead"].partial


def test_scoped_switch_by_hand_is_recorded_and_left_alone(house: House) -> None:
    seen: list[str | None] = []
    plan: dict[float, Callable[[], object]] = {
        1.5: lambda: scoped(house),
        2.5: lambda: house.block(3),
        5.5: lambda: seen.append(partial(house)),
    }
    assert house.run(6.0, plan) == 0
    assert seen == ["random"]
    assert house.active() == "original"
    (switch,) = house.records("switch")
    assert (switch["from"], switch["to"], switch["trigger"]) == ("original", "random", "manual")
    assert (switch["mode"], switch["partial"]) == ("scoped", True)
    assert "cpus:0" in switch["reason"]
    assert house.metric("dynamos_edition_partial", edition="random") == 1
    why = "readahead should be random: someone else's scoped switch to random is going on"
    assert house.records("trouble")[0]["reason"] == why
    assert len([line for line in house.said if why in line]) == 1
    assert partial(house) == "random"


def test_policy_goes_on_when_a_scoped_switch_by_hand_is_over(house: House) -> None:
    house.block(3)
    scoped(house)
    house.run(6.0, {3.5: lambda: house.module.kmod.switch("readahead", "original")})
    assert house.switches() == [
        ("random", "original", "manual", "ok"),
        ("original", "random", "policy", "ok"),
        ("random", "original", "exit", "ok"),
    ]
    assert any("is well again" in line for line in house.said)


def test_scoped_switch_that_is_taken_to_all_is_a_switch_by_hand(house: House) -> None:
    house.run(
        5.0,
        {
            1.5: lambda: scoped(house),
            2.5: lambda: house.module.kmod.switch("readahead", "random"),
        },
    )
    assert house.switches() == [
        ("original", "random", "manual", "ok"),
        ("original", "random", "manual", "ok"),
        ("random", "original", "policy", "ok"),
    ]
    assert [record["partial"] for record in house.records("switch")] == [True, False, False]


def test_scope_that_is_changed_is_recorded(house: House) -> None:
    house.run(4.0, {1.5: lambda: scoped(house), 2.5: lambda: scoped(house, "share:1/9")})
    first, second = house.records("switch")
    assert "cpus:0" in first["reason"]
    assert "share:1/9" in second["reason"]


def test_switch_and_scoped_switch_between_two_ticks_are_two(house: House) -> None:
    house.module.load("readahead", "streaming")

    def both() -> None:
        house.module.kmod.switch("readahead", "streaming")
        scoped(house)

    house.run(3.0, {1.5: both})
    assert house.switches() == [
        ("original", "streaming", "manual", "ok"),
        ("streaming", "random", "manual", "ok"),
        ("streaming", "original", "exit", "ok"),
    ]


def test_leaving_goes_to_the_baseline_over_a_scoped_switch(house: House) -> None:
    house.module.load("readahead", "streaming")
    house.block(3)

    def canary() -> None:
        house.module.kmod.switch("readahead", "streaming", "scoped", scope="handler")

    house.run(4.0, {3.5: canary})
    assert house.switches()[-1] == ("random", "original", "exit", "ok")
    assert (house.active(), partial(house)) == ("original", None)


def test_per_object_switch_of_a_policy_is_waited_for(house: House) -> None:
    write_policy(house.policies, switch="{mode: per-object}", on_exit="hold")
    seen: list[object] = []
    plan: dict[float, Callable[[], object]] = {
        4.5: lambda: seen.append((house.active(), partial(house))),
        5.5: lambda: house.module.complete("readahead"),
    }
    house.block(3)
    assert house.run(8.0, plan) == 0
    assert seen == [("original", "random")]
    assert house.active() == "random"
    assert house.switches() == [("original", "random", "policy", "ok")]
    assert house.records("trouble") == []
    (completed,) = house.records("completed")
    assert (completed["subsystem"], completed["edition"]) == ("readahead", "random")
    assert len([line for line in house.said if "original -> random in part" in line]) == 1


def test_per_object_switch_of_a_policy_is_taken_back(house: House) -> None:
    write_policy(house.policies, switch="{mode: per-object}")
    house.block(3)
    house.run(6.0, {3.5: lambda: house.module.leave("readahead")})
    assert house.switches() == [
        ("original", "random", "policy", "ok"),
        ("random", "original", "policy", "ok"),
    ]
    assert (house.active(), partial(house)) == ("original", None)


def test_leaving_takes_an_own_per_object_switch_back(house: House) -> None:
    write_policy(house.policies, switch="{mode: per-object}")
    house.block(3)
    assert house.run(4.0) == 0
    assert house.switches()[-1] == ("random", "original", "exit", "ok")
    assert partial(house) is None


def test_per_object_switch_of_a_daemon_before_is_adopted(house: House) -> None:
    write_policy(house.policies, switch="{mode: per-object}", on_exit="hold")
    house.block(3)
    house.module.kmod.switch("readahead", "random", "per-object")
    house.run(5.0, {2.5: lambda: house.module.complete("readahead")})
    assert house.switches() == []
    assert len(house.records("completed")) == 1


def test_scoped_switch_over_an_own_per_object_switch_is_someone_elses(house: House) -> None:
    write_policy(house.policies, switch="{mode: per-object}", on_exit="hold")
    house.block(3)
    house.run(6.0, {2.5: lambda: scoped(house)})
    assert house.switches() == [
        ("original", "random", "policy", "ok"),
        ("original", "random", "manual", "ok"),
    ]
    assert "someone else's scoped switch" in house.records("trouble")[0]["reason"]


def test_exclusive_switch_that_times_out_is_not_tried_at_each_tick(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(house.policies, switch="{mode: exclusive, timeout: 400ms}")
    commands: list[str] = []
    command = house.module.command

    def slow(line: str) -> list[Event]:
        commands.append(line)
        house.clock.advance(0.4)
        return command(line)

    monkeypatch.setattr(house.module, "command", slow)
    house.block(3)
    assert house.run(9.5) == 0
    # A try, four seconds without one, and so on.
    assert commands == ["switch readahead random mode=exclusive timeout_ms=400"] * 2
    assert house.switches()[0] == ("original", "random", "policy", "refused")
    assert f"still inside: a reader[1001] in {ORDER}" in house.records("switch")[0]["error"]
    assert house.metric("dynamos_switches_total", result="refused") == 2


def test_without_a_switch_section_the_mode_is_the_modules_choice(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[str] = []
    command = house.module.command

    def note(line: str) -> list[Event]:
        commands.append(line)
        return command(line)

    monkeypatch.setattr(house.module, "command", note)
    house.block(3)
    house.run(3.0)
    assert commands == ["switch readahead random", "switch readahead original"]
    assert house.metric("dynamos_switch_duration_seconds_count", mode="concurrent") == 1


def test_changed_switch_section_changes_the_policy(house: House) -> None:
    reload_with(house, lambda: write_policy(house.policies, switch="{mode: concurrent}"))
    assert house.switches()[-1][2] == "exit"
    assert {record["mode"] for record in house.records("switch")} == {"concurrent"}


def test_edition_that_does_not_allow_the_mode_stops_the_start(house: House) -> None:
    write_policy(house.policies, switch="{mode: exclusive}")
    (house.module.sysfs / "readahead/editions/random/modes").write_text("concurrent scoped\n")
    with pytest.raises(InvalidInput, match='"random" does not allow mode "exclusive"'):
        daemon.run(house.settings, house.world)


# --------------------------------------------------------------------------------------- leases


def note_renewals(house: House, monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, str]]:
    """Give the list of what the lease's file is told from now on, each with its time."""
    told: list[tuple[float, str]] = []
    carry_out = house.module.carry_out

    def note(line: str, file: str, by: int) -> list[Event]:
        if line.startswith(("lease ", "release ")):
            told.append((house.clock.now(), line))
        return carry_out(line, file, by)

    monkeypatch.setattr(house.module, "carry_out", note)
    return told


def refuse_leases(house: House, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let the module answer every lease with an errno from now on."""

    def refuse(_folder: Path, _lease: object) -> None:
        raise CommandFailed(number, "")

    monkeypatch.setattr(house.module, "_lease", refuse)


def test_lease_while_a_policy_enforces(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    told = note_renewals(house, monkeypatch)
    seen: list[str | None] = []
    house.block(3)
    assert house.run(11.0, {5.5: lambda: seen.append(house.lease())}) == 0
    line = "lease readahead action=baseline baseline=original grace_ms=30000 ttl_ms=10000"
    # Three times in ten seconds, at the ticks that come first after that.
    assert told == [(1000.0, line), (1004.0, line), (1008.0, line), (1011.0, "release readahead")]
    assert seen == ["held"]
    assert house.lease() is None
    assert [event.name for event in house.events("leased", "released", "lease_lost")] == [
        *("leased", "released")
    ]
    taken, given = house.records("lease")
    assert (taken["result"], taken["adopted"], taken["grace_seconds"]) == ("held", False, 30.0)
    assert (given["result"], given["subsystem"]) == ("released", "readahead")
    assert house.metric("dynamos_lease_held", subsystem="readahead") == 1


def test_lease_says_what_the_policy_says(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.module.load("readahead", "streaming")
    text = write_policy(house.policies, interval="2s", on_loss="{action: hold, grace: 5s}")
    text.write_text(text.read_text().replace("  mode:", "  baseline: streaming\n  mode:"))
    told = note_renewals(house, monkeypatch)
    house.run(1.5)
    line = "lease readahead action=hold baseline=streaming grace_ms=5000 ttl_ms=20000"
    assert told[0][1] == line


@pytest.mark.parametrize(
    ("interval", "timeout", "ttl"),
    [
        ("100ms", "400ms", 10.4),
        ("1s", "1ms", 10.001),
        ("5s", "1m", 110.0),
        ("1h", "1m", 3600.0),
    ],
)
def test_lease_outlives_ten_intervals_and_the_longest_switch(
    house: House, interval: str, timeout: str, ttl: float
) -> None:
    switch = f"{{mode: exclusive, timeout: {timeout}}}"
    write_policy(house.policies, interval=interval, switch=switch)
    house.run(0.05)
    assert house.records("lease")[0]["ttl_seconds"] == ttl


@pytest.mark.parametrize("mode", ["advise", "observe"])
def test_policy_that_does_not_enforce_needs_no_lease(house: House, mode: str) -> None:
    write_policy(house.policies, mode=mode)
    house.run(3.0)
    assert house.events("leased") == []
    assert house.metric("dynamos_lease_held") is None
    assert house.records("lease") == []


def test_clean_exit_with_hold_gives_the_lease_back(house: House) -> None:
    write_policy(house.policies, on_exit="hold")
    house.block(3)
    assert house.run(3.0) == 0
    assert (house.active(), house.lease()) == ("random", None)
    assert [event.name for event in house.events("released", "lease_lost")] == ["released"]


def test_exit_that_cannot_reach_the_baseline_leaves_it_to_the_module(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.block(3)

    def refuse(_self: object, *_words: object, **_options: object) -> None:
        raise DynamosError("out of order")

    assert house.run(4.0, {3.5: lambda: monkeypatch.setattr(Kmod, "switch", refuse)}) == 1
    assert (house.active(), house.lease()) == ("random", "lost")
    house.module.expire("readahead")
    assert house.active() == "original"


def test_subsystem_that_another_daemon_looks_after_is_not_enforced(house: House) -> None:
    other = house.module.open(by=812)
    house.module.kmod.lease(other, "readahead", LeaseTerms("baseline", "original", 9.0, 0.0))
    house.block(3)
    seen: list[str | None] = []
    plan: dict[float, Callable[[], object]] = {
        8.5: lambda: seen.append(house.active()),
        9.5: lambda: house.module.kmod.release(other, "readahead"),
        11.5: lambda: seen.append(house.active()),
    }
    assert house.run(12.0, plan) == 0
    assert seen == ["original", "random"]
    why = "readahead is not enforced: the lease of readahead is held by pid 812"
    assert [record["reason"] for record in house.records("trouble")][:1] == [why]
    assert len([line for line in house.said if why in line]) == 1
    # The first, and one each time that a renewal would be due: the ring is not filled with them.
    assert len(house.events("refused")) == 3
    assert house.metric("dynamos_lease_renewal_errors_total", subsystem="readahead") == 3
    assert any("is well again" in line for line in house.said)
    assert house.records("lease")[0]["adopted"] is False


def test_daemon_leaves_what_another_looks_after_alone(house: House) -> None:
    house.module.kmod.switch("readahead", "random")
    other = house.module.open(by=812)
    house.module.kmod.lease(other, "readahead", LeaseTerms("hold", "original", 9.0, 0.0))
    assert house.run(3.0) == 0
    assert (house.active(), house.lease()) == ("random", "held")
    assert house.metric("dynamos_lease_held", subsystem="readahead") == 0
    assert house.switches() == []


def test_lease_of_another_that_dies_is_taken_over_at_once(house: House) -> None:
    other = house.module.open(by=812)
    house.module.kmod.lease(other, "readahead", LeaseTerms("hold", "original", 9.0, 0.0))
    house.run(3.5, {1.5: other.close})
    assert house.events("leased")[1].time > house.events("lease_lost")[0].time
    assert house.records("lease")[0]["adopted"] is True
    assert len([line for line in house.said if "took over the lease of readahead" in line]) == 1


def test_lease_that_another_takes_while_the_loop_stands_still(house: House) -> None:
    house.block(3)
    other = house.module.open(by=812)

    def steal() -> None:
        house.module.lose("readahead")
        house.module.expire("readahead")
        house.module.kmod.lease(other, "readahead", LeaseTerms("hold", "original", 9.0, 0.0))

    assert house.run(8.0, {4.5: steal}) == 0
    assert house.active() == "original"
    assert "held by pid 812" in house.records("trouble")[0]["reason"]
    assert house.lease() == "held"
    assert [each[2] for each in house.switches()] == ["policy", "manual"]


def test_loop_that_stood_still_for_too_long_takes_its_lease_again(house: House) -> None:
    house.block(3)
    assert house.run(8.0, {4.5: lambda: house.module.lose("readahead")}) == 0
    results = [(each["result"], each.get("adopted")) for each in house.records("lease")]
    assert results == [("held", False), ("lost", None), ("held", True), ("released", None)]
    assert any("was not renewed in time" in line for line in house.said)
    assert [each[2] for each in house.switches()] == ["policy", "exit"]


def test_switch_that_the_module_made_when_the_grace_was_over(house: House) -> None:
    def hang() -> None:
        house.module.lose("readahead")
        house.module.expire("readahead")

    house.block(3)
    assert house.run(8.0, {4.5: hang}) == 0
    assert house.switches() == [
        ("original", "random", "policy", "ok"),
        ("random", "original", "lease", "ok"),
        ("original", "random", "policy", "ok"),
        ("random", "original", "exit", "ok"),
    ]
    assert house.records("switch")[1]["reason"] == "the lease was lost, and its grace is over"
    assert house.metric("dynamos_switches_total", trigger="lease", result="ok") == 1


@pytest.mark.parametrize("number", [errno.EINTR, errno.ENOMEM])
def test_renewal_that_fails_once_loses_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = house.module._lease
    plan: dict[float, Callable[[], object]] = {
        1.5: lambda: refuse_leases(house, monkeypatch, number),
        5.5: lambda: monkeypatch.setattr(house.module, "_lease", real),
    }
    house.block(3)
    assert house.run(8.0, plan) == 0
    # Due at 4 s, and tried again at 5 and 6.
    assert house.metric("dynamos_lease_renewal_errors_total", subsystem="readahead") == 2
    assert house.records("trouble") == []
    assert [each["result"] for each in house.records("lease")] == ["held", "released"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENXIO, errno.ENOMEM, errno.EINVAL])
def test_lease_that_cannot_be_had_is_never_a_silent_downgrade(
    house: House, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse_leases(house, monkeypatch, number)
    house.block(3)
    assert house.run(5.0) == 0
    assert house.active() == "original"
    assert house.switches() == []
    assert len([line for line in house.said if "readahead is not enforced" in line]) == 1
    assert house.metric("dynamos_lease_held", subsystem="readahead") == 0


def test_lease_of_a_policy_with_long_intervals_is_asked_for_soon_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_policy(house.policies, interval="1h")
    real = house.module._lease
    refuse_leases(house, monkeypatch, errno.EPERM)
    house.run(8.0, {1.5: lambda: monkeypatch.setattr(house.module, "_lease", real)})
    assert house.metric("dynamos_lease_held", subsystem="readahead") == 1
    assert house.metric("dynamos_lease_renewal_errors_total", subsystem="readahead") == 1


def test_module_that_is_older_than_leases(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("lease", "lease_holder"):
        (house.module.sysfs / "readahead" / name).unlink()
    refuse_leases(house, monkeypatch, errno.EINVAL)
    house.block(3)
    assert house.run(20.0) == 0
    assert house.switches()[0] == ("original", "random", "policy", "ok")
    assert len([line for line in house.said if "does not know leases" in line]) == 1
    assert len(house.events("refused")) == 1
    (record,) = house.records("lease")
    assert record["result"] == "unknown"


def test_module_that_comes_back_is_leased_again(house: House) -> None:
    def back() -> None:
        house.module.insert()
        house.module.register("readahead", [ORDER])
        house.module.load("readahead", "random")

    seen: list[str | None] = []
    plan: dict[float, Callable[[], object]] = {
        2.5: house.module.remove,
        4.5: back,
        5.5: lambda: seen.append(house.lease()),
    }
    assert house.run(7.0, plan) == 0
    assert seen == ["held"]
    assert [each["result"] for each in house.records("lease")] == ["held", "held", "released"]


def test_device_is_let_go_of_when_the_subsystem_is_unloaded(house: House) -> None:
    import shutil  # noqa: PLC0415 - this test alone

    opened: list[int] = []

    def count() -> None:
        opened.append(len(list((house.module.sysfs.parent / "files").iterdir())))

    plan: dict[float, Callable[[], object]] = {
        1.5: count,
        2.5: lambda: shutil.rmtree(house.module.sysfs / "readahead"),
        4.5: count,
    }
    assert house.run(5.0, plan) == 0
    assert opened == [1, 0]


def test_compiling_the_probes_again_does_not_lose_the_lease(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = note_renewals(house, monkeypatch)

    def fail() -> None:
        raise Exception("Could not read map")  # noqa: TRY002 - what BCC raises

    def lose() -> None:
        house.probe.between = fail

    house.run(5.0, {1.5: lose})
    ttls = [line.rpartition("=")[2] for _, line in told[:-1]]
    assert ttls == ["10000", "130000", "10000"]
    assert [each["result"] for each in house.records("lease")] == ["held", "released"]


def test_policies_that_change_what_is_to_happen_change_the_lease(house: House) -> None:
    reload_with(house, lambda: write_policy(house.policies, on_loss="{grace: 1m}"))
    first, second = house.events("leased")
    assert (first.fields["grace_ms"], second.fields["grace_ms"]) == ("30000", "60000")
    assert second.fields["adopted"] == "0"
    assert [each.get("grace_seconds") for each in house.records("lease")] == [30.0, 60.0, None]


@pytest.mark.parametrize("mode", ["advise", None])
def test_policy_that_no_longer_enforces_gives_its_lease_back(
    house: House, mode: str | None
) -> None:
    def change() -> None:
        if mode:
            write_policy(house.policies, mode=mode)
        else:
            (house.policies / "storm.yaml").unlink()

    reload_with(house, change)
    assert [event.name for event in house.events("leased", "released", "lease_lost")] == [
        *("leased", "released")
    ]
    assert house.metric("dynamos_lease_held") is None


def test_policy_that_is_renamed_keeps_the_lease(house: House) -> None:
    def rename() -> None:
        (house.policies / "storm.yaml").unlink()
        write_policy(house.policies, name="gale")

    reload_with(house, rename)
    assert [event.name for event in house.events("leased", "released")] == ["leased", "released"]


# ------------------------------------------------------------------- quarantine and switched off


def test_policy_does_not_fight_the_tripwire(house: House) -> None:
    house.block(3)
    seen: list[str | None] = []
    plan: dict[float, Callable[[], object]] = {
        4.5: lambda: house.module.trip("readahead", "random"),
        8.5: lambda: seen.append(house.active()),
        9.5: lambda: house.module.kmod.clear("readahead", "random"),
        10.5: lambda: seen.append(house.active()),
    }
    assert house.run(11.0, plan) == 0
    assert seen == ["original", "random"]
    assert house.switches()[:3] == [
        ("original", "random", "policy", "ok"),
        ("random", "original", "tripwire", "ok"),
        ("original", "random", "policy", "ok"),
    ]
    assert house.records("switch")[1]["reason"] == "edition random is in quarantine (oops)"
    trouble = "readahead should be random: edition random is in quarantine (oops)"
    assert house.records("trouble")[0]["reason"] == trouble
    assert len([line for line in house.said if trouble in line]) == 1
    assert house.events("refused") == []
    told = [(each["phase"], each["rules"]["busy"]) for each in house.records("decision")]
    assert ("quarantined", "quarantined") in told
    assert house.metric("dynamos_switches_suppressed_total", reason="quarantined") == 5
    assert house.metric("dynamos_switches_total", trigger="tripwire", result="ok") == 1
    assert house.metric("dynamos_edition_died_threads_total", edition="random") == 1


def test_tripwire_on_a_partial_edition(house: House) -> None:
    write_policy(house.policies, switch="{mode: per-object}")
    house.block(3)
    house.run(6.0, {3.5: lambda: house.module.trip("readahead", "random", "warn")})
    assert house.switches()[:2] == [
        ("original", "random", "policy", "ok"),
        ("random", "original", "tripwire", "ok"),
    ]
    assert partial(house) is None


def test_quarantine_by_a_person_is_a_switch_by_hand(house: House) -> None:
    house.block(3)
    house.run(6.0, {3.5: lambda: house.module.kmod.quarantine("readahead", "random")})
    assert house.switches()[1] == ("random", "original", "manual", "ok")
    assert "(command)" in house.records("trouble")[0]["reason"]


def test_switch_elsewhere_after_a_fault_is_by_hand(house: House) -> None:
    house.module.load("readahead", "streaming")

    def trip_and_switch() -> None:
        house.module.trip("readahead", "random")
        house.module.kmod.switch("readahead", "streaming")

    house.block(3)
    house.run(6.0, {3.5: trip_and_switch})
    assert house.switches()[1] == ("random", "streaming", "manual", "ok")


def test_baseline_in_quarantine_at_the_end(house: House) -> None:
    house.module.load("readahead", "streaming")
    text = write_policy(house.policies)
    text.write_text(text.read_text().replace("  mode:", "  baseline: streaming\n  mode:"))
    house.block(3)
    plan: dict[float, Callable[[], object]] = {
        3.5: lambda: house.module.kmod.quarantine("readahead", "streaming"),
    }
    assert house.run(5.0, plan) == 1
    assert house.switches()[-1] == ("random", "streaming", "exit", "refused")
    assert house.lease() == "lost"


def test_module_that_is_switched_off_is_not_asked_again_and_again(house: House) -> None:
    house.block(3)
    plan: dict[float, Callable[[], object]] = {
        3.5: lambda: house.module.enable(0),
        7.5: lambda: house.module.enable(1),
    }
    assert house.run(10.0, plan) == 0
    assert house.switches()[:4] == [
        ("original", "random", "policy", "ok"),
        ("random", "original", "manual", "ok"),
        ("original", "random", "policy", "refused"),
        # Refused four times, the second time folded.
        ("original", "random", "policy", "refused"),
    ]
    why = "readahead should be random: the module is switched off (enable=0)"
    assert house.records("trouble")[0]["reason"] == why
    assert house.events("refused") == []
    assert house.switches()[-2] == ("original", "random", "policy", "ok")
    assert house.metric("dynamos_module_enabled") == 1


# ------------------------------------------------------------------------- things that go wrong


def test_module_that_vanishes_in_mid_run(house: House) -> None:
    plan: dict[float, Callable[[], object]] = {2.5: house.module.remove}
    assert house.run(6.0, plan) == 0
    assert len([line for line in house.said if "waiting for it" in line]) == 1
    assert len(house.records("module_gone")) == 1
    assert house.metric("dynamos_module_up") == 0
    assert house.metric("dynamos_module_info") is None
    assert house.metric("dynamos_probe_attached") == 0
    assert house.probe.closed


def test_daemon_that_can_open_nothing_gives_nothing_up(house: House) -> None:
    house.probe.kmod = None
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))

    def end() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)

    write_policy(house.policies)
    try:
        assert house.run(9.0, {2.5: limit, 5.5: end}) == 0
    finally:
        end()
    assert len([line for line in house.said if "Too many open files" in line]) == 2, house.said
    assert house.said.count("the kernel module and the probes can be read again") == 1
    assert not house.records("module_gone")
    assert (house.probes, house.records("probe_lost")) == (1, [])
    assert [each["result"] for each in house.records("lease")] == ["held", "released"]
    assert house.metric("dynamos_module_up") == 1


@pytest.fixture
def shortage(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Give a switch: with True in it, nothing can be opened but by what samples the module."""
    is_short, is_sampling = [False], [False]
    read, text = Kmod.read, kmod._text

    def sample(self: Kmod) -> KernelState:
        is_sampling[0] = True
        try:
            return read(self)
        finally:
            is_sampling[0] = False

    def fail(path: Path) -> str | None:
        if is_short[0] and not is_sampling[0]:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return text(path)

    monkeypatch.setattr(Kmod, "read", sample)
    monkeypatch.setattr(kmod, "_text", fail)
    return is_short


def test_shortage_in_the_middle_of_a_tick_is_no_end(house: House, shortage: list[bool]) -> None:
    def begin() -> None:
        house.block(3)
        shortage[0] = True

    def end() -> None:
        shortage[0] = False

    write_policy(house.policies)
    assert house.run(9.0, {2.5: begin, 5.5: end}) == 0
    found = [each for each in house.records("switch") if "repeated" not in each]
    assert "Too many open files" in found[0]["error"]
    assert [each["result"] for each in found] == ["failed", "ok", "ok"]
    assert [each["result"] for each in house.records("lease")] == ["held", "released"]


def test_daemon_that_can_open_nothing_does_not_say_that_it_left_well(
    house: House, shortage: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin() -> None:
        def fail(_self: Kmod) -> KernelState:
            raise Exhausted("Too many open files")

        monkeypatch.setattr(Kmod, "read", fail)
        shortage[0] = True

    house.block(3)
    assert house.run(5.0, {3.5: begin}) == 1
    shortage[0] = False
    assert house.active() == "random"
    # What it could not bring back is left to the module: the lease is not given back.
    assert [each["result"] for each in house.records("lease")] == ["held"]
    assert house.records("stop")[0]["clean"] is False


def test_watchdog_is_not_told_that_all_is_well_when_nothing_can_be_seen(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, told = Kmod.read, list[str]()

    def fail(_self: Kmod) -> KernelState:
        raise Exhausted("Too many open files")

    service = Service(lambda message: told.append(message.decode()), watchdog_seconds=4.0)
    house.world = dataclasses.replace(house.world, service=service)
    plan = {
        2.5: lambda: monkeypatch.setattr(Kmod, "read", fail),
        5.5: lambda: monkeypatch.setattr(Kmod, "read", read),
    }
    assert house.run(8.5, plan) == 0
    assert len([each for each in told if "WATCHDOG=1\n" in each]) == 9 - 3


def test_module_that_comes_back(house: House) -> None:
    def back() -> None:
        house.module.insert()
        house.module.register("readahead", [ORDER])
        house.module.load("readahead", "random")

    def busy() -> None:
        house.block(3)

    assert house.run(9.5, {2.5: house.module.remove, 4.5: back, 6.5: busy}) == 0
    assert house.probes == 2
    assert house.metric("dynamos_probe_attached") == 1
    assert house.metric("dynamos_module_up") == 1
    assert house.switches()[0] == ("original", "random", "policy", "ok")


def test_probe_that_is_lost_is_attached_again(house: House) -> None:
    def fail() -> None:
        raise Exception("Could not read map")  # noqa: TRY002 - what BCC raises

    def lose() -> None:
        house.probe.between = fail

    assert house.run(70.0, {2.5: lose}) == 0
    assert house.records("probe_lost")[0]["reason"] == "Could not read map"
    assert house.probes == 2
    assert house.metric("dynamos_probe_attached") == 1


def test_probe_that_cannot_be_attached_again_is_not_tried_at_each_tick(house: House) -> None:
    made = house.start()
    tries: list[float] = []

    def refuse() -> FakeProbe:
        tries.append(house.clock.now())
        raise NotSupported("no")

    made._world = World(house.said.append, house.module.kmod, refuse, house.clock)
    made._sampler.detach("test")
    house.clock.at(1130.0, made.request_stop)
    assert made.run() == 0
    assert len(tries) == 3
    assert house.metric("dynamos_function_calls_total", edition="original") == 0


def test_mismatch_is_counted_and_untrusted_signals_switch_nothing(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    def lose() -> None:
        house.block(3)
        house.probe.lost[KEY] = 100

    said: list[str] = []

    def look() -> None:
        capsys.readouterr()
        where = ["--runtime-dir", str(house.settings.runtime_dir)]
        assert cli.main(["status", *where], house.module.kmod) == 0
        said.append(capsys.readouterr().out)

    plan = {1.5: lose, DISTRUST_SAMPLES - 1.5: look}
    assert house.run(DISTRUST_SAMPLES - 1.0, plan) == 0
    assert f"; not trusted now: {KEY[1]}\n" in said[0]
    assert house.metric("dynamos_probe_mismatches_total") == 1
    assert house.metric("dynamos_signal_trusted", signal="in_flight", function=ORDER) == 0
    assert house.switches() == []


def test_journal_on_a_full_disk_stops_nothing(house: House) -> None:
    house.settings.journal.symlink_to("/dev/full")
    house.block(3)
    assert house.run(4.0) == 0
    assert (house.metric("dynamos_journal_errors_total") or 0) >= 3
    assert len([line for line in house.said if "cannot write" in line]) == 1
    assert house.metric("dynamos_switches_total", trigger="policy", result="ok") == 1


def test_status_that_cannot_be_written_stops_nothing(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_folder: Path, _status: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(status, "write", full)
    assert house.run(3.5) == 0
    # The page of the fourth tick, made before its status could not be written.
    assert house.metric("dynamos_status_errors_total") == 3
    assert len([line for line in house.said if "cannot write the status" in line]) == 1


def test_slow_ticks_are_left_out_and_counted(house: House) -> None:
    def slow_down() -> None:
        house.probe.between = lambda: house.clock.advance(1.25)

    assert house.run(20.0, {0.5: slow_down}) == 0
    assert (house.metric("dynamos_loop_missed_ticks_total") or 0) >= 10


def test_baseline_that_cannot_be_reached_at_the_end(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.block(3)

    def refuse(_self: object, *_words: object, **_options: object) -> None:
        raise DynamosError("out of order")

    def break_it() -> None:
        monkeypatch.setattr(type(house.module.kmod), "switch", refuse)

    assert house.run(4.0, {3.5: break_it}) == 1
    assert house.switches()[-1] == ("random", "original", "exit", "failed")
    assert house.records("stop")[0]["clean"] is False


# ---------------------------------------------------------------------------------- reload


def test_broken_file_leaves_the_last_good_policies_in_force(house: House) -> None:
    made = house.start()

    def break_it() -> None:
        (house.policies / "storm.yaml").write_text("apiVersion: [\n")
        made.request_reload()

    def busy() -> None:
        house.block(3)

    house.clock.at(1001.5, break_it)
    house.clock.at(1003.5, busy)
    house.clock.at(1006.0, made.request_stop)
    assert made.run() == 0
    assert house.switches()[0] == ("original", "random", "policy", "ok")
    assert house.metric("dynamos_config_last_reload_successful") == 0
    assert house.metric("dynamos_config_reloads_total", result="failed") == 1
    assert house.metric("dynamos_config_reloads_total", result="ok") == 0
    assert any("stay in force" in line for line in house.said)
    assert any("storm.yaml:" in line for line in house.said)
    assert "storm.yaml:" in house.records("reload_failed")[0]["reason"]


def reload_with(house: House, change: Callable[[], object]) -> None:
    """Run with a busy function; change the policies in the middle, and read them again."""
    made = house.start()

    def act() -> None:
        change()
        made.request_reload()

    house.block(3)
    house.clock.at(1003.5, act)
    house.clock.at(1006.0, made.request_stop)
    assert made.run() == 0
    assert len(house.records("reload")) == 1
    assert house.metric("dynamos_config_last_reload_successful") == 1
    reloaded = house.metric("dynamos_config_last_reload_success_timestamp_seconds")
    assert reloaded == 1_700_000_003.5


def test_unchanged_policy_keeps_its_rules_states(house: House) -> None:
    file = house.policies / "storm.yaml"
    reload_with(house, lambda: file.write_text("# a remark\n" + file.read_text()))
    states = [record["rules"]["busy"] for record in house.records("decision")]
    assert "inactive" not in states[states.index("active") :]
    assert [each[2] for each in house.switches()] == ["policy", "exit"]


WAITING = """\
  limits: {cooldown: %(cooldown)s}
  rules:
    - name: other
      edition: random
      when: in_flight("page_cache_ra_order") > %(other)s
    - name: busy
      edition: random
      when: in_flight("page_cache_ra_order") > 2.5
      for: %(wait)s
"""


@pytest.mark.parametrize(
    ("changed", "active_at"),
    [
        ({}, 7.0),
        ({"other": "1000.5"}, 7.0),
        ({"cooldown": "1s"}, 7.0),
        # This one touches the rule: it begins again, at the first evaluation after the reload.
        ({"wait": "4s"}, 8.0),
    ],
)
def test_time_that_a_rule_has_waited_survives_a_reload_that_does_not_touch_it(
    house: House, changed: dict[str, str], active_at: float
) -> None:
    file = house.policies / "storm.yaml"
    head = file.read_text().partition("  rules:")[0]
    values = {"cooldown": "0s", "other": "100.5", "wait": "5s"}

    def write(**now: str) -> None:
        file.write_text(head + WAITING % {**values, **now})

    write()
    made = house.start()

    def change() -> None:
        write(**changed)
        made.request_reload()

    house.clock.at(1001.5, lambda: house.block(3))
    house.clock.at(1003.5, change)
    house.clock.at(1010.0, made.request_stop)
    assert made.run() == 0
    (record,) = [each for each in house.records("switch") if each["trigger"] == "policy"]
    assert record["time_seconds"] - 1_700_000_000 == active_at


def test_calls_are_timed_only_where_a_policy_reads_how_long_they_take(house: House) -> None:
    file = write_policy(house.policies)
    timed = []

    def change() -> None:
        timed.append(house.probe.timed)
        text = file.read_text()
        file.write_text(text.replace("when: ", f'when: p99("{ORDER}", "random") > 0.5 || '))

    reload_with(house, change)
    assert timed == [frozenset()]
    assert house.probe.timed == {ORDER}
    assert (
        house.metric(
            *("dynamos_function_latency_seconds_count",), function=ORDER, edition="original"
        )
        == 0
    )


def test_reload_is_told_in_the_status(house: House) -> None:
    made, seen = house.start(), list[tuple[Any, ...]]()
    file, folder = house.policies / "storm.yaml", house.settings.runtime_dir
    good = file.read_text()

    def look() -> None:
        shown = status.read(folder) or {}
        seen.append((shown["reloads"], shown["last_reload_successful"], shown["reload_error"]))

    def change(text: str) -> None:
        file.write_text(text)
        made.request_reload()

    house.clock.at(1001.5, look)
    house.clock.at(1002.5, lambda: change("kind: ["))
    house.clock.at(1003.5, look)
    house.clock.at(1004.5, lambda: change(good))
    house.clock.at(1005.5, look)
    house.clock.at(1006.0, made.request_stop)
    made.run()
    assert [each[:2] for each in seen] == [(0, True), (1, False), (2, True)]
    assert (seen[0][2], seen[2][2]) == ("", "")
    assert "storm.yaml:" in seen[1][2]


def test_policy_that_is_removed_releases_its_subsystem(house: House) -> None:
    reload_with(house, (house.policies / "storm.yaml").unlink)
    assert house.switches()[1] == ("random", "original", "exit", "ok")
    assert house.metric("dynamos_policy_mode") is None


def test_policy_that_no_longer_enforces_releases_its_subsystem(house: House) -> None:
    reload_with(house, lambda: write_policy(house.policies, mode="advise"))
    assert house.switches()[1:] == [("random", "original", "exit", "ok")]


def test_policy_that_is_renamed_holds_its_subsystem(house: House) -> None:
    def rename() -> None:
        (house.policies / "storm.yaml").unlink()
        write_policy(house.policies, name="gale")

    reload_with(house, rename)
    assert len(house.switches()) == 2


def test_reload_waits_for_a_module_that_is_gone(house: House) -> None:
    made = house.start()
    for time, action in (
        (1.5, house.module.remove),
        (2.5, made.request_reload),
        (6.0, made.request_stop),
    ):
        house.clock.at(1000.0 + time, action)
    assert made.run() == 0
    assert house.records("reload") == []


# ------------------------------------------------------------------------------ start and status


def test_status_for_dynamosctl(house: House) -> None:
    found: list[dict[str, Any] | None] = []
    house.block(3)
    house.run(4.0, {3.5: lambda: found.append(status.read(house.settings.runtime_dir))})
    (shown,) = found
    assert shown is not None
    (policy,) = shown["policies"]
    assert (policy["name"], policy["mode"], policy["rule"]) == ("storm", "enforce", "busy")
    assert policy["rules"] == {"busy": "active"}
    assert shown["last_switches"]["readahead"]["trigger"] == "policy"
    assert {"calls_rate", "in_flight"} <= {each["signal"] for each in shown["signals"]}
    assert status.read(house.settings.runtime_dir) is None


def test_status_is_enough_to_explain(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(house.settings.runtime_dir)
    shown: list[Any] = []

    def explain() -> None:
        assert cli.main(["explain", "--runtime-dir", folder]) == 0
        assert cli.main(["explain", "storm", "--runtime-dir", folder, "-o", "json"]) == 0
        text, brace, answer = capsys.readouterr().out.partition("{")
        shown.extend([text, json.loads(brace + answer)])

    house.run(5.0, {1.5: explain, 2.5: lambda: house.block(3), 4.5: explain})
    before, first, after, second = shown
    assert "original is active; the policy is inactive, and wants original" in before
    assert "rule busy -> random: inactive" in before
    assert f'needs in_flight("{ORDER}") > 2.5 (now 0)' in before
    assert "begins when its when-condition is true for 0s" in before
    assert "random is active; the policy is active, and wants random" in after
    assert "rule busy -> random: active for 1s" in after
    assert f'needs in_flight("{ORDER}") <= 2.5 (now 3)' in after
    assert "last switch: original -> random" in after
    assert max(map(len, (before + after).splitlines())) <= 80
    (rule,) = first["policies"][0]["rules"]
    assert (rule["state"], rule["condition"], rule["result"]) == ("inactive", "when", False)
    assert rule["comparisons"] == [
        {"text": f'in_flight("{ORDER}") > 2.5', "left": 0.0, "right": 2.5, "result": False}
    ]
    assert second["policies"][0]["last_switch"]["to"] == "random"
    assert cli.main(["explain", "--runtime-dir", folder]) == 5
    assert "no daemon is running" in capsys.readouterr().err


LEARNING = f"""
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {{name: learning}}
spec:
  subsystem: readahead
  mode: enforce
  objective:
    maximize: calls_rate("{ORDER}")
    editions: [original, random]
    activity: calls_rate("{ORDER}") > 1.0
"""


def test_it_learns_which_edition_is_better(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in house.policies.iterdir():
        file.unlink()
    (house.policies / "learning.yaml").write_text(LEARNING)
    folder = str(house.settings.runtime_dir)
    shown: list[Any] = []

    def explain() -> None:
        assert cli.main(["explain", "--runtime-dir", folder]) == 0
        assert cli.main(["explain", "--runtime-dir", folder, "-o", "json"]) == 0
        text, brace, answer = capsys.readouterr().out.partition("{")
        shown.extend([text, json.loads(brace + answer)])

    def work() -> None:
        house.module.call("readahead", ORDER, 30 if house.active() == "random" else 10)

    plan: dict[float, Callable[[], object]] = {second + 0.5: work for second in range(40)}
    house.run(40.0, {**plan, 5.2: explain, 39.7: explain})
    assert [each[:2] for each in house.switches()] == [
        ("original", "random"),
        ("random", "original"),
    ]
    during, _, text, answer = shown
    assert "the policy is trial, and wants original" in during
    assert "prefers original, trying original; 1 trials in 1 rounds so far" in during
    assert "random is active; the policy is active, and wants random" in text
    assert f'objective: maximize calls_rate("{ORDER}") (now 30)' in text
    assert "prefers random; 2 trials in 1 rounds so far" in text
    assert "original: 10 ± 0, " in text
    learned = answer["policies"][0]["learned"]
    assert (learned["preferred"], learned["trying"], learned["trials"]) == ("random", None, 2)
    assert house.metric("dynamos_objective_mean", policy="learning", edition="random") == 30
    assert house.metric("dynamos_objective_mean", policy="learning", edition="original") == 10
    assert house.metric("dynamos_objective_preferred", edition="random") == 1
    assert house.metric("dynamos_objective_preferred", edition="original") is None
    assert house.metric("dynamos_objective_trials_total") == 2
    # What it learned is in the recording: played again it decides the same.
    policy = load_policy(house.policies / "learning.yaml")
    replayed = as_recorded(policy, recording.read(house.settings.recordings))
    assert (replayed.compared >= 39, replayed.differing) == (True, 0)


def test_explain_a_policy_that_was_never_evaluated(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil  # noqa: PLC0415 - this test alone

    folder = str(house.settings.runtime_dir)
    shown: list[str] = []

    def explain() -> None:
        for output in ("table", "json"):
            assert cli.main(["explain", "--runtime-dir", folder, "-o", output]) == 0
            shown.append(capsys.readouterr().out)

    made = house.start()
    shutil.rmtree(house.module.sysfs / "readahead")
    house.clock.at(1002.5, explain)
    house.clock.at(1003.5, made.request_stop)
    made.run()
    assert "has not been evaluated yet" in shown[0]
    (policy,) = json.loads(shown[1])["policies"]
    assert (policy["rules"], policy["trouble"]) == ([], "subsystem readahead is not loaded")


def test_explain_what_there_is_not(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(house.settings.runtime_dir)
    codes: list[int] = []
    house.run(
        2.0, {1.5: lambda: codes.append(cli.main(["explain", "strom", "--runtime-dir", folder]))}
    )
    assert codes == [1]
    assert 'did you mean "storm"?' in capsys.readouterr().err


def run_and_stop(house: House, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run as the program does, and stop after some ticks."""
    loop = Daemon.run

    def run(made: Daemon) -> int:
        house.clock.at(1003.0, made.request_stop)
        return loop(made)

    monkeypatch.setattr(Daemon, "run", run)
    return daemon.run(house.settings, house.world)


def test_start_and_stop(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_and_stop(house, monkeypatch) == 0
    assert next(journal.read(house.settings.journal))["kind"] == "start"
    assert house.records("stop")[0]["clean"] is True
    assert house.probe.closed


def test_second_daemon(house: House) -> None:
    with (
        status.only_daemon(house.settings.runtime_dir),
        pytest.raises(Refused, match=f"pid {os.getpid()}"),
    ):
        daemon.run(house.settings, house.world)
    assert house.probes == 0


def test_module_not_loaded(house: House) -> None:
    house.module.remove()
    with pytest.raises(Unreachable, match="not loaded"):
        daemon.run(house.settings, house.world)


def test_probes_that_cannot_be_attached(house: House) -> None:
    def refuse() -> FakeProbe:
        raise NotSupported("BCC cannot be imported")

    world = World(house.said.append, house.module.kmod, refuse, house.clock)
    with pytest.raises(NotSupported):
        daemon.run(house.settings, world)
    assert house.module.kmod.read().subsystems["readahead"].switches == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"edition": "randm"}, "randm"),
        ({"when": 'in_flight("none") > 1.0'}, "none"),
    ],
)
def test_names_that_do_not_exist_stop_the_start_with_their_place(
    house: House, changed: dict[str, str], message: str
) -> None:
    write_policy(house.policies, **changed)
    with pytest.raises(InvalidInput) as caught:
        daemon.run(house.settings, house.world)
    assert caught.value.exit_code == 1
    assert f"{house.policies}/storm.yaml:" in caught.value.message
    assert message in caught.value.message
    assert house.probes == 0


def test_ready_only_after_the_first_tick(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[int] = []

    def ask(port: int) -> None:
        with contextlib.suppress(urllib.error.HTTPError) as _:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=60) as answer:
                answers.append(answer.status)
            return
        answers.append(503)

    def port() -> int:
        (line,) = [each for each in house.said if "metrics on port" in each]
        return int(line.split()[-1])

    def attach() -> FakeProbe:
        ask(port())
        return house.probe

    house.world = World(house.said.append, house.module.kmod, attach, house.clock)
    house.clock.at(1001.5, lambda: ask(port()))
    run_and_stop(house, monkeypatch)
    assert answers == [503, 200]


def test_api_shows_the_last_tick(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[dict[str, Any]] = []

    def ask() -> None:
        (line,) = [each for each in house.said if "metrics on port" in each]
        for what in ("status", "subsystems/readahead"):
            url = f"http://127.0.0.1:{line.split()[-1]}/api/v1alpha1/{what}"
            with urllib.request.urlopen(url, timeout=60) as answer:
                found.append(json.load(answer))

    house.clock.at(1001.5, ask)
    run_and_stop(house, monkeypatch)
    shown, subsystem = found
    assert [each["name"] for each in shown["policies"]] == ["storm"]
    assert subsystem["active"] == "original"
    assert not (house.settings.runtime_dir / "api.sock").exists()


def test_check_start(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    device = house.folder / "device"
    monkeypatch.setattr(daemon, "DEVICE", device)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(Unreachable, match="module is not loaded"):
        daemon.check_start(house.settings)
    device.touch()
    with pytest.raises(Unreachable, match="needs root"):
        daemon.check_start(house.settings)
    write_policy(house.policies, when="nonsense(")
    with pytest.raises(PolicyErrors):
        daemon.check_start(house.settings)


def test_figures_of_the_probe_are_shown(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def figures(_state: KernelState) -> dict[tuple[str, str, str], FunctionSample]:
        return {KEY: FunctionSample(0, 0, 30, 40)}

    monkeypatch.setattr(house.probe, "read", figures)
    house.run(2.0)
    assert house.metric("dynamos_function_sequential_calls_total", function=ORDER) == 30
    assert house.metric("dynamos_function_classified_calls_total", function=ORDER) == 40
    assert house.metric("dynamos_probe_runs_total", probe="gate") == 10
