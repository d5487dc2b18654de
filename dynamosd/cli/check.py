# SPDX-License-Identifier: GPL-2.0-or-later
"""``check``: are these policies good, before the daemon reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamosd import config
from dynamosd.cli.output import print_json, problem_json, warn
from dynamosd.errors import Unreachable
from dynamosd.policy.load import Checked, check_files
from dynamosd.policy.names import SubsystemNames, names_of
from dynamosd.policy.problems import PolicyErrors, Problem, Severity, format_github, has_errors

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    from dynamosd.kmod import Kmod

_WARNINGS = 3


def check_policies(args: argparse.Namespace, kmod: Kmod) -> int:
    """Show what is wrong with policy files and, in a folder, with the daemon's settings."""
    known = None if args.offline else _known_names(kmod)
    settings, files = _files(args.paths)
    checked = check_files(files, known=known, labels=_labels(args.config, args.paths, settings))
    problems = [*settings, *checked.problems]
    code = _exit_code(problems)
    if args.output == "json":
        print_json(
            "CheckResult",
            exit_code=code,
            names_checked=known is not None,
            policies=[policy.name for policy in checked.policies],
            problems=[problem_json(problem) for problem in problems],
        )
        return code
    for problem in problems:
        print(format_github(problem) if args.format == "github" else problem)
    print(_summary(len(files), checked, code))
    return code


def _known_names(kmod: Kmod) -> Mapping[str, SubsystemNames] | None:
    try:
        return names_of(kmod.read())
    except Unreachable as error:
        warn(f"note: names are not checked: {error.message}")
        return None


def _files(paths: Iterable[Path]) -> tuple[list[Problem], list[Path]]:
    """Give what is wrong with the settings in folders, and all policy files."""
    problems: list[Problem] = []
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        try:
            files += config.load(path).policies
        except PolicyErrors as error:
            problems += error.problems
            files += config.policy_files(path)
    return problems, files


def _labels(
    folder: Path | None, paths: Sequence[Path], wrong: Sequence[Problem]
) -> Collection[str] | None:
    """Give the names of the host's labels, if there are settings that are good."""
    if folder is None and len(paths) == 1 and paths[0].is_dir() and not wrong:
        folder = paths[0]
    return None if folder is None else config.load(folder).labels


def _exit_code(problems: list[Problem]) -> int:
    if has_errors(problems):
        return 1
    return _WARNINGS if any(each.severity is Severity.WARNING for each in problems) else 0


def _summary(files: int, checked: Checked, code: int) -> str:
    if not files:
        return "there is no policy"
    good = f"{len(checked.policies)} of {files} policies can be used"
    return good if code != _WARNINGS else f"{good}; there are warnings"
