# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine while a person has paused the policy: all goes on but the switch."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from dynamosd.model import Action, PolicyPhase, Signals, Suppression
from dynamosd.policy.definition import Policy
from dynamosd.policy.evaluate import PolicyState, Situation, evaluate
from dynamosd.recording import Evaluated, Recorder, read
from tests.unit.policy.build import policy_of, signals_of
from tests.unit.policy.test_properties import POLICIES, WITH_QUARANTINE, Moment

WHY = "paused by uid 0"


@given(POLICIES, WITH_QUARANTINE, st.data())
def test_only_the_way_out_of_quarantine_is_open(
    policy: Policy, moments: list[Moment], data: st.DataObject
) -> None:
    now, current, state = 100.0, policy.baseline, PolicyState()
    for moment in moments:
        now += moment.after
        suspended = data.draw(st.sampled_from(["", WHY, WHY]))
        quarantined = dict.fromkeys(moment.quarantined, "broke")
        free = Situation(current, now, now, quarantined)
        held = Situation(current, now, now, quarantined, suspended=suspended)
        signals = Signals(now, moment.values)
        unpaused, without = evaluate(policy, signals, state, free)
        decision, state = evaluate(policy, signals, state, held)
        # What it measures and wants is the same.
        assert (state.rules, state.averages) == (without.rules, without.averages)
        assert (decision.target, decision.rule) == (unpaused.target, unpaused.rule)
        if suspended:
            assert decision.phase is PolicyPhase.PAUSED
            if current not in quarantined:
                assert decision.action is Action.STAY
            else:
                assert decision.action is unpaused.action
        else:
            assert decision == unpaused
        if decision.action is Action.SWITCH:
            current = decision.target


def test_pause_is_said_before_limits_and_freezes_nothing() -> None:
    policy = policy_of(spec="mode: enforce\nlimits: {maxSwitches: {count: 1, per: 1h}}\n")
    state = PolicyState(switches=(99.5,))
    situation = Situation("original", 100.0, suspended=WHY)
    decision, after = evaluate(policy, signals_of(100.0, calls_rate=200.0), state, situation)
    assert decision.suppressed is Suppression.PAUSED
    assert decision.reason.endswith(f"; no switch to batched: {WHY}")
    assert after.frozen_until is None


def test_recording_has_it(tmp_path: Path) -> None:
    policy = policy_of(spec="mode: enforce\n")
    signals = signals_of(1.0, calls_rate=200.0)
    recorder = Recorder(tmp_path, lambda _line: None)
    for now, why in ((1.0, WHY), (2.0, "")):
        situation = Situation("original", now, suspended=why)
        decision, state = evaluate(policy, signals, PolicyState(), situation)
        evaluated = Evaluated(policy, situation, PolicyState(), decision, state)
        recorder.record(now, now, signals, [evaluated])
    recorder.close()
    first, second = (tick.entries[policy.name].situation(tick) for tick in read(tmp_path))
    assert (first.suspended, second.suspended) == (WHY, "")
