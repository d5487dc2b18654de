# SPDX-License-Identifier: GPL-2.0-or-later
"""What guardrails find and remember, as recordings, the journal and the status show it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from dynamosd.model import Guarded, Rolling
from dynamosd.policy.expression import Input
from dynamosd.policy.guardrails import Tally, Watch
from dynamosd.policy.readings import Average
from dynamosd.policy.rollout import Rollout

Json = dict[str, Any]


def guarded_to_json(guarded: Guarded) -> Json:
    """Give what the guardrails say of an edition."""
    return {
        "edition": guarded.edition,
        "scope": guarded.scope,
        "seconds": guarded.seconds,
        "guardrails": {
            name: {
                "verdict": str(each.verdict),
                "bad": each.bad,
                "good": each.good,
                "needed": each.needed,
                "reason": each.reason,
                "values": dict(each.values),
                "has_passed": each.has_passed,
            }
            for name, each in guarded.findings.items()
        },
        "breach": asdict(guarded.breach) if guarded.breach else None,
    }


def rolling_to_json(rolling: Rolling) -> Json:
    """Give what a decision does with a canary."""
    return {**asdict(rolling), "event": str(rolling.event)}


def rollout_from_json(data: Json | None) -> Rollout | None:
    """Give what is remembered of canaries back; `asdict` has made it."""
    return None if data is None else Rollout(**data)


def watch_to_json(watch: Watch) -> Json:
    """Give all that guardrails remember."""
    return {
        "edition": watch.edition,
        "scope": watch.scope,
        "since": watch.since,
        "tallies": {name: list(each) for name, each in watch.tallies.items()},
        "kept": [[*read, *average] for read, average in watch.kept.items()],
    }


def watch_from_json(data: Json | None) -> Watch | None:
    """Give it back; recordings from before there were guardrails have none."""
    if data is None:
        return None
    return Watch(
        edition=data["edition"],
        scope=data["scope"],
        since=data["since"],
        tallies={name: Tally(*each) for name, each in data["tallies"].items()},
        kept={
            Input(signal, function, edition, smooth): Average(value, time)
            for signal, function, edition, smooth, value, time in data["kept"]
        },
    )
