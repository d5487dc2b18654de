# SPDX-License-Identifier: GPL-2.0-or-later
"""``test``: do policies decide what their tests say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dynamosd.cli.output import colour, print_json, problem_json
from dynamosd.policy.testfile import FileResult, TestResult, run_file

if TYPE_CHECKING:
    import argparse

    from dynamosd.kmod import Kmod


def test_policies(args: argparse.Namespace, kmod: Kmod) -> int:
    """Run test files, and show what is not as expected. The module is not asked."""
    del kmod
    results = [run_file(path) for path in args.files]
    code = 0 if all(each.passed for each in results) else 1
    if args.output == "json":
        print_json("TestResult", exit_code=code, files=[_json(each) for each in results])
        return code
    for result in results:
        for problem in (
            *result.problems,
            *(each for test in result.tests for each in test.problems),
        ):
            print(problem)
        print(_summary(result))
    return code


def _summary(result: FileResult) -> str:
    if not result.tests:
        return f"{colour('FAILED', 'red')} {result.file}: cannot be run"
    passed = sum(not each.problems for each in result.tests)
    word = colour("ok", "green") if result.passed else colour("FAILED", "red")
    return f"{word} {result.file}: {passed} of {len(result.tests)} tests of {result.policy} passed"


def _json(result: FileResult) -> dict[str, object]:
    return {
        "file": result.file,
        "policy": result.policy,
        "passed": result.passed,
        "problems": [problem_json(each) for each in result.problems],
        "tests": [_test_json(each) for each in result.tests],
    }


def _test_json(test: TestResult) -> dict[str, object]:
    return {
        "name": test.name,
        "passed": not test.problems,
        "problems": [problem_json(each) for each in test.problems],
        "switches": [
            {
                "at_seconds": each.time,
                "from": each.current,
                "to": each.target,
                "rule": each.rule,
                "reason": each.reason,
            }
            for each in test.switches
        ],
    }
