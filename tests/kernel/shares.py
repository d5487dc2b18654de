# SPDX-License-Identifier: GPL-2.0-or-later
"""Which kernel runs the tests that one kernel is enough for.

A file that says `pytestmark = pytest.mark.one_kernel` tests what a person or the daemon does with
the module, not what the module does with the kernel: one of the kernels that run the tests together
(`DYNAMOS_TOGETHER`) runs it. A test with `one_kernel(each="test")` has so many combinations that
they are shared out one by one. What a file tests with both back ends, every kernel tests with the
first, and one of them with the second as well. A kernel that runs the tests alone runs them all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

SECOND = "ftrace"
"""The back end that one kernel is enough for."""


def group(nodeid: str, backend: str | None, mark: Mapping[str, object] | None) -> str | None:
    """Name the group that a test is shared out with; None: every kernel runs it.

    Args:
        nodeid: pytest's name of the test.
        backend: the one that it uses, if it is tested with both.
        mark: what its `one_kernel` was given, if it has one.
    """
    file, _, _ = nodeid.partition("::")
    if mark is not None:
        return nodeid if mark.get("each") == "test" else file
    return f"{file}::{SECOND}" if backend == SECOND else None


def cost(group: str, tests: int) -> int:
    """Give what a group costs, in tests of a few seconds: a file of them has a daemon to start."""
    return tests if "::" in group else 8 + 4 * tests


def shared_out(groups: Mapping[str, int], kernels: Sequence[str]) -> dict[str, str]:
    """Give each group's kernel; `groups` has what each of them costs.

    The largest goes first, each to the kernel that has the least so far.
    """
    load = dict.fromkeys(kernels, 0)
    kernel_of = {}
    for name in sorted(groups, key=lambda name: (-groups[name], name)):
        kernel = min(load, key=lambda each: load[each])
        load[kernel] += groups[name]
        kernel_of[name] = kernel
    return kernel_of
