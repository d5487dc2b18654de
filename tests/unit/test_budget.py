# SPDX-License-Identifier: GPL-2.0-or-later
"""What the probes may cost, and what is left off when it is more."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from dynamosd import cli, status
from dynamosd.__main__ import main
from dynamosd.budget import MAX_RETRY_SECONDS, RETRY_SECONDS, WINDOW_SECONDS, Budget, Step
from dynamosd.config import ConfigErrors
from dynamosd.model import ProbeCost
from tests.unit.test_config import settings
from tests.unit.test_daemon import House

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Spender:
    """Looks each second at probes that cost ``share`` of two CPUs."""

    budget: Budget
    share: float
    now: float = 0.0
    seconds: float = 0.0
    is_timed: bool = True

    def goes_on(self, seconds: float) -> list[tuple[float, Step]]:
        """Give the steps that were taken, and when."""
        steps, end = [], self.now + seconds
        while self.now < end:
            self.now += 1.0
            self.seconds += 2 * self.share
            detached = self.budget.step is Step.DETACHED
            cost = None if detached else ProbeCost(int(self.now), self.seconds, 0)
            if self.budget.look(self.now, cost, is_timed=self.is_timed):
                steps.append((self.now, self.budget.step))
        return steps


def test_what_fits_is_let_be() -> None:
    spender = Spender(Budget(0.01, 2), 0.009)
    assert spender.goes_on(1000.0) == []
    assert spender.budget.share == pytest.approx(0.009)


def test_times_go_first_and_then_the_probes() -> None:
    spender = Spender(Budget(0.01, 2), 0.02)
    steps = spender.goes_on(60.0)
    assert [step for _, step in steps] == [Step.UNTIMED, Step.DETACHED]
    assert steps[0][0] <= WINDOW_SECONDS + 1.0
    assert spender.budget.exceeded == pytest.approx(0.02)


def test_probes_that_time_nothing_are_detached_at_once() -> None:
    spender = Spender(Budget(0.01, 2), 0.02, is_timed=False)
    assert [step for _, step in spender.goes_on(60.0)] == [Step.DETACHED]


def test_what_was_left_off_comes_back_step_by_step_when_it_fits() -> None:
    spender = Spender(Budget(0.01, 2), 0.02)
    spender.goes_on(60.0)
    spender.share = 0.001
    steps = spender.goes_on(4 * RETRY_SECONDS)
    assert [step for _, step in steps] == [Step.UNTIMED, Step.FULL]
    assert spender.budget.exceeded is None
    assert spender.goes_on(2 * MAX_RETRY_SECONDS) == []


def test_it_is_tried_again_less_and_less_often() -> None:
    spender = Spender(Budget(0.01, 2), 0.02, is_timed=False)
    steps = spender.goes_on(12 * MAX_RETRY_SECONDS)
    tried = [time for time, step in steps if step is Step.UNTIMED]
    gaps = [later - sooner for sooner, later in itertools.pairwise(tried)]
    assert gaps[0] > RETRY_SECONDS
    assert gaps == sorted(gaps)
    assert gaps[-1] <= MAX_RETRY_SECONDS + 2 * WINDOW_SECONDS


def test_a_good_hour_makes_the_wait_short_again() -> None:
    spender = Spender(Budget(0.01, 2), 0.02)
    spender.goes_on(60.0)
    spender.share = 0.001
    spender.goes_on(2 * RETRY_SECONDS + 4 * MAX_RETRY_SECONDS)
    spender.share = 0.02
    [(left, _), *_] = spender.goes_on(60.0)
    spender.share = 0.001
    [(back, _), *_] = spender.goes_on(2 * RETRY_SECONDS)
    assert back - left <= 2 * RETRY_SECONDS


def test_a_kernel_that_does_not_tell_leaves_all_on() -> None:
    budget = Budget(0.01, 2)
    for now in range(100):
        assert not budget.look(float(now), ProbeCost(now * 1000, 0.0, 0), is_timed=True)
    assert budget.share is None


def test_probes_that_are_attached_anew_begin_anew() -> None:
    budget = Budget(0.01, 2)
    for now in range(30):
        budget.look(float(now), ProbeCost(now, 0.001 * now, 0), is_timed=True)
    assert not budget.look(31.0, ProbeCost(0, 0.0, 0), is_timed=True)
    assert budget.share is None


# ---------------------------------------------------------------------------------- the daemon


def test_daemon_goes_on_without_probes_that_cost_too_much(
    house: House, capsys: pytest.CaptureFixture[str]
) -> None:
    spent = [0]

    def cost() -> ProbeCost:
        spent[0] += 1
        return ProbeCost(spent[0], 1000.0 * spent[0], 0)

    house.probe.cost = cost  # type: ignore[method-assign]
    seen: dict[str, Any] = {}

    def look() -> None:
        found = status.read(house.settings.runtime_dir)
        assert found is not None
        seen.update(found)
        where = ["--runtime-dir", str(house.settings.runtime_dir)]
        capsys.readouterr()
        assert cli.main(["status", *where], house.module.kmod) == 0
        seen["said"] = capsys.readouterr().out
        cli.main(["verify", *where], house.module.kmod)
        seen["verified"] = capsys.readouterr().out

    assert house.run(40.0, {35.0: look}) == 0
    assert seen["probe_budget"]["step"] == "detached"
    assert not seen["probes_attached"]
    assert "probes: cost not known, budget 1%; detached" in seen["said"]
    said = " ".join(seen["verified"].split())
    assert "detached: they took more CPU than probes.budget lets them" in said
    [record] = house.records("budget")
    assert record["step"] == "detached"
    assert record["share"] > record["limit"] == 0.01
    assert house.records("probe_lost") == []


# -------------------------------------------------------------------------------- the settings


def test_budget_is_read(tmp_path: Path) -> None:
    assert settings(tmp_path, 'probes: {budget: "0.25%"}\n').probe_budget == 0.0025


@pytest.mark.parametrize("text", ["0%", "101%", "1", "1.%", "-1%", "much"])
def test_no_budget_is_refused_with_its_place(tmp_path: Path, text: str) -> None:
    assert main(["run", f"--probe-budget={text}", "--config", str(tmp_path)]) == 2
    with pytest.raises(ConfigErrors, match=r"1:18: error: a share of all CPUs' time"):
        settings(tmp_path, f'probes: {{budget: "{text}"}}\n')
