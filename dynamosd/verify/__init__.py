# SPDX-License-Identifier: GPL-2.0-or-later
"""Compares what is meant to be with what is: the daemon's status, the module's files, the kernel.

`look` reads all of it, and `compare` only thinks. Each finding is about one thing, and a thing that
differs for a good reason (a pause, a cooldown) differs all the same: the reason is said with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dynamosd.verify import subsystem, whole
from dynamosd.verify.view import Finding, Verdict, View, look

__all__ = ["Finding", "Verdict", "View", "compare", "exit_code", "look"]

AGREES = 0
DIFFERS = 1
NOT_ALL_SEEN = 3


def compare(view: View, only: str | None = None) -> list[Finding]:
    """Compare everything, or what is about the whole and one subsystem."""
    found = [finding for check in whole.CHECKS for finding in check(view)]
    for name in view.subsystems:
        if only in {None, name}:
            found += _compare_subsystem(view, name)
    return found


def exit_code(findings: Sequence[Finding]) -> int:
    """Give the exit code that a set of findings ends ``dynamosctl verify`` with."""
    verdicts = {finding.verdict for finding in findings}
    if Verdict.DIFFERS in verdicts:
        return DIFFERS
    return NOT_ALL_SEEN if Verdict.UNKNOWN in verdicts else AGREES


def _compare_subsystem(view: View, name: str) -> Iterator[Finding]:
    there = view.kernel.subsystems.get(name) if view.kernel else None
    if there is None:
        who = ", ".join(f"policy {each['name']}" for each in view.policies(name))
        seen = f"is not loaded; {who or 'a pin'} is about it"
        yield Finding(
            name, "loaded", Verdict.DIFFERS, seen, f"load it: dynamosctl edition load {name}"
        )
        return
    for check in subsystem.CHECKS:
        yield from check(view, there)
