# SPDX-License-Identifier: GPL-2.0-or-later
"""Tests of policies: YAML files with made-up series, and what the policy must decide when.

Described in docs/policy.md. The engine that decides is the daemon's own.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic.alias_generators import to_camel

from dynamosd.hostsignals import FROM_SITUATION, LABEL
from dynamosd.model import (
    Action,
    Decision,
    Part,
    PolicyPhase,
    RuleState,
    Signal,
    Signals,
    Suppression,
    Verdict,
)
from dynamosd.policy.arguments import LISTED, parse_read
from dynamosd.policy.definition import Policy
from dynamosd.policy.durations import format_duration
from dynamosd.policy.expression import Input
from dynamosd.policy.load import check_files, read_file
from dynamosd.policy.positions import Document, read_document
from dynamosd.policy.positions import Path as DataPath
from dynamosd.policy.problems import Problem, Severity, did_you_mean, has_errors
from dynamosd.policy.rollout import stands_after
from dynamosd.policy.schema import Duration, Interval, KernelName
from dynamosd.policy.series import MISSING, STALE, Value, parse_series
from dynamosd.policy.shape import validate_as
from dynamosd.policy.simulate import Moment, simulate
from dynamosd.signals import SIGNALS

API_VERSION = "dynamos/v1alpha1"
KIND = "PolicyTest"

MAX_TESTS = 1000

NOT_SUPPRESSED = "none"

NOBODY = "none"
"""What has some of the calls while no canary goes on."""

_START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC).timestamp()
"""When a test begins that does not say: on a Monday, at midnight."""

_ROUNDING_SECONDS = 1e-6


# ------------------------------------------------------------------------------------- shape


def _series(value: object) -> tuple[Value, ...]:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError("a series is written such as 1 2 5x10 _ stale")  # noqa: TRY004 - pydantic's
    return parse_series(str(value))


def _signal(value: object) -> Input:
    try:
        read = parse_read(str(value))
    except KeyError as error:
        name = str(error.args[0])
    else:
        if read.signal in FROM_SITUATION:
            key = "labels" if read.signal == LABEL else "start"
            raise ValueError(f'what {read.signal} is follows from "{key}"')
        return read
    hint = did_you_mean(name, SIGNALS) or LISTED
    raise ValueError(f'unknown signal "{name}" ({hint})')


def _start(value: object) -> float:
    says = "a time is written such as 2024-01-01T08:00:00Z"
    try:
        time = dt.datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError(says) from None
    if time.tzinfo is None:
        raise ValueError(f"{says}, with its zone")
    return time.timestamp()


def _suppressed(value: object) -> str:
    choices = [NOT_SUPPRESSED, *map(str, Suppression)]
    if value not in choices:
        hint = did_you_mean(str(value), choices) or f"there are {', '.join(choices)}"
        raise ValueError(f'no switch is suppressed for "{value}" ({hint})')
    return str(value)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, alias_generator=to_camel)


class SeriesSpec(_Strict):
    """What one signal shows. ``trusted``: 0 where it is not; the last value goes on."""

    signal: Annotated[Input, BeforeValidator(_signal)]
    values: Annotated[tuple[Value, ...], BeforeValidator(_series)]
    trusted: Annotated[tuple[Value, ...], BeforeValidator(_series)] = (1.0,)


class QuarantineSpec(_Strict):
    """When an edition is in quarantine; ``to`` is not part of it."""

    edition: KernelName
    from_: Duration = Field(default=0.0, alias="from")
    to: Duration | None = None


class PauseSpec(_Strict):
    """When the policy is paused, as by ``dynamosctl pause``; ``to`` is not part of it."""

    from_: Duration = Field(default=0.0, alias="from")
    to: Duration | None = None


class ExpectSpec(_Strict):
    """What must be so after the evaluation at a time."""

    at: Duration
    active: KernelName | None = None
    part: KernelName | None = None
    rule: str | None = None
    action: Annotated[Action, Field(strict=False)] | None = None
    phase: Annotated[PolicyPhase, Field(strict=False)] | None = None
    suppressed: Annotated[str, BeforeValidator(_suppressed)] | None = None
    rules: dict[str, Annotated[RuleState, Field(strict=False)]] = Field(default_factory=dict)
    guardrails: dict[str, Annotated[Verdict, Field(strict=False)]] = Field(default_factory=dict)
    reason: str | None = None


class SwitchExpectSpec(_Strict):
    """A switch that must be made; all of a test's, if it lists them."""

    at: Duration
    to: KernelName
    scope: str = ""


class TestSpec(_Strict):
    """One test."""

    name: str = Field(min_length=1)
    interval: Interval | None = None
    start: Annotated[float, BeforeValidator(_start)] = _START
    active: KernelName | None = None
    lasts: Duration | None = None
    labels: dict[str, str] = Field(default_factory=dict)
    series: list[SeriesSpec] = Field(default_factory=list)
    quarantined: list[QuarantineSpec] = Field(default_factory=list)
    paused: list[PauseSpec] = Field(default_factory=list)
    expect: list[ExpectSpec] = Field(default_factory=list)
    switches: list[SwitchExpectSpec] | None = None


class TestFile(_Strict):
    """The whole file. ``policy`` is a file, seen from this one's folder."""

    api_version: Literal["dynamos/v1alpha1"]
    kind: Literal["PolicyTest"]
    policy: str = Field(min_length=1)
    tests: list[TestSpec] = Field(min_length=1, max_length=MAX_TESTS)


# ----------------------------------------------------------------------------------- running


@dataclass(frozen=True, slots=True)
class TestResult:
    """What became of one test: ``problems`` is empty when it passed."""

    name: str
    switches: tuple[Decision, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class FileResult:
    """What became of a test file; ``problems`` are those that kept it from being run at all."""

    file: str
    policy: str
    tests: tuple[TestResult, ...]
    problems: tuple[Problem, ...]

    @property
    def passed(self) -> bool:
        """Whether it could be run, and everything was as expected."""
        return not has_errors(self.problems) and not any(each.problems for each in self.tests)


def run_file(path: Path) -> FileResult:
    """Run the tests of a file; never raises for what is in it."""
    raw, unreadable = read_file(path)
    if unreadable is not None:
        return FileResult(str(path), "", (), (unreadable,))
    document, syntax = read_document(raw, str(path))
    if document is None:
        return FileResult(str(path), "", (), tuple(syntax))
    content, shape = validate_as(TestFile, document)
    if content is None or syntax:
        problems = sorted([*syntax, *shape], key=lambda each: (each.line, each.column))
        return FileResult(str(path), "", (), tuple(problems))
    checked = check_files([path.parent / content.policy])
    if not checked.policies:
        errors = (each for each in checked.problems if each.severity is Severity.ERROR)
        return FileResult(str(path), "", (), tuple(errors))
    policy = checked.policies[0]
    wrong = list(_check(document, content, policy))
    tests = [
        _run(document, ("tests", number), test, policy)
        for number, test in enumerate(content.tests if not wrong else ())
    ]
    return FileResult(str(path), policy.name, tuple(tests), tuple(wrong))


def _check(document: Document, content: TestFile, policy: Policy) -> Iterator[Problem]:
    """Yield what would make a test pass or fail for no good reason."""
    for number, test in enumerate(content.tests):
        at: DataPath = ("tests", number)
        for index, series in enumerate(test.series):
            if series.signal.key not in policy.signals:
                message = f"the policy does not use {series.signal.text}"
                used = ", ".join(sorted({Input(*key).text for key in policy.signals}))
                path = (*at, "series", index, "signal")
                yield document.error(path, message, "unused-signal", f"it uses {used}")
        for index, expect in enumerate(test.expect):
            yield from _check_expected(document, (*at, "expect", index), expect, policy)
        yield from _check_labels(document, (*at, "labels"), test, policy)
        if not test.series and test.lasts is None:
            message = 'neither "series" nor "lasts" says how long the test is'
            yield document.error(at, message, "missing-key")
        if not test.expect and test.switches is None:
            yield document.error(at, "the test expects nothing", "no-expectation")


def _check_expected(
    document: Document, path: DataPath, expect: ExpectSpec, policy: Policy
) -> Iterator[Problem]:
    """Yield the names in an expectation that the policy does not have."""
    rules = [rule.name for rule in policy.rules]
    guardrails = [each.name for each in policy.guardrails]
    for name in (*expect.rules, *([expect.rule] if expect.rule else [])):
        if name not in rules:
            where = (*path, "rules", name) if name in expect.rules else (*path, "rule")
            message = f'the policy has no rule "{name}"'
            yield document.error_at_key(where, message, "unknown-rule", _similar(name, rules))
    for name in expect.guardrails:
        if name not in guardrails:
            where = (*path, "guardrails", name)
            message, hint = f'the policy has no guardrail "{name}"', _similar(name, guardrails)
            yield document.error_at_key(where, message, "unknown-guardrail", hint)
    editions = sorted(policy.editions)
    if expect.active is not None and expect.active not in editions:
        hint = _similar(expect.active, editions)
        message = f'the policy never switches to "{expect.active}"'
        yield document.error((*path, "active"), message, "unknown-edition", hint)


def _similar(name: str, there: Sequence[str]) -> str:
    return did_you_mean(name, there) or f"there are {', '.join(there) or 'none'}"


def _check_labels(
    document: Document, at: DataPath, test: TestSpec, policy: Policy
) -> Iterator[Problem]:
    """Yield the labels that the policy asks for and the test lacks, and those it never asks for."""
    used = {name for signal, name, _ in policy.signals if signal == LABEL}
    for name in sorted(used - test.labels.keys()):
        message = f'the policy asks for label "{name}", which the test does not give'
        yield document.error(at, message, "unknown-label", f'e.g. labels: {{{name}: "…"}}')
    for name in test.labels.keys() - used:
        message = f'the policy does not ask for label "{name}"'
        yield document.error_at_key((*at, name), message, "unused-signal")


def _run(document: Document, at: DataPath, test: TestSpec, policy: Policy) -> TestResult:
    interval = test.interval or policy.interval_seconds
    moments = list(_moments(test, interval))
    decisions = list(simulate(policy, moments, test.active))
    switches = tuple(each for each in decisions if each.action is Action.SWITCH)
    problems: list[Problem] = []
    for index, expect in enumerate(test.expect):
        path = (*at, "expect", index)
        number = round(expect.at / interval)
        if number >= len(decisions) or abs(number * interval - expect.at) > _ROUNDING_SECONDS:
            when = format_duration(expect.at)
            last = format_duration((len(decisions) - 1) * interval)
            message = f"nothing is evaluated at {when}"
            hint = f"evaluations are {format_duration(interval)} apart, the last one at {last}"
            problems.append(document.error((*path, "at"), message, "bad-time", hint))
            continue
        problems += _compare(document, path, expect, decisions[number])
    problems += _compare_switches(document, at, test, switches)
    return TestResult(test.name, switches, tuple(problems))


def _moments(test: TestSpec, interval: float) -> Iterator[Moment]:
    count = max((len(each.values) for each in test.series), default=0)
    if test.lasts is not None:
        count = max(count, 1 + int((test.lasts + _ROUNDING_SECONDS) / interval))
    for number in range(count):
        now = number * interval
        signals = {each.signal.key: _signal_at(each, number) for each in test.series}
        quarantined = {
            each.edition: f"edition {each.edition} is in quarantine (test)"
            for each in test.quarantined
            if _is_during(each, now)
        }
        paused = any(_is_during(each, now) for each in test.paused)
        suspended = "paused (test)" if paused else ""
        yield Moment(Signals(now, signals), test.start + now, quarantined, suspended, test.labels)


def _is_during(stretch: QuarantineSpec | PauseSpec, now: float) -> bool:
    late = now + _ROUNDING_SECONDS
    return stretch.from_ <= late and (stretch.to is None or late < stretch.to)


def _signal_at(series: SeriesSpec, number: int) -> Signal:
    value = series.values[number] if number < len(series.values) else MISSING
    trusted = series.trusted[min(number, len(series.trusted) - 1)] not in {0.0, MISSING, STALE}
    if isinstance(value, str):
        return Signal(None, trusted, value)
    return Signal(value, trusted, "" if trusted else "untrusted in this test")


def _compare(
    document: Document, path: DataPath, expect: ExpectSpec, decision: Decision
) -> Iterator[Problem]:
    """Yield what is not as expected."""
    active, part = stands_after(decision, None)
    if decision.action is Action.STAY and decision.rolling is not None:
        part = Part(decision.rolling.edition, decision.rolling.scope)
    found: Mapping[str, tuple[object, object]] = {
        "active": (expect.active, active),
        "part": (expect.part, part.edition if part else NOBODY),
        "rule": (expect.rule, decision.rule),
        "action": (expect.action, decision.action),
        "phase": (expect.phase, decision.phase),
        "suppressed": (expect.suppressed, decision.suppressed or NOT_SUPPRESSED),
    }
    when = format_duration(expect.at)
    for key, (wanted, got) in found.items():
        if wanted is not None and str(wanted) != str(got):
            message = f'at {when} "{key}" is "{got}", not "{wanted}"'
            yield document.error((*path, key), message, "not-as-expected", decision.reason)
    for name, state in expect.rules.items():
        if decision.rules[name] is not state:
            message = f'at {when} rule "{name}" is "{decision.rules[name]}", not "{state}"'
            where = (*path, "rules", name)
            yield document.error(where, message, "not-as-expected", decision.reason)
    verdicts = decision.guarded.findings if decision.guarded else {}
    for name, verdict in expect.guardrails.items():
        now = verdicts[name].verdict if name in verdicts else "nothing"
        if now != verdict:
            message = f'at {when} guardrail "{name}" says "{now}", not "{verdict}"'
            hint = verdicts[name].reason if name in verdicts else decision.reason
            where = (*path, "guardrails", name)
            yield document.error(where, message, "not-as-expected", hint)
    if expect.reason is not None and expect.reason not in decision.reason:
        message = f'at {when} the reason does not have "{expect.reason}" in it'
        yield document.error((*path, "reason"), message, "not-as-expected", decision.reason)


def _compare_switches(
    document: Document, at: DataPath, test: TestSpec, switches: tuple[Decision, ...]
) -> Iterator[Problem]:
    if test.switches is None:
        return
    wanted = [(round(each.at, 3), each.to, each.scope) for each in test.switches]
    found = [(round(each.time, 3), each.target, each.scope) for each in switches]
    if wanted != found:
        message = f"the switches are {_list(found)}, not {_list(wanted)}"
        yield document.error_at_key((*at, "switches"), message, "not-as-expected")


def _list(switches: list[tuple[float, str, str]]) -> str:
    return ", ".join(map(_describe_switch, switches)) or "none"


def _describe_switch(switch: tuple[float, str, str]) -> str:
    time, to, scope = switch
    return f"{to}{f' for {scope}' if scope else ''} at {format_duration(time)}"
