# SPDX-License-Identifier: GPL-2.0-or-later
"""What there is to show: a row for each subsystem, or for each edition of each function."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from dynamosd.cli.output import pin_of, policies_of
from dynamosd.cli.subsystem import mark
from dynamosd.cli.top.measure import Key, Picture, draining, each
from dynamosd.model import Counts, Function, Subsystem

NO_DAEMON = "no daemon"
UNKNOWN = "-"
PINNED = "pinned"
LOADED = "loaded"
"""Since when a subsystem's edition is active that has never been switched."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row. ``edition`` is the active one of a subsystem; ``since`` is a number of seconds.

    ``since`` is None where it is not known, and infinite for what has never been switched.
    ``wrong`` when something about it wants to be looked at.
    """

    key: Key
    edition: str
    mark: str
    rate: float | None
    in_flight: int
    draining: int
    since: float | None
    policy: str
    wrong: bool

    @property
    def subsystem(self) -> str:
        """Whose row it is."""
        return self.key[0]

    @property
    def function(self) -> str:
        """Which function's it is; "" for all."""
        return self.key[1]


def rows_of(picture: Picture, *, editions: bool) -> list[Row]:
    """Give all rows, by their names."""
    if picture.kernel is None:
        return []
    found = []
    for subsystem in picture.kernel.subsystems.values():
        parts = [_part(picture, subsystem, *one) for one in each(subsystem)]
        found += parts if editions else [_whole(picture, subsystem, parts)]
    return found


def _part(
    picture: Picture, subsystem: Subsystem, function: Function, edition: str, counts: Counts
) -> Row:
    key = (subsystem.name, function.name, edition)
    known = subsystem.editions.get(edition)
    return Row(
        key,
        edition,
        mark(subsystem, edition),
        picture.rates.get(key),
        counts.in_flight,
        draining(subsystem, function, edition, counts),
        _age(picture, subsystem),
        policy_of(picture.daemon, subsystem),
        bool(known and known.quarantine),
    )


def _whole(picture: Picture, subsystem: Subsystem, parts: list[Row]) -> Row:
    key = (subsystem.name, "", "")
    pin = pin_of(picture.daemon, subsystem.name)
    orders = [*policies_of(picture.daemon, subsystem.name), *([pin] if pin else [])]
    return Row(
        key,
        subsystem.active,
        f" ~{subsystem.partial}" if subsystem.partial else "",
        picture.rates.get(key),
        subsystem.in_flight,
        sum(part.draining for part in parts),
        _age(picture, subsystem),
        policy_of(picture.daemon, subsystem),
        any(each.get("trouble") for each in orders),
    )


def _age(picture: Picture, subsystem: Subsystem) -> float | None:
    since = picture.since.get(subsystem.name)
    if since is not None:
        return max(0.0, picture.wall - since)
    return None if subsystem.switches else math.inf


def policy_of(daemon: Mapping[str, Any] | None, subsystem: Subsystem) -> str:
    """Say how the policies of a subsystem stand, the one that enforces first; a pin goes before."""
    if daemon is None:
        return NO_DAEMON
    policies, is_pinned = policies_of(daemon, subsystem.name), pin_of(daemon, subsystem.name)
    if not policies:
        return PINNED if is_pinned else UNKNOWN
    first = min(policies, key=lambda policy: policy.get("mode") != "enforce")
    phase = "paused" if first.get("paused") else str(first.get("phase") or "not evaluated")
    phase = PINNED if is_pinned else phase
    mode = "" if first.get("mode") == "enforce" else f" ({first.get('mode')})"
    rule = f" {first['rule']}" if first.get("rule") else ""
    more = f" +{len(policies) - 1}" if len(policies) > 1 else ""
    return f"{first['name']}{mode}: {phase}{rule}{more}"


# ---------------------------------------------------------------------------------------- order


@dataclass(frozen=True, slots=True)
class Order:
    """A way to sort: which rows come first unless one asks for the reverse."""

    name: str
    value: Callable[[Row], Any]
    largest_first: bool = False


ORDERS = {
    order.name: order
    for order in (
        Order("calls", lambda row: row.rate, largest_first=True),
        Order("in-flight", lambda row: row.in_flight, largest_first=True),
        Order("draining", lambda row: row.draining, largest_first=True),
        Order("name", lambda row: row.key),
        Order("edition", lambda row: row.edition),
        Order("since", lambda row: row.since),
        Order("policy", lambda row: row.policy),
    )
}


def ordered(rows: Iterable[Row], by: str, *, reverse: bool = False) -> list[Row]:
    """Sort rows; equal ones by their names, and those without a value last, whatever is asked."""
    order = ORDERS[by]
    known: list[Row] = []
    unknown: list[Row] = []
    for row in sorted(rows, key=lambda row: row.key):
        (unknown if order.value(row) is None else known).append(row)
    return [*sorted(known, key=order.value, reverse=order.largest_first is not reverse), *unknown]


def filtered(rows: Iterable[Row], text: str) -> list[Row]:
    """Give the rows that have ``text`` in a name, in their edition or in their policy."""
    wanted = text.casefold()
    return [
        row
        for row in rows
        if any(wanted in part.casefold() for part in (*row.key, row.edition, row.policy))
    ]
