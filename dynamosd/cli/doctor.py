# SPDX-License-Identifier: GPL-2.0-or-later
"""``doctor``: the findings of dynamosd.doctor, shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamosd.cli.findings import Row, print_findings
from dynamosd.cli.output import print_json
from dynamosd.doctor import Finding, Machine, Verdict, examine, exit_code

if TYPE_CHECKING:
    import argparse

    from dynamosd.kmod import Kmod

_COLOURS = {
    Verdict.OK: "green",
    Verdict.WARN: "yellow",
    Verdict.FAIL: "red",
    Verdict.CANNOT: "red",
}


def show_doctor(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show what was found, and what to do about it."""
    findings = examine(Machine(kmod))
    code = exit_code(findings)
    if args.output == "json":
        print_json("Examination", exit_code=code, findings=[_json(each) for each in findings])
        return code
    print_findings(
        [
            Row(each.verdict, _COLOURS[each.verdict], each.name, each.seen, each.remedy)
            for each in findings
        ]
    )
    return code


def _json(finding: Finding) -> dict[str, str]:
    return {
        "name": finding.name,
        "verdict": str(finding.verdict),
        "seen": finding.seen,
        "remedy": finding.remedy,
    }
