# SPDX-License-Identifier: GPL-2.0-or-later
"""Times of the week, in UTC: a policy means the same on every machine, and no hour comes twice."""

from __future__ import annotations

import re
from typing import NamedTuple

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

DAY_MINUTES = 24 * 60
WEEK_MINUTES = 7 * DAY_MINUTES

# 1 January 1970 was a Thursday.
_EPOCH_MINUTE = 3 * DAY_MINUTES

DAYS_PATTERN = "^({0})(-({0}))?(,({0})(-({0}))?)*$".format("|".join(DAYS))
CLOCK_PATTERN = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"

_DAYS = re.compile(DAYS_PATTERN)
_CLOCK = re.compile(CLOCK_PATTERN)


class Hours(NamedTuple):
    """A stretch of some days. In minutes of the day; one that ends first ends on the next day."""

    days: frozenset[int]
    begin: int
    end: int

    def covers(self, wall: float) -> bool:
        """Tell whether a time of the Unix epoch, in seconds, is in it. Its end is not."""
        minute = (int(wall // 60) + _EPOCH_MINUTE) % WEEK_MINUTES
        day, of_day = divmod(minute, DAY_MINUTES)
        if self.begin < self.end:
            return day in self.days and self.begin <= of_day < self.end
        if of_day >= self.begin:
            return day in self.days
        return of_day < self.end and (day - 1) % 7 in self.days


def parse_days(text: str) -> frozenset[int]:
    """Return the days of e.g. ``mon-fri,sun``; Monday is 0.

    Raises:
        ValueError: it is not a list of days.
    """
    if not _DAYS.fullmatch(text):
        raise ValueError(f'"{text[:40]}" is not days such as mon-fri or sat,sun')
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        # From Friday to Monday is over the weekend.
        found.update((begin + step) % 7 for step in range((end - begin) % 7 + 1))
    return frozenset(found)


def parse_clock(text: str) -> int:
    """Return the minute of the day of e.g. ``08:30``; ``24:00`` is the day's end.

    Raises:
        ValueError: it is not a time of day.
    """
    if not _CLOCK.fullmatch(text):
        raise ValueError(f'"{text[:40]}" is not a time of day such as 08:30')
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)
