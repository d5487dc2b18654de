# SPDX-License-Identifier: GPL-2.0-or-later
"""The rules' state machine, step by step and as invariants."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.model import Action, Decision, RuleState, Signal
from dynamosd.policy.definition import Policy
from dynamosd.policy.evaluate import (
    PolicyState,
    Progress,
    Situation,
    adopt,
    carry_over,
    evaluate,
)
from tests.unit.policy.build import policy_of, signals_of

Reading = float | Signal | None
UNTRUSTED = Signal(500.0, trusted=False, reason="probes missed calls")

HYSTERESIS = """\
- name: storm
  edition: batched
  when: calls_rate("pipe_write") > 100.0
  until: calls_rate("pipe_write") < 50.0
  for: 2s
  keepFor: 3s
"""


def run(
    policy: Policy, readings: Sequence[Reading], state: PolicyState | None = None
) -> list[Decision]:
    """Evaluate once a second, with switches carried out at once."""
    state = state or PolicyState()
    current = policy.baseline
    decisions = []
    for second, reading in enumerate(readings):
        now = float(second)
        signals = signals_of(now, calls_rate=reading)
        decision, state = evaluate(policy, signals, state, Situation(current, now))
        if decision.action is Action.SWITCH:
            current = decision.target
        decisions.append(decision)
    return decisions


def states(decisions: list[Decision], rule: str = "storm") -> str:
    """Return one letter a decision: i, p, a, l, n(o data), u(ntrusted) or q(uarantined)."""
    return "".join(decision.rules[rule].value[0] for decision in decisions)


def test_without_for_the_rule_is_active_at_once() -> None:
    (decision,) = run(policy_of(), [101.0])
    assert decision.action is Action.SWITCH
    assert (decision.current, decision.target, decision.rule) == ("original", "batched", "storm")
    assert decision.values == {'calls_rate("pipe_write")': 101.0}
    assert decision.reason == (
        'rule storm: calls_rate("pipe_write") = 101, when-condition held for 0s'
    )


def test_without_until_and_keep_for_the_rule_ends_with_its_condition() -> None:
    decisions = run(policy_of(), [101.0, 99.0])
    assert states(decisions) == "ai"
    assert decisions[1].action is Action.SWITCH
    assert decisions[1].target == "original"
    assert decisions[1].rule == ""
    assert decisions[1].reason == (
        'baseline original: rule storm inactive: calls_rate("pipe_write") = 99, '
        "left: when-condition false for 0s"
    )


def test_for_and_keep_for() -> None:
    decisions = run(policy_of(HYSTERESIS), [200.0] * 4 + [40.0] * 5)
    assert states(decisions) == "ppaalllii"
    assert [decision.action.value for decision in decisions].count("switch") == 2
    assert "when-condition true for 1s of 2s" in decisions[1].reason
    assert "rule storm (leaving)" in decisions[5].reason
    assert "until-condition true for 1s of 3s" in decisions[5].reason


def test_pending_falls_back_when_the_condition_breaks() -> None:
    assert states(run(policy_of(HYSTERESIS), [200.0, 200.0, 90.0, 200.0, 200.0, 200.0])) == "ppippa"


def test_between_when_and_until_nothing_changes() -> None:
    assert states(run(policy_of(HYSTERESIS), [200.0] * 3 + [75.0] * 4)) == "ppaaaaa"
    assert states(run(policy_of(HYSTERESIS), [75.0] * 3)) == "iii"


def test_until_must_hold_without_a_break() -> None:
    readings = [200.0] * 3 + [40.0, 40.0, 60.0, 40.0, 40.0, 40.0, 40.0]
    assert states(run(policy_of(HYSTERESIS), readings)) == "ppallallli"


@pytest.mark.parametrize(("nothing", "state"), [(None, "n"), (UNTRUSTED, "u")])
def test_no_data_never_starts_a_rule(nothing: Reading, state: str) -> None:
    decisions = run(policy_of(HYSTERESIS), [nothing, 200.0, nothing, 200.0, 200.0, 200.0])
    assert states(decisions) == f"{state}p{state}ppa"
    lack = "no_data" if nothing is None else "untrusted"
    assert (decisions[0].phase, decisions[0].suppressed) == (lack, lack)
    assert decisions[0].values == {'calls_rate("pipe_write")': None}


@pytest.mark.parametrize("nothing", [None, UNTRUSTED])
def test_no_data_holds_an_active_rule(nothing: Reading) -> None:
    readings = [200.0, 200.0, 200.0, nothing, nothing, nothing, nothing, nothing]
    decisions = run(policy_of(HYSTERESIS), readings)
    assert states(decisions) == "ppaaaaaa"
    assert decisions[-1].action is Action.STAY
    assert "until-condition undecided" in decisions[-1].reason


def test_no_data_while_leaving_starts_keeping_again() -> None:
    readings = [200.0, 200.0, 200.0, 40.0, 40.0, None, 40.0]
    assert states(run(policy_of(HYSTERESIS), readings)) == "ppallal"


def test_no_data_with_baseline_leaves_after_keep_for() -> None:
    policy = policy_of(HYSTERESIS + "  onNoData: baseline\n")
    decisions = run(policy, [200.0] * 3 + [None] * 4)
    assert states(decisions) == "ppallli"
    assert decisions[-1].target == "original"


def test_untrusted_data_holds_a_rule_whatever_it_says_of_missing_data() -> None:
    policy = policy_of(HYSTERESIS + "  onNoData: baseline\n")
    decisions = run(policy, [200.0] * 3 + [UNTRUSTED] * 5 + [None] * 4)
    assert states(decisions) == "ppaaaaaallli"
    assert (decisions[4].phase, decisions[4].suppressed) == ("untrusted", "untrusted")
    assert "not trusted: probes missed calls" in decisions[4].reason


def test_first_rule_in_force_wins() -> None:
    rules = """\
- {name: quiet, edition: quiet, when: 'calls_rate("pipe_write") > 300.0'}
- {name: storm, edition: batched, when: 'calls_rate("pipe_write") > 100.0'}
"""
    decisions = run(policy_of(rules), [200.0, 400.0, 200.0, 50.0])
    assert [decision.target for decision in decisions] == [
        "batched",
        "quiet",
        "batched",
        "original",
    ]
    assert states(decisions, "storm") == "aaai"


def test_an_edition_switched_by_hand_is_switched_back() -> None:
    decision, _ = evaluate(
        policy_of(), signals_of(calls_rate=1.0), PolicyState(), Situation("quiet", 0.0)
    )
    assert (decision.action, decision.target) == (Action.SWITCH, "original")


def test_observe_never_asks_for_a_switch_but_says_so() -> None:
    (decision,) = run(policy_of(spec="mode: observe\n"), [200.0])
    assert (decision.action, decision.target) == (Action.STAY, "batched")
    assert decision.reason.endswith("(mode observe)")


def test_advise_asks() -> None:
    (decision,) = run(policy_of(spec="mode: advise\n"), [200.0])
    assert decision.action is Action.SWITCH


def test_restart_keeps_the_edition_it_finds_until_it_knows_better() -> None:
    policy = policy_of(HYSTERESIS)
    state = adopt(policy, "batched", 0.0)
    first, state = evaluate(policy, signals_of(calls_rate=None), state, Situation("batched", 0.0))
    second, _ = evaluate(policy, signals_of(calls_rate=60.0), state, Situation("batched", 1.0))
    assert (first.action, second.action) == (Action.STAY, Action.STAY)
    assert adopt(policy, "original", 0.0) == PolicyState()
    assert adopt(policy, "unheard-of", 0.0) == PolicyState()


def test_time_that_jumps_back_delays_and_breaks_nothing() -> None:
    policy = policy_of(HYSTERESIS)
    _, state = evaluate(
        policy, signals_of(calls_rate=200.0), PolicyState(), Situation("original", 100.0)
    )
    decision, _ = evaluate(policy, signals_of(calls_rate=200.0), state, Situation("original", 1.0))
    assert decision.rules["storm"] is RuleState.PENDING


READINGS = st.lists(
    st.none() | st.just(UNTRUSTED) | st.sampled_from([0.0, 40.0, 60.0, 99.0, 101.0, 500.0]),
    max_size=30,
)


@given(READINGS, st.sampled_from(["hold", "baseline"]))
def test_invariants(readings: list[Reading], on_no_data: str) -> None:
    policy = policy_of(HYSTERESIS + f"  onNoData: {on_no_data}\n")
    decisions = run(policy, readings)
    for index, decision in enumerate(decisions):
        in_force = decision.rules["storm"] in {RuleState.ACTIVE, RuleState.LEAVING}
        assert decision.target == ("batched" if in_force else "original")
        assert decision.rule == ("storm" if in_force else "")
        assert (decision.action is Action.SWITCH) is (decision.target != decision.current)
        assert decision.reason
        if decision.action is Action.SWITCH and decision.target == "batched":
            # Every reading of the last `for` said so: none was missing, none untrusted.
            seen = readings[index - 2 : index + 1]
            assert all(isinstance(each, float) and each > 100.0 for each in seen)
        if decision.action is Action.SWITCH and decision.target == "original":
            seen = readings[index - 3 : index + 1]
            low = [each for each in seen if isinstance(each, float)]
            assert all(each < 50.0 for each in low)
            assert on_no_data == "baseline" or len(low) == len(seen)
            assert UNTRUSTED not in seen


@given(READINGS)
def test_same_input_same_decisions(readings: list[Reading]) -> None:
    policy = policy_of(HYSTERESIS)
    assert run(policy, readings) == run(policy, readings)


def test_gap_in_evaluation_is_not_time_that_the_condition_held() -> None:
    """The first reading after a gap has no rate, so what was pending begins again."""
    assert states(run(policy_of(HYSTERESIS), [200.0, None, 200.0])) == "pnp"


# ------------------------------------------------------------------------------- m of n samples

SAMPLES = """\
- name: storm
  edition: batched
  when: calls_rate("pipe_write") > 100.0
  until: calls_rate("pipe_write") < 50.0
  samples: {need: 3, of: 5}
"""


def test_enough_of_the_last_samples_begin_a_rule() -> None:
    decisions = run(policy_of(SAMPLES), [200.0, 90.0, 200.0, 90.0, 200.0, 90.0])
    assert states(decisions) == "ppppaa"
    assert decisions[1].suppressed == "samples"
    assert "true in 2 of the last 5 samples, 3 needed" in decisions[3].reason


def test_samples_grow_old() -> None:
    readings = [200.0, 200.0, 90.0, 90.0, 90.0, 200.0, 90.0, 200.0, 200.0]
    assert states(run(policy_of(SAMPLES), readings)) == "ppppppppa"
    assert states(run(policy_of(SAMPLES), [200.0] + [90.0] * 6)) == "pppppii"


def test_for_begins_when_there_are_enough_samples_and_goes_on_while_there_are() -> None:
    policy = policy_of(SAMPLES + "  for: 2s\n")
    assert states(run(policy, [200.0, 200.0, 200.0, 90.0, 200.0])) == "ppppa"
    readings = [200.0, 90.0, 200.0, 90.0, 200.0, 90.0, 90.0]
    assert states(run(policy, readings)) == "p" * len(readings)


@pytest.mark.parametrize(("nothing", "state"), [(None, "n"), (UNTRUSTED, "u")])
def test_sample_that_is_missing_counts_as_no_and_begins_nothing(
    nothing: Reading, state: str
) -> None:
    readings = [200.0, 200.0, nothing, 200.0, 90.0]
    assert states(run(policy_of(SAMPLES), readings)) == f"pp{state}aa"
    readings = [200.0, nothing, nothing, 200.0, nothing, 200.0]
    assert states(run(policy_of(SAMPLES), readings)) == f"p{state * 2}p{state}p"


def test_rule_that_has_ended_counts_afresh() -> None:
    readings = [200.0] * 3 + [40.0, 200.0, 200.0, 200.0]
    assert states(run(policy_of(SAMPLES), readings)) == "ppaippa"


# -------------------------------------------------------------------------------------- averages


def test_average_passes_over_a_spike_and_follows_a_step() -> None:
    policy = policy_of(
        '- name: storm\n  edition: batched\n  when: ewma(calls_rate("pipe_write"), "10s") > 100.0\n'
    )
    assert states(run(policy, [50.0] * 5 + [400.0] + [50.0] * 5)) == "i" * 11
    # A step from 50 to 150 is half way up after 10 s * ln 2, which is 6.93 s.
    decisions = run(policy, [50.0] * 3 + [150.0] * 12)
    assert states(decisions) == "i" * 9 + "a" * 6
    name = 'ewma(calls_rate("pipe_write"), "10s")'
    assert decisions[3].values[name] == pytest.approx(50.0 + 100.0 * (1.0 - math.exp(-0.1)))


@pytest.mark.parametrize("nothing", [None, UNTRUSTED])
def test_average_has_no_value_without_data_and_goes_on_afterwards(nothing: Reading) -> None:
    policy = policy_of(
        '- name: storm\n  edition: batched\n  when: ewma(calls_rate("pipe_write"), "10s") > 100.0\n'
    )
    decisions = run(policy, [50.0, nothing, 50.0, nothing, 150.0])
    (values,) = {frozenset(each.values) for each in decisions}
    (name,) = values
    found = [each.values[name] for each in decisions]
    assert found[:4] == [50.0, None, 50.0, None]
    # Two seconds after the last value that there was.
    assert found[4] == pytest.approx(50.0 + 100.0 * (1.0 - math.exp(-0.2)))


# ----------------------------------------------------------------------------------------- hours

NIGHT = """\
- name: storm
  edition: batched
  when: calls_rate("pipe_write") > 100.0
  keepFor: 2s
  during: [{days: thu, from: "22:00", to: "02:00"}]
"""


def test_rule_has_an_effect_in_its_hours_only() -> None:
    policy = policy_of(NIGHT, "mode: enforce\n")
    state, current, seen = PolicyState(), "original", []
    # The epoch began on a Thursday.
    ten = 22 * 3600.0
    for wall in (ten - 1, ten, ten + 1, ten + 4 * 3600 - 1, ten + 4 * 3600, ten + 4 * 3600 + 2):
        situation = Situation(current, wall, wall)
        decision, state = evaluate(policy, signals_of(calls_rate=200.0), state, situation)
        current = decision.target if decision.action is Action.SWITCH else current
        seen.append((decision.rules["storm"].value, decision.suppressed))
    assert seen == [
        ("inactive", "during"),
        ("active", None),
        ("active", None),
        ("active", None),
        ("leaving", "keep_for"),
        ("inactive", None),
    ]


# --------------------------------------------------------------------------------- read again

TWO = """\
- name: calm
  edition: quiet
  when: ewma(calls_rate("pipe_write"), "10s") > 100.0
  for: 2s
- name: storm
  edition: batched
  when: calls_rate("pipe_write") > 300.0
"""
LIMITED = "limits: {cooldown: 10s}\n"


def carried(rules: str, spec: str, current: str = "original") -> PolicyState:
    """Return what is left of a policy's state when the file says something else."""
    old = policy_of(TWO, LIMITED)
    state = PolicyState()
    for now, reading in ((0.0, 200.0), (1.0, 200.0)):
        signals = signals_of(now, calls_rate=reading)
        _, state = evaluate(old, signals, state, Situation(current, now))
    state = replace(state, switches=(0.5,), frozen_until=9.0)
    return carry_over(old, state, policy_of(rules, spec), current, 5.0)


def test_what_has_not_changed_goes_on() -> None:
    state = carried(TWO, LIMITED)
    assert state.rules["calm"] == Progress(RuleState.PENDING, 0.0)
    assert len(state.averages) == 1
    assert (state.switches, state.frozen_until) == ((0.5,), 9.0)


def test_rules_that_have_changed_begin_anew() -> None:
    state = carried(TWO.replace("2s", "3s"), LIMITED)
    assert set(state.rules) == {"storm"}
    assert len(state.averages) == 1
    assert carried(TWO.replace("10s", "9s"), LIMITED).averages == {}
    assert carried(TWO.replace("calm", "quiet"), LIMITED).rules.keys() == {"storm"}


def test_limits_that_have_changed_begin_anew() -> None:
    state = carried(TWO, "limits: {cooldown: 9s}\n")
    assert (state.switches, state.frozen_until) == ((), None)
    assert state.rules["calm"].since == 0.0


def test_changed_rule_for_the_active_edition_is_adopted() -> None:
    state = carried(TWO.replace("2s", "3s"), LIMITED, "quiet")
    assert state.rules["calm"] == Progress(RuleState.ACTIVE, 5.0)
    # Not so for one that has not changed: it is known where that stands.
    assert carried(TWO, LIMITED, "quiet").rules["calm"].state is RuleState.PENDING
