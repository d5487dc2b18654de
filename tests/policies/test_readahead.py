# SPDX-License-Identifier: GPL-2.0-or-later
"""The readahead policy over traces: what it does when the access pattern changes.

A trace is a list of phases. Each lasts some seconds, with so many calls a second, of which a share
is sequential; samples come every half second, as the policy asks, and go through the same signals
and the same engine as in the daemon.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from dynamosd.model import (
    Action,
    Counts,
    Decision,
    Edition,
    EditionState,
    Function,
    FunctionSample,
    KernelState,
    Sample,
    Subsystem,
)
from dynamosd.policy.definition import Policy
from dynamosd.policy.evaluate import PolicyState, Situation, evaluate
from dynamosd.policy.load import load_policy
from dynamosd.policy.names import SubsystemNames
from dynamosd.signals import SignalWindow

FILE = Path(__file__).parents[2] / "policies" / "readahead.yaml"
FUNCTION = "page_cache_ra_order"
EDITIONS = ("original", "random", "streaming")
KNOWN = {
    "readahead": SubsystemNames(
        editions=frozenset(EDITIONS),
        functions=frozenset({FUNCTION, "page_cache_sync_ra", "page_cache_async_ra"}),
    )
}


@dataclass(frozen=True)
class Phase:
    """Some seconds of one load. ``missed`` makes the probes disagree with the module."""

    seconds: float
    rate: float
    share: float
    missed: bool = False


IDLE = Phase(6.0, 0.0, 0.0)
RANDOM = Phase(6.0, 1000.0, 0.02)
MIXED = Phase(6.0, 1000.0, 0.4)
SEQUENTIAL = Phase(6.0, 60.0, 0.95)


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(FILE, known=KNOWN)


def sample_of(
    time: float, active: str, calls: dict[str, int], figures: tuple[int, int], *, missed: bool
) -> Sample:
    editions = {
        name: Edition(
            name, index, EditionState.ACTIVE if name == active else EditionState.IDLE, "m"
        )
        for index, name in enumerate(EDITIONS)
    }
    counts = {name: Counts(value, 0) for name, value in calls.items()}
    functions = {FUNCTION: Function(FUNCTION, 1, "direct", counts)}
    readahead = Subsystem("readahead", active, "concurrent", 0, editions, functions)
    sequential, classified = figures
    return Sample(
        time,
        KernelState("0.1.0", {"readahead": readahead}),
        {("readahead", FUNCTION, "original"): FunctionSample(0, 0, sequential, classified)},
        {("readahead", FUNCTION): "probes missed calls"} if missed else {},
    )


def play(policy: Policy, *phases: Phase) -> list[Decision]:
    """Return the decisions, one for each interval; a switch takes effect at once."""
    window, state = SignalWindow(), PolicyState()
    time, active = 0.0, "original"
    calls = dict.fromkeys(EDITIONS, 0)
    sequential = classified = 0.0
    decisions = []
    for phase in phases:
        for _ in range(round(phase.seconds / policy.interval_seconds)):
            time += policy.interval_seconds
            new = phase.rate * policy.interval_seconds
            calls[active] += round(new)
            classified += new
            sequential += new * phase.share
            figures = (round(sequential), round(classified))
            sample = sample_of(time, active, calls, figures, missed=phase.missed)
            situation = Situation(active, time)
            decision, state = evaluate(policy, window.add(sample), state, situation)
            decisions.append(decision)
            active = decision.target if decision.action is Action.SWITCH else active
    return decisions


def switches(decisions: list[Decision]) -> list[str]:
    return [each.target for each in decisions if each.action is Action.SWITCH]


def test_shipped_policy_has_no_remarks(policy: Policy) -> None:
    assert policy.remarks == ()


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        ((IDLE,), []),
        ((MIXED,), []),
        ((RANDOM,), ["random"]),
        ((SEQUENTIAL,), ["streaming"]),
        ((RANDOM, MIXED), ["random"]),
        ((SEQUENTIAL, Phase(6.0, 60.0, 0.7)), ["streaming"]),
        ((SEQUENTIAL, MIXED), ["streaming", "original"]),
        ((RANDOM, IDLE), ["random", "original"]),
        ((SEQUENTIAL, IDLE), ["streaming", "original"]),
        ((IDLE, RANDOM, SEQUENTIAL, IDLE), ["random", "streaming", "original"]),
        ((SEQUENTIAL, RANDOM), ["streaming", "random"]),
        ((Phase(60.0, 15.0, 0.0),), []),
        ((Phase(60.0, 4.0, 1.0),), []),
    ],
)
def test_trace(policy: Policy, phases: tuple[Phase, ...], expected: list[str]) -> None:
    assert switches(play(policy, *phases)) == expected


def test_a_short_burst_switches_nothing(policy: Policy) -> None:
    assert switches(play(policy, MIXED, Phase(0.5, 1000.0, 0.0), MIXED)) == []


def test_untrusted_figures_switch_nothing(policy: Policy) -> None:
    assert switches(play(policy, Phase(10.0, 1000.0, 0.0, missed=True))) == []


def test_reacts_within_four_seconds(policy: Policy) -> None:
    decisions = play(policy, SEQUENTIAL, RANDOM)
    reaction = next(each.time for each in decisions if each.target == "random")
    assert reaction - SEQUENTIAL.seconds <= 4.0


def test_alternating_load_does_not_flap(policy: Policy) -> None:
    decisions = play(policy, *([Phase(0.5, 1000.0, 0.0), Phase(0.5, 1000.0, 1.0)] * 30))
    assert switches(decisions) == []


def test_every_decision_says_why(policy: Policy) -> None:
    for decision in play(policy, RANDOM, IDLE):
        assert decision.reason
        assert decision.values
