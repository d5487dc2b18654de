# SPDX-License-Identifier: GPL-2.0-or-later
"""What an evaluation costs, in calls of functions: the same on every machine."""

from __future__ import annotations

import json
import sys
from collections import Counter
from types import FrameType

import pytest

from bench.policy import LOADS, RULES, main, make_policy, measure


def calls(load: str, rules: int = RULES) -> tuple[Counter[str], int]:
    """Count the calls of Python functions in some evaluations, and the rules evaluated."""
    policies = [make_policy(number, rules) for number in range(10)]
    counted: Counter[str] = Counter()

    def count(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and "dynamosd" in frame.f_code.co_filename:
            counted[frame.f_code.co_qualname] += 1

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        result = measure(policies, 20, LOADS[load])
    finally:
        sys.setprofile(before)
    return counted, result.evaluations * rules


def test_rule_costs_few_calls() -> None:
    for load in LOADS:
        counted, rules = calls(load)
        assert counted.total() / rules < 25, counted.most_common(10)


def test_trees_are_walked_only_where_some_data_is_missing() -> None:
    assert calls("idle")[0]["explore"] == 0
    assert calls("no data")[0]["explore"] == 0
    assert calls("busy")[0]["explore"] > 0


def test_cost_grows_with_the_rules_and_no_faster() -> None:
    few, many = (calls("busy", rules)[0].total() for rules in (RULES, 10 * RULES))
    assert many < 11 * few


def test_busy_load_keeps_the_policies_busy() -> None:
    policies = [make_policy(number) for number in range(10)]
    assert measure(policies, 60, LOADS["busy"]).switches >= 10


def test_program_shows_its_figures(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--policies", "5", "--seconds", "3"]) in {0, 1}
    assert "RULES PER CPU SECOND" in capsys.readouterr().out
    assert main(["--policies", "5", "--seconds", "3", "-o", "json"]) in {0, 1}
    assert json.loads(capsys.readouterr().out)["busy"]["rules_per_cpu_second"] > 0
