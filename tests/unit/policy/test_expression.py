# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs agrees with the CEL library, in its byte code and step by step, errors included."""

from __future__ import annotations

import math

import pytest
from cel_expr_python import cel
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.policy.condition import ConditionError, compile_condition
from dynamosd.policy.expression import Undecided, explore
from tests.unit.policy.build import signals_of

A, B = 'calls_rate("pipe_write")', 'in_flight("pipe_write")'

DOUBLES = ["0.0", "-0.0", "1.0", "2.5", "1e300", "-3.0", A, B]
INTEGERS = ["0", "1", "-1", "7", "9223372036854775807", "-9223372036854775808"]


def _of(values: st.SearchStrategy[str], operators: str) -> st.SearchStrategy[str]:
    return st.builds("({} {} {})".format, values, st.sampled_from(operators.split()), values)


def _numbers(
    leaves: list[str], operators: str, convert: st.SearchStrategy[str]
) -> st.SearchStrategy[str]:
    return st.recursive(
        st.sampled_from(leaves) | convert,
        lambda inner: _of(inner, operators) | st.builds("-({})".format, inner),
        max_leaves=4,
    )


SOME_DOUBLES = st.sampled_from(DOUBLES)
INT = _numbers(INTEGERS, "+ - * / %", st.builds("int({})".format, SOME_DOUBLES))
DOUBLE = _numbers(DOUBLES, "+ - * /", st.builds("double({})".format, INT))
COMPARISONS = "< <= > >= == !="
ATOM = st.sampled_from(["true", "false"]) | _of(INT, COMPARISONS) | _of(DOUBLE, COMPARISONS)
BOOL = st.recursive(
    ATOM,
    lambda inner: (
        _of(inner, "&& || == != < >=")
        | st.builds("!({})".format, inner)
        | st.builds("({} ? {} : {})".format, inner, inner, inner)
    ),
    max_leaves=6,
)
READING = st.none() | st.sampled_from([0.0, 1.0, 2.5, -3.0, math.inf])


def by_library(text: str, values: dict[str, float | None]) -> bool | None:
    """Return what the CEL library says; None for an error."""

    def reader(name: str) -> object:
        def read(_function: str) -> float:
            value = values[name]
            if value is None:
                raise LookupError(name)
            return value

        return read

    double, string = cel.Type.DOUBLE, cel.Type.STRING
    environment = cel.NewEnv(
        functions=[
            cel.FunctionDecl(
                name,
                [cel.Overload(id=name, return_type=double, parameters=[string], impl=reader(name))],
            )
            for name in values
        ]
    )
    try:
        result = environment.compile(text).eval(data={}).value()
    except RuntimeError:
        return None
    return result if isinstance(result, bool) else None


@given(BOOL, READING, READING)
def test_conditions_mean_what_the_library_says(
    text: str, rate: float | None, threads: float | None
) -> None:
    condition = compile_condition(text)
    expected = by_library(text, {"calls_rate": rate, "in_flight": threads})
    signals = signals_of(calls_rate=rate, in_flight=threads)
    assert condition.evaluate(signals).result is expected
    values = [rate if read.signal == "calls_rate" else threads for read in condition.inputs]
    try:
        explored: bool | None = explore(condition.program.expression, values)
    except Undecided:
        explored = None
    assert explored is expected


@pytest.mark.parametrize(
    "text",
    [
        'size("abc") == 3',
        f"{A} in [1.0]",
        '"a" == "b"',
        "1u == 1u",
        '"a".contains("b")',
        "null == null",
        'timestamp("2020-01-01T00:00:00Z") < timestamp("2021-01-01T00:00:00Z")',
        'double("1") == 1.0',
    ],
)
def test_what_a_policy_does_not_need_is_refused(text: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text)
    (fault,) = caught.value.faults
    assert fault.code == "condition-syntax"
    assert fault.message.endswith("is not accepted in a condition")


def test_expressions_are_not_nested_for_ever() -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(" + ".join(["1.0"] * 400) + " > 0.0")
    assert caught.value.faults[0].message == "nested too deeply"
    assert compile_condition(" + ".join(["1.0"] * 30) + " > 29.0").constant is True
    assert compile_condition(" && ".join([f"{A} > 1.0"] * 120)).references


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'ewma({A}, "0s") > 1.0', "the second argument of ewma: it must be between 1ms and 1h"),
        (f'ewma({A}, "2h") > 1.0', "the second argument of ewma: it must be between 1ms and 1h"),
        (f'ewma({A}, "10") > 1.0', 'the second argument of ewma: "10" is not a duration such as'),
        (
            f'ewma({A}, "1" + "s") > 1.0',
            'the second argument of ewma: it must be a duration in quotes, such as "10s"',
        ),
        (f'ewma({A} + 1.0, "10s") > 1.0', "the first argument of ewma must be a signal"),
        (f'ewma(ewma({A}, "1s"), "10s") > 1.0', "the first argument of ewma must be a signal"),
        ("ewma() > 1.0", "ewma takes a signal and a duration in quotes"),
        (f"ewma({A}) > 1.0", "ewma takes a signal and a duration in quotes"),
        ('ewma("calls_rate", "10s") > 1.0', "ewma takes a signal and a duration in quotes, not"),
        (f'ewm({A}, "10s") > 1.0', 'unknown name "ewm"'),
    ],
)
def test_averages_gone_wrong(text: str, message: str) -> None:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text)
    assert caught.value.faults[0].message.startswith(message)


def test_average_is_an_input_of_its_own() -> None:
    condition = compile_condition(f'ewma({A}, "1m30s") > 2.0 * {A}')
    assert condition.names == (f'ewma({A}, "1m30s")', A)
    assert condition.signals == (("calls_rate", "pipe_write", ""),)
    assert condition.evaluate(signals_of(calls_rate=1.0)).result is False
