# SPDX-License-Identifier: GPL-2.0-or-later
"""The last hour as the API shows it: who was active when, the signals' values, what was decided."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from dynamosd.model import SignalKey, Standing
from dynamosd.status import API_VERSION

KIND = "Timeline"
KEEP_SECONDS = 3600.0
STEP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Change:
    """From this time on new calls got these editions; None: nobody could see which."""

    time: float
    standing: Standing | None


@dataclass(frozen=True, slots=True)
class Series:
    """A signal that is kept: ``text`` is the way conditions write it, ``about`` what it is."""

    key: SignalKey
    text: str
    about: str


@dataclass(frozen=True, slots=True)
class Point:
    """The signals' values at one time."""

    time: float
    values: Mapping[SignalKey, float | None]


@dataclass(frozen=True, slots=True)
class Told:
    """A record of the journal, or rather what anyone may see of it."""

    time: float
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """What the loop leaves behind; nothing of it changes afterwards.

    Attributes:
        since: from then on it is known what happened.
        wall: to be added to all times, for seconds of the Unix epoch.
        left_out: how many subsystems and signals there was no room for.
    """

    since: float = 0.0
    wall: float = 0.0
    changes: Mapping[str, tuple[Change, ...]] = field(default_factory=dict)
    series: tuple[Series, ...] = ()
    points: tuple[Point, ...] = ()
    records: tuple[Told, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)


@functools.lru_cache(maxsize=1)
def text(timeline: Timeline) -> str:
    """Give it as JSON. However many ask, it is made once."""
    return json.dumps({"apiVersion": API_VERSION, "kind": KIND, **dict(_fields(timeline))}) + "\n"


def _fields(timeline: Timeline) -> Iterator[tuple[str, object]]:
    def wall(time: float) -> float:
        return round(time + timeline.wall, 3)

    yield "since_seconds", wall(timeline.since)
    yield "keep_seconds", KEEP_SECONDS
    yield "step_seconds", STEP_SECONDS
    yield (
        "subsystems",
        [
            {"name": name, "changes": [_change(each, wall(each.time)) for each in changes]}
            for name, changes in timeline.changes.items()
        ],
    )
    yield "times_seconds", [wall(point.time) for point in timeline.points]
    yield "signals", [_signal(each, timeline.points) for each in timeline.series]
    yield (
        "records",
        [{"time_seconds": wall(each.time), **each.record} for each in timeline.records],
    )
    yield "left_out", dict(timeline.left_out)


def _change(change: Change, time: float) -> dict[str, object]:
    standing = change.standing
    return {
        "time_seconds": time,
        "active": standing.active if standing else None,
        "partial": standing.partial if standing else None,
        "scope": standing.scope if standing else None,
    }


def _signal(series: Series, points: tuple[Point, ...]) -> dict[str, object]:
    signal, function, edition = series.key
    return {
        "signal": signal,
        "function": function,
        "edition": edition,
        "text": series.text,
        "about": series.about,
        "values": [point.values.get(series.key) for point in points],
    }
