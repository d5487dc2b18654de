# SPDX-License-Identifier: GPL-2.0-or-later
"""What conditions read: the newest signals, and averages of them. Pure.

An average is exponentially weighted by time: after its time constant, an old value counts for 37 %
of what it did. A signal without usable data leaves it alone and gives it no value meanwhile.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping
from typing import NamedTuple

from dynamosd.model import Signal, Signals
from dynamosd.policy.expression import Input

_NOT_MEASURED = Signal(None, reason="not measured")


class Lack(enum.StrEnum):
    """Why a condition is undecided."""

    NO_DATA = "no_data"
    UNTRUSTED = "untrusted"


_LACKS = {True: (Lack.NO_DATA, "no data"), False: (Lack.UNTRUSTED, "not trusted")}
"""By whether the signal is trusted."""


class Average(NamedTuple):
    """An average, and when it was last brought up to date."""

    value: float
    time: float


Averages = Mapping[Input, Average]


class Readings:
    """The values that some inputs have now, by their names; None where there is none."""

    __slots__ = ("_whys", "names", "signals", "values")

    def __init__(
        self, signals: Signals, names: Mapping[str, Input], values: Mapping[str, float | None]
    ) -> None:
        self.signals = signals
        self.names = names
        self._whys: dict[str, tuple[Lack, str]] = {}
        self.values = values

    def why(self, name: str) -> tuple[Lack, str]:
        """Say why an input has no value, as a word and in words."""
        told = self._whys.get(name)
        if told is None:
            found = self.signals.values.get(self.names[name].key, _NOT_MEASURED)
            lack, kind = _LACKS[found.trusted]
            text = f"{name}: {kind}: {found.reason}" if found.reason else f"{name}: {kind}"
            told = self._whys[name] = (lack, text)
        return told


def take(
    names: Mapping[str, Input], signals: Signals, averages: Averages, now: float
) -> tuple[Readings, Averages]:
    """Return what the inputs read now, and the averages to go on from."""
    values: dict[str, float | None] = {}
    found = signals.values
    moved: dict[Input, Average] = {}
    for name, read in names.items():
        signal = found.get(read[:3])
        value = signal.value if signal is not None and signal.trusted else None
        if read.smooth_seconds and value is not None:
            moved[read] = move(averages.get(read), value, now, read.smooth_seconds)
            value = moved[read].value
        values[name] = value
    return Readings(signals, names, values), {**averages, **moved} if moved else averages


def move(before: Average | None, value: float, now: float, smooth_seconds: float) -> Average:
    """Take a value into an average."""
    if before is None:
        return Average(value, now)
    weight = 1.0 - math.exp(-max(0.0, now - before.time) / smooth_seconds)
    return Average(before.value + weight * (value - before.value), now)
