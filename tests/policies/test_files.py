# SPDX-License-Identifier: GPL-2.0-or-later
"""The shipped policies decide what their test files say, as ``dynamosctl test`` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dynamosd.policy.testfile import run_file

POLICIES = Path(__file__).parents[2] / "policies"
FILES = sorted((POLICIES / "tests").glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_shipped_policy(file: Path) -> None:
    result = run_file(file)
    problems = [*result.problems, *(each for test in result.tests for each in test.problems)]
    assert "\n".join(map(str, problems)) == ""
    assert result.passed


def test_every_shipped_policy_has_tests() -> None:
    assert {file.name for file in FILES} == {file.name for file in POLICIES.glob("*.yaml")}
