# SPDX-License-Identifier: GPL-2.0-or-later
"""Plays a policy over signals, with switches that succeed at once. The same engine as the daemon's.

The policy is played as if it enforced, whatever its mode: what is asked is what it would do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from dynamosd.model import Decision, Part, Signals
from dynamosd.policy.backoff import Backoff
from dynamosd.policy.definition import Mode, Policy
from dynamosd.policy.evaluate import Situation, adopt, evaluate
from dynamosd.policy.rollout import stands_after


@dataclass(frozen=True, slots=True)
class Moment:
    """What one evaluation finds; times in seconds, ``wall`` of the Unix epoch."""

    signals: Signals
    wall: float = 0.0
    quarantined: Mapping[str, str] = field(default_factory=dict)
    suspended: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def simulate(
    policy: Policy, moments: Iterable[Moment], active: str | None = None
) -> Iterator[Decision]:
    """Yield the decision of each moment; ``active`` is the edition at first, or the baseline."""
    enforced = replace(policy, mode=Mode.ENFORCE)
    current = policy.baseline if active is None else active
    part: Part | None = None
    state, backoff = None, Backoff()
    for moment in moments:
        now = moment.signals.time
        if state is None:
            state = adopt(enforced, current, now)
        situation = Situation(
            current,
            now,
            moment.wall,
            {**moment.quarantined, **backoff.quarantined(moment.wall)},
            suspended=moment.suspended,
            labels=moment.labels,
            part=part,
        )
        decision, state = evaluate(enforced, moment.signals, state, situation)
        backoff.take(decision, moment.wall)
        current, part = stands_after(decision, part)
        yield decision
