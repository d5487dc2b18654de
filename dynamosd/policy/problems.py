# SPDX-License-Identifier: GPL-2.0-or-later
"""What can be wrong with a policy file, and where."""

from __future__ import annotations

import difflib
import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dynamosd.errors import InvalidInput


class Severity(enum.StrEnum):
    """How bad it is: an error stops the file from loading, a warning and a note do not."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to say about a file. ``line`` and ``column`` start at 1; ``code`` never changes."""

    file: str
    line: int
    column: int
    severity: Severity
    message: str
    code: str
    hint: str = ""

    def __str__(self) -> str:
        """Return the line for people and editors, as docs/policy.md describes it."""
        hint = f" ({self.hint})" if self.hint else ""
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where}: {self.severity}: {self.message}{hint} [{self.code}]"


_GITHUB_COMMANDS = {"error": "error", "warning": "warning", "note": "notice"}


def format_github(problem: Problem) -> str:
    """Return a problem as a workflow command that GitHub shows beside the line."""

    def escape(text: str, more: str = "") -> str:
        for letter in f"%\r\n{more}":
            text = text.replace(letter, f"%{ord(letter):02X}")
        return text

    command = _GITHUB_COMMANDS[problem.severity]
    file = escape(problem.file, ":,")
    where = f"file={file},line={problem.line},col={problem.column},title={problem.code}"
    hint = f" ({problem.hint})" if problem.hint else ""
    return f"::{command} {where}::{escape(problem.message + hint)}"


class PolicyErrors(InvalidInput):
    """One or more policy files cannot be used. ``problems`` also holds their warnings and notes."""

    code = "invalid_policy"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


def has_errors(problems: Iterable[Problem]) -> bool:
    """Say whether any of them stops a file from loading."""
    return any(problem.severity is Severity.ERROR for problem in problems)


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """Return the hint ``did you mean "…"?`` for the most similar choice, or ""."""
    similar = difflib.get_close_matches(word, sorted(choices), n=1)
    return f'did you mean "{similar[0]}"?' if similar else ""
