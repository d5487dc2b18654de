# SPDX-License-Identifier: GPL-2.0-or-later
"""Run tests/kernel on a kernel with its own checkers on: `make test-debug-kernel`.

In pieces, each in a VM of its own, so that what kills one kernel takes few tests with it; what
finds most comes first. A piece that fails does not keep the others from running.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.vm import kernels
from tests.vm.common import PROJECT, HarnessError, say
from tests.vm.disk import Disk, parse_size
from tests.vm.vm import (
    SHARED,
    Settings,
    Vm,
    default_memory,
    exit_on_signals,
    passed_environment,
)

_TESTS = Path("tests/kernel")
# Faults end lockdep's work: they come last, and alone.
_FIRST = (
    ("switching", "exclusive", "editions", "draining"),
    ("per_object", "scoped", "callbacks"),
    ("other_modules", "lease", "before_gate", "events"),
    ("commands", "enable", "fuzz"),
    ("stress",),
    ("loading", "deny", "privilege", "verified_io"),
    ("neighbours",),
    ("flip",),
    ("daemon",),
    ("orders",),
    ("tripwire",),
)
# Unless the caller says otherwise: what takes an hour on a stock kernel takes a day here.
_FEWER = {"DYNAMOS_FUZZ": "3000", "DYNAMOS_STRESS": "30"}
_TIMEOUT = 4 * 3600.0
_DISK = "600M"


@dataclass(frozen=True)
class Result:
    """How a piece went."""

    name: str
    status: int
    seconds: float


def _file(name: str) -> str:
    return f"{_TESTS}/test_{name}.py"


def pieces(tests: list[str]) -> dict[str, list[str]]:
    """Give pytest's arguments by the piece's name: everything there is, or just what is named."""
    if tests:
        return {"chosen": tests}
    known = {"_".join(names): [_file(name) for name in names] for names in _FIRST}
    listed = {path for paths in known.values() for path in paths}
    there = {str(path.relative_to(PROJECT)) for path in (PROJECT / _TESTS).glob("test_*.py")}
    if listed - there:
        raise HarnessError(f"no such tests any more: {' '.join(sorted(listed - there))}")
    known.update({Path(path).stem: [path] for path in sorted(there - listed)})
    return known


def _run(kernel: str, name: str, arguments: list[str]) -> Result:
    settings = Settings(
        kernel=kernel,
        memory=default_memory(kernel),
        timeout=_TIMEOUT,
        disk=Disk(parse_size(_DISK)),
        environment={**_FEWER, **passed_environment()},
    )
    started = time.monotonic()
    command = "python -m pytest -p tests.vm.noskip --durations=5 " + shlex.join(arguments)
    status = Vm(settings).run(command)
    console = SHARED[1] / f"console-{kernel}.log"
    if console.exists():
        shutil.copy(console, SHARED[1] / f"console-{kernel}-{name}.log")
    return Result(name, status, time.monotonic() - started)


def main(argv: list[str] | None = None) -> int:
    """Run the pieces; the status is 1 when one of them failed."""
    parser = argparse.ArgumentParser(prog="tests.vm.debug_kernel", description=__doc__)
    parser.add_argument("--kernel", default="debug", choices=kernels.BUILT)
    parser.add_argument("tests", nargs="*", help="pytest's arguments; default: everything")
    args = parser.parse_args(argv)
    exit_on_signals()
    results: list[Result] = []
    try:
        for name, arguments in pieces(args.tests).items():
            print(f"== {args.kernel}: {' '.join(arguments)}", flush=True)
            results.append(_run(args.kernel, name, arguments))
    except HarnessError as error:
        say(f"error: {error}")
        return error.status
    for result in results:
        word = "passed" if result.status == 0 else f"FAILED ({result.status})"
        print(f"{result.seconds / 60:6.1f} min  {word}  {result.name}")
    return 1 if any(result.status for result in results) else os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
