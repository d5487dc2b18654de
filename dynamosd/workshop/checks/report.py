# SPDX-License-Identifier: GPL-2.0-or-later
"""All checks of a module, in the order in which a person would mend things."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dynamosd.errors import DynamosError
from dynamosd.workshop.checks import file, finding, instructions, linking, loading, meaning
from dynamosd.workshop.checks.description import Description, Kind, describe
from dynamosd.workshop.checks.elf import Elf
from dynamosd.workshop.checks.finding import Finding, Verdict
from dynamosd.workshop.checks.kernel import Kernel
from dynamosd.workshop.checks.subject import Subject


@dataclass(frozen=True, slots=True)
class Report:
    """What was found. ``description`` is None when the file cannot be read."""

    path: Path
    release: str
    description: Description | None
    findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """Give what a program ends with."""
        return finding.exit_code(self.findings)

    @property
    def bad(self) -> list[Finding]:
        """Give what keeps the module from being loaded."""
        return [each for each in self.findings if each.is_bad]


def check(path: Path, kernel: Kernel) -> Report:
    """Check a module, of which nothing has been loaded.

    Args:
        path: its file; anything may be there.
        kernel: for which it is.
    """
    findings: list[Finding] = []
    try:
        data = file.read(path)
    except DynamosError as error:
        findings.append(Finding("file", Verdict.FAILED, error.message))
        return Report(path, kernel.release, None, tuple(findings))
    permissions = file.check_permissions(path)
    try:
        elf = Elf(data)
        subject = Subject(path, data, elf, describe(elf), kernel)
    except DynamosError as error:
        remedy = "build or copy it again"
        findings = [Finding("file", Verdict.FAILED, error.message, remedy), permissions]
        return Report(path, kernel.release, None, tuple(findings))
    seen = f"{len(data)} bytes, {len(elf.sections)} sections"
    findings = [Finding("file", Verdict.PASSED, seen), permissions]
    for name, run in CHECKS:
        findings += _run(name, run, subject)
    return Report(path, kernel.release, subject.description, tuple(findings))


def _run(
    name: str, run: Callable[[Subject], Iterator[Finding]], subject: Subject
) -> Iterator[Finding]:
    try:
        yield from run(subject)
    except DynamosError as error:
        yield Finding(name, Verdict.FAILED, error.message, error.hint or "build it again")


def _is_of_editions(subject: Subject) -> bool:
    return subject.description.kind in {Kind.EDITION, Kind.SUBSYSTEM}


def _for_editions(
    name: str, run: Callable[[Subject], Iterator[Finding]]
) -> tuple[str, Callable[[Subject], Iterator[Finding]]]:
    """Make a check one of editions and subsystems only."""

    def check_it(subject: Subject) -> Iterator[Finding]:
        if _is_of_editions(subject):
            yield from run(subject)
        else:
            seen = f"for editions and subsystems; this is {subject.description.kind}"
            yield Finding(name, Verdict.NOT_APPLICABLE, seen)

    return name, check_it


CHECKS: tuple[tuple[str, Callable[[Subject], Iterator[Finding]]], ...] = (
    (loading.KERNEL, loading.check_kernel),
    (linking.SYMBOLS, linking.check_symbols),
    (loading.SIGNATURE, loading.check_signature),
    (meaning.WHAT, meaning.check_what),
    _for_editions(meaning.PROTOTYPES, meaning.check_prototypes),
    _for_editions(meaning.MODES, meaning.check_modes),
    _for_editions(meaning.GATES, meaning.check_gates),
    _for_editions(instructions.INSTRUCTIONS, instructions.check_instructions),
    _for_editions(instructions.CALLS, instructions.check_calls),
    _for_editions(instructions.SLEEPING, instructions.check_sleeping),
    (instructions.STACK, instructions.check_stack),
)
