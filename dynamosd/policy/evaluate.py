# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine: policy, signals, state and time in; decision and state out. Pure.

Each rule is a machine of its own (drawn in docs/policy.md):

    inactive --when--> pending --`for`--> active --until--> leaving --`keepFor`--> inactive
       ^                  |                 ^                  |
       +----- not when ---+                 +---- not until ---+

The first rule of the list that is active or leaving gives the edition; without one it is the
baseline.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dynamosd.model import Action, Decision, RuleState, Signals
from dynamosd.policy.condition import Outcome
from dynamosd.policy.definition import Mode, OnNoData, Policy, Rule
from dynamosd.policy.durations import format_duration

_IN_FORCE = frozenset({RuleState.ACTIVE, RuleState.LEAVING})

_WHOLE_NUMBERS_FROM = 100.0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where one rule stands, and since when (CLOCK_MONOTONIC)."""

    state: RuleState
    since: float


@dataclass(frozen=True, slots=True)
class PolicyState:
    """Where a policy's rules stand, by rule name; a rule that is missing is inactive."""

    rules: Mapping[str, Progress] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Step:
    """One rule's evaluation: where it stands now, the signals it looked at, and why."""

    rule: Rule
    progress: Progress
    values: Mapping[str, float | None]
    why: str


def adopt(policy: Policy, current: str, now: float) -> PolicyState:
    """Return the state to begin with when the daemon finds an edition in use.

    The first rule for that edition counts as active, so that a restarted daemon does not switch
    back before it has measured anything.
    """
    for rule in policy.rules:
        if rule.edition == current and current != policy.baseline:
            return PolicyState({rule.name: Progress(RuleState.ACTIVE, now)})
    return PolicyState()


def evaluate(
    policy: Policy, signals: Signals, state: PolicyState, current: str, now: float
) -> tuple[Decision, PolicyState]:
    """Decide which edition a subsystem should have.

    Args:
        policy: the policy.
        signals: the newest signals.
        state: what the last evaluation returned; ``adopt()`` or ``PolicyState()`` for the first.
        current: the subsystem's active edition.
        now: CLOCK_MONOTONIC in seconds.

    Returns:
        The decision and the next state. In mode observe the action is always to stay; in mode
        advise it is what the policy wants, and carrying it out or not is the caller's business.
    """
    steps = [_step(rule, signals, state, now) for rule in policy.rules]
    winner = next((each for each in steps if each.progress.state in _IN_FORCE), None)
    target = winner.rule.edition if winner else policy.baseline
    wanted = Action.SWITCH if target != current else Action.STAY
    decision = Decision(
        time=now,
        policy=policy.name,
        subsystem=policy.subsystem,
        action=Action.STAY if policy.mode is Mode.OBSERVE else wanted,
        current=current,
        target=target,
        rule=winner.rule.name if winner else "",
        reason=_reason(policy, steps, winner),
        values=_values(steps, winner),
        rules={each.rule.name: each.progress.state for each in steps},
    )
    return decision, PolicyState({each.rule.name: each.progress for each in steps})


def _step(rule: Rule, signals: Signals, state: PolicyState, now: float) -> _Step:
    before = state.rules.get(rule.name, Progress(RuleState.INACTIVE, now))
    if before.state in _IN_FORCE:
        return _step_in_force(rule, signals, before, now)
    return _step_waiting(rule, signals, before, now)


def _step_waiting(rule: Rule, signals: Signals, before: Progress, now: float) -> _Step:
    """Inactive or pending: only a when-condition that is certainly true moves the rule on."""
    when = rule.when.evaluate(signals)
    if when.result is None:
        return _Step(rule, _to(RuleState.INACTIVE, before, now), when.values, when.reason)
    if not when.result:
        why = "when-condition is false"
        return _Step(rule, _to(RuleState.INACTIVE, before, now), when.values, why)
    pending = _to(RuleState.PENDING, before, now)
    held = max(0.0, now - pending.since)
    if held >= rule.for_seconds:
        why = f"when-condition held for {format_duration(held)}"
        return _Step(rule, _to(RuleState.ACTIVE, before, now), when.values, why)
    why = f"when-condition true for {_of(held, rule.for_seconds)}"
    return _Step(rule, pending, when.values, why)


def _step_in_force(rule: Rule, signals: Signals, before: Progress, now: float) -> _Step:
    """Active or leaving: the rule ends when its until-condition has held long enough."""
    until = _until(rule, signals)
    ends = until.result
    what = "until-condition" if rule.until else "when-condition"
    if ends is None:
        ends = rule.on_no_data is OnNoData.BASELINE
        says = f"{what} undecided ({until.reason})"
    else:
        says = f"{what} {'true' if ends is (rule.until is not None) else 'false'}"
    if not ends:
        return _Step(rule, _to(RuleState.ACTIVE, before, now), until.values, says)
    leaving = _to(RuleState.LEAVING, before, now)
    held = max(0.0, now - leaving.since)
    if held >= rule.keep_for_seconds:
        why = f"left: {says} for {format_duration(held)}"
        return _Step(rule, _to(RuleState.INACTIVE, before, now), until.values, why)
    why = f"{says} for {_of(held, rule.keep_for_seconds)}"
    return _Step(rule, leaving, until.values, why)


def _until(rule: Rule, signals: Signals) -> Outcome:
    """Return whether the rule should end; without an until-condition: whether `when` is false."""
    if rule.until is not None:
        return rule.until.evaluate(signals)
    when = rule.when.evaluate(signals)
    ends = None if when.result is None else not when.result
    return Outcome(ends, when.values, when.reason)


def _to(state: RuleState, before: Progress, now: float) -> Progress:
    """Return the progress in a state, which began now unless the rule was in it already."""
    return before if before.state is state else Progress(state, now)


def _reason(policy: Policy, steps: list[_Step], winner: _Step | None) -> str:
    if winner is None:
        rules = "; ".join(f"rule {each.rule.name} {_describe(each)}" for each in steps)
        text = f"baseline {policy.baseline}: {rules}"
    else:
        leaving = " (leaving)" if winner.progress.state is RuleState.LEAVING else ""
        text = f"rule {winner.rule.name}{leaving}: {_list(winner.values)}{winner.why}"
    return f"{text} (mode observe)" if policy.mode is Mode.OBSERVE else text


def _describe(step: _Step) -> str:
    return f"{step.progress.state}: {_list(step.values)}{step.why}"


def _list(values: Mapping[str, float | None]) -> str:
    """Return the values there are, each followed by a comma."""
    return "".join(
        f"{name} = {_number(value)}, " for name, value in values.items() if value is not None
    )


def _number(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= _WHOLE_NUMBERS_FROM else f"{value:.3g}"


def _of(held: float, needed: float) -> str:
    return f"{format_duration(held)} of {format_duration(needed)}"


def _values(steps: list[_Step], winner: _Step | None) -> dict[str, float | None]:
    """Return the signals the decision rests on: those of the winner and of the rules before it."""
    values: dict[str, float | None] = {}
    for step in steps:
        values.update(step.values)
        if step is winner:
            break
    return values
