# SPDX-License-Identifier: GPL-2.0-or-later
"""The lines that ``/dev/dynamos`` gives, taken apart: docs/abi.md, "Listening". Pure.

Some values are what any user may choose, such as a thread's name. So everything that is not
printable ASCII becomes ``?`` first: no name can end a line, or speak to a terminal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

_WORD = re.compile(r'([^\s=]+)=(?:"([^"]*)(?:"|$)|(\S*))')
_UNPRINTABLE = re.compile(rb"[^\n -~]")

_NAMED = 5
"""So many threads are named in a sentence."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line from ``/dev/dynamos``.

    ``time`` is CLOCK_MONOTONIC in seconds. ``seq`` is 0 for a ``lost`` event, which the reader
    gets instead of the ones that were overwritten before it came.
    """

    seq: int
    time: float
    name: str
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Inside:
    """A thread in a function. ``how`` says how it is known: gated, before-gate or unreliable.

    ``at`` is the kernel function it sits in now. ``function`` is ``?`` when its stack could not be
    read: then it only may be inside.
    """

    function: str
    edition: str
    pid: int
    comm: str
    at: str
    how: str

    def __str__(self) -> str:
        """Name the thread for a sentence."""
        where = "(its stack cannot be read)" if self.function == "?" else f"in {self.function}"
        return f"{self.comm}[{self.pid}] {where}"


def text_of_lines(raw: bytes) -> str:
    """Give the text of what was read from the device."""
    return _UNPRINTABLE.sub(b"?", raw).decode("ascii")


def parse_event(line: str) -> Event | None:
    """Take one event line apart; None when it is not one. A line cut short keeps its words."""
    fields = {key: quoted or bare for key, quoted, bare in _WORD.findall(line)}
    try:
        seq, time, name = int(fields.pop("seq")), float(fields.pop("time")), fields.pop("event")
    except (KeyError, ValueError):
        return None
    return Event(seq, time, name, fields)


def parse_events(text: str) -> Iterator[Event]:
    """Give the events of a block of lines, without those that are not event lines."""
    return (event for line in text.split("\n") if (event := parse_event(line)))


def refusal(events: Iterable[Event], line: str, pid: int) -> str:
    """Give the reason of the last refusal that is ours: others may be writing too."""
    ours = [
        event.fields.get("reason", "")
        for event in events
        if event.name == "refused"
        and (event.fields.get("by") == str(pid) or event.fields.get("command") == line)
    ]
    return ours[-1] if ours else ""


def inside(events: Iterable[Event], subsystem: str) -> tuple[list[Inside], int]:
    """Give the threads that the events name in a subsystem, each once, and how many more."""
    found: dict[Inside, None] = {}
    more = 0
    for event in events:
        if event.name == "inside" and event.fields.get("subsystem") == subsystem:
            more += _number(event.fields.get("count", "")) or 0
            if thread := _thread(event.fields):
                found[thread] = None
    return list(found), more


def lost(events: Iterable[Event]) -> bool:
    """Tell whether events were overwritten before they could be read."""
    return any(event.name == "lost" for event in events)


def name_threads(threads: list[Inside], more: int) -> str:
    """Name threads in a sentence, not too many."""
    named = ", ".join(map(str, threads[:_NAMED]))
    unnamed = max(0, len(threads) - _NAMED) + more
    return f"{named} and {unnamed} more" if unnamed else named


def _thread(fields: Mapping[str, str]) -> Inside | None:
    pid = _number(fields.get("pid", ""))
    function, edition = fields.get("function"), fields.get("edition")
    if pid is None or not function or edition is None:
        return None
    words = (fields.get(key, "") for key in ("comm", "at", "how"))
    return Inside(function, edition, pid, *words)


def _number(text: str) -> int | None:
    """Give a whole number from 0; None when it is none (or has more digits than Python takes)."""
    try:
        return int(text) if text.isdecimal() else None
    except ValueError:
        return None
