# SPDX-License-Identifier: GPL-2.0-or-later
"""The engine: policy, signals, state and situation in; decision and state out. Pure.

Each rule is a machine of its own (drawn in docs/policy.md):

    inactive --when--> pending --`for`--> active --until--> leaving --`keepFor`--> inactive
       ^                  |                 ^                  |
       +----- not when ---+                 +---- not until ---+

The first rule of the list that is active or leaving, and whose edition is not in quarantine, gives
the edition; without one the policy's objective does (``objective``), or else it is the baseline.
Whether the policy may switch to it now is for its limits to say: they know the switches that were
made from the edition being there the next time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dynamosd.hostsignals import of_situation
from dynamosd.model import (
    Action,
    Decision,
    Guarded,
    Part,
    PolicyPhase,
    Rolling,
    RolloutEvent,
    RuleState,
    Signals,
    Suppression,
)
from dynamosd.policy.backoff import why_breached
from dynamosd.policy.condition import Outcome
from dynamosd.policy.definition import Limits, Mode, OnFlap, OnNoData, Policy, Rule
from dynamosd.policy.durations import format_duration, format_number
from dynamosd.policy.guardrails import Post, Watch, look
from dynamosd.policy.objective import Learning, Objective, Place, Wish, prefer, rest
from dynamosd.policy.readings import Averages, Lack, Readings, take
from dynamosd.policy.rollout import Rollout, Scene, begin, forget, go_on, rolling, take_back

_IN_FORCE = frozenset({RuleState.ACTIVE, RuleState.LEAVING})

_ROUNDING_SECONDS = 1e-6
"""Times that differ by less are the same: they are sums and differences of periods."""


class Progress(NamedTuple):
    """Where one rule stands, and since when (CLOCK_MONOTONIC).

    ``recent`` holds the last answers of a rule that counts samples, the newest in the lowest bit.
    """

    state: RuleState
    since: float
    recent: int = 0


class Asked(NamedTuple):
    """A switch that a decision asked for. Whether it was made shows at the next evaluation.

    ``scope``: which calls should get the target, "" for all.
    """

    target: str
    time: float
    scope: str = ""

    def is_made(self, situation: Situation) -> bool:
        """Tell whether it was made."""
        if self.scope:
            return situation.part == Part(self.target, self.scope)
        return self.target == situation.current and situation.part is None


@dataclass(frozen=True, slots=True)
class PolicyState:
    """All that a policy remembers between two evaluations.

    ``rules``: where its rules stand, by name; one that is missing is inactive. ``switches``: when
    the switches were made that its limits still count. ``frozen_until``: until then it makes none.
    ``learning``: what its objective has found out. ``watch``: how its guardrails' tests stand.
    ``rollout``: how its canary does.
    """

    rules: Mapping[str, Progress] = field(default_factory=dict)
    averages: Averages = field(default_factory=dict)
    switches: tuple[float, ...] = ()
    asked: Asked | None = None
    frozen_until: float | None = None
    learning: Learning | None = None
    watch: Watch | None = None
    rollout: Rollout | None = None


@dataclass(frozen=True, slots=True)
class Situation:
    """What a policy finds beside signals.

    Attributes:
        current: the subsystem's active edition.
        now: CLOCK_MONOTONIC in seconds.
        wall: seconds of the Unix epoch; only `Rule.hours` and conditions on the time look at it.
        quarantined: the editions that may not be used, and why.
        paused: why the policy may not switch now, whatever it wants; "" if it may.
        suspended: why a person has it make no switch, but the way out of an edition in quarantine;
            "" if nobody has.
        labels: those of the host.
        part: the edition that some of the calls get, by a canary of this policy's.
    """

    current: str
    now: float
    wall: float = 0.0
    quarantined: Mapping[str, str] = field(default_factory=dict)
    paused: str = ""
    suspended: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    part: Part | None = None


@dataclass(slots=True)
class _Step:
    """One rule's evaluation: where it stands, what it looked at, why, and what holds it back.

    ``held`` is for how long what ``says`` says has been so, and ``needed`` how long it has to be.
    """

    rule: Rule
    progress: Progress
    shown: RuleState
    outcome: Outcome
    says: str
    hindrance: Suppression | None = None
    held: float | None = None
    needed: float | None = None

    @property
    def in_force(self) -> bool:
        return self.progress.state in _IN_FORCE

    @property
    def why(self) -> str:
        """The reason in words: most steps are never asked for it."""
        if self.held is None:
            return self.says
        held = format_duration(self.held)
        needed = f" of {format_duration(self.needed)}" if self.needed is not None else ""
        return f"{self.says} for {held}{needed}"


def adopt(policy: Policy, current: str, now: float) -> PolicyState:
    """Return the state to begin with when the daemon finds an edition in use.

    The first rule for that edition counts as active, so that a restarted daemon does not switch
    back before it has measured anything.
    """
    for rule in policy.rules:
        if rule.edition == current and current != policy.baseline:
            return PolicyState({rule.name: Progress(RuleState.ACTIVE, now)})
    if policy.objective and current in policy.objective.editions:
        return PolicyState(learning=Learning(preferred=current))
    return PolicyState()


def carry_over(
    old: Policy, state: PolicyState, new: Policy, current: str, now: float
) -> PolicyState:
    """Return the state to go on with when a policy was read again and has changed.

    Rules that have not changed stay where they are, with the time that they have been there, and
    so do averages that are still used. The others begin as with `adopt`, if no rule is in force.
    Switches count on, and what is frozen stays so, unless the limits have changed. What an
    objective has found out stays known while it is the same, with the same baseline; and so does
    what guardrails have, and a canary's step goes on.
    """
    if old.subsystem != new.subsystem:
        return adopt(new, current, now)
    before = {rule.name: rule for rule in old.rules}
    kept = {
        rule.name: state.rules[rule.name]
        for rule in new.rules
        if rule.name in state.rules and before.get(rule.name) == rule
    }
    same = (old.objective, old.baseline) == (new.objective, new.baseline)
    learning = state.learning if same else adopt(new, current, now).learning
    if learning is None and not any(each.state in _IN_FORCE for each in kept.values()):
        kept = {**adopt(new, current, now).rules, **kept}
    averages = {read: each for read, each in state.averages.items() if read in new.inputs}
    same = (old.guardrails, old.baseline) == (new.guardrails, new.baseline)
    state = replace(
        state,
        rules=kept,
        averages=averages,
        learning=learning,
        watch=state.watch if same else None,
        rollout=state.rollout if same and old.canary == new.canary else None,
    )
    if old.limits != new.limits:
        return replace(state, switches=(), asked=None, frozen_until=None)
    return state


def evaluate(
    policy: Policy, signals: Signals, state: PolicyState, situation: Situation
) -> tuple[Decision, PolicyState]:
    """Decide which edition a subsystem should have.

    Args:
        policy: the policy.
        signals: the newest signals.
        state: what the last evaluation returned; ``adopt()`` or ``PolicyState()`` for the first.
        situation: what there is, and when it is.

    Returns:
        The decision and the next state. In mode observe the action is always to stay; in mode
        advise it is what the policy wants, and carrying it out or not is the caller's business.
    """
    now, current = situation.now, situation.current
    seen = _complete(policy, signals, situation)
    readings, averages = take(policy.names, seen, state.averages, now)
    watch, guarded = state.watch, None
    if policy.guardrails:
        watch, guarded = look(policy.guardrails, readings, watch, _post(policy, situation))
        situation = _after(guarded, policy, situation)
    steps = [_step(rule, readings, state, situation) for rule in policy.rules]
    winner = next((each for each in steps if each.shown in _IN_FORCE), None)
    limiter = _Limiter.of(policy.limits, state, situation)
    wish, learning = None, None
    if policy.objective is not None:
        place = _place(policy, situation, limiter, state.rollout)
        before = state.learning or Learning()
        wish, learning = _learn(policy.objective, readings, before, place, ruled=winner is not None)
    target = winner.rule.edition if winner else wish.edition if wish else policy.baseline
    asks = _Wanted(policy, steps, winner, wish, limiter, situation)
    if policy.canary is None and situation.part is None:
        way = _directly(asks, target)
    else:
        way = _in_steps(asks, target, state.rollout, guarded)
    decision = Decision(
        time=now,
        policy=policy.name,
        subsystem=policy.subsystem,
        action=Action.SWITCH if way.switches else Action.STAY,
        current=current,
        target=way.target,
        rule=winner.rule.name if winner else "",
        reason=_reason(policy, steps, winner, wish) + way.why,
        values={**_values(steps, winner), **(wish.values if wish else {})},
        rules={each.rule.name: each.shown for each in steps},
        phase=way.phase(situation) or limiter.phase(situation) or _phase(steps, winner, wish),
        suppressed=way.suppressed,
        readings=readings.values,
        learned=wish.learned if wish else None,
        guarded=guarded,
        scope=way.scope,
        rolling=way.rolling,
    )
    return decision, PolicyState(
        rules={each.rule.name: each.progress for each in steps},
        averages=averages,
        switches=limiter.switches,
        asked=Asked(way.target, now, way.scope) if way.switches and way.counts else None,
        frozen_until=limiter.frozen_until,
        learning=learning,
        watch=watch,
        rollout=way.rollout,
    )


def _post(policy: Policy, situation: Situation) -> Post:
    part = situation.part or Part(situation.current, "")
    now, quarantined = situation.now, situation.quarantined
    return Post(part.edition, part.scope, policy.baseline, now, quarantined)


def _after(guarded: Guarded | None, policy: Policy, situation: Situation) -> Situation:
    """Return the situation with the edition in quarantine that has just broken a guardrail."""
    if guarded is None or guarded.breach is None or policy.mode is not Mode.ENFORCE:
        return situation
    why = why_breached(guarded.breach)
    return replace(situation, quarantined={**situation.quarantined, guarded.breach.edition: why})


def _place(
    policy: Policy, situation: Situation, limiter: _Limiter, rollout: Rollout | None
) -> Place:
    now, quarantined = situation.now, situation.quarantined
    room = limiter.room(now)
    if policy.canary is not None:
        # Its beginning is a switch too.
        room = None if room is None else max(0, room - 1)
        quarantined = {**quarantined, **(rollout.not_now(now) if rollout else {})}
    return Place(
        baseline=policy.baseline,
        current=situation.current,
        now=now,
        quarantined=quarantined,
        room=room,
        may_try=policy.mode is Mode.ENFORCE,
        part=situation.part.edition if situation.part else "",
    )


def _learn(
    objective: Objective, readings: Readings, before: Learning, place: Place, *, ruled: bool
) -> tuple[Wish | None, Learning]:
    """Ask the objective, if no rule is in force; it goes on from the second."""
    if ruled:
        return None, rest(before, place.current, place.now)
    wish = prefer(objective, readings, before, place)
    return wish, wish.learning


def _complete(policy: Policy, signals: Signals, situation: Situation) -> Signals:
    """Return the signals together with what the policy reads of the time and the host's labels."""
    if not policy.from_situation:
        return signals
    more = of_situation(policy.from_situation, situation.wall, situation.labels)
    return Signals(signals.time, {**signals.values, **more})


# ------------------------------------------------------------------------------------- rules


def _step(rule: Rule, readings: Readings, state: PolicyState, situation: Situation) -> _Step:
    before = state.rules.get(rule.name)
    inside = not rule.hours or any(each.covers(situation.wall) for each in rule.hours)
    if before is None:
        before = Progress(RuleState.INACTIVE, situation.now)
    if before.state in _IN_FORCE:
        step = _step_in_force(rule, readings, before, situation.now, inside=inside)
    else:
        step = _step_waiting(rule, readings, before, situation.now, inside=inside)
    if situation.quarantined and step.in_force and rule.edition in situation.quarantined:
        step.shown, step.hindrance = RuleState.QUARANTINED, Suppression.QUARANTINED
        step.says = f"{situation.quarantined[rule.edition]}; {step.says}"
    return step


def _step_waiting(
    rule: Rule, readings: Readings, before: Progress, now: float, *, inside: bool
) -> _Step:
    """Inactive or pending: only a when-condition that is certainly true moves the rule on."""
    when = rule.when.judge(readings)
    recent = _remember(rule, before, when)
    inactive = _to(RuleState.INACTIVE, before, now, recent)
    if when.lack is not None:
        shown = RuleState(when.lack)
        return _Step(rule, inactive, shown, when, when.reason, Suppression(when.lack))
    if not inside:
        asks = Suppression.DURING if when.result else None
        return _Step(rule, inactive, RuleState.INACTIVE, when, "outside of its hours", asks)
    if rule.samples.of > 1:
        found = recent.bit_count()
        if found < rule.samples.need:
            shown = RuleState.PENDING if found else RuleState.INACTIVE
            asks = Suppression.SAMPLES if found else None
            says = f"when-condition true in {found} of the last {rule.samples.of} samples"
            says += f", {rule.samples.need} needed"
            return _Step(rule, inactive, shown, when, says, asks)
    elif not when.result:
        return _Step(rule, inactive, RuleState.INACTIVE, when, "when-condition is false")
    pending = _to(RuleState.PENDING, before, now, recent)
    held = max(0.0, now - pending.since)
    if _is_over(held, rule.for_seconds):
        active = Progress(RuleState.ACTIVE, now)
        return _Step(rule, active, RuleState.ACTIVE, when, "when-condition held", None, held)
    says, needed = "when-condition true", rule.for_seconds
    return _Step(rule, pending, RuleState.PENDING, when, says, Suppression.FOR, held, needed)


def _step_in_force(
    rule: Rule, readings: Readings, before: Progress, now: float, *, inside: bool
) -> _Step:
    """Active or leaving: the rule ends when its until-condition has held long enough."""
    until = (rule.until or rule.when).judge(readings)
    what = "until-condition" if rule.until else "when-condition"
    hindrance: Suppression | None = None
    if not inside:
        ends, says = True, "outside of its hours"
    elif until.lack is not None:
        # Nothing that is not trusted ends a rule, whatever it says of missing data.
        ends = rule.on_no_data is OnNoData.BASELINE and until.lack is Lack.NO_DATA
        says = f"{what} undecided ({until.reason})"
        hindrance = None if ends else Suppression(until.lack)
    else:
        ends = until.result is (rule.until is not None)
        says = f"{what} {'true' if until.result else 'false'}"
    if not ends:
        active = _to(RuleState.ACTIVE, before, now)
        return _Step(rule, active, RuleState.ACTIVE, until, says, hindrance)
    leaving = _to(RuleState.LEAVING, before, now)
    held = max(0.0, now - leaving.since)
    if _is_over(held, rule.keep_for_seconds):
        inactive = Progress(RuleState.INACTIVE, now)
        return _Step(rule, inactive, RuleState.INACTIVE, until, f"left: {says}", None, held)
    needed = rule.keep_for_seconds
    return _Step(rule, leaving, RuleState.LEAVING, until, says, Suppression.KEEP_FOR, held, needed)


def _remember(rule: Rule, before: Progress, when: Outcome) -> int:
    """Return the last answers with the newest one; an answer that is missing is no."""
    if rule.samples.of == 1:
        return 0
    return (before.recent << 1 | (when.result is True)) & ((1 << rule.samples.of) - 1)


def _is_over(elapsed: float, seconds: float) -> bool:
    return elapsed >= seconds - _ROUNDING_SECONDS


def _to(state: RuleState, before: Progress, now: float, recent: int = 0) -> Progress:
    """Return the progress in a state, which began now unless the rule was in it already."""
    if before.state is state:
        return before if before.recent == recent else Progress(state, before.since, recent)
    return Progress(state, now, recent)


def _held_back(steps: Sequence[_Step], winner: _Step | None, current: str) -> Suppression | None:
    """Say why no other edition than the current one is asked for, if there is something to it."""
    for step in steps:
        if step.hindrance is not None and (step.in_force or step.rule.edition != current):
            return step.hindrance
        if step is winner:
            break
    return None


def _phase(steps: Sequence[_Step], winner: _Step | None, wish: Wish | None) -> PolicyPhase:
    """Say where the policy stands, as far as its rules and its objective go."""
    shown = {each.shown for each in steps}
    if RuleState.QUARANTINED in shown and _is_before(steps, RuleState.QUARANTINED, winner):
        return PolicyPhase.QUARANTINED
    if winner is not None:
        lack = winner.hindrance in {Suppression.UNTRUSTED, Suppression.NO_DATA}
        return PolicyPhase(winner.hindrance) if lack and winner.hindrance else PolicyPhase.ACTIVE
    if wish is not None and wish.phase is not PolicyPhase.INACTIVE:
        return wish.phase
    for state in (RuleState.PENDING, RuleState.UNTRUSTED, RuleState.NO_DATA):
        if state in shown:
            return PolicyPhase(state)
    return PolicyPhase.INACTIVE


def _is_before(steps: Sequence[_Step], state: RuleState, winner: _Step | None) -> bool:
    """Tell whether a rule in a state would have won if it could."""
    for step in steps:
        if step is winner:
            return False
        if step.shown is state:
            return True
    return False


# ------------------------------------------------------------------- what is done about it now


class _Wanted(NamedTuple):
    """What the way to a wanted edition depends on."""

    policy: Policy
    steps: Sequence[_Step]
    winner: _Step | None
    wish: Wish | None
    limiter: _Limiter
    situation: Situation


@dataclass(slots=True)
class _Way:
    """What is done about an edition that is wanted, or why nothing is.

    ``counts``: if this is a switch, it is one that limits count.
    """

    target: str
    switches: bool
    suppressed: Suppression | None
    why: str
    counts: bool = True
    scope: str = ""
    rollout: Rollout | None = None
    rolling: Rolling | None = None

    def phase(self, situation: Situation) -> PolicyPhase | None:
        """Say where the policy stands, if that is in a canary."""
        if self.rolling is None or situation.paused or situation.suspended:
            return None
        return PolicyPhase.CANARY if self.rolling.step else None


def _directly(asks: _Wanted, target: str) -> _Way:
    """Switch for all calls at once."""
    current = asks.situation.current
    if target == current:
        suppressed = _held_back(asks.steps, asks.winner, current)
        suppressed = suppressed or (asks.wish.hindrance if asks.wish else None)
        return _Way(target, False, suppressed, "")
    suppressed, why_not = asks.limiter.hold_up(asks.policy, target, asks.situation)
    return _Way(target, suppressed in {None, Suppression.ADVISE}, suppressed, why_not)


def _in_steps(asks: _Wanted, target: str, rollout: Rollout | None, guarded: Guarded | None) -> _Way:
    """Begin a canary, go on with it or end it; with what is left to do go directly."""
    if asks.situation.part is not None:
        return _go_on(asks, asks.situation.part, target, rollout, guarded)
    policy, now, current = asks.policy, asks.situation.now, asks.situation.current
    left = forget(rollout, now)
    goes_out = target not in {current, policy.baseline}
    if policy.canary is None or not goes_out or policy.mode is not Mode.ENFORCE:
        way = _directly(asks, target)
    elif current != policy.baseline:
        # What an edition is compared with is the baseline: it has to be in use.
        way = _directly(asks, policy.baseline)
    elif why := left.why_not(target, now) if left else "":
        why = f"; no switch to {target}: {why}"
        way = _Way(target, False, Suppression.CANARY, why)
    else:
        way = _directly(asks, target)
        if way.switches:
            move = begin(policy.canary, left, target, now)
            way.scope, way.why, left = move.scope, way.why + move.why, move.rollout
            way.rolling = rolling(policy.canary, move, None, now)
    way.rollout = left
    return way


def _go_on(
    asks: _Wanted, part: Part, target: str, rollout: Rollout | None, guarded: Guarded | None
) -> _Way:
    """Go on with a canary. Its steps wait for no limit, but for who has paused the policy."""
    policy, situation = asks.policy, asks.situation
    now, active = situation.now, situation.current
    scene, bad = Scene(part, active, guarded, now), part.edition in situation.quarantined
    if target == part.edition and active == policy.baseline and not bad:
        move = go_on(policy.canary, rollout, scene)
    else:
        move = take_back(rollout, scene, bad=bad)
    held = situation.paused or ("" if bad else situation.suspended)
    shown = rolling(policy.canary, move, part, now)
    if move.target is None:
        suppressed = Suppression.PAUSED if held else Suppression.CANARY
        return _Way(target, False, suppressed, move.why, rollout=move.rollout, rolling=shown)
    if held:
        why = f"; the canary stays as it is: {held}"
        shown = replace(shown, event=RolloutEvent.HOLDS, edition=part.edition, scope=part.scope)
        return _Way(target, False, Suppression.PAUSED, why, rollout=rollout, rolling=shown)
    counts = move.event is RolloutEvent.COMPLETED
    return _Way(move.target, True, None, move.why, counts, move.scope, move.rollout, shown)


# ------------------------------------------------------------------------------------ limits


@dataclass(slots=True)
class _Limiter:
    """A policy's limits at one time: the switches that count, and whether it is frozen."""

    limits: Limits
    switches: tuple[float, ...]
    frozen_until: float | None

    @classmethod
    def of(cls, limits: Limits, state: PolicyState, situation: Situation) -> _Limiter:
        now, made = situation.now, state.switches
        if state.asked is not None and state.asked.is_made(situation):
            made = (*made, state.asked.time)
        if made:
            made = tuple(time for time in made if not _is_over(now - time, limits.memory_seconds))
        frozen = state.frozen_until
        is_frozen = frozen is not None and not _is_over(now, frozen)
        return cls(limits, made, frozen if is_frozen else None)

    def hold_up(
        self, policy: Policy, target: str, situation: Situation
    ) -> tuple[Suppression | None, str]:
        """Say what is in the way of a switch now, as a word and in words; freeze if it is time."""
        if policy.mode is Mode.OBSERVE:
            return Suppression.OBSERVE, " (mode observe)"
        found = self._obstacle(target, situation)
        if found is not None:
            return found[0], f"; no switch to {target}: {found[1]}"
        return (Suppression.ADVISE if policy.mode is Mode.ADVISE else None), ""

    def _obstacle(self, target: str, situation: Situation) -> tuple[Suppression, str] | None:
        if target in situation.quarantined:
            return Suppression.QUARANTINED, situation.quarantined[target]
        if situation.paused:
            return Suppression.PAUSED, situation.paused
        if situation.current in situation.quarantined:
            # The way out of an edition that may not be used is open at all times.
            return None
        if situation.suspended:
            return Suppression.PAUSED, situation.suspended
        return self._limit(situation.now)

    def _limit(self, now: float) -> tuple[Suppression, str] | None:
        if self.frozen_until is None:
            if self._cools(now):
                waited = _of(max(0.0, now - self.switches[-1]), self.limits.cooldown_seconds)
                return Suppression.COOLDOWN, f"cooldown, {waited}"
            if not self._is_full(now):
                return None
        most = f"{self.limits.max_switches} switches in {format_duration(self.limits.per_seconds)}"
        if self.limits.on_flap is OnFlap.HOLD:
            return Suppression.MAX_SWITCHES, f"there were {most}"
        if self.frozen_until is None:
            self.frozen_until = now + self.limits.per_seconds
        left = format_duration(self.frozen_until - now)
        return Suppression.FROZEN, f"frozen for another {left}, there were {most}"

    def phase(self, situation: Situation) -> PolicyPhase | None:
        """Say where the policy stands, if limits have something to do with it."""
        if situation.paused or situation.suspended:
            return PolicyPhase.PAUSED
        if self.frozen_until is not None:
            return PolicyPhase.FROZEN
        return PolicyPhase.COOLDOWN if self._cools(situation.now) else None

    def room(self, now: float) -> int | None:
        """Say how many switches may be made now, one after the other; None: any number."""
        if self.frozen_until is not None:
            return 0
        most = self.limits.max_switches
        return None if most is None else max(0, most - self._recent(now))

    def _cools(self, now: float) -> bool:
        if not self.switches:
            return False
        return not _is_over(now - self.switches[-1], self.limits.cooldown_seconds)

    def _is_full(self, now: float) -> bool:
        most = self.limits.max_switches
        return most is not None and self._recent(now) >= most

    def _recent(self, now: float) -> int:
        per = self.limits.per_seconds
        return sum(not _is_over(now - time, per) for time in self.switches)


# ----------------------------------------------------------------------------------- reasons


def _reason(policy: Policy, steps: Sequence[_Step], winner: _Step | None, wish: Wish | None) -> str:
    if winner is None:
        rules = "; ".join(f"rule {each.rule.name} {_describe(each)}" for each in steps)
        if wish is not None:
            return f"{wish.why}; {rules}" if rules else wish.why
        return f"baseline {policy.baseline}: {rules}"
    leaving = " (leaving)" if winner.shown is RuleState.LEAVING else ""
    return f"rule {winner.rule.name}{leaving}: {_list(winner.outcome.values)}{winner.why}"


def _describe(step: _Step) -> str:
    return f"{step.shown}: {_list(step.outcome.values)}{step.why}"


def _list(values: Mapping[str, float | None]) -> str:
    """Return the values there are, each followed by a comma."""
    text = ""
    for name, value in values.items():
        if value is not None:
            text += f"{name} = {format_number(value)}, "
    return text


def _of(held: float, needed: float) -> str:
    return f"{format_duration(held)} of {format_duration(needed)}"


def _values(steps: Sequence[_Step], winner: _Step | None) -> dict[str, float | None]:
    """Return the signals the decision rests on: those of the winner and of the rules before it."""
    values: dict[str, float | None] = {}
    for step in steps:
        values.update(step.outcome.values)
        if step is winner:
            break
    return values
