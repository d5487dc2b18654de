# SPDX-License-Identifier: GPL-2.0-or-later
"""Conditions: what compiles, what the compiler's messages become, and what missing data does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.hostsignals import of_situation
from dynamosd.model import Signal, SignalKey, Signals
from dynamosd.policy.condition import ConditionError, Fault, compile_condition
from dynamosd.policy.expression import Input
from tests.unit.policy.build import signals_of

RATE = 'calls_rate("pipe_write")'
SHARE = 'sequential_share("pipe_write")'


def faults_of(text: str) -> tuple[Fault, ...]:
    with pytest.raises(ConditionError) as caught:
        compile_condition(text)
    return caught.value.faults


def test_references_are_known_at_load() -> None:
    condition = compile_condition(f'{RATE} > 1.0 &&\n in_flight("pipe_read") < 2.0 && {RATE} < 9.0')
    assert condition.signals == (("calls_rate", "pipe_write", ""), ("in_flight", "pipe_read", ""))
    assert [(each.line, each.column) for each in condition.references] == [
        (1, 12),
        (2, 12),
        (2, 45),
    ]


def test_an_edition_may_be_named() -> None:
    text = f'calls_rate("pipe_write", "batched") > 2.0 * {RATE}'
    condition = compile_condition(text)
    assert condition.signals == (
        ("calls_rate", "pipe_write", "batched"),
        ("calls_rate", "pipe_write", ""),
    )
    assert [(each.kind, each.name, each.column) for each in condition.references] == [
        ("function", "pipe_write", 12),
        ("edition", "batched", 26),
        ("function", "pipe_write", 56),
    ]
    values: dict[SignalKey, Signal] = {("calls_rate", "pipe_write", ""): Signal(1.0)}
    values["calls_rate", "pipe_write", "batched"] = Signal(3.0)
    outcome = condition.evaluate(Signals(0.0, values))
    assert outcome.result is True
    assert outcome.values == {'calls_rate("pipe_write", "batched")': 3.0, RATE: 1.0}


def test_an_average_is_of_one_edition() -> None:
    text = 'ewma(calls_rate("pipe_write", "batched"), "10s") > 2.0'
    (read,) = compile_condition(text).inputs
    assert read == Input("calls_rate", "pipe_write", "batched", 10.0)
    assert f"{read.text} > 2.0" == text


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ('calls_share("f") > 0.5', 12, "calls_share takes a function and an edition, in quotes"),
        ('in_flight("f", "a b") > 0.5', 16, "argument 2 of in_flight must be an edition's name"),
        (
            'in_flight("f", "a" + "b") > 0.5',
            20,
            "argument 2 of in_flight must be an edition's name",
        ),
        ('in_flight("f", 5) > 0.5', 10, "in_flight takes a function, or a function and an edition"),
    ],
)
def test_wrong_arguments(text: str, column: int, message: str) -> None:
    (fault,) = faults_of(text)
    assert fault.message.startswith(message)
    assert (fault.code, fault.line) == ("signal-argument", 1)
    assert fault.column == column, fault


def test_result_and_values() -> None:
    outcome = compile_condition(f"{RATE} > 1.0").evaluate(signals_of(calls_rate=2.0))
    assert (outcome.result, outcome.values, outcome.reason) == (True, {RATE: 2.0}, "")


@pytest.mark.parametrize(
    ("text", "result"),
    [
        (f"{RATE} > 5.0 && {SHARE} > 0.5", False),
        (f"{SHARE} > 0.5 && {RATE} > 5.0", False),
        (f"{RATE} < 5.0 && {SHARE} > 0.5", None),
        (f"{SHARE} > 0.5 || {RATE} < 5.0", True),
        (f"{SHARE} > 0.5 || {RATE} > 5.0", None),
        (f"!({SHARE} > 0.5)", None),
        (f"{SHARE} > 0.5 ? true : true", None),
    ],
)
def test_missing_data_matters_only_where_it_decides(text: str, result: bool | None) -> None:  # noqa: FBT001
    outcome = compile_condition(text).evaluate(signals_of(calls_rate=1.0, sequential_share=None))
    assert outcome.result is result
    assert outcome.values[SHARE] is None


def test_untrusted_is_no_data() -> None:
    signals = signals_of(calls_rate=Signal(9.0, trusted=False, reason="probes missed calls"))
    outcome = compile_condition(f"{RATE} > 5.0").evaluate(signals)
    assert outcome.result is None
    assert outcome.values == {RATE: None}
    assert outcome.reason == f"{RATE}: not trusted: probes missed calls"


def test_signal_that_is_not_there_is_no_data() -> None:
    outcome = compile_condition('in_flight("pipe_read") > 5.0').evaluate(signals_of())
    assert outcome.reason == 'in_flight("pipe_read"): no data: not measured'


def test_arithmetic_without_a_result_is_undecided() -> None:
    outcome = compile_condition(f"int({RATE} / 0.0) > 1").evaluate(signals_of(calls_rate=1.0))
    assert outcome.result is None
    assert outcome.reason == "cannot be computed: double out of int64 range"


@pytest.mark.parametrize(
    ("text", "constant"),
    [
        ("true", True),
        ("1.0 > 2.0", False),
        (f"{RATE} > 1.0 || true", True),
        (f"{RATE} > 1.0", None),
    ],
)
def test_constant_conditions(text: str, constant: bool | None) -> None:  # noqa: FBT001
    assert compile_condition(text).constant is constant


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            f"{RATE} > 50000",
            Fault(1, 26, '">" cannot take double and int', "condition-type", "write 50000.0"),
        ),
        (
            f"7 < {RATE}",
            Fault(1, 3, '"<" cannot take int and double', "condition-type", "write 7.0"),
        ),
        (
            RATE,
            Fault(
                1,
                1,
                "a condition must be true or false, this is a double",
                "condition-type",
                f"compare it, e.g. {RATE} > 1.0",
            ),
        ),
        (
            'calls_rat("x") > 1.0',
            Fault(1, 1, 'unknown name "calls_rat"', "unknown-signal", 'did you mean "calls_rate"?'),
        ),
        (
            f"{RATE} > limit",
            Fault(
                1,
                28,
                'unknown name "limit"',
                "unknown-signal",
                "docs/policy.md has the signals",
            ),
        ),
        (f"{RATE} >", Fault(1, 27, "mismatched input end of text", "condition-syntax")),
    ],
)
def test_messages(text: str, fault: Fault) -> None:
    assert faults_of(text) == (fault,)


@pytest.mark.parametrize(
    "text",
    [
        "calls_rate(5) > 1.0",
        "calls_rate() > 1.0",
        'calls_rate("a" + "b") > 1.0',
        'calls_rate("") > 1.0',
        'calls_rate("a b") > 1.0',
        'calls_rate("pipe_write\\n") > 1.0',
        'calls_rate("a", "b", "c") > 1.0',
    ],
)
def test_argument_must_be_a_name_in_quotes(text: str) -> None:
    assert {fault.code for fault in faults_of(text)} <= {"signal-argument", "condition-type"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "\0",
        "\ud800",
        "(" * 500,
        "1.0 +" * 500,
        "x" * 5000,
        "[1, 2].all(i, i > 1)",
        f"[1, 2, 3].exists(i, [1, 2, 3].exists(j, {RATE} > 1.0))",
        '{"a": true}["a"]',
        "ünknown > 1.0",
        "\u2028\U0001f600" * 300,
        "dyn(true)",
    ],
)
def test_hostile_text_is_refused(text: str) -> None:
    faults = faults_of(text)
    assert 1 <= len(faults) <= 5
    assert all(fault.line >= 1 and fault.column >= 1 for fault in faults)


def test_all_faults_at_once() -> None:
    assert [fault.code for fault in faults_of(f"{RATE} > 5 && foo")] == [
        "condition-type",
        "unknown-signal",
    ]


WORDS = st.sampled_from(
    [
        RATE,
        SHARE,
        "calls_rate",
        "(",
        ")",
        '"',
        "&&",
        "||",
        "!",
        ">",
        "1",
        "1.0",
        "true",
        "[",
        "]",
        "{",
        "}",
        "?",
        ":",
        ".",
        "dyn",
        "int",
        "all",
        "x",
        "in",
        "'",
        "\\",
        "\n",
        "é",
        "😀",
    ]
)


@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=60))
def test_any_text_compiles_or_is_a_condition_error(text: str) -> None:
    try:
        condition = compile_condition(text)
    except ConditionError as error:
        faults = error.faults
    else:
        faults = ()
        assert condition.evaluate(signals_of(calls_rate=1.0)).result in {True, False, None}
    assert all(fault.message and fault.code for fault in faults)


ROLE = 'label("role")'


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (f'{ROLE} == "db"', [f'{ROLE} == "db"']),
        (f'"db" == {ROLE}', [f'{ROLE} == "db"']),
        (f'{ROLE} in ["db", "web", "db"]', [f'{ROLE} == "db"', f'{ROLE} == "web"']),
        (f"{ROLE} == 'a \"b\" ä'", [f'{ROLE} == "a \\"b\\" ä"']),
        ('pressure("io", "full") > 0.1', ['pressure("io", "full")']),
        (
            'ewma(cpu_busy(), "10s") > 0.1 || cpu_busy() > 0.9',
            ['ewma(cpu_busy(), "10s")', "cpu_busy()"],
        ),
        ('source("queue-depth.1") < -5.0', ['source("queue-depth.1")']),
    ],
)
def test_names_of_what_is_not_of_a_function(text: str, names: list[str]) -> None:
    assert list(compile_condition(text).names) == names


@pytest.mark.parametrize(
    ("text", "db", "web"),
    [
        (f'{ROLE} == "db"', True, False),
        (f'{ROLE} != "db"', False, True),
        (f'"db" != {ROLE}', False, True),
        (f'!({ROLE} == "db")', False, True),
        (f'{ROLE} in ["db", "web"]', True, True),
        (f'{ROLE} in ["web"] || {ROLE} == "x"', False, True),
        (f'{ROLE} == "db" ? true : {ROLE} == "x"', True, False),
        (f'({ROLE} == "db") == false', False, True),
    ],
)
def test_labels_come_to(text: str, db: bool, web: bool) -> None:  # noqa: FBT001 - a table's columns
    condition = compile_condition(text)
    for role, result in (("db", db), ("web", web)):
        values = of_situation(condition.signals, 0.0, {"role": role})
        assert condition.evaluate(Signals(0.0, values)).result is result
    outcome = condition.evaluate(Signals(0.0, of_situation(condition.signals, 0.0, {})))
    assert outcome.result is None
    assert 'the host has no label "role"' in outcome.reason
