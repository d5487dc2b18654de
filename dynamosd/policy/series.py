# SPDX-License-Identifier: GPL-2.0-or-later
"""Made-up series of values, in the notation of Prometheus' unit tests.

1 2 3        three values
1x3          1, and three times more: 1 1 1 1
1+2x3        1, and three steps of 2: 1 3 5 7; 7-2x3 the other way
_  _x3       one value, or three, missing
stale        missing too: the source has gone
"""

from __future__ import annotations

import re

MAX_VALUES = 100_000

MISSING, STALE = "missing", "stale"

Value = float | str
"""A number, or `MISSING` or `STALE`."""

_NUMBER = r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?"
_ITEM = re.compile(
    rf"(?P<first>{_NUMBER})(?:(?P<sign>[-+])(?P<step>{_NUMBER}))?(?:x(?P<times>[0-9]{{1,7}}))?"
)
_GAP = re.compile(r"_(?:x(?P<times>[0-9]{1,7}))?")


def parse_series(text: str) -> tuple[Value, ...]:
    """Return the values of a series.

    Raises:
        ValueError: it is not one, or longer than `MAX_VALUES`.
    """
    values: list[Value] = []
    for item in text.split():
        values += _expand(item)
        if len(values) > MAX_VALUES:
            raise ValueError(f"a series has at most {MAX_VALUES} values")
    if not values:
        raise ValueError("a series has at least one value")
    return tuple(values)


def _expand(item: str) -> list[Value]:
    if item == STALE:
        return [STALE]
    gap = _GAP.fullmatch(item)
    if gap:
        return [MISSING] * min(MAX_VALUES + 1, int(gap["times"] or 1))
    match = _ITEM.fullmatch(item)
    if match is None or (match["step"] and match["times"] is None):
        raise ValueError(f'"{item[:40]}" is not a value, such as 5, 1x3, 1+2x3, _ or stale')
    step = float(match["step"] or 0.0) * (-1.0 if match["sign"] == "-" else 1.0)
    times = min(MAX_VALUES + 1, int(match["times"] or 0))
    return [float(match["first"]) + step * number for number in range(times + 1)]
