# SPDX-License-Identifier: GPL-2.0-or-later
"""Files to policies: defaults, messages with positions, hostile files, directories."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.errors import InvalidInput
from dynamosd.model import Counts, Edition, EditionState, Function, KernelState, Subsystem
from dynamosd.policy.definition import (
    Limits,
    Mode,
    OnDaemonLoss,
    OnExit,
    OnFlap,
    OnNoData,
    Policy,
    Samples,
    SwitchMode,
)
from dynamosd.policy.hours import Hours
from dynamosd.policy.load import (
    check_directory,
    check_files,
    load_directory,
    load_policy,
    parse_policy,
)
from dynamosd.policy.names import names_of
from dynamosd.policy.positions import MAX_BYTES, MAX_DEPTH
from dynamosd.policy.problems import PolicyErrors, Severity
from dynamosd.policy.schema import json_schema
from tests.unit.policy.build import KNOWN, RULE, lines_of, policy_of, problems_of, text_of


def test_defaults() -> None:
    policy = policy_of()
    assert (policy.name, policy.subsystem, policy.baseline) == ("test", "pipe", "original")
    assert (policy.mode, policy.on_exit) == (Mode.ADVISE, OnExit.BASELINE)
    assert policy.interval_seconds == 1.0
    assert (policy.on_loss, policy.loss_grace_seconds) == (OnDaemonLoss.BASELINE, 30.0)
    (rule,) = policy.rules
    assert (rule.for_seconds, rule.keep_for_seconds, rule.until) == (0.0, 0.0, None)
    assert rule.on_no_data is OnNoData.HOLD
    assert (rule.samples, rule.hours, policy.limits) == (Samples(1, 1), (), Limits())
    assert policy.remarks == ()


def test_everything_given() -> None:
    text = text_of(
        """\
- name: storm
  edition: batched
  when: calls_rate("pipe_write") > 100.0
  until: in_flight("pipe_read") < 2.0
  for: 1m30s
  keepFor: 500ms
  onNoData: baseline
  samples: {need: 3, of: 5}
  during:
    - {days: "mon-fri,sun", from: "08:30", to: 18:00}
    - days: sat
""",
        "mode: enforce\nbaseline: quiet\ninterval: 100ms\nonExit: hold\n"
        "limits: {cooldown: 10s, maxSwitches: {count: 6, per: 1h}, onFlap: hold}\n",
        "name: a.b-1, labels: {team: storage}, annotations: {summary: 'no'}",
    )
    policy = parse_policy(text.encode(), "test.yaml", known=KNOWN)
    assert (policy.mode, policy.on_exit, policy.baseline) == (Mode.ENFORCE, OnExit.HOLD, "quiet")
    assert policy.interval_seconds == 0.1
    assert (policy.labels, policy.annotations) == ({"team": "storage"}, {"summary": "no"})
    (rule,) = policy.rules
    assert (rule.for_seconds, rule.keep_for_seconds) == (90.0, 0.5)
    assert rule.on_no_data is OnNoData.BASELINE
    assert rule.samples == Samples(3, 5)
    assert rule.hours == (
        Hours(frozenset({0, 1, 2, 3, 4, 6}), 510, 1080),
        Hours(frozenset({5}), 0, 1440),
    )
    assert policy.limits == Limits(10.0, 6, 3600.0, OnFlap.HOLD)
    assert policy.signals == {("calls_rate", "pipe_write", ""), ("in_flight", "pipe_read", "")}


ALL_WRONG = """\
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {name: Bad_name, labels: {team: 5}}
spec:
  subsystem: pipe
  mode: enforec
  interval: 10ms
  limts: {}
  rules:
    - name: storm
      edition: bached
      forr: 3s
      for: 3
      keepFor: 1s1m
      when: calls_rate("pipe_wrte") > 5.0
    - name: storm
      edition: original
      when: "calls_rat('x') > 1.0"
      until:
      onNoData: no
    - name: third
      edition: quiet
      when: >
        calls_rate("pipe_write") > 1.0 &&
        in_flight("pipe_read") < 2
    - 7
"""


def test_every_error_of_a_file_at_once() -> None:
    assert lines_of(ALL_WRONG) == [
        (
            'test.yaml:3:18: error: "name" may hold lower-case letters, digits, - and . only, and '
            "begins with a letter or digit [bad-name]"
        ),
        'test.yaml:3:43: error: "team" must be text (write it in quotes) [wrong-type]',
        (
            'test.yaml:6:9: error: "mode" must be "observe", "advise" or "enforce" '
            '(did you mean "enforce"?) [bad-value]'
        ),
        'test.yaml:7:13: error: "interval": an interval is between 100ms and 1h [bad-duration]',
        'test.yaml:8:3: error: unknown key "limts" (did you mean "limits"?) [unknown-key]',
        (
            'test.yaml:11:16: error: subsystem "pipe" has no edition "bached" '
            '(did you mean "batched"?) [unknown-edition]'
        ),
        'test.yaml:12:7: error: unknown key "forr" (did you mean "for"?) [unknown-key]',
        (
            'test.yaml:13:12: error: "for": a duration has a unit, such as 500ms, 30s or 1h30m '
            "[bad-duration]"
        ),
        (
            'test.yaml:14:16: error: "keepFor": "1s1m" is not a duration such as 500ms, 30s or '
            "1h30m [bad-duration]"
        ),
        (
            'test.yaml:15:24: error: subsystem "pipe" has no function "pipe_wrte" '
            '(did you mean "pipe_write"?) [unknown-function]'
        ),
        'test.yaml:16:13: error: rule "storm" is already in line 10 [duplicate-rule]',
        (
            'test.yaml:17:16: warning: the rule\'s edition "original" is the baseline '
            "[edition-is-baseline]"
        ),
        (
            'test.yaml:18:14: error: unknown name "calls_rat" (did you mean "calls_rate"?) '
            "[unknown-signal]"
        ),
        'test.yaml:19:13: error: "until" has no value [empty-value]',
        'test.yaml:20:17: error: "onNoData" must be "hold" or "baseline" [bad-value]',
        (
            'test.yaml:23:13: error: "<" cannot take double and int, at 1:58 of this text '
            "(write 2.0) [condition-type]"
        ),
        'test.yaml:26:7: error: item 4 of "rules" must be keys and values [wrong-type]',
    ]


def code_of(text: str | bytes) -> str:
    """Return the code of the first problem."""
    return problems_of(text)[0].code


@pytest.mark.parametrize("key", ["target", "onBreach"])
def test_what_is_not_implemented_is_not_accepted(key: str) -> None:
    assert code_of(text_of(spec=f"{key}: {{}}\n")) == "unknown-key"


def test_missing_keys_are_shown_where_they_belong() -> None:
    text = "apiVersion: dynamos/v1alpha1\nkind: SwitchPolicy\nmetadata: {}\nspec:\n  rules: []\n"
    assert lines_of(text) == [
        'test.yaml:3:1: error: "name" is missing [missing-key]',
        'test.yaml:4:1: error: "subsystem" is missing [missing-key]',
        'test.yaml:5:10: error: "rules" needs at least 1 item [bad-value]',
    ]


def test_yaml_1_1_booleans_are_text() -> None:
    text = text_of(metadata="name: test, labels: {a: no, b: on, c: y, d: 1:30}")
    policy = parse_policy(text.encode(), "test.yaml", known=KNOWN)
    assert policy.labels == {"a": "no", "b": "on", "c": "y", "d": "1:30"}
    assert code_of(text_of(metadata="name: test, labels: {a: true}")) == "wrong-type"


@pytest.mark.parametrize("value", ["1.5", "1", "-1s", "true", "[]", "{}", "'0.5s'"])
def test_durations_have_units(value: str) -> None:
    assert code_of(text_of(RULE + f"  for: {value}\n")) == "bad-duration"


def test_zero_needs_no_unit() -> None:
    assert policy_of(RULE + "  for: 0\n").rules[0].for_seconds == 0.0


@pytest.mark.parametrize("interval", ["99ms", "1h1ms", "0", "0s"])
def test_interval_has_limits(interval: str) -> None:
    assert code_of(text_of(spec=f"interval: {interval}\n")) == "bad-duration"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"", "empty-file"),
        (b"# only a comment\n", "empty-file"),
        (b"\xff\xfe\x00", "not-utf8"),
        (b"kind: \xc3\x28", "not-utf8"),
        (b"kind: a\0b", "control-character"),
        (b'kind: "a\\0b"', "control-character"),
        (b'kind: "\\ud800"', "control-character"),
        (b'kind: "\\Uffffffff"', "yaml-syntax"),
        (b"%YAML " + b"9" * 5000 + b".1\n---\nkind: a\n", "yaml-syntax"),
        (b"kind:\n\t- a\n", "yaml-syntax"),
        (b"kind: [", "yaml-syntax"),
        (b"kind: a\nkind: b\n", "duplicate-key"),
        (b"? [a]\n: b\n", "key-not-text"),
        (b"? {a: b}\n: b\n", "key-not-text"),
        (b"kind: &a b\nx: *a\n", "alias"),
        (b"kind: *a\n", "alias"),
        (b"<<: {kind: a}\n", "unknown-key"),
        (b"kind: !!python/object/apply:os.system [ls]\n", "tag"),
        (b"kind: !x y\n", "tag"),
        (b"--- {}\n--- {}\n", "many-documents"),
        (b"[" * 100_000, "too-deep"),
        (b"- " * 100_000, "too-deep"),
        (b"{a: " * (MAX_DEPTH + 1), "too-deep"),
        (b"[" + b"1," * 100_000 + b"]", "too-large"),
        (b"a" * (10 * 1024 * 1024), "too-large"),
        (b"7", "wrong-type"),
        (b"null", "empty-value"),
        (b"[]", "wrong-type"),
        (b"? \n: \n", "unknown-key"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_files(text: bytes, code: str) -> None:
    begin = time.process_time()
    assert code in {problem.code for problem in problems_of(text)}
    assert time.process_time() - begin < 10.0


def test_billion_laughs() -> None:
    lines = ["a0: &a0 [lol, lol]"]
    lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 40)]
    assert code_of("\n".join(lines)) == "alias"


@pytest.mark.parametrize(
    "text",
    [
        b"kind: " + b"a " * (MAX_BYTES // 2 - 10),
        b'kind: "' + b"a\\n" * (MAX_BYTES // 3 - 10) + b'"',
        b"#" * MAX_BYTES,
        b"\n" * MAX_BYTES,
        b"a: b\n" * (MAX_BYTES // 5),
        b"a:\n" * (MAX_BYTES // 3),
        b"? " * (MAX_BYTES // 2),
        b"'" * MAX_BYTES,
        b"kind: |\n" + b" \n" * (MAX_BYTES // 2 - 10),
    ],
    ids=[
        "plain",
        "escapes",
        "comment",
        "lines",
        "duplicates",
        "keys",
        "question",
        "quotes",
        "block",
    ],
)
def test_largest_files_take_no_more_than_seconds(text: bytes) -> None:
    begin = time.process_time()
    assert problems_of(text)
    assert time.process_time() - begin < 20.0


def test_positions_of_undecodable_and_unprintable_characters() -> None:
    assert lines_of(b"a: b\nc: \xff\n") == [
        "test.yaml:2:4: error: byte 0xff is not UTF-8 text [not-utf8]"
    ]
    assert lines_of("é: b\nc: é\x07".encode()) == [
        "test.yaml:2:5: error: character U+0007 cannot be part of a policy [control-character]"
    ]


def test_byte_order_mark_is_no_part_of_the_file() -> None:
    assert parse_policy(b"\xef\xbb\xbf" + text_of().encode(), "test.yaml", known=KNOWN)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_policy_or_policy_errors(raw: bytes) -> None:
    assert problems_of(raw)


FRAGMENTS = st.sampled_from(
    [
        "apiVersion: ",
        "dynamos/v1alpha1",
        "kind: ",
        "spec:",
        "rules:",
        "- ",
        "  ",
        "\n",
        "{",
        "}",
        "[",
        "]",
        ",",
        ": ",
        "? ",
        "&a ",
        "*a",
        "!",
        "!!str ",
        '"',
        "'",
        "|",
        ">",
        "%",
        "---",
        "...",
        "#",
        "\\",
        "\t",
        "~",
        "<<: ",
        "when: ",
        "for: ",
        "1",
        "0x",
        "true",
        "é",
        "\u2028",
        "\x85",
        "\r",
    ]
)


@given(st.lists(FRAGMENTS, max_size=40).map("".join))
def test_any_yaml_is_a_policy_or_policy_errors(text: str) -> None:
    for problem in problems_of(text):
        assert problem.line >= 1
        assert problem.column >= 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
SPEC_KEYS = st.sampled_from(
    ["subsystem", "mode", "baseline", "interval", "onExit", "onDaemonLoss", "switch", "rules"]
)
SWITCH_KEYS = st.sampled_from(["mode", "timeout", "action", "grace"])
RULE_KEYS = st.sampled_from(["name", "edition", "when", "until", "for", "keepFor", "onNoData"])


@given(
    st.dictionaries(SPEC_KEYS, JSON | st.dictionaries(SWITCH_KEYS, JSON)),
    st.lists(st.dictionaries(RULE_KEYS, JSON), max_size=3),
)
def test_any_values_under_the_right_keys(spec: dict[str, object], rules: list[object]) -> None:
    document = {
        "apiVersion": "dynamos/v1alpha1",
        "kind": "SwitchPolicy",
        "metadata": {"name": "test"},
        "spec": {"subsystem": "pipe", "rules": rules, **spec},
    }
    problems_of(yaml.safe_dump(document, allow_unicode=True))


@pytest.mark.parametrize(
    ("switch", "mode", "timeout"),
    [
        ("{}", None, None),
        ("{mode: concurrent}", SwitchMode.CONCURRENT, None),
        ("{mode: per-object}", SwitchMode.PER_OBJECT, None),
        ("{mode: exclusive}", SwitchMode.EXCLUSIVE, None),
        ("{mode: exclusive, timeout: 1ms}", SwitchMode.EXCLUSIVE, 0.001),
        ("{mode: exclusive, timeout: 1m}", SwitchMode.EXCLUSIVE, 60.0),
    ],
)
def test_how_to_switch(switch: str, mode: SwitchMode | None, timeout: float | None) -> None:
    policy = policy_of(spec=f"switch: {switch}\n")
    assert (policy.switch_mode, policy.switch_timeout_seconds) == (mode, timeout)


@pytest.mark.parametrize(
    ("switch", "message"),
    [
        (
            "{mode: exclusiv}",
            (
                '6:18: error: "mode" must be "concurrent", "exclusive" or "per-object" '
                '(did you mean "exclusive"?) [bad-value]'
            ),
        ),
        (
            "{mode: scoped}",
            '6:18: error: "mode" must be "concurrent", "exclusive" or "per-object" [bad-value]',
        ),
        (
            "{mod: exclusive}",
            '6:12: error: unknown key "mod" (did you mean "mode"?) [unknown-key]',
        ),
        (
            "{mode: exclusive, timeout: 61s}",
            '6:38: error: "timeout": a timeout is between 1ms and 1m [bad-duration]',
        ),
        (
            "{mode: exclusive, timeout: 0}",
            '6:38: error: "timeout": a timeout is between 1ms and 1m [bad-duration]',
        ),
        (
            "{mode: exclusive, timeout: 500}",
            (
                '6:38: error: "timeout": a duration has a unit, such as 500ms, 30s or 1h30m '
                "[bad-duration]"
            ),
        ),
        (
            "{timeout: 1s}",
            (
                '6:21: error: "timeout" is for mode "exclusive" only (no other mode holds callers) '
                "[timeout-without-exclusive]"
            ),
        ),
        (
            "{mode: per-object, timeout: 1s}",
            (
                '6:39: error: "timeout" is for mode "exclusive" only (no other mode holds callers) '
                "[timeout-without-exclusive]"
            ),
        ),
        ("exclusive", '6:11: error: "switch" must be keys and values [wrong-type]'),
        ("{mode: [exclusive], timeout: 1s}", None),
        ("", '6:10: error: "switch" has no value [empty-value]'),
    ],
)
def test_how_to_switch_gone_wrong(switch: str, message: str | None) -> None:
    first, *_ = lines_of(text_of(spec=f"switch: {switch}\n"))
    assert message is None or first == f"test.yaml:{message}"


@pytest.mark.parametrize(
    ("loss", "action", "grace"),
    [
        ("{}", OnDaemonLoss.BASELINE, 30.0),
        ("{action: hold}", OnDaemonLoss.HOLD, 30.0),
        ("{grace: 0}", OnDaemonLoss.BASELINE, 0.0),
        ("{action: baseline, grace: 0s}", OnDaemonLoss.BASELINE, 0.0),
        ("{action: hold, grace: 1h}", OnDaemonLoss.HOLD, 3600.0),
    ],
)
def test_what_happens_when_the_daemon_is_lost(
    loss: str, action: OnDaemonLoss, grace: float
) -> None:
    policy = policy_of(spec=f"onDaemonLoss: {loss}\n")
    assert (policy.on_loss, policy.loss_grace_seconds) == (action, grace)


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            "{action: hodl}",
            (
                '6:26: error: "action" must be "baseline" or "hold" (did you mean "hold"?) '
                "[bad-value]"
            ),
        ),
        (
            "{acton: hold}",
            '6:18: error: unknown key "acton" (did you mean "action"?) [unknown-key]',
        ),
        (
            "{grace: 1h1ms}",
            '6:25: error: "grace": a grace is between 0s and 1h [bad-duration]',
        ),
        (
            "{grace: 30}",
            (
                '6:25: error: "grace": a duration has a unit, such as 500ms, 30s or 1h30m '
                "[bad-duration]"
            ),
        ),
        ("{grace: -1s}", None),
        ("hold", '6:17: error: "onDaemonLoss" must be keys and values [wrong-type]'),
        ("", '6:16: error: "onDaemonLoss" has no value [empty-value]'),
    ],
)
def test_loss_of_the_daemon_gone_wrong(loss: str, message: str | None) -> None:
    first, *_ = lines_of(text_of(spec=f"onDaemonLoss: {loss}\n"))
    assert message is None or first == f"test.yaml:{message}"


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ("{cooldown: 5}", '6:22: error: "cooldown": a duration has a unit, such as 500ms, 30s or'),
        ("{maxSwitches: 6}", '6:25: error: "maxSwitches" must be keys and values [wrong-type]'),
        ("{maxSwitches: {count: 6}}", '6:12: error: "per" is missing [missing-key]'),
        (
            "{maxSwitches: {count: 0, per: 1h}}",
            '6:33: error: "count" must be at least 1 [bad-value]',
        ),
        (
            "{maxSwitches: {count: six, per: 1h}}",
            '6:33: error: "count" must be a whole number [wrong-type]',
        ),
        (
            "{maxSwitches: {count: 1, per: 0s}}",
            '6:41: error: "per": a period is between 1ms and 365d [bad-duration]',
        ),
        (
            "{onFlap: freese, maxSwitches: {count: 1, per: 1h}}",
            '6:20: error: "onFlap" must be "freeze" or "hold" (did you mean "freeze"?) [bad-value]',
        ),
        (
            "{onFlap: hold}",
            '6:20: warning: "onFlap" says what happens beyond "maxSwitches", and there is none',
        ),
        ("{cool: 5s}", '6:12: error: unknown key "cool" (did you mean "cooldown"?) [unknown-key]'),
    ],
)
def test_limits_gone_wrong(limits: str, message: str) -> None:
    first, *_ = lines_of(text_of(spec=f"limits: {limits}\n"))
    assert first.startswith(f"test.yaml:{message}")


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "samples: {need: 4, of: 3}",
            '10:21: error: "need" is 4 of 3 samples: that can never be [bad-value]',
        ),
        ("samples: {need: 1, of: 65}", '10:28: error: "of" must be at most 64 [bad-value]'),
        ("samples: {need: 1}", '10:5: error: "of" is missing [missing-key]'),
        ("during: [{days: mo}]", '10:21: error: "days": "mo" is not days such as mon-fri or'),
        ("during: [{from: 8:30}]", '10:21: error: "from": "8:30" is not a time of day such as'),
        ("during: [{to: 25:00}]", '10:19: error: "to": "25:00" is not a time of day such as 08:30'),
        ("during: [{to: 8}]", '10:19: error: "to": a time of day is written such as 08:30'),
        (
            "during: [{from: 08:30, to: 08:30}]",
            "10:14: error: from 08:30 to 08:30 there is no time (24:00 is the end of a day)",
        ),
        ("during: [{day: sat}]", '10:15: error: unknown key "day" (did you mean "days"?)'),
        ("during: {}", '10:13: error: "during" must be a list [wrong-type]'),
    ],
)
def test_samples_and_hours_gone_wrong(key: str, message: str) -> None:
    first, *_ = lines_of(text_of(f"{RULE}  {key}\n"))
    assert first.startswith(f"test.yaml:{message}")


def test_modes_that_the_editions_do_not_allow() -> None:
    modes = {"original": frozenset({"concurrent", "exclusive"}), "batched": frozenset({"scoped"})}
    known = {"pipe": dataclasses.replace(KNOWN["pipe"], modes=modes)}
    text = text_of(spec="switch: {mode: per-object}\n")
    assert list(map(str, problems_of(text, known))) == [
        (
            'test.yaml:6:18: error: edition "original" does not allow mode "per-object" '
            "(there are concurrent, exclusive) [mode-not-allowed]"
        ),
        (
            'test.yaml:6:18: error: edition "batched" does not allow mode "per-object" '
            "(there are scoped) [mode-not-allowed]"
        ),
    ]
    assert problems_of(text.replace("per-object", "exclusiv"), known)[0].code == "bad-value"


def test_modes_are_not_checked_when_the_module_does_not_say_them() -> None:
    known = {"pipe": dataclasses.replace(KNOWN["pipe"], modes={"batched": frozenset[str]()})}
    assert problems_of(text_of(spec="switch: {mode: exclusive}\n"), known) == []


def test_constant_conditions_are_warned_of() -> None:
    (problem,) = problems_of(text_of("- {name: a, edition: batched, when: 'true'}\n"))
    assert str(problem) == ('test.yaml:7:39: warning: "when" is always true [constant-condition]')


def test_condition_that_cannot_be_computed() -> None:
    assert (
        code_of(text_of("- {name: a, edition: batched, when: 1 / 0 == 1}\n")) == "condition-value"
    )


def test_names_are_not_checked_when_they_are_not_known() -> None:
    text = text_of().replace("pipe", "tube").encode()
    policy = parse_policy(text, "test.yaml")
    (note,) = policy.remarks
    assert (note.severity, note.code) == (Severity.NOTE, "names-not-checked")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name: test", f"name: {'a' * 64}", '"name" is longer than 63 characters'),
        ("name: test", "name: 'a\n'", '"name" may hold lower-case letters, digits, - and . only'),
        (
            "subsystem: pipe",
            "subsystem: a b",
            '"subsystem" may hold letters, digits, _ . and - only',
        ),
        ("edition: batched", 'edition: ""', '"edition" may hold letters, digits, _ . and - only'),
        ("when: calls_rate", "when: ''\n    # calls_rate", '"when" is empty'),
        ("v1alpha1", "v1", '"apiVersion" must be "dynamos/v1alpha1"'),
        ("SwitchPolicy", "switchpolicy", '"kind" must be "SwitchPolicy" (did you mean'),
    ],
)
def test_messages(old: str, new: str, message: str) -> None:
    assert f"error: {message}" in lines_of(text_of().replace(old, new))[0]


def test_too_many_rules() -> None:
    rules = "".join(RULE.replace("storm", f"storm{number}") for number in range(65))
    assert lines_of(text_of(rules)) == [
        'test.yaml:7:3: error: "rules" has more than 64 items [bad-value]'
    ]


def test_unknown_subsystem() -> None:
    assert lines_of(text_of().replace("subsystem: pipe", "subsystem: pip")) == [
        (
            'test.yaml:5:14: warning: no subsystem "pip" is loaded: the policy waits for it'
            ' (did you mean "pipe"?) [unknown-subsystem]'
        )
    ]


def test_names_of_the_module() -> None:
    pipe = Subsystem(
        "pipe",
        "original",
        "concurrent",
        0,
        {"original": Edition("original", 0, EditionState.ACTIVE, "dynamos", ("scoped",))},
        {"pipe_write": Function("pipe_write", 1, "direct", {"original": Counts(0, 0)})},
    )
    names = names_of(KernelState("0.1.0", {"pipe": pipe}))
    assert names["pipe"].editions == {"original"}
    assert names["pipe"].functions == {"pipe_write"}
    assert names["pipe"].modes == {"original": {"scoped"}}


# ---------------------------------------------------------------------------- files and folders


def write(folder: Path, name: str, policy: str, spec: str = "") -> Path:
    path = folder / name
    path.write_text(text_of(spec=spec, metadata=f"name: {policy}"))
    return path


def names(policies: tuple[Policy, ...]) -> list[str]:
    return [policy.name for policy in policies]


def test_directory_in_order_of_names(tmp_path: Path) -> None:
    for name in ("20-b.yaml", "10-a.yml", "30-c.yaml"):
        write(tmp_path, name, name[3])
    assert names(load_directory(tmp_path, known=KNOWN)) == ["a", "b", "c"]


@pytest.mark.parametrize("name", [".a.yaml", "a.yaml~", "a.yaml.dpkg-new", "a.yaml.rpmnew", "sub"])
def test_left_overs_are_passed_over(tmp_path: Path, name: str) -> None:
    if name == "sub":
        (tmp_path / name).mkdir()
    else:
        (tmp_path / name).write_text("not: [a policy")
    assert check_directory(tmp_path, known=KNOWN).problems == ()


def test_misnamed_file_is_noted(tmp_path: Path) -> None:
    path = write(tmp_path, "a.ymal", "a")
    checked = check_directory(tmp_path, known=KNOWN)
    assert [str(problem) for problem in checked.problems] == [
        f"{path}:1:1: note: not a .yaml file: passed over [ignored-file]"
    ]


def test_errors_of_all_files_and_policies_of_the_good_ones(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "a")
    (tmp_path / "b.yaml").write_text("kind: [")
    (tmp_path / "c.yaml").write_bytes(b"\xff")
    checked = check_directory(tmp_path, known=KNOWN)
    assert names(checked.policies) == ["a"]
    assert [problem.code for problem in checked.problems] == ["yaml-syntax", "not-utf8"]
    with pytest.raises(PolicyErrors) as caught:
        load_directory(tmp_path, known=KNOWN)
    assert len(caught.value.problems) == 2
    assert caught.value.exit_code == 1
    assert isinstance(caught.value, InvalidInput)


def test_two_enforcing_policies_of_one_subsystem(tmp_path: Path) -> None:
    first = write(tmp_path, "a.yaml", "a", "mode: enforce\n")
    second = write(tmp_path, "b.yaml", "b", "mode: enforce\n")
    write(tmp_path, "c.yaml", "c", "mode: observe\n")
    checked = check_directory(tmp_path, known=KNOWN)
    assert [str(problem) for problem in checked.problems] == [
        (
            f'{second}:5:14: error: subsystem "pipe" is already switched by {first} '
            "(only one policy of a subsystem may enforce) [conflicting-policies]"
        )
    ]
    assert names(checked.policies) == ["a", "c"]


def test_two_policies_of_one_name(tmp_path: Path) -> None:
    write(tmp_path, "a.yaml", "same")
    write(tmp_path, "b.yaml", "same")
    (problem,) = check_directory(tmp_path, known=KNOWN).problems
    assert (problem.code, problem.line, problem.column) == ("duplicate-policy", 3, 18)


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo", "device", "nul"])
def test_unreadable_files(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.yaml"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "nul":
        path = tmp_path / "a\0.yaml"
    (problem,) = check_files([path], known=KNOWN).problems
    assert problem.code == "unreadable"
    with pytest.raises(PolicyErrors):
        load_policy(path, known=KNOWN)


def test_missing_directory(tmp_path: Path) -> None:
    (problem,) = check_directory(tmp_path / "no", known=KNOWN).problems
    assert problem.code == "unreadable"


def test_empty_directory(tmp_path: Path) -> None:
    assert load_directory(tmp_path, known=KNOWN) == ()


def test_schema_for_editors_is_current() -> None:
    file = Path(__file__).parents[3] / "policies" / "schema.json"
    assert json.loads(file.read_text()) == json_schema()


def test_schema_for_editors_says_what_is_written() -> None:
    definitions = json_schema()["$defs"]
    assert definitions["RuleSpec"]["properties"]["keepFor"]["default"] == "0s"
    assert definitions["Spec"]["properties"]["interval"]["default"] == "1s"
    assert definitions["DuringSpec"]["properties"]["to"]["default"] == "24:00"
    assert definitions["Spec"]["additionalProperties"] is False
    assert "null" not in json.dumps(definitions)
