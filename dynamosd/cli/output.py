# SPDX-License-Identifier: GPL-2.0-or-later
"""How answers look: plain tables for people, JSON for programs."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from dynamosd.status import API_VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dynamosd.policy.problems import Problem

WIDTH = 80
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


def print_note(text: str, indent: str = "  ") -> None:
    """Print a sentence that belongs to the line above, inside the usual width."""
    print(textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent))


def warn(text: str) -> None:
    """Print a line on stderr that is not an error."""
    print(f"dynamosctl: {text}", file=sys.stderr)


def text_of(value: object) -> str:
    """Show a value that may be missing."""
    return "-" if value in {None, ""} else str(value)


def policies_of(status: Mapping[str, Any] | None, subsystem: str) -> list[Mapping[str, Any]]:
    """Give what the daemon says of the policies of a subsystem."""
    policies = (status or {}).get("policies", [])
    return [policy for policy in policies if policy.get("subsystem") == subsystem]


def quarantines_of(status: Mapping[str, Any] | None, subsystem: str) -> list[Mapping[str, Any]]:
    """Give the editions of a subsystem that the daemon itself keeps in quarantine."""
    found = (status or {}).get("quarantines", [])
    return [each for each in found if each.get("subsystem") == subsystem]
