# SPDX-License-Identifier: GPL-2.0-or-later
"""From one reading of the module to the next: calls a second, and since when it is so."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from dynamosd.model import ORIGINAL, Counts, Function, KernelState, Subsystem
from dynamosd.status import seconds_of

HISTORY_SECONDS = 60.0

Key = tuple[str, str, str]
"""(subsystem, function, edition); the last two are "" for all of a subsystem together."""

Rates = Mapping[Key, float]


class Interval(NamedTuple):
    """The calls a second between two readings, at times of CLOCK_MONOTONIC."""

    start: float
    end: float
    rates: Rates


@dataclass(frozen=True, slots=True)
class Picture:
    """What is known at one time.

    ``kernel`` is None while the module cannot be read, and ``why`` says why. ``seconds`` is what
    ``rates`` were measured over, 0 when they were not: of what is not in them nothing is known.
    ``since`` has the Unix times since when subsystems have their active editions, if that is known.
    """

    now: float
    wall: float
    kernel: KernelState | None = None
    daemon: Mapping[str, Any] | None = None
    why: str = ""
    seconds: float = 0.0
    history: tuple[Interval, ...] = ()
    since: Mapping[str, float] = field(default_factory=dict)

    @property
    def rates(self) -> Rates:
        """Give the calls a second since the reading before."""
        return self.history[-1].rates if self.seconds else {}


class Meter:
    """Compares each reading with the one before, and keeps a minute of that."""

    def __init__(self) -> None:
        """Begin with nothing known."""
        self._before: KernelState | None = None
        self._then = 0.0
        self._history: deque[Interval] = deque()
        self._seen: dict[str, float] = {}

    def feed(
        self, now: float, wall: float, kernel: KernelState | None, daemon: Mapping[str, Any] | None
    ) -> Picture:
        """Take a reading; None if the module cannot be read."""
        before, then = self._before, self._then
        self._before, self._then = kernel, now
        while self._history and self._history[0].end <= now - HISTORY_SECONDS:
            self._history.popleft()
        measured = kernel is not None and before is not None and now > then
        if kernel and before and measured:
            self._history.append(Interval(then, now, _rates(before, kernel, now - then)))
            self._note_switches(before, kernel, wall)
        elif not kernel:
            self._seen.clear()
        return Picture(
            now,
            wall,
            kernel,
            daemon,
            seconds=now - then if measured else 0.0,
            history=tuple(self._history),
            since=dict(self._since(kernel, daemon)),
        )

    def _note_switches(self, before: KernelState, after: KernelState, wall: float) -> None:
        """Remember when an active edition became that under our eyes."""
        for name, subsystem in after.subsystems.items():
            old = before.subsystems.get(name)
            if old and old.active != subsystem.active:
                self._seen[name] = wall
            elif not old or subsystem.switches < old.switches:
                self._seen.pop(name, None)

    def _since(
        self, kernel: KernelState | None, daemon: Mapping[str, Any] | None
    ) -> Iterator[tuple[str, float]]:
        for name, subsystem in kernel.subsystems.items() if kernel else ():
            since = self._seen.get(name) or _told(daemon, subsystem)
            if since:
                yield name, since


def _told(daemon: Mapping[str, Any] | None, subsystem: Subsystem) -> float | None:
    """Give since when the active edition is that, if the daemon has seen it become so."""
    last = (daemon or {}).get("last_switches", {}).get(subsystem.name, {})
    if last.get("to") != subsystem.active:
        return None
    return seconds_of(last.get("time"))


# ---------------------------------------------------------------------------------------- rates


def _rates(before: KernelState, after: KernelState, seconds: float) -> Rates:
    """Give the calls a second of all that was there before, each edition and all together."""
    found: dict[Key, float] = {}
    for name, subsystem in after.subsystems.items():
        old = before.subsystems.get(name)
        if old is None:
            continue
        total = 0.0
        for function, edition, counts in each(subsystem):
            rate = _more(old, function.name, edition, counts) / seconds
            found[name, function.name, edition] = rate
            total += rate
        found[name, "", ""] = total
    return found


def _more(old: Subsystem, function: str, edition: str, now: Counts) -> int:
    """Count the calls since; what was loaded meanwhile, again perhaps, began with none."""
    known = old.functions.get(function)
    was = known.counts.get(edition) if known else None
    return now.calls - was.calls if was and was.calls <= now.calls else now.calls


def each(subsystem: Subsystem) -> Iterator[tuple[Function, str, Counts]]:
    """Give each edition of each function."""
    for function in subsystem.functions.values():
        for edition, counts in function.counts.items():
            yield function, edition, counts


def draining(subsystem: Subsystem, function: Function, edition: str, counts: Counts) -> int:
    """Count the threads inside an edition of a function that no new call gets.

    ``original`` goes on with the functions that the active edition does not have.
    """
    takers = {
        name if name in function.counts else ORIGINAL
        for name in (subsystem.active, subsystem.partial)
        if name
    }
    return 0 if edition in takers else counts.in_flight


# ----------------------------------------------------------------------------------- sparklines


def spark(history: tuple[Interval, ...], key: Key, now: float, cells: int) -> list[float | None]:
    """Give the calls a second over the last minute, the newest last; None where it is not known.

    Each cell has the mean over its part of the minute.
    """
    width = HISTORY_SECONDS / cells
    weights, sums = [0.0] * cells, [0.0] * cells
    start = now - HISTORY_SECONDS
    for interval in history:
        rate = interval.rates.get(key)
        if rate is None:
            continue
        first = max(0, int((interval.start - start) / width))
        last = min(cells - 1, int((interval.end - start) / width))
        for cell in range(first, last + 1):
            left, right = start + cell * width, start + (cell + 1) * width
            shared = min(right, interval.end) - max(left, interval.start)
            if shared > 0.0:
                weights[cell] += shared
                sums[cell] += shared * rate
    return [total / weight if weight else None for total, weight in zip(sums, weights, strict=True)]
