# SPDX-License-Identifier: GPL-2.0-or-later
"""How long editions took to drain after they were left, and events that nobody has read in time.

The module says it in its events. They are looked at once a tick, and the device is closed in
between: a program that has it open keeps the module from being unloaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dynamosd.events import Event, parse_event

MICROSECONDS = 1e-6


@dataclass(frozen=True, slots=True)
class Drain:
    """An edition that has drained, and how long that took since it was left."""

    subsystem: str
    edition: str
    seconds: float


@dataclass(slots=True)
class EventReader:
    """Takes what is new of the events that the module holds; ``lost`` counts those that are gone.

    What was there before the first look is not ours: a daemon before us may have counted it.
    """

    lost: int = 0
    _last: int | None = None

    def take(self, held: str) -> list[Event]:
        """Give the new ones of the events that the module holds now; ``held`` are their lines."""
        lines = held.splitlines()
        newest = _seq(lines[-1]) if lines else 0
        before, self._last = self._last, newest
        if before is None or newest == before:
            return []
        # One that has fallen is of a module that was loaded anew, and counts from 1 again.
        begin = before if newest > before else 0
        new = _newer(lines, begin)
        self.lost += newest - begin - len(new)
        return new

    def forget_module(self) -> None:
        """Begin anew when the module is back."""
        self._last = None


def _seq(line: str) -> int:
    event = parse_event(line)
    return event.seq if event else 0


def _newer(lines: Sequence[str], before: int) -> list[Event]:
    """Give the events behind one; only they are taken apart, for mostly there is none."""
    new: list[Event] = []
    for event in map(parse_event, reversed(lines)):
        if event is None or event.seq <= before:
            break
        new.append(event)
    return new[::-1]


def drains(events: Iterable[Event]) -> list[Drain]:
    """Give the drains that events tell of."""
    return [
        Drain(
            each.fields["subsystem"], each.fields["edition"], int(each.fields["us"]) * MICROSECONDS
        )
        for each in events
        if each.name == "drained"
        and each.fields.get("us", "").isdecimal()
        and {"subsystem", "edition"} <= each.fields.keys()
    ]
