# SPDX-License-Identifier: GPL-2.0-or-later
"""What conditions read: the newest signals, and averages of them. Pure.

An average is exponentially weighted by time: after its time constant, an old value counts for 37 %
of what it did. A signal without usable data leaves it alone and gives it no value meanwhile.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from dynamosd.model import Signal, Signals
from dynamosd.policy.expression import Input

_NOT_MEASURED = Signal(None, reason="not measured")


class Lack(enum.StrEnum):
    """Why a condition is undecided."""

    NO_DATA = "no_data"
    UNTRUSTED = "untrusted"


class Average(NamedTuple):
    """An average, and when it was last brought up to date."""

    value: float
    time: float


Averages = Mapping[Input, Average]


class Readings:
    """The values that some inputs have now; None where there is none."""

    __slots__ = ("_signals", "values")

    def __init__(self, signals: Signals, values: Mapping[Input, float | None]) -> None:
        self._signals = signals.values
        self.values = values

    def lack(self, read: Input) -> Lack:
        """Say what is wrong with an input that has no value."""
        found = self._signals.get(read[:2], _NOT_MEASURED)
        return Lack.NO_DATA if found.trusted else Lack.UNTRUSTED

    def why(self, read: Input) -> str:
        """Say why an input has no value, in words."""
        found = self._signals.get(read[:2], _NOT_MEASURED)
        kind = "no data" if found.trusted else "not trusted"
        return f"{read.text}: {kind}: {found.reason}" if found.reason else f"{read.text}: {kind}"


def take(
    inputs: Iterable[Input], signals: Signals, averages: Averages, now: float
) -> tuple[Readings, Averages]:
    """Return what the inputs read now, and the averages to go on from."""
    values: dict[Input, float | None] = {}
    found = signals.values
    moved: dict[Input, Average] = {}
    for read in inputs:
        signal = found.get(read[:2])
        value = signal.value if signal is not None and signal.trusted else None
        if read.smooth_seconds and value is not None:
            moved[read] = _move(averages.get(read), value, now, read.smooth_seconds)
            value = moved[read].value
        values[read] = value
    return Readings(signals, values), {**averages, **moved} if moved else averages


def _move(before: Average | None, value: float, now: float, smooth_seconds: float) -> Average:
    if before is None:
        return Average(value, now)
    weight = 1.0 - math.exp(-max(0.0, now - before.time) / smooth_seconds)
    return Average(before.value + weight * (value - before.value), now)
