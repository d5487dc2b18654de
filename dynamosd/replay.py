# SPDX-License-Identifier: GPL-2.0-or-later
"""Plays recordings again: what a policy did, or would have done.

`as_recorded` gives the policy what the daemon found at each evaluation, and compares decisions:
they must be the same. `as_if` lets another policy, or another content of it, go its own way through
the same signals, as if it enforced and every switch succeeded at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, NamedTuple

from dynamosd.clock import Ticker
from dynamosd.model import Action, Decision, Part
from dynamosd.policy.backoff import Backoff
from dynamosd.policy.definition import Mode, Policy
from dynamosd.policy.evaluate import PolicyState, Situation, adopt, evaluate
from dynamosd.policy.rollout import stands_after
from dynamosd.recording import Tick, decision_to_json

FLAP_SECONDS = 60.0
MAX_DIFFERENCES = 20

_GAP_INTERVALS = 10
_MIN_GAP_SECONDS = 10.0


class Span(NamedTuple):
    """A time (Unix) in which an edition was active."""

    begin: float
    end: float
    edition: str


class Switch(NamedTuple):
    """A switch, at ``wall`` in Unix time; ``scope`` is which calls get the target, "" for all."""

    wall: float
    origin: str
    target: str
    rule: str
    reason: str
    scope: str = ""


class Evaluation(NamedTuple):
    """One decision, and when it was made in Unix time."""

    wall: float
    decision: Decision


class Difference(NamedTuple):
    """A decision that was not the daemon's."""

    wall: float
    recorded: Mapping[str, Any]
    replayed: Mapping[str, Any]


class Apart(NamedTuple):
    """A time (Unix) in which two policies had different editions active."""

    begin: float
    end: float
    first: str
    second: str


@dataclass(slots=True)
class Replayed:
    """What a policy did with a recording.

    ``compared`` decisions were recorded by the daemon with just this policy; ``differences`` has
    the first of those that came out otherwise, ``differing`` counts them. ``evaluations`` are kept
    if ``keep`` says so, for a picture; a long recording has very many.
    """

    policy: Policy
    keep: bool = True
    spans: list[Span] = field(default_factory=list)
    switches: list[Switch] = field(default_factory=list)
    evaluated: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)
    suppressed: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    differing: int = 0
    differences: list[Difference] = field(default_factory=list)
    _open: tuple[float, float, str] | None = None

    @property
    def seconds(self) -> dict[str, float]:
        """For how long each edition was active."""
        found: Counter[str] = Counter()
        for span in self.spans:
            found[span.edition] += span.end - span.begin  # type: ignore[assignment] # seconds
        return dict(found)

    def flaps(self, within: float = FLAP_SECONDS) -> int:
        """Count the switches that undid the one before within so many seconds."""
        return sum(
            (first.origin, first.target) == (second.target, second.origin)
            and second.wall - first.wall <= within
            for first, second in pairwise(self.switches)
        )

    def add(self, tick: Tick, decision: Decision) -> None:
        """Take an evaluation in; what was active since the last one is known by now."""
        self.pass_time(tick)
        moves = decision.action is Action.SWITCH and self.policy.mode is Mode.ENFORCE
        active = stands_after(decision, None)[0] if moves else decision.current
        self._open = (tick.now, tick.wall, active)
        self.evaluated += 1
        if self.keep:
            self.evaluations.append(Evaluation(tick.wall, decision))
        if moves:
            self.switches.append(_switch(tick.wall, decision))
        if decision.suppressed is not None:
            self.suppressed[str(decision.suppressed)] += 1

    def pass_time(self, tick: Tick) -> None:
        """Count the time until a tick, unless nobody knows what happened in it."""
        opened, self._open = self._open, None
        if opened is None or _is_gap(self.policy, opened[0], tick.now):
            return
        # Measured by the clock that nobody sets; shown from where it began.
        begin, end, edition = opened[1], opened[1] + tick.now - opened[0], opened[2]
        last = self.spans[-1] if self.spans else None
        if last is not None and last.edition == edition and abs(begin - last.end) < 1.0:
            self.spans[-1] = last._replace(end=end)
        else:
            self.spans.append(Span(begin, end, edition))


class Survey(NamedTuple):
    """What a recording is: how many samples from when to when (Unix time), and of which policies.

    ``digests`` has pairs of a policy's name and what tells the content of its file.
    """

    samples: int
    begin: float
    end: float
    digests: frozenset[tuple[str, str]]

    def has(self, policy: Policy) -> bool:
        """Tell whether the daemon ran a policy with just this content."""
        return (policy.name, policy.digest) in self.digests


def survey(ticks: Iterable[Tick]) -> Survey:
    """Look through a recording once."""
    samples, begin, end = 0, 0.0, 0.0
    digests: set[tuple[str, str]] = set()
    for tick in ticks:
        samples += 1
        begin, end = begin or tick.wall, tick.wall
        digests |= {(name, entry.digest) for name, entry in tick.entries.items() if entry.digest}
    return Survey(samples, begin, end, frozenset(digests))


def as_recorded(policy: Policy, ticks: Iterable[Tick], *, keep: bool = True) -> Replayed:
    """Decide again what the daemon decided with this policy, and compare."""
    replayed = Replayed(policy, keep)
    state: PolicyState | None = None
    for tick in ticks:
        entry = tick.entries.get(policy.name)
        if entry is None:
            continue
        if entry.state is not None:
            # Another content of the policy was in force from here on.
            state = entry.state if entry.digest == policy.digest else None
        if state is None:
            continue
        situation = entry.situation(tick)
        decision, state = evaluate(policy, tick.signals, state, situation)
        replayed.add(tick, decision)
        replayed.compared += 1
        found = decision_to_json(decision)
        if found != entry.decided:
            replayed.differing += 1
            if replayed.differing <= MAX_DIFFERENCES:
                replayed.differences.append(Difference(tick.wall, entry.decided, found))
    return replayed


def as_if(policy: Policy, ticks: Iterable[Tick], *, keep: bool = True) -> Replayed:
    """Let a policy go its own way through the signals of a recording."""
    policy = replace(policy, mode=Mode.ENFORCE)
    replayed = Replayed(policy, keep)
    subsystems: dict[str, str] = {}
    state, current, last, backoff = PolicyState(), policy.baseline, None, Backoff()
    part: Part | None = None
    ticker = Ticker(policy.interval_seconds, 0.0)
    for tick in ticks:
        subsystems |= {each.policy: each.subsystem for each in tick.entries.values() if each.state}
        entry = next(
            (each for name, each in tick.entries.items() if subsystems[name] == policy.subsystem),
            None,
        )
        if last is None or _is_gap(policy, last, tick.now):
            current, part = entry.current if entry else policy.baseline, None
            state = adopt(policy, current, tick.now)
            ticker = Ticker(policy.interval_seconds, tick.now)
        last = tick.now
        if not ticker.is_due(tick.now):
            continue
        ticker.arrive(tick.now)
        quarantined = {**(entry.quarantined if entry else {}), **backoff.quarantined(tick.wall)}
        situation = Situation(
            current, tick.now, tick.wall, quarantined, labels=tick.labels, part=part
        )
        decision, state = evaluate(policy, tick.signals, state, situation)
        backoff.take(decision, tick.wall)
        replayed.add(tick, decision)
        current, part = stands_after(decision, part)
    return replayed


def compare(first: Replayed, second: Replayed) -> list[Apart]:
    """Give the times in which two policies had different editions active."""
    times = sorted({time for each in (first, second) for span in each.spans for time in span[:2]})
    found: list[Apart] = []
    ahead, behind = iter(first.spans), iter(second.spans)
    one, two = next(ahead, None), next(behind, None)
    for begin, end in pairwise(times):
        while one is not None and one.end <= begin:
            one = next(ahead, None)
        while two is not None and two.end <= begin:
            two = next(behind, None)
        if one is None or two is None or one.begin > begin or two.begin > begin:
            continue
        if one.edition == two.edition:
            continue
        last = found[-1] if found else None
        if last and last.end == begin and last[2:] == (one.edition, two.edition):
            found[-1] = last._replace(end=end)
        else:
            found.append(Apart(begin, end, one.edition, two.edition))
    return found


def _switch(wall: float, decision: Decision) -> Switch:
    origin, target = decision.current, decision.target
    if origin == target and decision.rolling is not None:
        # Calls come back from the edition that has had some of them.
        origin = decision.rolling.edition
    return Switch(wall, origin, target, decision.rule, decision.reason, decision.scope)


def _is_gap(policy: Policy, before: float, now: float) -> bool:
    """Tell whether the daemon was away in between."""
    longest = max(_MIN_GAP_SECONDS, _GAP_INTERVALS * policy.interval_seconds)
    return not before <= now <= before + longest
