# SPDX-License-Identifier: GPL-2.0-or-later
"""How answers look: plain tables for people, JSON for programs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import textwrap
import threading
import time
from typing import TYPE_CHECKING, Any

from dynamosd import status
from dynamosd.policy.durations import format_duration
from dynamosd.status import API_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from dynamosd.policy.problems import Problem

WIDTH = 80
"""Of lines, where neither a terminal nor COLUMNS says how wide they may be."""

_NARROWEST = 40
PATIENCE_SECONDS = 2.0
"""For how long somebody looks at a terminal that says nothing."""

_GAP = "  "
_COLOURS = {"red": 31, "green": 32, "yellow": 33, "bold": 1}


def print_json(kind: str, **fields: object) -> None:
    """Print one document in the envelope that all answers share."""
    print(json.dumps({"apiVersion": API_VERSION, "kind": kind, **fields}, indent=2))


def problem_json(problem: Problem) -> dict[str, object]:
    """Give what is wrong with a file, for programs."""
    return {
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "severity": str(problem.severity),
        "message": problem.message,
        "code": problem.code,
        "hint": problem.hint,
    }


def colour(text: str, name: str) -> str:
    """Colour ``text`` where a person looks at it and has not said no (NO_COLOR)."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty():
        return text
    return f"\033[{_COLOURS[name]}m{text}\033[0m"


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: str = "") -> list[str]:
    """Give the lines of a table. ``right`` names the columns with numbers, comma-separated."""
    lines = [list(head), *(list(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    numbers = set(right.split(","))
    return [
        _GAP.join(
            text.rjust(width) if name in numbers else text.ljust(width)
            for text, width, name in zip(line, widths, head, strict=True)
        ).rstrip()
        for line in lines
    ]


def print_table(head: Sequence[str], rows: Iterable[Sequence[str]], *, right: str = "") -> None:
    """Print a table, its head in bold."""
    first, *rest = table(head, rows, right=right)
    print(colour(first, "bold"))
    for line in rest:
        print(line)


def width(piped: int = WIDTH) -> int:
    """Give how wide lines may be; ``piped`` where nothing says it."""
    said = os.environ.get("COLUMNS", "")
    if said.isascii() and said.isdigit() and int(said):
        return max(_NARROWEST, int(said))
    try:
        return max(_NARROWEST, os.get_terminal_size(sys.stdout.fileno()).columns)
    except (OSError, ValueError):
        return piped


def wrap(text: str, indent: str, first: str = "", piped: int = WIDTH) -> list[str]:
    """Break text into lines that fit, all but the ``first`` behind an indent."""
    return textwrap.wrap(
        text,
        width(piped),
        initial_indent=first,
        subsequent_indent=indent,
        # Names have hyphens, and are searched for and copied.
        break_on_hyphens=False,
    )


def print_note(text: str, indent: str = "  ") -> None:
    """Print a sentence that belongs to the line above."""
    print("\n".join(wrap(text, indent, indent)))


def warn(text: str) -> None:
    """Print a line on stderr that is not an error."""
    print(f"dynamosctl: {text}", file=sys.stderr)


@contextlib.contextmanager
def tell_if_long(text: str) -> Iterator[None]:
    """Say on stderr what is waited for, if the context lasts long."""
    timer = threading.Timer(PATIENCE_SECONDS, warn, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def text_of(value: object) -> str:
    """Show a value that may be missing."""
    return "-" if value in {None, ""} else str(value)


def lasting(since: str) -> str:
    """Say for how long something has lasted; "" if that cannot be said."""
    begin = status.seconds_of(since)
    if begin is None or begin > (now := time.time()):
        return ""
    return f", for {format_duration(round(now - begin))}"


def warn_if_silent(daemon: Mapping[str, Any] | None) -> None:
    """Say that what a daemon says of itself is old; it may hang, or be stopped."""
    age = status.age(daemon, time.time()) if daemon else None
    if daemon and age is not None and age > status.patience(daemon):
        said = f"warning: the daemon, pid {daemon['pid']}, has shown nothing for {round(age)} s"
        warn(f"{said}: what it says here is old; see: dynamosctl verify")
    elif daemon and "module" in daemon and daemon["module"] is None:
        warn("warning: the kernel module is not loaded: what is said here was so before")


def policies_of(daemon: Mapping[str, Any] | None, subsystem: str) -> list[Mapping[str, Any]]:
    """Give what the daemon says of the policies of a subsystem."""
    policies = (daemon or {}).get("policies", [])
    return [policy for policy in policies if policy.get("subsystem") == subsystem]


def pin_of(daemon: Mapping[str, Any] | None, subsystem: str) -> Mapping[str, Any] | None:
    """Give the pin of a subsystem, if the daemon has one."""
    found = (daemon or {}).get("pins", [])
    return next((each for each in found if each.get("subsystem") == subsystem), None)


def quarantines_of(daemon: Mapping[str, Any] | None, subsystem: str) -> list[Mapping[str, Any]]:
    """Give the editions of a subsystem that the daemon itself keeps in quarantine."""
    found = (daemon or {}).get("quarantines", [])
    return [each for each in found if each.get("subsystem") == subsystem]
