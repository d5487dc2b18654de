# SPDX-License-Identifier: GPL-2.0-or-later
"""How often a policy may switch, and what stops it altogether."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from dynamosd.model import Action, Decision, PolicyPhase, RuleState
from dynamosd.policy.definition import Policy
from dynamosd.policy.evaluate import PolicyState, Situation, evaluate
from tests.unit.policy.build import policy_of, signals_of

BUSY, IDLE = 200.0, 0.0


def enforcing(limits: str) -> Policy:
    return policy_of(spec=f"mode: enforce\nlimits: {limits}\n")


@dataclass
class Run:
    """Evaluates once a second. ``fails``: the seconds in which a switch is not made."""

    policy: Policy
    fails: frozenset[int] = frozenset()
    current: str = "original"
    state: PolicyState = field(default_factory=PolicyState)
    second: int = 0
    decisions: list[Decision] = field(default_factory=list)

    def go(
        self,
        readings: Sequence[float],
        quarantined: Mapping[str, str] | None = None,
        paused: str = "",
    ) -> Run:
        for reading in readings:
            now = float(self.second)
            situation = Situation(self.current, now, now, quarantined or {}, paused)
            signals = signals_of(now, calls_rate=reading)
            decision, self.state = evaluate(self.policy, signals, self.state, situation)
            if decision.action is Action.SWITCH and self.second not in self.fails:
                self.current = decision.target
            self.decisions.append(decision)
            self.second += 1
        return self

    def switches(self) -> list[int]:
        return [int(each.time) for each in self.decisions if each.action is Action.SWITCH]

    def suppressed(self) -> list[str]:
        return [str(each.suppressed or "-") for each in self.decisions]


FLAPPING = [BUSY, IDLE] * 10


def test_cooldown_keeps_switches_apart() -> None:
    run = Run(enforcing("{cooldown: 4s}")).go([BUSY] + [IDLE] * 9)
    assert run.switches() == [0, 4]
    assert run.suppressed() == ["-"] + ["cooldown"] * 3 + ["-"] * 6
    assert [each.phase for each in run.decisions] == (
        [PolicyPhase.ACTIVE]
        + [PolicyPhase.COOLDOWN] * 3
        + [PolicyPhase.INACTIVE]
        + [PolicyPhase.COOLDOWN] * 3
        + [PolicyPhase.INACTIVE] * 2
    )
    assert "no switch to original: cooldown, 1s of 4s" in run.decisions[1].reason


def test_switch_that_was_not_made_starts_no_cooldown_and_does_not_count() -> None:
    run = Run(enforcing("{cooldown: 4s, maxSwitches: {count: 1, per: 1m}}"), frozenset({0, 1}))
    run.go([BUSY] * 8)
    assert run.switches() == [0, 1, 2]
    assert run.state.switches == (2.0,)


def test_hold_lets_switches_go_on_as_old_ones_grow_old() -> None:
    run = Run(enforcing("{maxSwitches: {count: 2, per: 6s}, onFlap: hold}")).go(FLAPPING)
    assert run.switches() == [0, 1, 6, 7, 12, 13, 18, 19]
    assert run.suppressed()[2:6] == ["max_switches", "-", "max_switches", "-"]
    assert "there were 2 switches in 6s" in run.decisions[2].reason


def test_freeze_stops_for_a_whole_period_where_it_is() -> None:
    run = Run(enforcing("{maxSwitches: {count: 3, per: 6s}}")).go(FLAPPING)
    assert run.switches() == [0, 1, 2, 9, 10, 11, 18, 19]
    assert {str(each.phase) for each in run.decisions[3:9]} == {"frozen"}
    assert run.decisions[3].current == "batched"
    assert run.suppressed()[3:9] == ["frozen", "-", "frozen", "-", "frozen", "-"]
    assert "frozen for another 4s, there were 3 switches in 6s" in run.decisions[5].reason


@pytest.mark.parametrize("mode", ["observe", "advise"])
def test_who_does_not_switch_is_never_frozen(mode: str) -> None:
    limits = "limits: {cooldown: 10s, maxSwitches: {count: 1, per: 1h}}"
    policy = policy_of(spec=f"mode: {mode}\n{limits}\n")
    run = Run(policy, fails=frozenset(range(100))).go([BUSY] * 5)
    assert run.suppressed() == [mode] * 5
    assert {str(each.phase) for each in run.decisions} == {"active"}


def test_advice_that_somebody_takes_counts() -> None:
    policy = policy_of(spec="mode: advise\nlimits: {cooldown: 3s}\n")
    run = Run(policy).go([BUSY, IDLE, IDLE, IDLE])
    assert run.suppressed() == ["advise", "cooldown", "cooldown", "advise"]


def test_edition_in_quarantine_is_not_used_and_is_left_at_once() -> None:
    run = Run(enforcing("{cooldown: 1h, maxSwitches: {count: 1, per: 1h}}"))
    run.go([BUSY] * 2).go([BUSY] * 3, {"batched": "edition batched is in quarantine (oops)"})
    assert run.switches() == [0, 2]
    assert run.current == "original"
    last = run.decisions[-1]
    assert (last.phase, last.suppressed) == ("cooldown", "quarantined")
    assert last.rules == {"storm": RuleState.QUARANTINED}
    assert "edition batched is in quarantine (oops)" in last.reason


def test_next_rule_takes_the_place_of_one_in_quarantine() -> None:
    rules = """\
- {name: storm, edition: batched, when: 'calls_rate("pipe_write") > 100.0'}
- {name: calm, edition: quiet, when: 'calls_rate("pipe_write") > 50.0'}
"""
    run = Run(policy_of(rules, "mode: enforce\n")).go([BUSY])
    run.go([BUSY] * 2, {"batched": "it broke"})
    assert [each.target for each in run.decisions] == ["batched", "quiet", "quiet"]
    assert run.decisions[-1].phase is PolicyPhase.QUARANTINED
    run.go([BUSY])
    assert run.current == "batched"


def test_baseline_in_quarantine_is_not_gone_to() -> None:
    run = Run(enforcing("{}")).go([BUSY]).go([IDLE], {"original": "it broke"})
    assert run.current == "batched"
    assert run.suppressed() == ["-", "quarantined"]
    assert "no switch to original: it broke" in run.decisions[-1].reason


def test_paused_policy_evaluates_and_does_not_switch() -> None:
    run = Run(enforcing("{}")).go([BUSY] * 2, paused="somebody said so").go([BUSY])
    assert run.switches() == [2]
    assert run.suppressed() == ["paused", "paused", "-"]
    assert [str(each.phase) for each in run.decisions] == ["paused", "paused", "active"]
    assert "no switch to batched: somebody said so" in run.decisions[0].reason
