# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps the last hour for whoever looks: editions, signals and decisions, and no more of them.

The loop adds to it and gets a `Timeline` that nobody changes; another thread makes the answers of
that. Everything is bounded, and what is left out is counted. Times are of CLOCK_MONOTONIC, so that
an hour is an hour whatever is done to the clock.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dynamosd.api.timeline import (
    KEEP_SECONDS,
    STEP_SECONDS,
    Change,
    Point,
    Series,
    Timeline,
    Told,
)
from dynamosd.hostsignals import CPU_BUSY, MEMORY_AVAILABLE, PRESSURE
from dynamosd.model import KernelState, Signal, SignalKey, Signals, Standing, Subsystem
from dynamosd.policy.expression import Input
from dynamosd.signals import ALL, CALLS_RATE, IN_FLIGHT, SIGNALS

if TYPE_CHECKING:
    from dynamosd.policy.definition import Policy

MAX_POINTS = int(KEEP_SECONDS / STEP_SECONDS)
MAX_SUBSYSTEMS = 32
MAX_CHANGES = 100
"""Of each subsystem."""

MAX_SIGNALS = 48
MAX_RECORDS = 100
MAX_TEXT = 500

_OF_EACH_FUNCTION = (CALLS_RATE, IN_FLIGHT)
_OF_THE_HOST = (CPU_BUSY, MEMORY_AVAILABLE, PRESSURE)

_KINDS = frozenset(
    {"decision", "switch", "guardrail", "canary", "quarantine", "trouble", "pin", "unpin"}
    | {"module_gone", "module_back", "reload", "reload_failed"}
)
_SHOWN = (
    *("kind", "subsystem", "policy", "mode", "phase", "rule", "action", "current", "target"),
    *("suppressed", "reason", "from", "to", "trigger", "result", "error", "partial", "scope"),
    *("edition", "guardrail", "verdict", "event", "step", "steps", "until"),
)
"""What anyone may see of a record: the status says the same of the last ones."""


class TimelineKeeper:
    """Adds to the last hour, tick by tick."""

    def __init__(self, now: float) -> None:
        """Begin with nothing."""
        self._since = now
        self._changes: dict[str, deque[Change]] = {}
        self._points: deque[Point] = deque(maxlen=MAX_POINTS)
        self._next_point = now
        self._series: tuple[Series, ...] = ()
        self._records: deque[Told] = deque(maxlen=MAX_RECORDS)
        self._left_out = {"subsystems": 0, "signals": 0}
        self._shown = Timeline(now)
        self._is_new = False

    def note(self, record: Mapping[str, Any], now: float) -> None:
        """Take a record of the journal, if anyone may see it; that it came again is no news."""
        if record["kind"] in _KINDS and "repeated" not in record:
            shown = {key: _cut(record[key]) for key in _SHOWN if record.get(key) not in (None, "")}
            self._records.append(Told(now, shown))
            self._is_new = True

    def tick(
        self,
        now: float,
        wall: float,
        kernel: KernelState | None,
        signals: Signals | None,
        policies: Iterable[Policy],
    ) -> Timeline:
        """Take what the module shows and, when it is time, the signals; give the hour until now."""
        self._note_editions(now, kernel.subsystems if kernel else {})
        if now >= self._next_point:
            late = now >= self._next_point + STEP_SECONDS
            self._next_point = STEP_SECONDS + (now if late else self._next_point)
            self._add_point(now, signals.values if signals else {}, policies)
        if self._is_new:
            self._is_new = False
            self._drop_old(now - KEEP_SECONDS)
            self._shown = Timeline(
                max(self._since, now - KEEP_SECONDS),
                wall - now,
                {name: tuple(each) for name, each in sorted(self._changes.items())},
                self._series,
                tuple(self._points),
                tuple(self._records),
                dict(self._left_out),
            )
        return self._shown

    def _note_editions(self, now: float, subsystems: Mapping[str, Subsystem]) -> None:
        left_out = 0
        for name in self._changes.keys() | subsystems.keys():
            if name not in self._changes and len(self._changes) >= MAX_SUBSYSTEMS:
                left_out += 1
                continue
            known = self._changes.setdefault(name, deque(maxlen=MAX_CHANGES))
            found = _standing(subsystems.get(name))
            if not known or known[-1].standing != found:
                known.append(Change(now, found))
                self._is_new = True
        self._left_out["subsystems"] = left_out

    def _add_point(
        self, now: float, values: Mapping[SignalKey, Signal], policies: Iterable[Policy]
    ) -> None:
        read = {key for policy in policies for key in policy.signals}
        keys = list(_worth_keeping(values, read))
        self._left_out["signals"] = max(0, len(keys) - MAX_SIGNALS)
        kept = keys[:MAX_SIGNALS]
        if kept:
            self._series = tuple(Series(key, Input(*key).text, SIGNALS[key[0]]) for key in kept)
        self._points.append(Point(now, {key: _figure(values[key]) for key in kept}))
        self._is_new = True

    def _drop_old(self, begin: float) -> None:
        """Keep what is younger, and which editions there were at the beginning."""
        while self._points and self._points[0].time < begin:
            self._points.popleft()
        while self._records and self._records[0].time < begin:
            self._records.popleft()
        for name, changes in list(self._changes.items()):
            while len(changes) > 1 and changes[1].time <= begin:
                changes.popleft()
            if changes[-1].standing is None and changes[-1].time < begin:
                del self._changes[name]


def _standing(subsystem: Subsystem | None) -> Standing | None:
    """Give who gets new calls; how that was switched is no news by itself."""
    if subsystem is None:
        return None
    return Standing(subsystem.active, subsystem.partial, scope=subsystem.scope)


def _worth_keeping(
    values: Mapping[SignalKey, Signal], read: Collection[SignalKey]
) -> Iterator[SignalKey]:
    """Give the keys of signals that are worth it, those first that policies read."""
    first = sorted(key for key in values if key in read)
    host = (key for key in values if key[0] in _OF_THE_HOST)
    calls = (key for key in values if key[0] in _OF_EACH_FUNCTION and key[2] == ALL)
    return iter(dict.fromkeys(itertools.chain(first, calls, host)))


def _figure(signal: Signal) -> float | None:
    """Give four digits of a value; None if there is none to be trusted."""
    value = signal.value
    if value is None or not signal.trusted or not math.isfinite(value):
        return None
    return float(f"{value:.4g}")


def _cut(value: object) -> object:
    if isinstance(value, str) and len(value) > MAX_TEXT:
        return f"{value[:MAX_TEXT]}…"
    return value
