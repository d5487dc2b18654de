# SPDX-License-Identifier: GPL-2.0-or-later
"""Times of the week."""

from __future__ import annotations

import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.policy.hours import DAYS, Hours, parse_clock, parse_days


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("mon", {0}),
        ("mon-fri", {0, 1, 2, 3, 4}),
        ("sat,sun", {5, 6}),
        ("fri-mon", {4, 5, 6, 0}),
        ("mon-tue,sun,mon", {0, 1, 6}),
    ],
)
def test_days(text: str, days: set[int]) -> None:
    assert parse_days(text) == days


@pytest.mark.parametrize("text", ["", "monday", "mon-", "mon,", "mon fri", "Mon", "mon-fri-sun"])
def test_not_days(text: str) -> None:
    with pytest.raises(ValueError, match="is not days such as"):
        parse_days(text)


@pytest.mark.parametrize(("text", "minute"), [("00:00", 0), ("08:30", 510), ("24:00", 1440)])
def test_clock(text: str, minute: int) -> None:
    assert parse_clock(text) == minute


@pytest.mark.parametrize("text", ["", "8:30", "24:01", "25:00", "08:60", "0830", "08:30 "])
def test_not_a_clock(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time of day"):
        parse_clock(text)


MINUTES = st.integers(0, 1439)


@given(
    st.frozensets(st.integers(0, 6)),
    MINUTES,
    st.integers(0, 1440),
    st.integers(0, 2**32),
)
def test_covers_what_the_calendar_says(
    days: frozenset[int], begin: int, end: int, wall: int
) -> None:
    hours = Hours(days, begin, end)
    utc = dt.datetime.fromtimestamp(wall, dt.UTC)
    minute = utc.hour * 60 + utc.minute
    today, yesterday = utc.weekday() in days, (utc.weekday() - 1) % 7 in days
    if begin < end:
        expected = today and begin <= minute < end
    else:
        expected = (today and minute >= begin) or (yesterday and minute < end)
    assert hours.covers(float(wall)) is expected


def test_days_begin_with_the_one_python_begins_with() -> None:
    assert dt.date(2026, 11, 23).strftime("%a").lower() == DAYS[0]
