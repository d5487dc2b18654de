# SPDX-License-Identifier: GPL-2.0-or-later
"""Conditions that are always so, whatever is measured."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.policy.condition import compile_condition
from dynamosd.policy.regions import always, follows

A, B, S = 'calls_rate("f")', 'in_flight("f")', 'sequential_share("f")'


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (f"{A} >= 0.0", True),
        (f"{A} < 0.0", False),
        (f"-1.0 < {A}", True),
        (f"{A} > 0.0", None),
        (f"{S} > 1.0", False),
        (f"{S} <= 1.0 && {A} >= 0.0", True),
        (f"{S} >= 1.0", None),
        (f"{S} < 0.2 && {S} > 0.8", False),
        (f"{S} < 0.8 || {S} > 0.2", True),
        (f"{A} < 5.0 || {A} > 5.0", None),
        (f"{A} == 5.0 && {A} == 6.0", False),
        (f"{A} > 2.0 * 3.0 && {A} < 5.0", False),
        (f'{A} > 5.0 && ewma({A}, "10s") < 4.0', None),
        (f'ewma({S}, "10s") > 1.5', False),
        ('source("q") > -1e9 || source("q") <= -1e9', True),
        ('source("q") < 5.0 && source("q") > 7.0', False),
        ('source("q") < -1e12', None),
        ('source("q") >= 0.0', None),
        ('pressure("io", "some") <= 1.0', True),
        ("memory_available() < 0.0", False),
        ("hour() < 24.0", True),
        ("minute() > 59.0", False),
        ("day_of_week() > 0.0", None),
        ('label("role") == "db" || calls_rate("f") >= 0.0', True),
        ('label("role") == "db" && !(label("role") == "db")', False),
        ('label("role") == "db"', None),
        # What is not a comparison with a number is left alone, whatever it comes to.
        (f"{A} > {A}", None),
        (f"{A} * 0.0 > 1.0", None),
        (f"({A} > 1.0) == ({A} > 1.0)", None),
        (" && ".join(f'{A[:-2]}{letter}") > 1.0' for letter in "abcdefghijklmn"), None),
    ],
)
def test_always(text: str, result: bool | None) -> None:  # noqa: FBT001
    assert always(compile_condition(text)) is result


@pytest.mark.parametrize(
    ("when", "until", "result"),
    [
        (f"{A} > 5.0", f"{A} > 2.0", True),
        (f"{A} > 5.0", f"{A} > 8.0", False),
        (f"{A} > 5.0", f"{A} < 2.0", False),
        (f"{A} > 5.0", f"{A} < 2.0 || {B} >= 0.0", True),
        (f"{A} < 0.0", f"{A} < 2.0", False),
        (f"{A} > 5.0", f"{A} > {B}", False),
    ],
)
def test_follows(when: str, until: str, result: bool) -> None:  # noqa: FBT001
    assert follows(compile_condition(when), compile_condition(until)) is result


NUMBERS = st.sampled_from(["-1.0", "0.0", "0.5", "1.0", "7.0"])
ATOMS = st.builds(
    "({} {} {})".format,
    st.sampled_from([A, S]),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    NUMBERS,
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: (
        st.builds("({} {} {})".format, inner, st.sampled_from(["&&", "||"]), inner)
        | st.builds("!({})".format, inner)
    ),
    max_leaves=5,
)


@given(CONDITIONS, st.floats(0.0, 1e9), st.floats(0.0, 1.0))
def test_no_value_contradicts(text: str, rate: float, share: float) -> None:
    condition = compile_condition(text)
    expected = always(condition)
    values = {"calls_rate": rate, "sequential_share": share}
    found = condition.program.decide([values[read.signal] for read in condition.inputs])
    assert expected in {None, found}
