# SPDX-License-Identifier: GPL-2.0-or-later
"""What a condition compares, and what would change it."""

from __future__ import annotations

import pytest
from hypothesis import given

from dynamosd.policy.condition import compile_condition
from dynamosd.policy.explain import Comparison, explain
from tests.unit.policy.build import signals_of
from tests.unit.policy.test_expression import BOOL, READING

A, B = 'calls_rate("pipe_write")', 'in_flight("pipe_write")'
DB = 'label("role") == "db"'
VALUES = {A: 200.0, B: 2.5, DB: 0.0}


@pytest.mark.parametrize(
    ("text", "needs"),
    [
        (f"{A} > 100.0", ""),
        (f"{A} > 1000.0", f"{A} > 1000.0 (now 200)"),
        (f"{A} > 1000.0 && {B} < 1.0", f"{A} > 1000.0 (now 200) and {B} < 1.0 (now 2.5)"),
        (f"{A} > 100.0 && {B} < 1.0", f"{B} < 1.0 (now 2.5)"),
        (f"{A} > 1000.0 || {B} < 1.0", f"{A} > 1000.0 (now 200) or {B} < 1.0 (now 2.5)"),
        (f"!({A} > 100.0)", f"{A} <= 100.0 (now 200)"),
        (
            f"{A} < 1.0 && !({B} > 1.0 && {A} > 5.0)",
            f"{A} < 1.0 (now 200) and ({B} <= 1.0 (now 2.5) or {A} <= 5.0 (now 200))",
        ),
        (f"{A} > 100.0 * {B}", f"{A} > (100.0 * {B}) (now 200, now 250)"),
        (f"{A} > 1.0 && false", "nothing can do that"),
        (f"{A} > 1.0 ? {B} < 1.0 : true", f"({A} > 1.0) ? ({B} < 1.0) : true to be true"),
        (f"int({A}) % 3 == 0", f"(int({A}) % 3) == 0 (now 2)"),
        (f"-{A} > 5.0", f"-{A} > 5.0 (now -200)"),
        (DB, f"{DB} to be true"),
        (f"{A} > 1000.0 && {DB}", f"{A} > 1000.0 (now 200) and {DB} to be true"),
        ('label("role") != "db"', ""),
        (f'{A} > 1000.0 || label("role") in ["db"]', f"{A} > 1000.0 (now 200) or {DB} to be true"),
    ],
)
def test_what_is_needed(text: str, needs: str) -> None:
    assert explain(compile_condition(text), VALUES).needs == needs


def test_what_would_end_it() -> None:
    condition = compile_condition(f"{A} > 100.0 && {B} < 5.0")
    assert explain(condition, VALUES, wanted=False).needs == (
        f"{A} <= 100.0 (now 200) or {B} >= 5.0 (now 2.5)"
    )


def test_missing_values() -> None:
    found = explain(compile_condition(f"{A} > 100.0 && {B} < 5.0"), {A: 200.0, B: None})
    assert found.result is None
    assert found.needs == f"{B} < 5.0 (no usable value)"
    assert [(each.left, each.right, each.result) for each in found.comparisons] == [
        (200.0, 100.0, True),
        (None, 5.0, None),
    ]


@given(BOOL, READING, READING)
def test_every_condition_can_be_explained(
    text: str, rate: float | None, threads: float | None
) -> None:
    condition = compile_condition(text)
    result = condition.evaluate(signals_of(calls_rate=rate, in_flight=threads)).result
    for wanted in (True, False):
        found = explain(condition, {A: rate, B: threads}, wanted=wanted)
        assert found.result is result
        assert (found.needs == "") is (result is wanted)


def test_a_label_is_a_comparison_without_values() -> None:
    explanation = explain(compile_condition(f"!({DB}) && {A} > 1.0"), VALUES)
    assert explanation.comparisons == (
        Comparison(DB, None, None, result=False),
        Comparison(f"{A} > 1.0", 200.0, 1.0, result=True),
    )
    assert explanation.result is True
    unknown = explain(compile_condition(DB), {})
    assert unknown.comparisons == (Comparison(DB, None, None, result=None),)
