# SPDX-License-Identifier: GPL-2.0-or-later
"""What holds for every policy, whatever is measured: the promises of docs/policy.md."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dynamosd.model import (
    Action,
    Decision,
    PolicyPhase,
    RuleState,
    Signal,
    SignalKey,
    Signals,
    Suppression,
)
from dynamosd.policy.condition import Outcome
from dynamosd.policy.definition import OnNoData, Policy, Rule
from dynamosd.policy.evaluate import PolicyState, Situation, evaluate
from dynamosd.policy.expression import Undecided
from dynamosd.policy.load import parse_policy
from dynamosd.policy.readings import Lack
from dynamosd.recording import Evaluated, Recorder, read, state_from_json, state_to_json
from dynamosd.replay import as_recorded
from tests.unit.policy.build import KNOWN, text_of

FUNCTION = "pipe_write"
RATE, SHARE = f'calls_rate("{FUNCTION}")', f'sequential_share("{FUNCTION}")'
UNTRUSTED = Signal(50.0, trusted=False, reason="lost calls")
MISSING = Signal(None, reason="nothing there")
IN_FORCE = {RuleState.ACTIVE, RuleState.LEAVING, RuleState.QUARANTINED}
ROUNDING = 1e-6

# ----------------------------------------------------------------------------------- policies

ATOM = st.builds(
    "{} {} {}".format,
    st.sampled_from([RATE, SHARE, f'ewma({RATE}, "3s")']),
    st.sampled_from([">", "<"]),
    st.sampled_from(["10.0", "50.0", "90.0"]),
)
CONDITION = ATOM | st.builds("({}) {} ({})".format, ATOM, st.sampled_from(["&&", "||"]), ATOM)
TIME = st.sampled_from(["0s", "1s", "3s"])
EXTRAS = st.lists(
    st.builds("until: '{}'".format, CONDITION)
    | st.builds("for: {}".format, TIME)
    | st.builds("keepFor: {}".format, TIME)
    | st.sampled_from(["samples: {need: 2, of: 3}", "samples: {need: 3, of: 3}"])
    | st.sampled_from(["onNoData: hold", "onNoData: baseline"]),
    max_size=5,
    unique_by=lambda line: line.partition(":")[0],
)
RULE = st.tuples(st.sampled_from(["batched", "quiet"]), CONDITION, EXTRAS)
LIMITS = st.builds(
    "limits: {{cooldown: {}, maxSwitches: {{count: {}, per: {}}}, onFlap: {}}}\n".format,
    st.sampled_from(["0s", "2s", "5s"]),
    st.integers(1, 4),
    st.sampled_from(["4s", "10s", "20s"]),
    st.sampled_from(["hold", "freeze"]),
)


def policy_of(rules: Sequence[tuple[str, str, list[str]]], limits: str = "") -> Policy:
    text = "".join(
        f"- name: r{number}\n  edition: {edition}\n  when: '{when}'\n"
        + "".join(f"  {line}\n" for line in extras)
        for number, (edition, when, extras) in enumerate(rules)
    )
    file = text_of(text, f"mode: enforce\n{limits}")
    return parse_policy(file.encode(), "random.yaml", known=KNOWN)


RULES = st.lists(RULE, min_size=1, max_size=4)
POLICIES = st.builds(policy_of, RULES, LIMITS | st.just(""))
UNLIMITED = st.builds(policy_of, RULES)

# ------------------------------------------------------------------------------------- series

READING = st.sampled_from([0.0, 5.0, 30.0, 70.0, 100.0]).map(Signal)
LACKING = st.sampled_from([MISSING, UNTRUSTED])
SIGNAL = st.one_of(READING, READING, READING, LACKING)
EDITIONS = ["batched", "quiet"]


@dataclass(frozen=True)
class Moment:
    """What one evaluation finds, ``after`` seconds after the one before."""

    after: float
    rate: Signal
    share: Signal
    quarantined: tuple[str, ...] = ()

    @property
    def values(self) -> dict[SignalKey, Signal]:
        return {
            ("calls_rate", FUNCTION, ""): self.rate,
            ("sequential_share", FUNCTION, ""): self.share,
        }


AFTER = st.sampled_from([0.5, 1.0, 1.0, 1.0, 2.5])
QUARANTINE = st.sampled_from([(), (), (), ("batched",), ("quiet",), ("batched", "quiet")])
MOMENTS = st.lists(st.builds(Moment, AFTER, SIGNAL, SIGNAL), min_size=5, max_size=60)
WITH_QUARANTINE = st.lists(
    st.builds(Moment, AFTER, SIGNAL, SIGNAL, QUARANTINE), min_size=5, max_size=60
)


@dataclass(frozen=True)
class Seen:
    """One evaluation, from all sides."""

    moment: Moment
    situation: Situation
    signals: Signals
    before: PolicyState
    decision: Decision
    after: PolicyState

    @property
    def switched(self) -> bool:
        return self.decision.action is Action.SWITCH

    @property
    def forced(self) -> bool:
        """Whether it had to leave an edition in quarantine."""
        return self.situation.current in self.situation.quarantined

    @property
    def active(self) -> str:
        return self.decision.target if self.switched else self.situation.current

    def was_in_force(self, rule: Rule) -> bool:
        before = self.before.rules.get(rule.name)
        return before is not None and before.state in IN_FORCE

    def is_in_force(self, rule: Rule) -> bool:
        return self.after.rules[rule.name].state in IN_FORCE


def live(
    policy: Policy,
    moments: Sequence[Moment],
    between: Callable[[PolicyState], PolicyState] = lambda state: state,
) -> Iterator[Seen]:
    """Evaluate, with switches that succeed at once."""
    now, current, state = 100.0, policy.baseline, PolicyState()
    for moment in moments:
        now += moment.after
        signals = Signals(now, moment.values)
        quarantined = {name: f"{name} broke" for name in moment.quarantined}
        situation = Situation(current, now, 1e9 + now, quarantined)
        before = between(state)
        decision, state = evaluate(policy, signals, before, situation)
        seen = Seen(moment, situation, signals, before, decision, state)
        current = seen.active
        yield seen


def outcome_of(seen: Seen, rule: Rule, *, waiting: bool) -> Outcome:
    """Decide a rule's condition anew, from what the decision says was read."""
    condition = rule.when if waiting or rule.until is None else rule.until
    readings = seen.decision.readings
    named = {name: readings[name] for name in condition.names}
    lacks = {
        Lack.NO_DATA if seen.signals.values[read.key].trusted else Lack.UNTRUSTED
        for read, name in zip(condition.inputs, condition.names, strict=True)
        if named[name] is None
    }
    try:
        result: bool | None = condition.program.decide(list(named.values()))
    except Undecided:
        result = None
    lack = None
    if result is None:
        lack = Lack.UNTRUSTED if Lack.UNTRUSTED in lacks else Lack.NO_DATA
    return Outcome(result, tuple(named), list(named.values()), "", lack)


# --------------------------------------------------------------------------------- properties


@given(POLICIES, WITH_QUARANTINE)
def test_no_switch_in_a_cooldown(policy: Policy, moments: list[Moment]) -> None:
    switches = [seen for seen in live(policy, moments) if seen.switched]
    for first, second in pairwise(switches):
        apart = second.situation.now - first.situation.now
        assert second.forced or apart >= policy.limits.cooldown_seconds - ROUNDING


@given(POLICIES, WITH_QUARANTINE)
def test_no_more_switches_than_allowed_in_any_stretch(
    policy: Policy, moments: list[Moment]
) -> None:
    limits = policy.limits
    if limits.max_switches is None:
        return
    times: list[float] = []
    for seen in live(policy, moments):
        if not seen.switched:
            continue
        now = seen.situation.now
        recent = sum(now - time < limits.per_seconds - ROUNDING for time in times)
        assert seen.forced or recent < limits.max_switches
        times.append(now)


@given(POLICIES, MOMENTS)
def test_frozen_is_frozen_for_a_whole_period(policy: Policy, moments: list[Moment]) -> None:
    began: float | None = None
    for seen in live(policy, moments):
        if seen.decision.phase is PolicyPhase.FROZEN:
            assert not seen.switched
            began = seen.situation.now if began is None else began
        elif began is not None:
            assert seen.situation.now - began >= policy.limits.per_seconds - ROUNDING
            began = None


@given(POLICIES, WITH_QUARANTINE)
def test_first_rule_in_force_that_may_be_used_gives_the_edition(
    policy: Policy, moments: list[Moment]
) -> None:
    for seen in live(policy, moments):
        usable = [
            rule
            for rule in policy.rules
            if seen.is_in_force(rule) and rule.edition not in seen.situation.quarantined
        ]
        assert seen.decision.target == (usable[0].edition if usable else policy.baseline)
        assert seen.decision.rule == (usable[0].name if usable else "")


@given(POLICIES, WITH_QUARANTINE)
def test_every_switch_that_is_not_made_has_a_reason(policy: Policy, moments: list[Moment]) -> None:
    for seen in live(policy, moments):
        decision = seen.decision
        assert decision.reason
        if seen.switched:
            assert decision.suppressed is None
            assert decision.target != decision.current
        elif decision.target != decision.current:
            assert decision.suppressed is not None
        first = next(iter(decision.rules.values()))
        if first is RuleState.LEAVING and decision.target == decision.current:
            assert decision.suppressed is Suppression.KEEP_FOR


@given(POLICIES, MOMENTS)
def test_no_rule_ends_before_keep_for(policy: Policy, moments: list[Moment]) -> None:
    """And none begins or ends by what is not trusted, or missing where it says hold."""
    ends_since: dict[str, float | None] = {}
    for seen in live(policy, moments):
        now = seen.situation.now
        for rule in policy.rules:
            if not seen.was_in_force(rule):
                ends_since[rule.name] = None
                continue
            until = outcome_of(seen, rule, waiting=False)
            if until.lack is Lack.UNTRUSTED:
                ends = False
            elif until.lack is Lack.NO_DATA:
                ends = rule.on_no_data is OnNoData.BASELINE
            else:
                ends = until.result is (rule.until is not None)
            since = ends_since.get(rule.name)
            ends_since[rule.name] = (now if since is None else since) if ends else None
            since = ends_since[rule.name]
            over = since is not None and now - since >= rule.keep_for_seconds - ROUNDING
            assert seen.is_in_force(rule) is not over


@given(POLICIES, MOMENTS)
def test_no_rule_begins_before_for_or_on_data_that_is_missing(
    policy: Policy, moments: list[Moment]
) -> None:
    met_since: dict[str, float | None] = {}
    answers: dict[str, list[bool]] = {}
    for seen in live(policy, moments):
        now = seen.situation.now
        for rule in policy.rules:
            if seen.was_in_force(rule):
                met_since[rule.name], answers[rule.name] = None, []
                continue
            when = outcome_of(seen, rule, waiting=True)
            history = answers.setdefault(rule.name, [])
            history.append(when.result is True)
            enough = sum(history[-rule.samples.of :]) >= rule.samples.need
            met = when.lack is None and enough
            since = met_since.get(rule.name)
            met_since[rule.name] = (now if since is None else since) if met else None
            since = met_since[rule.name]
            begins = since is not None and now - since >= rule.for_seconds - ROUNDING
            assert seen.is_in_force(rule) is begins


ALL_LACKING = st.lists(st.builds(Moment, AFTER, LACKING, LACKING), min_size=1, max_size=20)


@given(UNLIMITED, MOMENTS, ALL_LACKING)
def test_no_switch_while_nothing_can_be_relied_on(
    policy: Policy, moments: list[Moment], lacking: list[Moment]
) -> None:
    for number, seen in enumerate(live(policy, [*moments, *lacking])):
        if number < len(moments) or not seen.switched:
            continue
        # Only what is missing, and only where a rule says so, and only to end it.
        assert Lack.UNTRUSTED not in {
            outcome_of(seen, rule, waiting=False).lack
            for rule in policy.rules
            if seen.was_in_force(rule) and not seen.is_in_force(rule)
        }
        ended = [
            rule for rule in policy.rules if seen.was_in_force(rule) and not seen.is_in_force(rule)
        ]
        assert ended
        assert all(rule.on_no_data is OnNoData.BASELINE for rule in ended)
        assert not any(
            seen.is_in_force(rule) and not seen.was_in_force(rule) for rule in policy.rules
        )


@given(POLICIES, WITH_QUARANTINE)
def test_always_out_of_quarantine_and_to_the_baseline_if_there_is_nothing_else(
    policy: Policy, moments: list[Moment]
) -> None:
    for seen in live(policy, moments):
        assert seen.active not in seen.situation.quarantined
        if set(seen.moment.quarantined) == set(EDITIONS):
            assert seen.active == policy.baseline


@given(POLICIES, WITH_QUARANTINE)
def test_state_survives_being_written_down(policy: Policy, moments: list[Moment]) -> None:
    def written(state: PolicyState) -> PolicyState:
        return state_from_json(json.loads(json.dumps(state_to_json(state))))

    plain = [seen.decision for seen in live(policy, moments)]
    assert [seen.decision for seen in live(policy, moments, written)] == plain


@settings(max_examples=40)
@given(policy=POLICIES, moments=WITH_QUARANTINE)
def test_replay_is_what_was_live(
    policy: Policy, moments: list[Moment], tmp_path_factory: pytest.TempPathFactory
) -> None:
    said: list[str] = []
    folder = tmp_path_factory.mktemp("recordings")
    recorder = Recorder(folder, said.append, max_bytes=3000)
    made = list(live(policy, moments))
    for seen in made:
        evaluated = Evaluated(policy, seen.situation, seen.before, seen.decision, seen.after)
        recorder.record(seen.situation.now, seen.situation.wall, seen.signals, [evaluated])
    recorder.close()
    replayed = as_recorded(policy, read(folder))
    assert (replayed.differing, said) == (0, [])
    assert [each.decision for each in replayed.evaluations] == [seen.decision for seen in made]
