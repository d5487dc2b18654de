# SPDX-License-Identifier: GPL-2.0-or-later
"""``edition check``: a module's file, before it is loaded; and what ``edition load`` asks first."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dynamosd.cli.findings import Row, print_findings
from dynamosd.cli.output import print_json, warn
from dynamosd.doctor import Machine
from dynamosd.errors import InvalidInput, NotSupported, Refused
from dynamosd.workshop.checks.finding import Verdict
from dynamosd.workshop.checks.kernel import Kernel, loaded_name
from dynamosd.workshop.checks.report import Report, check

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dynamosd.kmod import Kmod
    from dynamosd.workshop.checks.description import Description

_COLOURS = {
    Verdict.PASSED: "green",
    Verdict.WARNED: "yellow",
    Verdict.FAILED: "red",
    Verdict.REFUSED: "red",
    Verdict.NOT_APPLICABLE: "bold",
}
_SAYS = {0: "fit to be loaded", 3: "can be loaded, with warnings", 1: "not fit", 6: "refused"}


def show_check(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show what the checks of a module's file come to."""
    report = check(args.module, _kernel(args.kernel, Machine(kmod)))
    if args.output == "json":
        print_json("EditionCheck", **_json(report))
        return report.exit_code
    print_findings(
        [
            Row(each.verdict, _COLOURS[each.verdict], each.name, each.seen, each.remedy)
            for each in report.findings
        ]
    )
    print(f"{report.path.name} on {report.release}: {_SAYS[report.exit_code]}")
    return report.exit_code


def _kernel(release: str | None, machine: Machine) -> Kernel:
    """Give the kernel to check for.

    Raises:
        NotSupported: nothing is known of it here.
    """
    if release is None or release == machine.release:
        return Kernel(machine)
    kernel = Kernel(Machine(machine.kmod, machine.root, release), is_running=False)
    if "/" in release or release in {"", ".", ".."} or not kernel.is_known:
        hint = f"install its headers: apt install linux-headers-{release}"
        raise NotSupported(f"nothing is known here of a kernel {release}", hint=hint)
    return kernel


def refuse_bad(files: Sequence[str], kmod: Kmod, *, skip_loaded: bool) -> None:
    """Check the files that are about to be loaded.

    Args:
        files: all of them.
        kmod: the kernel module, which is asked what must not be gated.
        skip_loaded: they are loaded by name, and not if a module of that name is there.

    Raises:
        Refused: a safety rule speaks against one.
        InvalidInput: something else is wrong with one.
    """
    machine = Machine(kmod)
    kernel = Kernel(machine)
    for each in files:
        path = Path(each)
        if skip_loaded and machine.has(f"sys/module/{loaded_name(path.name)}"):
            continue
        report = check(path, kernel)
        for finding in report.findings:
            if finding.verdict is Verdict.WARNED:
                warn(f"warning: {path.name}: {finding.name}: {finding.seen}")
        _refuse(report)


def _refuse(report: Report) -> None:
    if not report.bad:
        return
    why = "; ".join(f"{each.name}: {each.seen}" for each in report.bad)
    error = Refused if report.exit_code == Refused.exit_code else InvalidInput
    hint = f"dynamosctl edition check {report.path}"
    raise error(f"{report.path} is not loaded: {why}", hint=hint)


def _json(report: Report) -> dict[str, object]:
    return {
        "file": str(report.path),
        "kernel": report.release,
        "exit_code": report.exit_code,
        "module": _description_json(report.description) if report.description else None,
        "checks": [
            {
                "name": each.name,
                "verdict": str(each.verdict),
                "seen": each.seen,
                "remedy": each.remedy,
            }
            for each in report.findings
        ],
    }


def _description_json(found: Description) -> dict[str, object]:
    return {
        "name": found.module,
        "kind": str(found.kind),
        "subsystem": found.subsystem or None,
        "edition": found.edition or None,
        "functions": [asdict(each) for each in found.functions],
    }
