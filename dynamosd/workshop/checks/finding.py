# SPDX-License-Identifier: GPL-2.0-or-later
"""What a check comes to."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass


class Verdict(enum.StrEnum):
    """How a check ends. `REFUSED` is a failure that a safety rule makes one."""

    PASSED = "passed"
    WARNED = "warned"
    FAILED = "failed"
    REFUSED = "refused"
    NOT_APPLICABLE = "not applicable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check's outcome: what it looked at and saw, and what to do."""

    name: str
    verdict: Verdict
    seen: str
    remedy: str = ""

    @property
    def is_bad(self) -> bool:
        """Whether it keeps the module from being loaded."""
        return self.verdict in {Verdict.FAILED, Verdict.REFUSED}


_CODES = {Verdict.REFUSED: 6, Verdict.FAILED: 1, Verdict.WARNED: 3}
"""The worst comes first."""


def exit_code(findings: Iterable[Finding]) -> int:
    """Give what a program ends with that has found this."""
    verdicts = {each.verdict for each in findings}
    return next((code for verdict, code in _CODES.items() if verdict in verdicts), 0)


_MOST_NAMED = 8


def listed(names: Iterable[str], between: str = ", ") -> str:
    """Name things, not more of them than a person reads."""
    found = list(names)
    more = len(found) - _MOST_NAMED
    return between.join(found[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
