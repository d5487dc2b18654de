# SPDX-License-Identifier: GPL-2.0-or-later
"""Canaries: an edition gets some of the calls, then more, and all once it has proved good. Pure.

    baseline --begin--> step 1 --good--> step 2 --good--> ... --good--> all calls
       ^                  |                |
       +--- not wanted any more, a guardrail broken, or inconclusive for too long

A step is good when its pause is over, and every guardrail has passed in it and found no more bad
windows than good ones since. Both editions run side by side meanwhile, so that guardrails compare
them over the same window.

This says what to do next about an edition that is wanted; that it is wanted, and whether there may
be a switch now, `evaluate` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dynamosd.model import Action, Decision, Guarded, Part, Rolling, RolloutEvent
from dynamosd.policy.durations import format_duration

_ROUNDING_SECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class CanaryStep:
    """Which calls the edition gets, and for how long at least."""

    scope: str
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class Canary:
    """The steps of a switch away from the baseline; behind the last one all calls get the edition.

    A step that is not good so long after its pause is given up, and the edition is not tried again
    for ``retry_seconds``.
    """

    steps: tuple[CanaryStep, ...]
    give_up_seconds: float
    retry_seconds: float


@dataclass(frozen=True, slots=True)
class Rollout:
    """What is remembered of a canary; times are of CLOCK_MONOTONIC.

    ``edition`` is at step number ``step`` (from 0) since ``since``; "" when there is none.
    ``given_up`` has the editions that are not tried again before some time.
    """

    edition: str = ""
    step: int = 0
    since: float = 0.0
    given_up: Mapping[str, float] = field(default_factory=dict)

    def why_not(self, edition: str, now: float) -> str:
        """Say why an edition is not tried now; "" if it may be."""
        until = self.given_up.get(edition)
        if until is None or now >= until - _ROUNDING_SECONDS:
            return ""
        return f"its canary was given up, and is tried again in {format_duration(until - now)}"

    def not_now(self, now: float) -> dict[str, str]:
        """Return the editions that are not tried now, and why."""
        found = {each: self.why_not(each, now) for each in self.given_up}
        return {edition: why for edition, why in found.items() if why}


class Move(NamedTuple):
    """What to do: switch to ``target`` for the calls of ``scope`` ("": all), or stay if it is None.

    ``event`` is what that is in the canary's story.
    """

    target: str | None
    scope: str
    rollout: Rollout
    event: RolloutEvent
    why: str


def forget(rollout: Rollout | None, now: float) -> Rollout | None:
    """Return what is left when there is no canary; None if that is nothing."""
    if rollout is None:
        return None
    left = {name: until for name, until in rollout.given_up.items() if now < until}
    return Rollout(given_up=left) if left else None


def begin(canary: Canary, rollout: Rollout | None, edition: str, now: float) -> Move:
    """Begin with the first step."""
    started = replace(rollout or Rollout(), edition=edition, step=0, since=now)
    scope = canary.steps[0].scope
    why = f"; canary: {_name(canary, 0)}"
    return Move(edition, scope, started, RolloutEvent.STARTED, why)


class Scene(NamedTuple):
    """A canary that goes on: who has some of the calls and who the others, and what is found."""

    part: Part
    active: str
    guarded: Guarded | None
    now: float


def take_back(rollout: Rollout | None, scene: Scene, *, bad: bool) -> Move:
    """End it: the edition is not wanted any more, or is in quarantine."""
    event = RolloutEvent.ROLLED_BACK if bad else RolloutEvent.ENDED
    left = forget(rollout, scene.now) or Rollout()
    why = f"; canary: back from {scene.part.edition} ({scene.part.scope})"
    return Move(scene.active, "", left, event, why)


def go_on(canary: Canary | None, before: Rollout | None, scene: Scene) -> Move:
    """Go on with an edition that has some of the calls and is wanted."""
    rollout = before or Rollout()
    if canary is None:
        # The policy was changed, and has no steps any more.
        return _finish(scene, rollout, "; there are no steps")
    rollout = _find_step(canary, rollout, scene)
    step, spent = canary.steps[rollout.step], max(0.0, scene.now - rollout.since)
    if step.scope != scene.part.scope:
        return begin(canary, rollout, scene.part.edition, scene.now)
    name, unsure = _name(canary, rollout.step), _unsure(scene.guarded)
    waits = f"; canary: {name}, {format_duration(spent)} of {format_duration(step.pause_seconds)}"
    if unsure:
        waits += f"; inconclusive: {', '.join(unsure)}"
        if _is_over(spent, step.pause_seconds + canary.give_up_seconds):
            return _give_up(canary, rollout, scene, f"{waits}; given up")
    if unsure or not _is_over(spent, step.pause_seconds):
        return Move(None, scene.part.scope, rollout, RolloutEvent.HOLDS, waits)
    if rollout.step + 1 == len(canary.steps):
        return _finish(scene, rollout, f"; canary: {name} was good, now all calls")
    following = replace(rollout, step=rollout.step + 1, since=scene.now)
    why = f"; canary: {name} was good, now {_name(canary, following.step)}"
    scope = canary.steps[following.step].scope
    return Move(scene.part.edition, scope, following, RolloutEvent.STEPPED, why)


def _find_step(canary: Canary, rollout: Rollout, scene: Scene) -> Rollout:
    """Find the step that is going on: one that was asked for, or one that a daemon before began."""
    part = scene.part
    if rollout.edition == part.edition and rollout.step < len(canary.steps):
        for step in (rollout.step, rollout.step - 1):
            # Of a step that could not be made the one before goes on.
            if step >= 0 and canary.steps[step].scope == part.scope:
                return rollout if step == rollout.step else replace(rollout, step=step)
    scopes = [each.scope for each in canary.steps]
    step = scopes.index(part.scope) if part.scope in scopes else 0
    return replace(rollout, edition=part.edition, step=step, since=scene.now)


def _finish(scene: Scene, rollout: Rollout, why: str) -> Move:
    left = Rollout(given_up=rollout.given_up)
    return Move(scene.part.edition, "", left, RolloutEvent.COMPLETED, why)


def _give_up(canary: Canary, rollout: Rollout, scene: Scene, why: str) -> Move:
    until = scene.now + canary.retry_seconds
    left = Rollout(given_up={**rollout.given_up, scene.part.edition: until})
    return Move(scene.active, "", left, RolloutEvent.GIVEN_UP, why)


def _unsure(guarded: Guarded | None) -> list[str]:
    """Name the guardrails that have not passed in this step, or are on the way to a breach."""
    return [
        f"{name} {each.verdict}"
        for name, each in (guarded.findings.items() if guarded else ())
        if not each.has_passed or each.bad > each.good
    ]


def _name(canary: Canary, step: int) -> str:
    return f"step {step + 1} of {len(canary.steps)} ({canary.steps[step].scope})"


def _is_over(elapsed: float, seconds: float) -> bool:
    return elapsed >= seconds - _ROUNDING_SECONDS


def rolling(canary: Canary | None, move: Move, part: Part | None, now: float) -> Rolling:
    """Return what a decision says of its canary."""
    edition = move.rollout.edition or (part.edition if part else move.target or "")
    return Rolling(
        edition=edition,
        event=move.event,
        scope=move.scope,
        step=move.rollout.step + 1 if move.rollout.edition else 0,
        steps=len(canary.steps) if canary else 0,
        seconds=max(0.0, now - move.rollout.since) if move.rollout.edition else 0.0,
    )


def stands_after(decision: Decision, part: Part | None) -> tuple[str, Part | None]:
    """Return the active edition, and the one that has some calls, if a decision is carried out."""
    if decision.action is not Action.SWITCH:
        return decision.current, part
    if decision.scope:
        return decision.current, Part(decision.target, decision.scope)
    return decision.target, None
