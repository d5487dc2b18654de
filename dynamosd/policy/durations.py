# SPDX-License-Identifier: GPL-2.0-or-later
"""Durations as Prometheus writes them: ``1h30m``, ``500ms``; large units first, each once.

And how numbers are shown beside them.
"""

from __future__ import annotations

import re

_UNITS = (
    ("y", 365 * 86400.0),
    ("w", 7 * 86400.0),
    ("d", 86400.0),
    ("h", 3600.0),
    ("m", 60.0),
    ("s", 1.0),
    ("ms", 0.001),
)

PATTERN = "^(0|" + "".join(f"([0-9]{{1,9}}{unit})?" for unit, _ in _UNITS) + ")$"
"""Regular expression of a duration (the empty text, which it also matches, is none)."""

MAX_SECONDS = _UNITS[0][1]
"""Longest duration accepted: a year. A longer one is a typing error."""

_DURATION = re.compile(PATTERN)


def parse_duration(text: str) -> float:
    """Return a duration's seconds.

    Raises:
        ValueError: it is not one; the message says what one looks like.
    """
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError(f'"{text[:40]}" is not a duration such as 500ms, 30s or 1h30m')
    # Whole milliseconds first: 0.1 is not exact in binary, and sums of it are not either.
    milliseconds = 0
    for group, (unit, seconds) in zip(match.groups()[1:], _UNITS, strict=True):
        if group:
            milliseconds += int(group.removesuffix(unit)) * round(seconds * 1000)
    if milliseconds > MAX_SECONDS * 1000:
        raise ValueError(f'"{text}" is longer than a year')
    return milliseconds / 1000


def format_duration(seconds: float) -> str:
    """Return seconds as a duration, rounded to milliseconds, e.g. ``1m30s`` or ``1s500ms``."""
    left = round(max(0.0, seconds) * 1000)
    parts = []
    for unit, length in _UNITS:
        # Years and weeks are input only: nobody reads "3w2d" faster than "23d".
        if unit in {"y", "w"}:
            continue
        count, left = divmod(left, round(length * 1000))
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


_WHOLE_NUMBERS_FROM = 100.0


def format_number(value: float) -> str:
    """Return a number for people: three digits, or whole from a hundred on."""
    return f"{value:.0f}" if abs(value) >= _WHOLE_NUMBERS_FROM else f"{value:.3g}"
