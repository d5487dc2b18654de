# SPDX-License-Identifier: GPL-2.0-or-later
"""Learning what is better: which edition a number says is the best one. Pure, and seeded.

A policy's objective is a number that shall be small or large. Editions are tried in *rounds*, each
of them for a while; what is measured is kept for each edition as a mean and how sure it is
(`Evidence`), and counts for less as it ages. At a round's end the best edition is preferred, if it
is better than the baseline for certain; in doubt it is the baseline. Then only the edition in use
is measured, until the next round is due or the workload is another one: then all is forgotten.

    rest --due, load, data--> round: trial of each --last one over--> rest, with the best one
     ^                          |
     +-- change, load ends, ----+      (rest with the baseline, and nothing known)
         a rule is in force            (rest with what was preferred)

This is explore-then-commit with restarts: of the bandits the one whose every switch can be
foretold. Here is said only which edition is wanted; whether there is a switch, `evaluate` says.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dynamosd.model import KnownEdition, Learned, PolicyPhase, Suppression
from dynamosd.policy.condition import Condition, Outcome
from dynamosd.policy.durations import format_duration, format_number
from dynamosd.policy.expression import Input
from dynamosd.policy.readings import Lack, Readings

CERTAIN_ERRORS = 2.0
"""The half of an edition's interval, in standard errors of its mean."""

STRAY_DEVIATIONS, STRAY_SHARE, STRAYS = 4.0, 0.25, 3
"""So many values one after the other mean another workload, each further from the mean than so many
standard deviations and than this share of the mean."""

MIN_SAMPLES = 2
"""Fewer values have no spread."""

MIN_SAMPLES_FOR_STRAYS = 4

TRIAL_SWITCHES = 2
"""What a trial may cost: the way there and the way back."""

_LOAD_ENDED, _OTHER_WORKLOAD = "the load ended", "the workload is another one"

_ROUNDING_SECONDS = 1e-6


class Goal(enum.StrEnum):
    """What the number shall be."""

    MINIMIZE = "minimize"
    MAXIMIZE = "maximize"


@dataclass(frozen=True, slots=True)
class Objective:
    """What is wanted, of which editions (the baseline first), and how much may be tried for it.

    Times in seconds. An edition is measured every ``settle``, from ``settle`` after it came into
    use on. ``min_difference`` is a share: 0.05 is 5 %. A round begins no sooner than ``every``
    after the last one began; after a change of the workload, than ``retry`` after the last one
    ended. ``activity`` says whether there is load to measure with, and ``retry_on`` tells
    workloads apart: each of its answers is another one.
    """

    goal: Goal
    measure: Condition
    editions: tuple[str, ...]
    trial_seconds: float
    settle_seconds: float
    every_seconds: float
    retry_seconds: float
    min_difference: float
    activity: Condition | None = None
    retry_on: Condition | None = None
    seed: int = 1

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """All that is to be decided anew each time."""
        return (self.measure, *(each for each in (self.activity, self.retry_on) if each))

    @property
    def inputs(self) -> tuple[Input, ...]:
        """Everything that is read."""
        return tuple(read for each in self.conditions for read in each.inputs)


class Evidence(NamedTuple):
    """What was measured of an edition until ``time``.

    ``weight`` and ``squares`` (of the distances from the mean) are sums in which a value counts
    half as much with each half-life of its age; ``samples`` counts the values themselves.
    """

    samples: int
    weight: float
    mean: float
    squares: float
    time: float

    def aged(self, now: float, half_life: float) -> Evidence:
        """Return what it still says now."""
        left = 0.5 ** (max(0.0, now - self.time) / half_life)
        return self._replace(weight=self.weight * left, squares=self.squares * left, time=now)

    def add(self, value: float, now: float, half_life: float) -> Evidence:
        """Take one value more in."""
        old = self.aged(now, half_life)
        weight = old.weight + 1.0
        mean = old.mean + (value - old.mean) / weight
        squares = old.squares + (value - old.mean) * (value - mean)
        return Evidence(self.samples + 1, weight, mean, squares, now)

    @property
    def deviation(self) -> float:
        """The standard deviation of single values."""
        return math.sqrt(self.squares / self.weight * self.samples / (self.samples - 1))

    @property
    def margin(self) -> float | None:
        """How far the true mean may be from this one; None while that cannot be told."""
        if self.samples < MIN_SAMPLES or self.weight <= 0.0:
            return None
        return CERTAIN_ERRORS * self.deviation / math.sqrt(self.weight)


_NOTHING = Evidence(0, 0.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Learning:
    """All that is remembered between two evaluations; times are of CLOCK_MONOTONIC.

    Attributes:
        preferred: the edition to use between rounds; "" is the baseline.
        evidence: what is known of editions.
        queue: the editions that the round has yet to try, the first of them now; () between rounds.
        started: since when the first of them is in use in its trial; None until it is.
        seen: the edition that is in use, since ``since``.
        due: nothing is measured before.
        began, ended: when the last round did.
        rounds, trials: how many have begun, ever.
        owed: no round has come to a verdict on all editions, or not since all was forgotten.
        misses: so many rounds in a row were broken off or came to no such verdict.
        forgot: why all was forgotten, until the next round is over.
        strays: so many values in a row were not as they used to be.
        workload: what ``retry_on`` says the evidence is about; ``other_since``: since when it says
            otherwise.
        idle_since: since when there is no load.
    """

    preferred: str = ""
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    queue: tuple[str, ...] = ()
    started: float | None = None
    seen: str = ""
    since: float = 0.0
    due: float = 0.0
    began: float | None = None
    ended: float | None = None
    rounds: int = 0
    trials: int = 0
    owed: bool = True
    misses: int = 0
    forgot: str = ""
    strays: int = 0
    workload: bool | None = None
    other_since: float | None = None
    idle_since: float | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """What there is when an edition is to be named.

    ``room`` is how many switches the policy's limits still allow (None: any number). ``may_try``:
    the policy carries its wishes out, so that a trial can come to something. ``part`` gets some of
    the calls, as it is to get all, so that what is measured is of neither edition.
    """

    baseline: str
    current: str
    now: float
    quarantined: Mapping[str, str]
    room: int | None
    may_try: bool
    part: str = ""


class Wish(NamedTuple):
    """The edition that the objective wants now, and why; ``values`` are what that rests on."""

    edition: str
    learning: Learning
    why: str
    phase: PolicyPhase
    hindrance: Suppression | None
    values: Mapping[str, float | None]
    learned: Learned


def rest(learning: Learning, current: str, now: float) -> Learning:
    """Return what is remembered while a rule is in force: nothing is tried or measured."""
    learning = _notice(learning, current, now)
    return replace(_break_off(learning, now), idle_since=None, other_since=None, since=now)


def prefer(objective: Objective, readings: Readings, learning: Learning, place: Place) -> Wish:
    """Say which edition is wanted: one that is tried, or the one that has turned out best."""
    now = place.now
    measured = objective.measure.judge(readings)
    activity = objective.activity.judge(readings) if objective.activity else None
    workload = objective.retry_on.judge(readings) if objective.retry_on else None
    learning = _leave_out(_notice(learning, place.current, now), place)
    values = dict(measured.values)
    for each in (activity, workload):
        values |= each.values if each else {}

    def wish(
        edition: str,
        learning: Learning,
        why: str,
        phase: PolicyPhase | None = None,
        hindrance: Suppression | None = None,
    ) -> Wish:
        wanted = PolicyPhase.INACTIVE if edition == place.baseline else PolicyPhase.ACTIVE
        learned = _learned(objective, learning, measured, place)
        text = f"objective: {why}"
        return Wish(edition, learning, text, phase or wanted, hindrance, values, learned)

    value = _number(measured)
    if activity is not None and activity.result is False:
        learning = _idle(objective, learning, now)
        if _has_ended(objective, learning, now):
            return wish(place.baseline, learning, "no load")
        edition = _where_it_is(objective, learning, place)
        return wish(edition, learning, "no load, what is in use stays for now")
    lack = (activity.lack if activity else None) or measured.lack
    if value is None or lack is not None:
        lack = lack or Lack.NO_DATA
        learning = replace(learning, due=now + objective.settle_seconds)
        lacking = activity if activity and activity.lack else measured
        why = f"nothing can be told ({lacking.reason or 'the number is not finite'})"
        hindrance = Suppression(lack)
        edition = _where_it_is(objective, learning, place)
        return wish(edition, learning, why, PolicyPhase(lack), hindrance)

    learning = replace(learning, idle_since=None)
    learning = _watch_workload(objective, learning, workload, now)
    learning = _measure(objective, learning, value, place)
    learning = _go_on(objective, learning, place)
    if learning.queue:
        return wish(
            learning.queue[0], learning, _trial(objective, learning, now), PolicyPhase.TRIAL
        )
    edition = learning.preferred or place.baseline
    return wish(edition, learning, _verdict(objective, learning, edition, place))


# ------------------------------------------------------------------------------ what happened


def _notice(learning: Learning, current: str, now: float) -> Learning:
    """Take in which edition is in use; a trial of another one is over before its time."""
    if learning.seen == current:
        return learning
    return replace(learning, seen=current, since=now, started=None, strays=0)


def _leave_out(learning: Learning, place: Place) -> Learning:
    """Want no edition that is in quarantine, and believe nothing that was measured of it."""
    bad = place.quarantined
    if not bad:
        return learning
    queue = tuple(each for each in learning.queue if each not in bad)
    kept = {name: each for name, each in learning.evidence.items() if name not in bad}
    started = learning.started if queue[:1] == learning.queue[:1] else None
    preferred = "" if learning.preferred in bad else learning.preferred
    ended = place.now if learning.queue and not queue else learning.ended
    return replace(
        learning, queue=queue, evidence=kept, started=started, preferred=preferred, ended=ended
    )


def _idle(objective: Objective, learning: Learning, now: float) -> Learning:
    """There is no load. After the time of a trial the next one counts as another workload."""
    since = now if learning.idle_since is None else learning.idle_since
    learning = replace(learning, idle_since=since, due=now + objective.settle_seconds)
    if not _has_ended(objective, learning, now):
        return learning
    return replace(_forget(learning, _LOAD_ENDED, now), workload=None)


def _has_ended(objective: Objective, learning: Learning, now: float) -> bool:
    """Tell whether there has been no load for so long that this is no gap any more."""
    since = learning.idle_since
    return since is not None and _is_over(now - since, objective.trial_seconds)


def _watch_workload(
    objective: Objective, learning: Learning, found: Outcome | None, now: float
) -> Learning:
    """Forget all when ``retry_on`` has had another answer for as long as an edition settles."""
    answer = found.result if found else None
    if answer is None or answer is learning.workload:
        return replace(learning, other_since=None)
    if learning.workload is None:
        return replace(learning, workload=answer, other_since=None)
    since = now if learning.other_since is None else learning.other_since
    # What is measured meanwhile is some of both.
    learning = replace(learning, other_since=since, due=now + objective.settle_seconds)
    if not _is_over(now - since, objective.settle_seconds):
        return learning
    learning = _forget(learning, _OTHER_WORKLOAD, now)
    return replace(learning, workload=answer, other_since=None, due=now)


def _measure(objective: Objective, learning: Learning, value: float, place: Place) -> Learning:
    """Take the value in, once a ``settle``: then no two rest on the same calls."""
    now, current, settle = place.now, place.current, objective.settle_seconds
    if place.part:
        return replace(learning, due=now + settle)
    at = max(learning.due, learning.since + settle)
    if current not in objective.editions or now < at - _ROUNDING_SECONDS:
        return learning
    learning = replace(learning, due=now + settle)
    evidence = learning.evidence.get(current, _NOTHING)
    if not learning.queue and objective.retry_on is None and _is_stray(evidence, value):
        if learning.strays + 1 < STRAYS:
            return replace(learning, strays=learning.strays + 1)
        return _forget(learning, _OTHER_WORKLOAD, now)
    found = evidence.add(value, now, objective.every_seconds)
    return replace(learning, evidence={**learning.evidence, current: found}, strays=0)


def _is_stray(evidence: Evidence, value: float) -> bool:
    if evidence.samples < MIN_SAMPLES_FOR_STRAYS:
        return False
    usual = max(STRAY_DEVIATIONS * evidence.deviation, STRAY_SHARE * abs(evidence.mean))
    return abs(value - evidence.mean) > usual


def _forget(learning: Learning, why: str, now: float) -> Learning:
    """Know nothing: the baseline is wanted until the next round."""
    learning = _break_off(learning, now)
    return replace(learning, preferred="", evidence={}, owed=True, forgot=why, strays=0)


def _break_off(learning: Learning, now: float) -> Learning:
    if not learning.queue:
        return learning
    if learning.began is not None and learning.since <= learning.began:
        # Nothing was switched in it: it has cost nothing, and the next one has to wait for nothing.
        return replace(learning, queue=(), started=None)
    misses = learning.misses + 1
    return replace(learning, queue=(), started=None, ended=now, misses=misses)


# ------------------------------------------------------------------------------------- rounds


def _go_on(objective: Objective, learning: Learning, place: Place) -> Learning:
    """Begin a round or a trial, or end one, if it is time."""
    if not place.may_try:
        learning = _break_off(learning, place.now)
        return replace(learning, preferred=_best(objective, learning, place))
    if not learning.queue and _is_due(objective, learning, place):
        learning = _begin(objective, learning, place)
    now = place.now
    if learning.queue and learning.queue[0] == place.current:
        if learning.started is None:
            learning = _begin_trial(learning, place)
        began = now if learning.started is None else learning.started
        if not _is_over(now - began, objective.trial_seconds):
            return learning
        learning = replace(learning, queue=learning.queue[1:], started=None)
        if not learning.queue:
            return _end(objective, learning, place)
    if learning.queue and not _has_room(place):
        return _end(objective, replace(learning, queue=()), place)
    return learning


def _begin_trial(learning: Learning, place: Place) -> Learning:
    """Begin a trial with nothing known of the edition: it may have become another one's match."""
    evidence = {name: each for name, each in learning.evidence.items() if name != place.current}
    trials = learning.trials + 1
    return replace(learning, started=place.now, trials=trials, evidence=evidence)


def _is_due(objective: Objective, learning: Learning, place: Place) -> bool:
    now = place.now
    if not _has_room(place):
        return False
    if learning.owed:
        return learning.ended is None or _is_over(now - learning.ended, _wait(objective, learning))
    return learning.began is None or _is_over(now - learning.began, objective.every_seconds)


def _wait(objective: Objective, learning: Learning) -> float:
    """Return how long after the last round an owed one may begin: longer while they fail."""
    doubled = objective.retry_seconds * 2.0 ** min(learning.misses, 30)
    return max(objective.retry_seconds, min(objective.every_seconds, doubled))


def _has_room(place: Place) -> bool:
    return place.room is None or place.room >= TRIAL_SWITCHES


def _begin(objective: Objective, learning: Learning, place: Place) -> Learning:
    """Line the editions up: the one in use, then the others in an order that the seed gives."""
    number = learning.rounds + 1

    def lot(edition: str) -> bytes:
        if edition == place.current:
            return b""
        return hashlib.sha256(f"{objective.seed} {number} {edition}".encode()).digest()

    usable = [each for each in objective.editions if each not in place.quarantined]
    if not set(usable) - {place.current}:
        return learning
    queue = tuple(sorted(usable, key=lot))
    return replace(learning, queue=queue, started=None, began=place.now, rounds=number)


def _end(objective: Objective, learning: Learning, place: Place) -> Learning:
    """Prefer the best. When there was too little data for a verdict, another round is owed."""
    best, known = _best(objective, learning, place), learning.evidence
    owed = any(
        known.get(each, _NOTHING).margin is None
        for each in objective.editions
        if each not in place.quarantined
    )
    return replace(
        learning,
        preferred=best,
        started=None,
        ended=place.now,
        owed=owed,
        misses=learning.misses + 1 if owed else 0,
        forgot="",
    )


def _best(objective: Objective, learning: Learning, place: Place) -> str:
    """Return the edition that is better than the baseline for certain, and best; else "".

    The one that is preferred already stays, unless another one is better than it for certain.
    """
    known = _aged(objective, learning, place.now)
    home = known.get(place.baseline)
    better = [
        name
        for name in objective.editions
        if name in known
        and name not in place.quarantined
        and home
        and is_better(objective, known[name], home)
    ]
    if not better:
        return ""
    sign = 1.0 if objective.goal is Goal.MAXIMIZE else -1.0
    best = max(better, key=lambda name: sign * known[name].mean)
    stays = learning.preferred
    if stays in better and not is_better(objective, known[best], known[stays]):
        return stays
    return best


def is_better(objective: Objective, one: Evidence, other: Evidence) -> bool:
    """Tell whether an interval lies beyond another one, and the means far enough apart."""
    gain = one.mean - other.mean if objective.goal is Goal.MAXIMIZE else other.mean - one.mean
    if one.margin is None or other.margin is None:
        return False
    apart = gain > one.margin + other.margin
    return apart and gain >= objective.min_difference * abs(other.mean)


def _aged(objective: Objective, learning: Learning, now: float) -> dict[str, Evidence]:
    return {
        name: each.aged(now, objective.every_seconds) for name, each in learning.evidence.items()
    }


# ------------------------------------------------------------------------- what to stay with


def _where_it_is(objective: Objective, learning: Learning, place: Place) -> str:
    """Give the edition in use, if it may be used at all: nothing is switched on missing data."""
    using = place.part or place.current
    if using in objective.editions and using not in place.quarantined:
        return using
    return learning.preferred or place.baseline


def _is_over(elapsed: float, seconds: float) -> bool:
    return elapsed >= seconds - _ROUNDING_SECONDS


def _number(measured: Outcome) -> float | None:
    if measured.result is None or not math.isfinite(measured.result):
        return None
    return float(measured.result)


# --------------------------------------------------------------------------------- in words


def _trial(objective: Objective, learning: Learning, now: float) -> str:
    edition, whole = learning.queue[0], format_duration(objective.trial_seconds)
    why = f"{learning.forgot}, " if learning.forgot else ""
    if learning.started is None:
        return f"{why}trial of {edition} for {whole}"
    tried = format_duration(max(0.0, now - learning.started))
    return f"{why}trial of {edition}, {tried} of {whole}"


def _verdict(objective: Objective, learning: Learning, edition: str, place: Place) -> str:
    known = _aged(objective, learning, place.now)
    if edition == place.baseline:
        found = "; ".join(_say(known, name) for name in objective.editions if name in known)
        if learning.forgot:
            return f"{learning.forgot}, trials begin anew{_listed(found)}"
        if learning.owed:
            return f"nothing was tried yet{_listed(found)}"
        return f"nothing is better than {edition} for certain{_listed(found)}"
    others = [name for name in objective.editions if name in known and name != edition]
    against = ", ".join(_say(known, name) for name in others)
    mine = _say(known, edition) if edition in known else f"{edition}, as it was found"
    return f"{mine} against {against}" if against else mine


def _listed(text: str) -> str:
    return f": {text}" if text else ""


def _say(known: Mapping[str, Evidence], name: str) -> str:
    each = known[name]
    unsure = "?" if each.margin is None else format_number(each.margin)
    return f"{name} {format_number(each.mean)} ± {unsure} ({each.samples} samples)"


def _learned(objective: Objective, learning: Learning, measured: Outcome, place: Place) -> Learned:
    known = _aged(objective, learning, place.now)
    return Learned(
        goal=str(objective.goal),
        measure=objective.measure.text,
        value=_number(measured),
        preferred=learning.preferred or place.baseline,
        trying=learning.queue[0] if learning.queue else None,
        rounds=learning.rounds,
        trials=learning.trials,
        editions=_editions(objective.editions, known),
    )


def _editions(names: Iterable[str], known: Mapping[str, Evidence]) -> dict[str, KnownEdition]:
    return {
        name: KnownEdition(known[name].mean, known[name].margin, known[name].samples)
        for name in names
        if name in known
    }
