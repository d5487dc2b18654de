# SPDX-License-Identifier: GPL-2.0-or-later
"""Findings, shown: what each is about, how it stands, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dynamosd.cli.output import colour, wrap

if TYPE_CHECKING:
    from collections.abc import Sequence


class Row(NamedTuple):
    """One finding; ``hue`` is the colour of its verdict."""

    verdict: str
    hue: str
    name: str
    seen: str
    remedy: str


def print_findings(rows: Sequence[Row]) -> None:
    """Print findings."""
    first = max((len(row.verdict) for row in rows), default=0)
    second = max((len(row.name) for row in rows), default=0)
    indent = " " * (first + 2)
    for row in rows:
        start = f"{row.verdict.ljust(first)}  {row.name.ljust(second)}  "
        text = "\n".join(wrap(start + row.seen, indent))
        verdict = text[:first]
        print(f"{colour(verdict, row.hue)}{text[first:]}")
        if row.remedy:
            print("\n".join(wrap(f"-> {row.remedy}", indent, indent)))
