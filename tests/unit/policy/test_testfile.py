# SPDX-License-Identifier: GPL-2.0-or-later
"""Test files of policies: what they may say, and what they find."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from dynamosd.policy.testfile import run_file
from tests.unit.policy.build import text_of

RULE = """\
- name: storm
  edition: batched
  when: calls_rate("pipe_write") > 100.0
  for: 2s
"""

HEAD = """\
apiVersion: dynamos/v1alpha1
kind: PolicyTest
policy: policy.yaml
tests:
"""

TEST = """\
- name: one
  series:
    - signal: calls_rate("pipe_write")
      values: 50x3 200x4 50x2
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "policy.yaml").write_text(text_of(RULE))
    return tmp_path


def lines(folder: Path, test: str, head: str = HEAD) -> list[str]:
    """Return what an operator would read, without the folder."""
    file = folder / "test.yaml"
    file.write_text(head + textwrap.indent(test, "  "))
    result = run_file(file)
    problems = [*result.problems, *(each for test in result.tests for each in test.problems)]
    assert result.passed is (not problems)
    return [str(each).removeprefix(f"{folder}/") for each in problems]


def test_passes(folder: Path) -> None:
    expected = """\
  switches: [{at: 6s, to: batched}, {at: 9s, to: original}]
  expect:
    - {at: 0s, active: original, action: stay, rules: {storm: inactive}}
    - {at: 5s, phase: pending, suppressed: for, rule: ""}
    - {at: 6s, active: batched, action: switch, rule: storm, suppressed: none, reason: held for 2s}
"""
    assert lines(folder, TEST + expected) == []


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (
            "  expect: [{at: 5s, active: batched}]\n",
            (
                'test.yaml:9:31: error: at 5s "active" is "original", not "batched" '
                '(baseline original: rule storm pending: calls_rate("pipe_write") = 200, '
                "when-condition true for 1s of 2s) [not-as-expected]"
            ),
        ),
        (
            "  expect: [{at: 6s, rule: ''}]\n",
            'test.yaml:9:29: error: at 6s "rule" is "storm", not ""',
        ),
        (
            "  expect: [{at: 5s, suppressed: cooldown}]\n",
            'test.yaml:9:35: error: at 5s "suppressed" is "for", not "cooldown"',
        ),
        (
            "  expect: [{at: 0s, suppressed: for}]\n",
            'test.yaml:9:35: error: at 0s "suppressed" is "none", not "for"',
        ),
        (
            "  expect: [{at: 5s, rules: {storm: active}}]\n",
            'test.yaml:9:38: error: at 5s rule "storm" is "pending", not "active"',
        ),
        (
            "  expect: [{at: 6s, reason: for 3s}]\n",
            'test.yaml:9:31: error: at 6s the reason does not have "for 3s" in it',
        ),
        (
            "  switches: []\n",
            (
                "test.yaml:9:5: error: the switches are batched at 6s, original at 9s, not none "
                "[not-as-expected]"
            ),
        ),
        (
            "  switches: [{at: 6s, to: batched}]\n",
            (
                "test.yaml:9:5: error: the switches are batched at 6s, original at 9s, not batched "
                "at 6s [not-as-expected]"
            ),
        ),
        (
            "  expect: [{at: 1500ms, active: original}]\n",
            (
                "test.yaml:9:19: error: nothing is evaluated at 1s500ms (evaluations are 1s apart, "
                "the last one at 11s) [bad-time]"
            ),
        ),
        (
            "  expect: [{at: 12s, active: original}]\n",
            "test.yaml:9:19: error: nothing is evaluated at 12s",
        ),
    ],
)
def test_fails(folder: Path, expected: str, message: str) -> None:
    (found,) = lines(folder, TEST + expected)
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (TEST, "test.yaml:5:5: error: the test expects nothing [no-expectation]"),
        (
            TEST.replace("calls_rate", "in_flight") + "  switches: []\n",
            (
                'test.yaml:7:17: error: the policy does not use in_flight("pipe_write") '
                '(it uses calls_rate("pipe_write")) [unused-signal]'
            ),
        ),
        (
            TEST + "  expect: [{at: 1s, rule: strom}]\n",
            (
                'test.yaml:9:23: error: the policy has no rule "strom" (did you mean "storm"?) '
                "[unknown-rule]"
            ),
        ),
        (
            TEST + "  expect: [{at: 1s, rules: {strom: active}}]\n",
            'test.yaml:9:31: error: the policy has no rule "strom"',
        ),
        (
            TEST + "  expect: [{at: 1s, active: batchd}]\n",
            (
                'test.yaml:9:31: error: the policy never switches to "batchd" '
                '(did you mean "batched"?) [unknown-edition]'
            ),
        ),
        (
            TEST + "  expect: [{at: 1s, suppressed: cool}]\n",
            (
                'test.yaml:9:35: error: "suppressed": no switch is suppressed for "cool" '
                '(did you mean "cooldown"?) [bad-value]'
            ),
        ),
        (
            TEST + "  expect: [{at: 1s, phase: activ}]\n",
            'test.yaml:9:30: error: "phase" must be',
        ),
        (
            TEST + "  expect: [{at: 1s, activ: original}]\n",
            'test.yaml:9:23: error: unknown key "activ" (did you mean "active"?) [unknown-key]',
        ),
        (
            TEST.replace("50x3", "fifty") + "  switches: []\n",
            (
                'test.yaml:8:17: error: "values": "fifty" is not a value, such as 5, 1x3, 1+2x3, _ '
                "or stale [bad-series]"
            ),
        ),
        (
            TEST.replace("calls_rate", "calls_rat") + "  switches: []\n",
            (
                'test.yaml:7:17: error: "signal": unknown signal "calls_rat" '
                '(did you mean "calls_rate"?) [bad-signal]'
            ),
        ),
        (
            TEST + "  start: 2024-01-01T08:00:00\n  switches: []\n",
            'test.yaml:9:12: error: "start": a time is written such as 2024-01-01T08:00:00Z',
        ),
        (
            "- name: one\n  switches: []\n",
            'test.yaml:5:5: error: neither "series" nor "lasts" says how long the test is',
        ),
    ],
)
def test_files_gone_wrong(folder: Path, test: str, message: str) -> None:
    first, *_ = lines(folder, test)
    assert first.startswith(message)


def test_policy_that_is_wrong_or_missing(folder: Path) -> None:
    (folder / "policy.yaml").write_text(text_of("- {name: x}\n"))
    assert 'policy.yaml:7:5: error: "edition" is missing [missing-key]' in lines(folder, TEST)
    (folder / "policy.yaml").unlink()
    assert "policy.yaml:1:1: error: cannot be read" in lines(folder, TEST)[0]


@pytest.mark.parametrize("raw", [b"", b"\xff", b"a: [", b"7"])
def test_hostile_files(folder: Path, raw: bytes) -> None:
    file = folder / "test.yaml"
    file.write_bytes(raw)
    result = run_file(file)
    assert (result.passed, result.tests) == (False, ())
    assert result.problems
    assert run_file(folder / "missing.yaml").problems[0].code == "unreadable"


def test_trust_gaps_quarantine_and_the_hour(folder: Path) -> None:
    rule = RULE.replace("for: 2s", 'during: [{days: tue, from: "08:00"}]')
    (folder / "policy.yaml").write_text(text_of(rule))
    test = """\
- name: all of it
  start: 2024-01-02T07:59:58Z
  series:
    - signal: calls_rate("pipe_write")
      values: 200x9 _ stale
      trusted: 1x3 0 1
  quarantined: [{edition: batched, from: 6s, to: 8s}]
  switches: [{at: 2s, to: batched}, {at: 6s, to: original}, {at: 8s, to: batched}]
  expect:
    - {at: 1s, suppressed: during}
    - {at: 4s, phase: untrusted, reason: untrusted in this test}
    - {at: 7s, phase: quarantined}
    - {at: 10s, phase: no_data, reason: missing}
    - {at: 11s, phase: no_data, reason: stale}
"""
    assert lines(folder, test) == []


def test_pause(folder: Path) -> None:
    (folder / "policy.yaml").write_text(text_of(RULE.replace("for: 2s", "for: 0s")))
    test = """\
- name: paused
  series: [{signal: 'calls_rate("pipe_write")', values: 200x9}]
  paused: [{to: 3s}, {from: 5s, to: 6s}]
  quarantined: [{edition: batched, from: 5s, to: 6s}]
  switches: [{at: 3s, to: batched}, {at: 5s, to: original}, {at: 6s, to: batched}]
  expect:
    - {at: 2s, active: original, phase: paused, suppressed: paused, rules: {storm: active}}
    - {at: 4s, phase: active}
    - {at: 5s, active: original, phase: paused}
"""
    assert lines(folder, test) == []


OUTSIDE = """\
- name: storm
  edition: batched
  when: >-
    (pressure("io", "some") > 0.5 || source("depth") > 100.0 || cpu_busy() > 0.9) &&
    label("role") in ["db", "web"] && hour() >= 8.0
"""
SOURCES = "sources: [{name: depth, prometheus: {query: queue_depth}}]\n"


def test_the_host_the_time_labels_and_sources(folder: Path) -> None:
    (folder / "policy.yaml").write_text(text_of(OUTSIDE, SOURCES))
    test = """\
- name: a db in the morning
  start: 2024-01-02T07:59:58Z
  labels: {role: db}
  series:
    - {signal: 'pressure("io", "some")', values: 0.9x3 0x9}
    - {signal: source("depth"), values: 0x4 101x2 _x6}
    - {signal: cpu_busy(), values: 0x8 1x1 0x2}
  switches:
    - {at: 2s, to: batched}
    - {at: 4s, to: original}
    - {at: 5s, to: batched}
  expect:
    - {at: 1s, phase: inactive, reason: hour() = 7}
    - {at: 8s, phase: no_data, reason: "source(\\"depth\\"): no data: missing"}
- name: no db
  start: 2024-01-02T08:00:00Z
  labels: {role: cache}
  series: [{signal: cpu_busy(), values: 1x5}]
  switches: []
"""
    assert lines(folder, test) == []


def test_a_test_without_series_says_how_long_it_is(folder: Path) -> None:
    rule = OUTSIDE.partition("  when")[0] + "  when: minute() == 1.0 && label('role') != 'web'\n"
    (folder / "policy.yaml").write_text(text_of(rule))
    test = """\
- name: the first minute
  start: 2024-01-02T07:00:30Z
  lasts: 2m
  labels: {role: db}
  switches: [{at: 30s, to: batched}, {at: 1m30s, to: original}]
  expect: [{at: 2m, active: original}]
"""
    assert lines(folder, test) == []


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "labels: {role: db, rack: x}",
            'test.yaml:6:24: error: the policy does not ask for label "rack" [unused-signal]',
        ),
        (
            "labels: {}",
            (
                'test.yaml:6:13: error: the policy asks for label "role", which the test does not '
                'give (e.g. labels: {role: "…"}) [unknown-label]'
            ),
        ),
        (
            "labels: {role: db}\n  series: [{signal: hour(), values: 5}]",
            'test.yaml:7:23: error: "signal": what hour is follows from "start" [bad-signal]',
        ),
        (
            "labels: {role: db}\n  series: [{signal: 'label(\"role\")', values: 5}]",
            'test.yaml:7:23: error: "signal": what label is follows from "labels" [bad-signal]',
        ),
        (
            "labels: {role: db}\n  series: [{signal: 'pressure(\"io\")', values: 5}]",
            (
                'test.yaml:7:23: error: "signal": pressure takes a resource and a kind of stall, '
                "in quotes [bad-signal]"
            ),
        ),
    ],
)
def test_what_is_wrong_about_the_outside(folder: Path, key: str, message: str) -> None:
    (folder / "policy.yaml").write_text(text_of(OUTSIDE, SOURCES))
    assert lines(folder, f"- name: x\n  {key}\n  lasts: 5s\n  switches: []\n") == [message]


def test_advising_policies_are_played_as_if_they_enforced(folder: Path) -> None:
    (folder / "policy.yaml").write_text(text_of(RULE, "mode: observe\n"))
    assert (
        lines(folder, TEST + "  switches: [{at: 6s, to: batched}, {at: 9s, to: original}]\n") == []
    )


def test_active_edition_at_first_is_adopted(folder: Path) -> None:
    test = """\
- name: adopted
  active: batched
  interval: 500ms
  series:
    - signal: calls_rate("pipe_write")
      values: _x3 50
  switches: [{at: 1500ms, to: original}]
"""
    assert lines(folder, test) == []


GUARDRAIL = """\
guardrails:
  - name: failing
    breach: error_share("pipe_write") > 0.1
    confidence: 80%
    quarantine: 4s
"""
FAILS = """\
- name: it fails
  series:
    - signal: calls_rate("pipe_write")
      values: 200x18
    - signal: error_share("pipe_write", "batched")
      values: 0x5 0.5x12
"""


def test_guardrails_and_their_quarantines(folder: Path) -> None:
    (folder / "policy.yaml").write_text(text_of(RULE, GUARDRAIL))
    expected = """\
  switches: [{at: 2s, to: batched}, {at: 7s, to: original}, {at: 11s, to: batched},
             {at: 14s, to: original}]
  expect:
    - {at: 5s, guardrails: {failing: passed}}
    - {at: 7s, guardrails: {failing: breached}, phase: quarantined, rules: {storm: quarantined}}
    - {at: 13s, guardrails: {failing: watching}}
    - {at: 18s, active: original}
"""
    assert lines(folder, FAILS + expected) == []


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        (
            "  expect: [{at: 5s, guardrails: {failing: breached}}]\n",
            'at 5s guardrail "failing" says "passed", not "breached" (broken in 0 windows',
        ),
        (
            "  expect: [{at: 1s, guardrails: {failing: idle}}]\n",
            'at 1s guardrail "failing" says "nothing", not "idle" (baseline original: rule storm',
        ),
        (
            "  expect: [{at: 1s, guardrails: {fails: idle}}]\n",
            'the policy has no guardrail "fails" (did you mean "failing"?) [unknown-guardrail]',
        ),
        (
            "  expect: [{at: 1s, guardrails: {failing: bad}}]\n",
            '"failing" must be "watching", "passed", "breached", "idle", "no_data" or "untrusted"',
        ),
    ],
)
def test_guardrails_that_are_not_as_expected(folder: Path, expected: str, message: str) -> None:
    (folder / "policy.yaml").write_text(text_of(RULE, GUARDRAIL))
    (line,) = lines(folder, FAILS + expected)
    assert message in line


CANARY = """\
canary: {steps: [{scope: "share:1/10", pause: 3s}]}
"""


def test_canary(folder: Path) -> None:
    (folder / "policy.yaml").write_text(text_of(RULE, GUARDRAIL + CANARY))
    expected = """\
  switches: [{at: 2s, to: batched, scope: "share:1/10"}, {at: 5s, to: batched},
             {at: 8s, to: original}, {at: 12s, to: batched, scope: "share:1/10"},
             {at: 15s, to: original}]
  expect:
    - {at: 3s, active: original, part: batched, phase: canary, suppressed: canary}
    - {at: 6s, active: batched, part: none}
    - {at: 14s, part: batched, reason: step 1 of 1}
    - {at: 18s, active: original, part: none}
"""
    assert lines(folder, FAILS + expected) == []


def test_canary_that_is_not_as_expected(folder: Path) -> None:
    (folder / "policy.yaml").write_text(text_of(RULE, GUARDRAIL + CANARY))
    expected = """\
  switches: [{at: 2s, to: batched}]
  expect: [{at: 3s, part: none}]
"""
    first, second = lines(folder, FAILS + expected)
    assert 'at 3s "part" is "batched", not "none"' in first
    assert "the switches are batched for share:1/10 at 2s, batched at 5s, original at 8s" in second
    assert ", not batched at 2s [not-as-expected]" in second
