# SPDX-License-Identifier: GPL-2.0-or-later
"""Canaries at work: the daemon's own scoped switches, and everybody else's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dynamosd import cli, status
from dynamosd.policy.load import load_policy
from dynamosd.recording import read
from dynamosd.replay import as_recorded
from tests.unit.build import write_policy
from tests.unit.test_daemon import ORDER, House

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dynamosd.daemon import Daemon
    from dynamosd.testing import FakeModule, ManualClock
    from tests.unit.asking import Operator

KEY = ("readahead", ORDER, "random")

CANARY = """\
  canary:
    steps:
      - {scope: "share:1/10", pause: 4s}
      - {scope: "share:1/2", pause: 4s}
    giveUpAfter: 30s
  guardrails:
    - name: failing
      breach: error_share("page_cache_ra_order") > 0.1
      confidence: 80%
      quarantine: 1h
"""
STEP = ("random", "share:1/10")


@pytest.fixture
def house(tmp_path: Path, module: FakeModule, clock: ManualClock) -> House:
    """Give one whose policy wants `random` at once, in steps."""
    made = House(tmp_path, module, clock)
    write_policy(made.policies, more=CANARY)
    made.block(3)
    return made


def stands(house: House) -> tuple[str, str | None, str | None]:
    """Give what is active, what is partial, and for which calls."""
    subsystem = house.module.kmod.read().subsystems["readahead"]
    return subsystem.active, subsystem.partial, subsystem.scope


def calls(house: House, share: float = 0.0) -> None:
    """Make calls to `random`, of which a share fails, if it gets any."""
    if "random" not in stands(house)[:2]:
        return
    house.module.call("readahead", ORDER, 100, which="random")
    house.probe.errors[KEY] = house.probe.errors.get(KEY, 0) + int(100 * share)


def each_second(
    house: House, seconds: int, share: float = 0.0
) -> dict[float, Callable[[], object]]:
    """Plan such calls."""
    return {second + 0.5: lambda: calls(house, share) for second in range(seconds)}


def events(house: House) -> list[tuple[str, int, str]]:
    """Give the canary's story."""
    found = house.records("canary")
    return [(each["event"], each["step"], each["scope"]) for each in found]


def run_on(house: House, seconds: float) -> Daemon:
    """Run another daemon, for some seconds from now."""
    made = house.start()
    house.clock.at(house.clock.now() + seconds, made.request_stop)
    assert made.run() == 0
    return made


def test_good_edition_comes_into_use_step_by_step(house: House) -> None:
    seen: list[Any] = []
    plan = each_second(house, 16)
    plan[2.7] = lambda: seen.append(stands(house))
    plan[6.7] = lambda: seen.append(stands(house))
    plan[14.7] = lambda: seen.append(stands(house))
    assert house.run(16.0, plan) == 0
    assert seen == [
        ("original", "random", "share:1/10"),
        ("original", "random", "share:1/2"),
        ("random", None, None),
    ]
    assert events(house) == [
        ("started", 1, "share:1/10"),
        ("stepped", 2, "share:1/2"),
        ("completed", 0, ""),
    ]
    assert house.switches() == [
        *[("original", "random", "policy", "ok")] * 3,
        ("random", "original", "exit", "ok"),
    ]
    first = house.records("switch")[0]
    assert (first["partial"], first["scope"], first["mode"]) == (True, "share:1/10", "scoped")
    assert house.metric("dynamos_canary_events_total", event="completed") == 1
    assert house.metric("dynamos_canary_step", policy="storm") == 0


def test_bad_edition_is_stopped_at_the_first_step_and_replayed(house: House) -> None:
    assert house.run(20.0, each_second(house, 20, 0.5)) == 0
    assert stands(house) == ("original", None, None)
    assert events(house) == [("started", 1, "share:1/10"), ("rolled_back", 0, "")]
    assert house.switches() == [
        ("original", "random", "policy", "ok"),
        ("random", "original", "policy", "ok"),
    ]
    (begun,) = house.records("quarantine")
    assert (begun["edition"], begun["guardrail"]) == ("random", "failing")
    replayed = as_recorded(
        load_policy(house.policies / "storm.yaml"), read(house.settings.recordings)
    )
    assert (replayed.compared, replayed.differing) == (20, 0)
    origins = [(each.origin, each.target, each.scope) for each in replayed.switches]
    assert origins == [("original", "random", "share:1/10"), ("random", "original", "")]


def test_leaving_ends_a_canary_that_goes_on(house: House) -> None:
    assert house.run(3.0, each_second(house, 3)) == 0
    assert stands(house) == ("original", None, None)
    assert house.switches()[-1] == ("random", "original", "exit", "ok")


def test_next_daemon_goes_on_with_the_step(house: House) -> None:
    write_policy(house.policies, more=CANARY, on_exit="hold")
    assert house.run(7.0, each_second(house, 7)) == 0
    assert stands(house) == ("original", "random", "share:1/2")
    before = len(events(house))
    begin = house.clock.now()
    for second in range(8):
        house.clock.at(begin + second + 0.5, lambda: calls(house))
    run_on(house, 8.0)
    assert events(house)[before:] == [("completed", 0, "")]
    assert any("going on with the canary of readahead" in line for line in house.said)


@pytest.mark.parametrize("scope", ["share:1/3", "cpus:0"])
def test_someone_elses_scoped_switch_is_not_ours(house: House, scope: str) -> None:
    house.module.kmod.switch("readahead", "random", "scoped", scope=scope)
    assert house.run(10.0, each_second(house, 10)) == 0
    assert stands(house) == ("original", "random", scope)
    assert events(house) == []
    reasons = [each["reason"] for each in house.records("trouble")]
    assert any("someone else's scoped switch" in each for each in reasons)


def test_canary_that_someone_changes_is_theirs(house: House) -> None:
    plan = each_second(house, 12)
    plan[2.2] = lambda: house.module.kmod.switch("readahead", "random", "scoped", scope="cpus:0")
    seen: list[Any] = []
    plan[10.7] = lambda: seen.append(stands(house))
    plan[10.8] = lambda: house.module.kmod.switch("readahead", "original")
    assert house.run(12.0, plan) == 0
    assert seen == [("original", "random", "cpus:0")]
    # And when they have ended it, it begins again.
    assert [each[0] for each in events(house)] == ["started", "started"]
    assert house.switches()[1] == ("original", "random", "manual", "ok")


@pytest.mark.parametrize("after", [0.1, 2.6])
def test_policy_that_goes_takes_its_canary_back(house: House, after: float) -> None:
    """Also a canary that began in the very tick before."""
    made = house.start()

    def take_out() -> None:
        (house.policies / "storm.yaml").unlink()
        made.request_reload()

    house.clock.at(1000.0 + after, take_out)
    house.clock.at(1005.0, made.request_stop)
    assert made.run() == 0
    assert events(house)[0][0] == "started"
    assert stands(house) == ("original", None, None)


def test_scope_that_the_module_refuses_is_trouble(house: House) -> None:
    text = CANARY.replace("share:1/10", "cgroup:/gone")
    write_policy(house.policies, more=text)
    real = house.module.carry_out

    def refuse(line: str, file: str, by: int) -> Any:  # noqa: ANN401 - as the real one
        return real(line.replace("cgroup:/gone", "task:99999"), file, by)

    house.module.carry_out = refuse  # type: ignore[method-assign]
    assert house.run(6.0, each_second(house, 6)) == 0
    assert stands(house) == ("original", None, None)
    assert events(house) == []
    (refused,) = {each["result"] for each in house.records("switch")}
    assert refused == "refused"
    assert any("should be random" in each["reason"] for each in house.records("trouble"))


def test_pause_keeps_the_step(house: House, operator: Operator) -> None:
    plan = each_second(house, 20)
    plan[2.2] = operator.types("pause", "storm")
    seen: list[Any] = []
    plan[12.7] = lambda: seen.append(stands(house))
    plan[12.8] = operator.types("resume", "storm")
    plan[14.7] = lambda: seen.append(stands(house))
    assert house.run(16.0, plan) == 0
    assert [each[2] for each in seen] == ["share:1/10", "share:1/2"]


def test_explain_and_status_show_it(house: House, capsys: pytest.CaptureFixture[str]) -> None:
    said: list[str] = []
    shown: list[Any] = []

    def ask(*words: str) -> None:
        folder = str(house.settings.runtime_dir)
        assert cli.main([*words, "--runtime-dir", folder], house.module.kmod) == 0
        said.append(capsys.readouterr().out)

    plan = each_second(house, 6)
    plan[3.7] = lambda: ask("explain", "storm")
    plan[3.8] = lambda: ask("explain", "storm", "-o", "json")
    plan[3.9] = lambda: shown.append(status.read(house.settings.runtime_dir))
    assert house.run(6.0, plan) == 0
    assert "original is active; the policy is canary, and wants random" in said[0]
    assert "canary: random, step 1 of 2 (share:1/10) for" in said[0]
    (policy,) = json.loads(said[1])["policies"]
    assert policy["rolling"]["edition"] == "random"
    assert shown[0]["policies"][0]["definition"]["canary"]["steps"][1]["scope"] == "share:1/2"
