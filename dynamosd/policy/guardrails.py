# SPDX-License-Identifier: GPL-2.0-or-later
"""Guardrails: is the edition in use worse than it may be, compared with the baseline? Pure.

A guardrail's condition is judged once a window, over windows that do not overlap. Each answer is a
step of a *sequential probability ratio test* (A. Wald, "Sequential Tests of Statistical
Hypotheses", Annals of Mathematical Statistics 16, 1945): the edition is bad if it breaks the
guardrail in four of five windows (or more), and good if it does in one of five (or fewer). With
these two, each window that is bad is worth as much as one that is good, so that the test is the
difference of both numbers:

    good - bad >= needed: passed          needed = ln(confidence / (1 - confidence)) / ln(4),
    bad - good >= needed: breached        rounded up

In between it goes on. A window in which the condition has no answer is none at all. After it has
passed it begins anew (E. S. Page, "Continuous Inspection Schemes", Biometrika 41, 1954): a
guardrail never rests while an edition is in use.

While the baseline has calls too, both are compared over the same window. Otherwise its values are
those that were kept of it: averages from when it was in use last, as long as they are not too old.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dynamosd.model import Breach, Finding, Guarded, Verdict
from dynamosd.policy.condition import Condition, Outcome
from dynamosd.policy.durations import format_duration, format_number
from dynamosd.policy.expression import Input
from dynamosd.policy.readings import Average, Averages, Lack, Readings, move
from dynamosd.signals import ARGUMENTS, EDITION, PARAMETER

MIN_CONFIDENCE, MAX_CONFIDENCE = 0.8, 0.999

BAD_SHARE = 0.8
"""A bad edition breaks its guardrail in such a share of windows; a good one in the rest."""

KEPT_SMOOTH_SECONDS = 60.0
"""The time constant of the averages that are kept of the baseline."""

_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Guardrail:
    """What no edition of a policy may do.

    ``breach`` and ``activity`` are conditions by edition; without an activity there always is some.
    ``against`` is what they read of the baseline while it is in use, by name.
    """

    name: str
    breach: Mapping[str, Condition]
    activity: Mapping[str, Condition]
    window_seconds: float
    confidence: float
    staleness_seconds: float
    quarantine_seconds: float
    against: Mapping[str, Input] = field(default_factory=dict)

    @property
    def needed(self) -> int:
        """By how many windows good or bad must be ahead."""
        odds = math.log(self.confidence / (1.0 - self.confidence))
        return max(1, math.ceil(odds / math.log(BAD_SHARE / (1.0 - BAD_SHARE)) - _ROUNDING))

    @property
    def inputs(self) -> Iterator[Input]:
        """Everything that is read, of whatever edition."""
        for each in (*self.breach.values(), *self.activity.values()):
            yield from each.inputs


class Tally(NamedTuple):
    """How a guardrail's test stands. The next window is judged from ``due`` on.

    ``passed`` counts how often it has, since the edition is in use.
    """

    due: float
    bad: int = 0
    good: int = 0
    passed: int = 0


@dataclass(frozen=True, slots=True)
class Watch:
    """All that is remembered of it; times are of CLOCK_MONOTONIC.

    ``edition`` has been in use for the calls of ``scope`` since ``since``; ``kept`` are the
    baseline's averages.
    """

    edition: str
    scope: str
    since: float
    tallies: Mapping[str, Tally] = field(default_factory=dict)
    kept: Averages = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Post:
    """Where the watch stands: ``edition`` is the one that is guarded, ``baseline`` if none is.

    It gets the calls of ``scope``, "" for all.
    """

    edition: str
    scope: str
    baseline: str
    now: float
    quarantined: Mapping[str, str]

    @property
    def has_baseline(self) -> bool:
        """Whether the baseline gets calls."""
        return self.edition == self.baseline or bool(self.scope)


def look(
    guardrails: Iterable[Guardrail], readings: Readings, before: Watch | None, post: Post
) -> tuple[Watch, Guarded | None]:
    """Judge the edition in use; the second is None when there is nothing to judge."""
    guardrails = tuple(guardrails)
    watch = _relieve(guardrails, before, post)
    watch = _keep(guardrails, watch, readings, post)
    if post.edition == post.baseline or post.edition in post.quarantined:
        return watch, None
    tallies: dict[str, Tally] = {}
    findings: dict[str, Finding] = {}
    breach: Breach | None = None
    for each in guardrails:
        judge = each.breach.get(post.edition)
        if judge is None:
            # Of an edition that is not the policy's, nothing is read.
            continue
        seen = readings
        if each.against and not post.has_baseline:
            seen = _Remembered(readings, watch.kept, each, post.now)
        tallies[each.name], found = _judge(each, judge, seen, watch.tallies[each.name], post)
        findings[each.name] = found
        if found.verdict is Verdict.BREACHED and breach is None:
            breach = Breach(post.edition, each.name, found.reason, each.quarantine_seconds)
    used = max(0.0, post.now - watch.since)
    guarded = Guarded(post.edition, post.scope, used, findings, breach)
    return replace(watch, tallies={**watch.tallies, **tallies}), guarded


def _relieve(guardrails: tuple[Guardrail, ...], before: Watch | None, post: Post) -> Watch:
    """Begin anew with an edition that has come into use, or has got other calls."""
    kept = before.kept if before else {}
    if before is None or (before.edition, before.scope) != (post.edition, post.scope):
        tallies = {each.name: Tally(post.now + each.window_seconds) for each in guardrails}
        return Watch(post.edition, post.scope, post.now, tallies, kept)
    missing = {
        each.name: Tally(post.now + each.window_seconds)
        for each in guardrails
        if each.name not in before.tallies
    }
    return replace(before, tallies={**before.tallies, **missing}) if missing else before


# ------------------------------------------------------------------------------ the baseline


def of_baseline(conditions: Iterable[Condition], baseline: str) -> dict[str, Input]:
    """Return what conditions read of the baseline while it is in use."""
    return {
        name: read
        for condition in conditions
        for name, read in zip(condition.names, condition.inputs, strict=True)
        if read.edition == baseline and _is_of_edition(read)
    }


def _is_of_edition(read: Input) -> bool:
    if read.signal == PARAMETER:
        # It can be read at any time.
        return False
    return any(EDITION in form for form in ARGUMENTS.get(read.signal, ()))


def _keep(guardrails: tuple[Guardrail, ...], watch: Watch, readings: Readings, post: Post) -> Watch:
    """Keep what is measured of the baseline, once a window has nothing else in it."""
    if not post.has_baseline:
        return watch
    kept = dict(watch.kept)
    for each in guardrails:
        if not _is_over(post.now - watch.since, each.window_seconds):
            continue
        for name, read in each.against.items():
            value = readings.values[name]
            if value is not None and math.isfinite(value):
                old = watch.kept.get(read)
                if old is not None and _is_old(old, each, post.now):
                    old = None
                kept[read] = move(old, value, post.now, KEPT_SMOOTH_SECONDS)
    return replace(watch, kept=kept) if kept else watch


def _is_old(kept: Average, guardrail: Guardrail, now: float) -> bool:
    return now - kept.time > guardrail.staleness_seconds + _ROUNDING


class _Remembered(Readings):
    """Readings in which the baseline's values are those that were kept of it."""

    __slots__ = ("_lost",)

    def __init__(self, live: Readings, kept_of: Averages, guardrail: Guardrail, now: float) -> None:
        values = dict(live.values)
        super().__init__(live.signals, live.names, values)
        self._lost: dict[str, str] = {}
        for name, read in guardrail.against.items():
            kept = kept_of.get(read)
            values[name] = None
            if kept is None:
                self._lost[name] = "nothing was kept of the baseline"
            elif _is_old(kept, guardrail, now):
                age = format_duration(guardrail.staleness_seconds)
                self._lost[name] = f"what was kept of the baseline is older than {age}"
            else:
                values[name] = kept.value

    def why(self, name: str) -> tuple[Lack, str]:
        """Say why an input has no value."""
        lost = self._lost.get(name)
        return (Lack.NO_DATA, f"{name}: {lost}") if lost else super().why(name)


# ------------------------------------------------------------------------------------ the test


def _judge(
    guardrail: Guardrail, judge: Condition, readings: Readings, tally: Tally, post: Post
) -> tuple[Tally, Finding]:
    """Take a window in, if it is time and it has an answer; say what has come of it so far."""
    activity = guardrail.activity.get(post.edition)
    active = activity.judge(readings) if activity else None
    outcome = judge.judge(readings)
    why_not = _no_answer(active, outcome)
    needed = guardrail.needed
    if why_not is None and _is_over(post.now, tally.due):
        tally = _count(tally, needed, post.now + guardrail.window_seconds, bad=bool(outcome.result))
    if tally.bad - tally.good >= needed:
        verdict = Verdict.BREACHED
    elif why_not is not None:
        verdict = why_not[0]
    else:
        verdict = Verdict.PASSED if tally.passed else Verdict.WATCHING
    values = {**(active.values if active else {}), **outcome.values}
    reason = _say(tally, needed, outcome, why_not[1] if why_not else "")
    has_passed = tally.passed > 0
    return tally, Finding(verdict, tally.bad, tally.good, needed, reason, values, has_passed)


def _no_answer(active: Outcome | None, outcome: Outcome) -> tuple[Verdict, str] | None:
    """Say why a window cannot be judged; None if it can."""
    if active is not None and active.result is not True:
        if active.lack is None:
            return Verdict.IDLE, "too little activity"
        return Verdict(active.lack), active.reason
    if outcome.lack is not None:
        return Verdict(outcome.lack), outcome.reason
    return None


def _count(tally: Tally, needed: int, due: float, *, bad: bool) -> Tally:
    counted = tally._replace(due=due, bad=tally.bad + bad, good=tally.good + (not bad))
    if counted.good - counted.bad >= needed:
        return Tally(due, passed=tally.passed + 1)
    if counted.bad - counted.good > needed:
        # Nobody has acted on it: it stays as it is until windows are good again.
        return tally._replace(due=due)
    return counted


def _say(tally: Tally, needed: int, outcome: Outcome, why_not: str) -> str:
    found = ", ".join(
        f"{name} = {format_number(value)}"
        for name, value in outcome.values.items()
        if value is not None
    )
    counted = f"broken in {tally.bad} windows and not in {tally.good}, {needed} more decide"
    return "; ".join(filter(None, (counted, found, why_not)))


def _is_over(elapsed: float, seconds: float) -> bool:
    return elapsed >= seconds - _ROUNDING
