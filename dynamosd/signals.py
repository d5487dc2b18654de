# SPDX-License-Identifier: GPL-2.0-or-later
"""Samples in, signals out: windows, rates and trust. Pure: no clock, no files.

Counters only ever grow, except when an edition's module or the probes were reloaded: then they
start at 0 again. So each counter's growth is summed up here, step by step, and a window's figure is
the difference of two sums. A rate can therefore never be negative.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from dynamosd.model import Function, Sample, Signal, Signals

CALLS_RATE = "calls_rate"
IN_FLIGHT = "in_flight"
SEQUENTIAL_SHARE = "sequential_share"

SIGNALS: Mapping[str, str] = {
    CALLS_RATE: "calls per second over the window, all editions together",
    IN_FLIGHT: "threads executing the function now, all editions together",
    SEQUENTIAL_SHARE: "share (0 to 1) of the window's judged calls that continued the one before",
}
"""Every signal with its unit; conditions may use these names and no other."""

RANGES: Mapping[str, tuple[float, float]] = {
    CALLS_RATE: (0.0, math.inf),
    IN_FLIGHT: (0.0, math.inf),
    SEQUENTIAL_SHARE: (0.0, 1.0),
}
"""The least and the greatest value that each signal can have."""

MIN_CLASSIFIED = 20
"""Calls that must have been judged in the window before a share of them means anything."""

DEFAULT_WINDOW_SECONDS = 2.0

_GAP_WINDOWS = 3.0

_FIRST_SAMPLE = "first sample: no rate yet"
_NO_GATE = "no gate is installed"
_NO_PROBE = "no probe figures"


@dataclass(frozen=True, slots=True)
class _Point:
    """One sample, reduced to what a window needs. Functions without a gate have no calls."""

    time: float
    calls: Mapping[str, int]
    shares: Mapping[str, tuple[int, int]]
    mismatches: Mapping[str, str]


class _Growth:
    """Sums up how much counters grew, however often each of them starts at 0 again.

    ``owner`` is what a counter belongs to (a function). A counter that turns up later than its
    owner began at 0 in between, so all of it is growth; one that turns up with its owner has an
    unknown past.
    """

    def __init__(self) -> None:
        self._last: dict[str, dict[str, int]] = {}
        self._sums: dict[str, int] = {}

    def add(self, owner: str, counters: Mapping[str, int]) -> int:
        """Take the newest values of all of an owner's counters; return its growth so far."""
        known = self._last.get(owner)
        if known is None:
            self._last[owner] = dict(counters)
            self._sums[owner] = 0
            return 0
        for name, value in counters.items():
            before = known.get(name, 0)
            self._sums[owner] += value - before if value >= before else value
            known[name] = value
        return self._sums[owner]

    def forget_all_but(self, owners: Iterable[str]) -> None:
        """Drop the owners that are gone: if they return, their past is unknown again."""
        for owner in self._last.keys() - set(owners):
            del self._last[owner], self._sums[owner]


class SignalWindow:
    """Keeps the samples of a window and turns each new one into signals.

    Args:
        window_seconds: length of the window. At least the time between samples, better twice that.
        max_gap_seconds: two samples further apart than this have nothing to do with each other, and
            measuring starts again; three windows if not given.
    """

    def __init__(
        self,
        window_seconds: float = DEFAULT_WINDOW_SECONDS,
        max_gap_seconds: float | None = None,
    ) -> None:
        if window_seconds <= 0:
            raise ValueError(f"a window of {window_seconds} seconds cannot hold anything")
        self._window = window_seconds
        self._max_gap = max_gap_seconds or _GAP_WINDOWS * window_seconds
        self._start_again(_FIRST_SAMPLE)

    def add(self, sample: Sample) -> Signals:
        """Take a sample, newer than the last, and return the signals as of its time."""
        self._check_continuity(sample.time)
        self._points.append(self._reduce(sample))
        self._drop_old(sample.time)
        values: dict[tuple[str, str], Signal] = {}
        for function in _functions(sample):
            for name, signal in self._measure(function).items():
                values[name, function.name] = signal
        return Signals(sample.time, values)

    def _start_again(self, why: str) -> None:
        self._points: deque[_Point] = deque()
        self._calls = _Growth()
        self._sequential = _Growth()
        self._classified = _Growth()
        self._no_rate_yet = why

    def _check_continuity(self, now: float) -> None:
        if not self._points:
            return
        gap = now - self._points[-1].time
        if gap <= 0:
            self._start_again("the clock did not go forward: no rate yet")
        elif gap > self._max_gap:
            self._start_again(f"no sample for {gap:.1f}s before this one: no rate yet")

    def _reduce(self, sample: Sample) -> _Point:
        calls = {
            function.name: self._calls.add(
                function.name, {name: counts.calls for name, counts in function.counts.items()}
            )
            for function in _functions(sample)
            if _is_gated(function)
        }
        self._calls.forget_all_but(calls)
        return _Point(
            time=sample.time,
            calls=calls,
            shares=self._reduce_probes(sample),
            mismatches={function: why for (_, function), why in sample.mismatches.items()},
        )

    def _reduce_probes(self, sample: Sample) -> dict[str, tuple[int, int]]:
        sequential: dict[str, dict[str, int]] = {}
        classified: dict[str, dict[str, int]] = {}
        for (_, function, edition), figures in sample.probes.items():
            sequential.setdefault(function, {})[edition] = figures.sequential
            classified.setdefault(function, {})[edition] = figures.classified
        self._sequential.forget_all_but(sequential)
        self._classified.forget_all_but(classified)
        return {
            function: (
                self._sequential.add(function, sequential[function]),
                self._classified.add(function, classified[function]),
            )
            for function in classified
        }

    def _drop_old(self, now: float) -> None:
        """Keep one point at or before the window's start, so that all of the window is covered."""
        while len(self._points) > 1 and self._points[1].time <= now - self._window:
            self._points.popleft()

    def _measure(self, function: Function) -> dict[str, Signal]:
        distrust = self._distrust(function.name)
        measured = {
            CALLS_RATE: self._calls_rate(function),
            IN_FLIGHT: _in_flight(function),
            SEQUENTIAL_SHARE: self._sequential_share(function.name),
        }
        if not distrust:
            return measured
        return {
            name: Signal(signal.value, trusted=False, reason=distrust)
            for name, signal in measured.items()
        }

    def _distrust(self, function: str) -> str:
        """Why the window holds figures that cannot be right, the newest reason; else ""."""
        for point in reversed(self._points):
            if function in point.mismatches:
                return point.mismatches[function] or "probes and module disagree"
        return ""

    def _calls_rate(self, function: Function) -> Signal:
        if not _is_gated(function):
            return Signal(None, reason=_NO_GATE)
        newest = self._points[-1]
        oldest = self._oldest(lambda point: function.name in point.calls)
        if oldest is newest:
            return Signal(None, reason=self._why_no_rate())
        grown = newest.calls[function.name] - oldest.calls[function.name]
        return Signal(grown / (newest.time - oldest.time))

    def _sequential_share(self, function: str) -> Signal:
        newest = self._points[-1]
        if function not in newest.shares:
            return Signal(None, reason=_NO_PROBE)
        oldest = self._oldest(lambda point: function in point.shares)
        if oldest is newest:
            return Signal(None, reason=self._why_no_rate())
        sequential = newest.shares[function][0] - oldest.shares[function][0]
        classified = newest.shares[function][1] - oldest.shares[function][1]
        if classified < MIN_CLASSIFIED:
            return Signal(
                None, reason=f"{classified} calls judged in the window, {MIN_CLASSIFIED} needed"
            )
        # The two counters are not read at the same instant: the share may come out just above 1.
        return Signal(min(1.0, sequential / classified))

    def _oldest(self, has: Callable[[_Point], bool]) -> _Point:
        """Return the oldest point with no hole up to the newest: sums start anew after a hole."""
        oldest = self._points[-1]
        for point in reversed(self._points):
            if not has(point):
                break
            oldest = point
        return oldest

    def _why_no_rate(self) -> str:
        return self._no_rate_yet if len(self._points) == 1 else _FIRST_SAMPLE


def _functions(sample: Sample) -> Iterator[Function]:
    for subsystem in sample.kernel.subsystems.values():
        yield from subsystem.functions.values()


def _is_gated(function: Function) -> bool:
    return function.backend != "none"


def _in_flight(function: Function) -> Signal:
    if not _is_gated(function):
        return Signal(None, reason=_NO_GATE)
    return Signal(float(sum(counts.in_flight for counts in function.counts.values())))
