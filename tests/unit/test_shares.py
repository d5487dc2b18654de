# SPDX-License-Identifier: GPL-2.0-or-later
"""The tests that one kernel is enough for are run on exactly one of those that run together."""

from __future__ import annotations

from tests.kernel.shares import cost, group, shared_out

GROUPS = {"a": 10, "b": 90, "c": 20, "d": 5}


def test_every_group_has_one_kernel_and_none_has_all_the_work() -> None:
    kernel_of = shared_out(GROUPS, ["6.1", "6.12"])
    assert kernel_of == {"b": "6.1", "c": "6.12", "a": "6.12", "d": "6.12"}


def test_a_file_costs_more_than_as_many_tests_one_by_one() -> None:
    assert cost("tests/kernel/test_x.py", 3) > 3 * cost("tests/kernel/test_y.py::test[a]", 1)


def test_who_is_alone_runs_everything() -> None:
    assert set(shared_out(GROUPS, ["6.1"]).values()) == {"6.1"}


def test_all_kernels_come_to_the_same_result() -> None:
    assert shared_out(dict(reversed(GROUPS.items())), ["6.1", "6.12"]) == shared_out(
        GROUPS, ["6.1", "6.12"]
    )


def test_what_is_shared_out_and_with_what() -> None:
    test = "tests/kernel/test_x.py::test_y[ftrace-a]"
    assert group(test, None, {}) == "tests/kernel/test_x.py"
    assert group(test, "ftrace", {"each": "test"}) == test
    assert group(test, "ftrace", None) == group(f"{test}b", "ftrace", None) is not None
    assert group(test, "ftrace", None) != group("tests/kernel/test_z.py::a", "ftrace", None)
    assert group(test, "direct", None) is None
    assert group(test, None, None) is None
