# SPDX-License-Identifier: GPL-2.0-or-later
"""Policy files to policies. Every error of every file is reported, each with its position."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from dynamosd.model import Source
from dynamosd.policy.checks import Checker, check_together
from dynamosd.policy.condition import Condition, Sides, compile_condition
from dynamosd.policy.definition import EVERY_SAMPLE, Limits, Policy, Rule, Samples, Setting
from dynamosd.policy.guardrails import Guardrail, of_baseline
from dynamosd.policy.hours import Hours
from dynamosd.policy.names import SubsystemNames
from dynamosd.policy.objective import Goal, Objective
from dynamosd.policy.outside import check_sources_together
from dynamosd.policy.positions import MAX_BYTES, Document, read_document
from dynamosd.policy.positions import Path as DataPath
from dynamosd.policy.problems import PolicyErrors, Problem, Severity, has_errors
from dynamosd.policy.rollout import Canary, CanaryStep
from dynamosd.policy.schema import (
    CanarySpec,
    GuardrailSpec,
    LimitsSpec,
    PolicyFile,
    RuleSpec,
    SourceSpec,
    Spec,
)
from dynamosd.policy.shape import validate

Known = Mapping[str, SubsystemNames]
"""The subsystems that exist, by name."""

_IGNORED = (".*", "*~", "*.dpkg-*", "*.rpmnew")
_SUFFIXES = {".yaml", ".yml"}


@dataclass(frozen=True, slots=True)
class Checked:
    """The outcome for one or more files: policies of those without errors, problems of all."""

    policies: tuple[Policy, ...]
    problems: tuple[Problem, ...]


def load_policy(path: Path, *, known: Known | None = None) -> Policy:
    """Load one policy.

    Args:
        path: the file.
        known: the subsystems that exist; None if that is not known, and names are then not checked.

    Raises:
        PolicyErrors: with all that is wrong with it.
    """
    return _or_raise(check_files([path], known=known)).policies[0]


def load_directory(directory: Path, *, known: Known | None = None) -> tuple[Policy, ...]:
    """Load all policies of a directory, sorted by file name; see ``check_directory``.

    Raises:
        PolicyErrors: with all that is wrong with any of them.
    """
    return _or_raise(check_directory(directory, known=known)).policies


def parse_policy(
    raw: bytes, file: str, *, known: Known | None = None, labels: Collection[str] | None = None
) -> Policy:
    """Make a policy of a file's content; ``file`` is its name in messages.

    Raises:
        PolicyErrors: with all that is wrong with it.
    """
    parsed = _parse(raw, file, known, labels)
    if parsed.policy is None:
        raise PolicyErrors(parsed.problems)
    return parsed.policy


def check_directory(directory: Path, *, known: Known | None = None) -> Checked:
    """Check the files ``*.yaml`` and ``*.yml`` of a directory, sorted by file name.

    Hidden files and what editors and package managers leave behind are passed over in silence;
    other files get a note, so that a misnamed policy does not go unnoticed.
    """
    try:
        entries = sorted(directory.iterdir(), key=lambda path: path.name)
    except OSError as error:
        return Checked((), (_unreadable(str(directory), error),))
    files = [path for path in entries if not _is_ignored(path.name) and not path.is_dir()]
    checked = check_files([path for path in files if path.suffix in _SUFFIXES], known=known)
    notes = [
        Problem(str(path), 1, 1, Severity.NOTE, "not a .yaml file: passed over", "ignored-file")
        for path in files
        if path.suffix not in _SUFFIXES
    ]
    return Checked(checked.policies, (*checked.problems, *notes))


def check_files(
    paths: Iterable[Path], *, known: Known | None = None, labels: Collection[str] | None = None
) -> Checked:
    """Check policy files, each alone and all together. Never raises for what is in them.

    Args:
        paths: the files.
        known: the subsystems that exist; None if that is not known.
        labels: the names of the host's labels; None if they are not known.
    """
    parsed = [_parse_file(path, known, labels) for path in paths]
    problems = [problem for each in parsed for problem in each.problems]
    documents = [each.document for each in parsed if each.document is not None]
    problems += check_together(documents)
    problems += check_sources_together((each.document, each.policy) for each in parsed)
    wrong = {problem.file for problem in problems if problem.severity is Severity.ERROR}
    policies = [each.policy for each in parsed if each.policy and each.file not in wrong]
    return Checked(tuple(policies), tuple(problems))


@dataclass(frozen=True, slots=True)
class _Parsed:
    file: str
    problems: tuple[Problem, ...]
    document: Document | None = None
    policy: Policy | None = None


def _or_raise(checked: Checked) -> Checked:
    if has_errors(checked.problems):
        raise PolicyErrors(checked.problems)
    return checked


def _is_ignored(name: str) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in _IGNORED)


def read_file(path: Path) -> tuple[bytes, Problem | None]:
    """Return a file's bytes, one more than the limit at most, or what keeps it from being read."""
    try:
        return _read(path), None
    except (OSError, ValueError) as error:
        return b"", _unreadable(str(path), error)


def _parse_file(path: Path, known: Known | None, labels: Collection[str] | None) -> _Parsed:
    raw, unreadable = read_file(path)
    if unreadable is not None:
        return _Parsed(str(path), (unreadable,))
    return _parse(raw, str(path), known, labels)


def _read(path: Path) -> bytes:
    """Return a file's bytes, or one more than the limit. A FIFO or a device is not waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(descriptor, "rb") as file:  # noqa: PTH123 # it is open already
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("not a regular file")
        return file.read(MAX_BYTES + 1)


def _unreadable(file: str, error: Exception) -> Problem:
    reason = error.strerror if isinstance(error, OSError) else str(error)
    return Problem(file, 1, 1, Severity.ERROR, f"cannot be read: {reason}", "unreadable")


def _parse(
    raw: bytes, file: str, known: Known | None, labels: Collection[str] | None = None
) -> _Parsed:
    document, syntax = read_document(raw, file)
    if document is None:
        return _Parsed(file, tuple(syntax))
    content, shape = validate(document)
    checker = Checker(document, known, labels)
    checker.run()
    problems = tuple(
        sorted([*syntax, *shape, *checker.problems], key=lambda each: (each.line, each.column))
    )
    if content is None or has_errors(problems):
        return _Parsed(file, problems, document)
    digest = hashlib.sha256(raw).hexdigest()
    policy = _build(content, checker.conditions, file, problems, digest)
    return _Parsed(file, problems, document, policy)


def _build(
    content: PolicyFile,
    conditions: Mapping[DataPath, Condition],
    file: str,
    remarks: tuple[Problem, ...],
    digest: str,
) -> Policy:
    spec = content.spec
    rules = [
        _build_rule(rule, conditions, ("spec", "rules", index))
        for index, rule in enumerate(spec.rules)
    ]
    objective = _build_objective(spec, conditions)
    editions = [rule.edition for rule in rules] + list(objective.editions if objective else ())
    guarded = [each for each in dict.fromkeys(editions) if each != spec.baseline]
    return Policy(
        file=file,
        name=content.metadata.name,
        labels=content.metadata.labels,
        annotations=content.metadata.annotations,
        subsystem=spec.subsystem,
        mode=spec.mode,
        baseline=spec.baseline,
        interval_seconds=spec.interval,
        on_exit=spec.on_exit,
        rules=tuple(rules),
        switch_mode=spec.switch.mode,
        switch_timeout_seconds=spec.switch.timeout,
        on_loss=spec.on_daemon_loss.action,
        loss_grace_seconds=spec.on_daemon_loss.grace,
        limits=_build_limits(spec.limits),
        objective=objective,
        canary=_build_canary(spec.canary) if spec.canary else None,
        guardrails=tuple(
            _build_guardrail(each, spec.baseline, guarded) for each in spec.guardrails
        ),
        settings=tuple(Setting(each.edition, each.name, each.value) for each in spec.parameters),
        sources=tuple(map(_build_source, spec.sources)),
        remarks=remarks,
        digest=digest,
    )


def _build_rule(rule: RuleSpec, conditions: Mapping[DataPath, Condition], path: DataPath) -> Rule:
    return Rule(
        name=rule.name,
        edition=rule.edition,
        when=conditions[*path, "when"],
        until=conditions.get((*path, "until")),
        for_seconds=rule.for_,
        keep_for_seconds=rule.keep_for,
        on_no_data=rule.on_no_data,
        samples=Samples(rule.samples.need, rule.samples.of) if rule.samples else EVERY_SAMPLE,
        hours=tuple(Hours(each.days, each.from_, each.to) for each in rule.during),
    )


def _build_objective(spec: Spec, conditions: Mapping[DataPath, Condition]) -> Objective | None:
    made, path = spec.objective, ("spec", "objective")
    if made is None:
        return None
    goal = Goal.MINIMIZE if made.minimize is not None else Goal.MAXIMIZE
    named = made.editions or [rule.edition for rule in spec.rules]
    editions = tuple(dict.fromkeys((spec.baseline, *named)))
    return Objective(
        goal=goal,
        measure=conditions[*path, str(goal)],
        editions=editions,
        trial_seconds=made.trial,
        settle_seconds=made.settle,
        every_seconds=made.every,
        # So no more than half of the time is spent on trials, however often the workload changes.
        retry_seconds=made.retry_after or made.trial * len(editions),
        min_difference=made.min_difference,
        activity=conditions.get((*path, "activity")),
        retry_on=conditions.get((*path, "retryOn")),
        seed=made.seed,
    )


def _build_canary(made: CanarySpec) -> Canary:
    steps = tuple(CanaryStep(each.scope, each.pause) for each in made.steps)
    return Canary(steps, made.give_up_after, made.retry_after)


def _build_guardrail(made: GuardrailSpec, baseline: str, editions: Iterable[str]) -> Guardrail:
    def of_each(text: str | None) -> dict[str, Condition]:
        if text is None:
            return {}
        return {each: compile_condition(text, Sides(each, baseline)) for each in editions}

    breach, activity = of_each(made.breach), of_each(made.activity)
    return Guardrail(
        name=made.name,
        breach=breach,
        activity=activity,
        window_seconds=made.window,
        confidence=made.confidence,
        staleness_seconds=made.staleness,
        quarantine_seconds=made.quarantine,
        against=of_baseline((*breach.values(), *activity.values()), baseline),
    )


def _build_source(source: SourceSpec) -> Source:
    asked = source.prometheus
    return Source(
        name=source.name,
        url=asked.url,
        query=asked.query,
        every_seconds=asked.every,
        staleness_seconds=asked.staleness,
        timeout_seconds=asked.timeout,
    )


def _build_limits(limits: LimitsSpec) -> Limits:
    most = limits.max_switches
    return Limits(
        cooldown_seconds=limits.cooldown,
        max_switches=most.count if most else None,
        per_seconds=most.per if most else 0.0,
        on_flap=limits.on_flap,
    )
