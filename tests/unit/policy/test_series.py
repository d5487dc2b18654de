# SPDX-License-Identifier: GPL-2.0-or-later
"""Made-up series, in Prometheus' notation."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.policy.series import MAX_VALUES, MISSING, STALE, parse_series


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1 2.5 -3 1e3 .5", (1.0, 2.5, -3.0, 1000.0, 0.5)),
        ("1x3", (1.0, 1.0, 1.0, 1.0)),
        ("5x0", (5.0,)),
        ("1+2x3", (1.0, 3.0, 5.0, 7.0)),
        ("7-2x3", (7.0, 5.0, 3.0, 1.0)),
        ("-1+1x2", (-1.0, 0.0, 1.0)),
        ("1e2-0.5x1", (100.0, 99.5)),
        ("_ 1 _x2 stale", (MISSING, 1.0, MISSING, MISSING, STALE)),
        ("  1\n 2 ", (1.0, 2.0)),
    ],
)
def test_series(text: str, values: tuple[float | str, ...]) -> None:
    assert parse_series(text) == values


@pytest.mark.parametrize(
    "text",
    ["", " ", "one", "1+2", "1x", "1x-2", "1+2x", "__", "_x", "stalex2", "1x2x3", "nan", "1,2"],
)
def test_not_a_series(text: str) -> None:
    with pytest.raises(ValueError, match=r"a series has at least one value|is not a value"):
        parse_series(text)


@pytest.mark.parametrize("text", [f"1x{MAX_VALUES}", "_x9999999", "1x9999 " * 20])
def test_series_has_an_end(text: str) -> None:
    with pytest.raises(ValueError, match="at most 100000 values"):
        parse_series(text)


@given(st.text(max_size=30))
def test_any_text_is_a_series_or_an_error(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert parse_series(text)
