# SPDX-License-Identifier: GPL-2.0-or-later
"""Durations in and out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.policy.durations import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("500ms", 0.5),
        ("1s", 1.0),
        ("1m30s", 90.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        ("1w", 604800.0),
        ("1y", 31536000.0),
    ],
)
def test_prometheus_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "s",
        "-1s",
        "1.5s",
        "1 s",
        " 1s",
        "1s ",
        "1s1m",
        "1s1s",
        "1M",
        "1µs",
        "\N{ARABIC-INDIC DIGIT ONE}s",
        "2y",
        "1s\n",
        "9999999999s",
        "00000000000000000000s",
        "1s" * 1000,
    ],
)
def test_what_is_not_a_duration(text: str) -> None:
    with pytest.raises(ValueError, match=r"duration|longer"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.0, "0s"), (0.0004, "0s"), (1.5, "1s500ms"), (90.0, "1m30s"), (-1, "0s")],
)
def test_format(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, 365 * 86400 * 1000))
def test_what_is_written_can_be_read(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000
