# SPDX-License-Identifier: GPL-2.0-or-later
"""``verify``: whether the kernel is as the daemon wants it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from dynamosd import verify
from dynamosd.cli.findings import Row, print_findings
from dynamosd.cli.output import print_json, tell_if_long
from dynamosd.doctor import Machine
from dynamosd.errors import Unreachable
from dynamosd.kmod import LOAD_HINT, no_subsystem
from dynamosd.verify import Finding, Verdict, View

if TYPE_CHECKING:
    import argparse

    from dynamosd.kmod import Kmod

_ROOT = Path("/")

_SETTLE_SECONDS = 3.0
"""For how long a difference must last. While one looks the daemon may switch, and a switch by hand
is undone at the policy's next look: neither is what is wrong."""

_PAUSE_SECONDS = 0.2

_COLOURS = {Verdict.OK: "green", Verdict.DIFFERS: "red", Verdict.UNKNOWN: "yellow"}


def show_verification(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show what agrees and what differs."""
    with tell_if_long(f"still looking: what differs is told when it lasts {_SETTLE_SECONDS:g} s"):
        findings = _settled(Machine(kmod, _ROOT), args.runtime_dir, args.subsystem)
    code = verify.exit_code(findings)
    if args.output == "json":
        print_json("Verification", exit_code=code, findings=[_json(each) for each in findings])
        return code
    print_findings(
        [
            Row(
                each.verdict,
                _COLOURS[each.verdict],
                f"{each.subsystem} {each.name}".strip(),
                each.seen,
                each.remedy,
            )
            for each in findings
        ]
    )
    return code


def _settled(machine: Machine, runtime_dir: Path, only: str | None) -> list[Finding]:
    """Look until all agrees, or what differs has done so for long enough."""
    deadline = time.monotonic() + _SETTLE_SECONDS
    while True:
        view = verify.look(machine, runtime_dir, time.time())
        _check(view, only)
        findings = verify.compare(view, only)
        if verify.exit_code(findings) != verify.DIFFERS or time.monotonic() >= deadline:
            return findings
        time.sleep(_PAUSE_SECONDS)


def _check(view: View, only: str | None) -> None:
    """See that there is something to compare."""
    if view.kernel is None and view.daemon is None:
        raise Unreachable("the kernel module is not loaded", hint=LOAD_HINT)
    names = view.subsystems
    if only is not None and only not in names:
        raise no_subsystem(only, names)


def _json(finding: Finding) -> dict[str, object]:
    return {
        "subsystem": finding.subsystem or None,
        "name": finding.name,
        "verdict": {Verdict.UNKNOWN: "unknown"}.get(finding.verdict, str(finding.verdict)),
        "seen": finding.seen,
        "remedy": finding.remedy,
    }
