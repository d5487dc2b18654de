# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals of the host, of other sources and of the time: names, ranges, and how they are measured.

Those of the host are measured over the same window as those of functions, which ``signals`` keeps.
Pure: no clock, no files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dynamosd.model import RESOURCES, STALLS, HostSample, Signal, SignalKey

PRESSURE = "pressure"
CPU_BUSY = "cpu_busy"
MEMORY_AVAILABLE = "memory_available"
SOURCE = "source"
LABEL = "label"
HOUR = "hour"
MINUTE = "minute"
DAY_OF_WEEK = "day_of_week"

RESOURCE, STALL = "resource", "stall"
"""What the arguments of `PRESSURE` name."""

WORDS: Mapping[str, tuple[str, ...]] = {
    RESOURCE: RESOURCES,
    STALL: STALLS,
}
"""The words that an argument may be, where there are only some."""

SIGNALS: Mapping[str, str] = {
    PRESSURE: "share (0 to 1) of the window in which some or all busy tasks waited for a resource",
    CPU_BUSY: "share (0 to 1) of the window that all CPUs together were not idle",
    MEMORY_AVAILABLE: "share (0 to 1) of the memory that new programs could have now",
    SOURCE: "newest result of one of the policy's sources",
    HOUR: "hour of the day in UTC, 0 to 23",
    MINUTE: "minute of the hour, 0 to 59",
    DAY_OF_WEEK: "day of the week in UTC, from Sunday, 0, to Saturday, 6",
}
"""Every signal that is not of a function."""

RANGES: Mapping[str, tuple[float, float]] = {
    PRESSURE: (0.0, 1.0),
    CPU_BUSY: (0.0, 1.0),
    MEMORY_AVAILABLE: (0.0, 1.0),
    SOURCE: (-math.inf, math.inf),
    LABEL: (0.0, 1.0),
    HOUR: (0.0, 23.0),
    MINUTE: (0.0, 59.0),
    DAY_OF_WEEK: (0.0, 6.0),
}
"""The least and the greatest value of each. What is asked of a label is so (1) or not (0)."""

ARGUMENTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    PRESSURE: ((RESOURCE, STALL),),
    CPU_BUSY: ((),),
    MEMORY_AVAILABLE: ((),),
    SOURCE: ((SOURCE,),),
    LABEL: ((LABEL,),),
    HOUR: ((),),
    MINUTE: ((),),
    DAY_OF_WEEK: ((),),
}
"""What the arguments of each signal name, and that of a label, which is compared with a text."""

FROM_SITUATION = frozenset({LABEL, HOUR, MINUTE, DAY_OF_WEEK})
"""What no probe measures: it follows from where and when the policy is evaluated."""

_MINUTE_SECONDS, _HOUR_SECONDS, _DAY_SECONDS = 60, 3600, 86400
# 1 January 1970 was a Thursday.
_EPOCH_DAY = 4


def measure(samples: Sequence[HostSample], no_rate: str) -> Iterator[tuple[SignalKey, Signal]]:
    """Yield the host's signals.

    Args:
        samples: those of the window, the newest last, without a gap.
        no_rate: why there is no growth yet, if there is only one.
    """
    first, last = samples[0], samples[-1]
    for resource in RESOURCES:
        for kind in STALLS:
            yield (PRESSURE, resource, kind), _pressure(first, last, (resource, kind), no_rate)
    yield (CPU_BUSY, "", ""), _cpu_busy(first, last, no_rate)
    available = last.memory_available
    reason = "" if available is not None else last.lacks.get("meminfo", "")
    yield (MEMORY_AVAILABLE, "", ""), Signal(available, reason=reason)


def _pressure(first: HostSample, last: HostSample, which: tuple[str, str], no_rate: str) -> Signal:
    if which not in last.stalled:
        why = f"the kernel does not show {which[1]} of {which[0]}"
        return Signal(None, reason=last.lacks.get(which[0], why))
    if which not in first.stalled or first.time >= last.time:
        return Signal(None, reason=no_rate)
    share = (last.stalled[which] - first.stalled[which]) / (last.time - first.time)
    # Total and time are not read at the same instant: the share may come out just above 1.
    return Signal(min(1.0, max(0.0, share)))


def _cpu_busy(first: HostSample, last: HostSample, no_rate: str) -> Signal:
    if last.cpu is None:
        return Signal(None, reason=last.lacks.get("stat", ""))
    if first.cpu is None or first is last:
        return Signal(None, reason=no_rate)
    # Idle time is known to go back a little when a CPU goes to sleep.
    busy = max(0, last.cpu.busy - first.cpu.busy)
    idle = max(0, last.cpu.idle - first.cpu.idle)
    if not busy + idle:
        return Signal(None, reason="the kernel has counted no CPU time in the window")
    return Signal(busy / (busy + idle))


def of_situation(
    keys: Iterable[SignalKey], wall: float, labels: Mapping[str, str]
) -> dict[SignalKey, Signal]:
    """Return those of some signals that follow from the time and the host's labels.

    Args:
        keys: the signals; others than `FROM_SITUATION` are passed over. That of a label has its
            name and the text that it is compared with.
        wall: seconds of the Unix epoch.
        labels: the labels of the host.
    """
    found: dict[SignalKey, Signal] = {}
    for key in keys:
        signal, name, text = key
        if signal == LABEL and name in labels:
            found[key] = Signal(float(labels[name] == text))
        elif signal == LABEL:
            found[key] = Signal(None, reason=f'the host has no label "{name}"')
        elif signal == HOUR:
            found[key] = Signal(wall % _DAY_SECONDS // _HOUR_SECONDS)
        elif signal == MINUTE:
            found[key] = Signal(wall % _HOUR_SECONDS // _MINUTE_SECONDS)
        elif signal == DAY_OF_WEEK:
            found[key] = Signal((wall // _DAY_SECONDS + _EPOCH_DAY) % 7)
    return found
