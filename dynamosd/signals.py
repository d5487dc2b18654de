# SPDX-License-Identifier: GPL-2.0-or-later
"""Samples in, signals out: windows, rates and trust. Pure: no clock, no files.

Counters only ever grow, except when an edition's module or the probes were reloaded: then they
start at 0 again. So each counter's growth is summed up here, step by step, and a window's figure is
the difference of two sums. A rate can therefore never be negative.
"""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from dynamosd import hostsignals
from dynamosd.latency import Latency
from dynamosd.model import Function, FunctionSample, HostSample, Sample, Signal, SignalKey, Signals

CALLS_RATE = "calls_rate"
IN_FLIGHT = "in_flight"
CALLS_SHARE = "calls_share"
SEQUENTIAL_SHARE = "sequential_share"
PAGES_RATE = "pages_rate"
PARAMETER = "parameter"
ERRORS_RATE = "errors_rate"
ERROR_SHARE = "error_share"

QUANTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
"""The signals that need the calls of their function to be timed, and which share each is of."""

SIGNALS: Mapping[str, str] = {
    CALLS_RATE: "calls per second over the window",
    IN_FLIGHT: "threads executing the function now",
    CALLS_SHARE: "share (0 to 1) of the function's calls in the window that the edition had",
    SEQUENTIAL_SHARE: "share (0 to 1) of the window's judged calls that continued the one before",
    PAGES_RATE: "pages per second that the readers got on by over the window, by the judged calls",
    ERRORS_RATE: "returns that were errors, per second over the window",
    ERROR_SHARE: "share (0 to 1) of the window's returns that were errors",
    **{
        name: f"seconds that {share:.0%} of the calls that returned in the window took at most"
        for name, share in QUANTILES.items()
    },
    PARAMETER: "a parameter of the edition's module that is a number, as it is now",
    **hostsignals.SIGNALS,
}
"""Every signal with its unit; conditions may use these names and no other."""

RANGES: Mapping[str, tuple[float, float]] = {
    CALLS_RATE: (0.0, math.inf),
    IN_FLIGHT: (0.0, math.inf),
    CALLS_SHARE: (0.0, 1.0),
    SEQUENTIAL_SHARE: (0.0, 1.0),
    PAGES_RATE: (0.0, math.inf),
    ERRORS_RATE: (0.0, math.inf),
    ERROR_SHARE: (0.0, 1.0),
    **dict.fromkeys(QUANTILES, (0.0, math.inf)),
    PARAMETER: (-math.inf, math.inf),
    **hostsignals.RANGES,
}
"""The least and the greatest value that each signal can have."""

FUNCTION, EDITION, NAME = "function", "edition", "name"
"""What an argument of a signal may name."""

_ALL_OR_ONE = ((FUNCTION,), (FUNCTION, EDITION))

ARGUMENTS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    CALLS_RATE: _ALL_OR_ONE,
    IN_FLIGHT: _ALL_OR_ONE,
    CALLS_SHARE: ((FUNCTION, EDITION),),
    SEQUENTIAL_SHARE: _ALL_OR_ONE,
    PAGES_RATE: _ALL_OR_ONE,
    ERRORS_RATE: _ALL_OR_ONE,
    ERROR_SHARE: _ALL_OR_ONE,
    **dict.fromkeys(QUANTILES, _ALL_OR_ONE),
    PARAMETER: ((NAME, EDITION),),
    **hostsignals.ARGUMENTS,
}
"""What the arguments of each signal name, for every number of them that it takes.

Without an edition a signal is of all editions together.
"""

ALL = ""
"""The edition in the key of a signal that is of all editions together."""

SIGNAL_KEYS = ("signal", "function", "edition")
"""What the parts of a signal's key are called where signals are shown."""

MIN_CLASSIFIED = 20
"""Calls that must have been judged in the window before a share of them means anything."""

MIN_RETURNED = 20
"""Calls that must have returned in the window before a share of them, or a quantile, is one."""

MIN_BEYOND = 1
"""So many of them must have taken longer than a quantile: for p99 it takes 100."""

DEFAULT_WINDOW_SECONDS = 2.0

_GAP_WINDOWS = 3.0

_FIRST_SAMPLE = "first sample: no rate yet"
_NO_GATE = "no gate is installed"
_NO_PROBE = "no probe figures"
_NO_CALLS = "no calls in the window"
_ALL_UNTIMED = "no call is timed yet"

_CALLS = "calls"
"""The module's exact counter."""

_PROBED: Mapping[str, Callable[[FunctionSample], int]] = {
    "sequential": lambda figures: figures.sequential,
    "classified": lambda figures: figures.classified,
    "pages": lambda figures: figures.pages,
    "returns": lambda figures: figures.returns,
    "errors": lambda figures: figures.errors,
}
"""The probes' counters."""

Sums = Mapping[str, int]
"""How much a counter of a function has grown, by edition; `ALL` is the sum."""

Latencies = Mapping[str, Latency]
"""The same of its histogram."""

Figure = TypeVar("Figure", int, Latency)


@dataclass(frozen=True, slots=True)
class _Point:
    """One sample, reduced to what a window needs.

    ``grown`` holds, by counter and function, how much it has grown, and ``took`` the histograms.
    Functions without a gate have no calls, and without figures of the probes nothing of theirs.
    """

    time: float
    grown: Mapping[str, Mapping[str, Sums]]
    took: Mapping[str, Latencies]
    mismatches: Mapping[str, str]
    host: HostSample | None = None


@dataclass(frozen=True, slots=True)
class _Span:
    """A counter of a function at both ends of a time."""

    seconds: float
    before: Sums
    after: Sums

    def grown(self, edition: str) -> int:
        """Return by how much; an edition that has come in between began at nothing."""
        return self.after.get(edition, 0) - self.before.get(edition, 0)


def _step(before: int, value: int) -> int:
    """Return how much a counter has grown; one that has fallen began at 0 again."""
    return value - before if value >= before else value


class _Growth(Generic[Figure]):
    """Sums up how much counters grew, however often each of them starts at 0 again.

    ``zero`` is what they begin with, and ``step`` says how much one has grown from one value to
    the next.

    ``owner`` is what a counter belongs to (a function). A counter that turns up later than its
    owner began at 0 in between, so all of it is growth; one that turns up with its owner has an
    unknown past.
    """

    def __init__(self, zero: Figure, step: Callable[[Figure, Figure], Figure]) -> None:
        self._zero: Figure = zero
        self._step: Callable[[Figure, Figure], Figure] = step
        self._last: dict[str, dict[str, Figure]] = {}
        self._sums: dict[str, dict[str, Figure]] = {}

    def add(self, owner: str, counters: Mapping[str, Figure]) -> Mapping[str, Figure]:
        """Take the newest values of all of an owner's counters; return their growth so far.

        Counters that have gone are among them, for they may come back.
        """
        known = self._last.get(owner)
        if known is None:
            self._last[owner] = dict(counters)
            self._sums[owner] = dict.fromkeys((ALL, *counters), self._zero)
            return dict(self._sums[owner])
        sums = self._sums[owner]
        for name, value in counters.items():
            step = self._step(known.get(name, self._zero), value)
            sums[name] = sums.get(name, self._zero) + step
            sums[ALL] += step
            known[name] = value
        return dict(sums)

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
        values: dict[SignalKey, Signal] = {}
        for function in _functions(sample):
            distrust = self._distrust(function.name)
            for edition in (ALL, *function.counts):
                for name, signal in self._measure(function, edition).items():
                    values[name, function.name, edition] = (
                        Signal(signal.value, trusted=False, reason=distrust) if distrust else signal
                    )
        values.update(self._of_host())
        for name, signal in sample.sources.items():
            values[hostsignals.SOURCE, name, ALL] = signal
        return Signals(sample.time, values | _parameters(sample))

    def _of_host(self) -> Iterator[tuple[SignalKey, Signal]]:
        """Yield the host's signals, over the points since the last one without a reading of it."""
        samples: deque[HostSample] = deque()
        for point in reversed(self._points):
            if point.host is None:
                break
            samples.appendleft(point.host)
        if samples:
            yield from hostsignals.measure(samples, self._why_no_rate())

    def _start_again(self, why: str) -> None:
        self._points: deque[_Point] = deque()
        self._growth = {counter: _Growth(0, _step) for counter in (_CALLS, *_PROBED)}
        self._latency = _Growth(Latency(), lambda before, now: now.since(before))
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
        probed: dict[str, dict[str, FunctionSample]] = {}
        for (_, function, edition), figures in sample.probes.items():
            probed.setdefault(function, {})[edition] = figures
        counters: dict[str, dict[str, dict[str, int]]] = {
            counter: {
                function: {edition: read(figures) for edition, figures in by_edition.items()}
                for function, by_edition in probed.items()
            }
            for counter, read in _PROBED.items()
        }
        counters[_CALLS] = {
            function.name: {name: counts.calls for name, counts in function.counts.items()}
            for function in _functions(sample)
            if _is_gated(function)
        }
        return _Point(
            time=sample.time,
            grown={name: _grow(self._growth[name], found) for name, found in counters.items()},
            took=_grow(self._latency, _latencies(sample)),
            mismatches={function: why for (_, function), why in sample.mismatches.items()},
            host=sample.host,
        )

    def _drop_old(self, now: float) -> None:
        """Keep one point at or before the window's start, so that all of the window is covered."""
        while len(self._points) > 1 and self._points[1].time <= now - self._window:
            self._points.popleft()

    def _measure(self, function: Function, edition: str) -> dict[str, Signal]:
        measured = {
            CALLS_RATE: self._calls_rate(function, edition),
            IN_FLIGHT: _in_flight(function, edition),
            SEQUENTIAL_SHARE: self._sequential_share(function.name, edition),
            PAGES_RATE: self._pages_rate(function.name, edition),
        }
        if edition != ALL:
            measured[CALLS_SHARE] = self._calls_share(function, edition)
        measured |= self._errors(function.name, edition)
        # Most functions are not timed, and need not be told of four times for each edition.
        if function.name in self._points[-1].took:
            measured |= self._quantiles(function.name, edition)
        return measured

    def _distrust(self, function: str) -> str:
        """Why the window holds figures that cannot be right, the newest reason; else ""."""
        for point in reversed(self._points):
            if function in point.mismatches:
                return point.mismatches[function] or "probes and module disagree"
        return ""

    def _calls_rate(self, function: Function, edition: str) -> Signal:
        if not _is_gated(function):
            return Signal(None, reason=_NO_GATE)
        span = self._span(_CALLS, function.name)
        if span is None:
            return Signal(None, reason=self._why_no_rate())
        return Signal(span.grown(edition) / span.seconds)

    def _calls_share(self, function: Function, edition: str) -> Signal:
        if not _is_gated(function):
            return Signal(None, reason=_NO_GATE)
        span = self._span(_CALLS, function.name)
        if span is None:
            return Signal(None, reason=self._why_no_rate())
        calls = span.grown(ALL)
        return Signal(span.grown(edition) / calls) if calls else Signal(None, reason=_NO_CALLS)

    def _sequential_share(self, function: str, edition: str) -> Signal:
        if function not in self._points[-1].grown["classified"]:
            return Signal(None, reason=_NO_PROBE)
        judged = self._span("classified", function)
        followed = self._span("sequential", function)
        if judged is None or followed is None:
            return Signal(None, reason=self._why_no_rate())
        classified = judged.grown(edition)
        if classified < MIN_CLASSIFIED:
            return Signal(
                None, reason=f"{classified} calls judged in the window, {MIN_CLASSIFIED} needed"
            )
        # The two counters are not read at the same instant: the share may come out just above 1.
        return Signal(min(1.0, followed.grown(edition) / classified))

    def _pages_rate(self, function: str, edition: str) -> Signal:
        if function not in self._points[-1].grown["pages"]:
            return Signal(None, reason=_NO_PROBE)
        span = self._span("pages", function)
        if span is None:
            return Signal(None, reason=self._why_no_rate())
        return Signal(span.grown(edition) / span.seconds)

    def _errors(self, function: str, edition: str) -> dict[str, Signal]:
        returns, errors = (self._span(name, function) for name in ("returns", "errors"))
        if returns is None or errors is None:
            there = function in self._points[-1].grown["returns"]
            none = Signal(None, reason=self._why_no_rate() if there else _NO_PROBE)
            return {ERRORS_RATE: none, ERROR_SHARE: none}
        returned, failed = returns.grown(edition), errors.grown(edition)
        share = Signal(failed / returned) if returned >= MIN_RETURNED else _too_few(returned)
        return {ERRORS_RATE: Signal(failed / errors.seconds), ERROR_SHARE: share}

    def _quantiles(self, function: str, edition: str) -> dict[str, Signal]:
        ends = self._ends(lambda point: function in point.took)
        if ends is None:
            return dict.fromkeys(QUANTILES, Signal(None, reason=_ALL_UNTIMED))
        before, after = (point.took[function].get(edition, Latency()) for point in ends)
        took = after.since(before)
        timed = took.total
        return {
            name: Signal(took.quantile(share)) if timed >= needed else _too_few(timed, needed)
            for name, share in QUANTILES.items()
            for needed in [max(MIN_RETURNED, round(MIN_BEYOND / (1.0 - share)))]
        }

    def _span(self, counter: str, function: str) -> _Span | None:
        """Return how a counter has grown; None if there is no time in between."""
        ends = self._ends(lambda point: function in point.grown[counter])
        if ends is None:
            return None
        before, after = (point.grown[counter][function] for point in ends)
        return _Span(ends[1].time - ends[0].time, before, after)

    def _ends(self, has: Callable[[_Point], bool]) -> tuple[_Point, _Point] | None:
        """Return the oldest point with no hole up to the newest, and that; None if it is the same.

        Sums start anew after a hole.
        """
        newest = oldest = self._points[-1]
        for point in reversed(self._points):
            if not has(point):
                break
            oldest = point
        return None if oldest is newest else (oldest, newest)

    def _why_no_rate(self) -> str:
        return self._no_rate_yet if len(self._points) == 1 else _FIRST_SAMPLE


def _too_few(returned: int, needed: int = MIN_RETURNED) -> Signal:
    return Signal(None, reason=f"{returned} calls returned in the window, {needed} needed")


def _grow(
    growth: _Growth[Figure], found: Mapping[str, Mapping[str, Figure]]
) -> Mapping[str, Mapping[str, Figure]]:
    growth.forget_all_but(found)
    return {function: growth.add(function, values) for function, values in found.items()}


def _latencies(sample: Sample) -> Mapping[str, Latencies]:
    found: dict[str, dict[str, Latency]] = {}
    for (_, function, edition), figures in sample.probes.items():
        if figures.latency is not None:
            found.setdefault(function, {})[edition] = figures.latency
    return found


def _parameters(sample: Sample) -> dict[SignalKey, Signal]:
    """Return what editions show of themselves."""
    values: dict[SignalKey, Signal] = {}
    for subsystem in sample.kernel.subsystems.values():
        for edition in subsystem.editions.values():
            for name, text in edition.parameters.items():
                key = (PARAMETER, name, edition.name)
                found = _number(text)
                if values.setdefault(key, found) != found:
                    values[key] = Signal(None, reason="more than one edition of that name has it")
    return values


def _number(text: str) -> Signal:
    """Return a parameter's value; the kernel writes booleans as Y and N."""
    with contextlib.suppress(ValueError):
        value = {"Y": 1.0, "N": 0.0}[text] if text in {"Y", "N"} else float(text)
        if math.isfinite(value):
            return Signal(value)
    return Signal(None, reason=f'its value is no number: "{text[:40]}"')


def _functions(sample: Sample) -> Iterator[Function]:
    for subsystem in sample.kernel.subsystems.values():
        yield from subsystem.functions.values()


def _is_gated(function: Function) -> bool:
    return function.backend != "none"


def _in_flight(function: Function, edition: str) -> Signal:
    if not _is_gated(function):
        return Signal(None, reason=_NO_GATE)
    counts = function.counts.values() if edition == ALL else (function.counts[edition],)
    return Signal(float(sum(each.in_flight for each in counts)))
