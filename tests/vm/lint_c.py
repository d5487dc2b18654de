# SPDX-License-Identifier: GPL-2.0-or-later
"""Check kmod/: kbuild with W=1 and sparse on every kernel, then checkpatch.

Any complaint that names a file of ours fails. Those that name only a kernel header are
the kernel's: this release's sparse is older than the newer kernel's headers.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys

from tests.vm import checkpatch, kernels, modules
from tests.vm.common import CACHE, HarnessError, locked, say

_COMPLAINT = re.compile(r"\b(warning|error)\b", re.IGNORECASE)


def _ours(line: str) -> bool:
    return bool(_COMPLAINT.search(line)) and (
        line.startswith(("kmod/", "WARNING: modpost", "ERROR: modpost")) or "kmod/" in line
    )


def check_build(name: str) -> list[str]:
    """Build everything afresh with every warning on; return the complaints."""
    kernel = kernels.get(name)
    target = CACHE / "build" / name / "lint" / "kmod"
    with locked(target.parent / "lock"):
        # From nothing, because a warning shows only when its file is compiled.
        shutil.rmtree(target, ignore_errors=True)
        modules.copy_sources(target)
        status, lines = modules.make(kernel.headers, target, "C=1", "CHECK=sparse")
    complaints = [line for line in lines if _ours(line)]
    if status != 0 and not complaints:
        return lines
    return complaints


def main(argv: list[str] | None = None) -> int:
    """Check from the command line."""
    parser = argparse.ArgumentParser(prog="tests.vm.lint_c", description=__doc__)
    parser.add_argument("names", nargs="*", default=kernels.KERNELS)
    args = parser.parse_args(argv)
    if not modules.present():
        say("there is no kmod/Kbuild yet: no C to check")
        return 0
    try:
        complaints: list[str] = []
        for name in args.names:
            say(f"kbuild W=1 and sparse on {name}")
            complaints += check_build(name)
        say("checkpatch")
        sources = modules.SOURCE.rglob("*.[chS]")
        complaints += checkpatch.check(sorted(p for p in sources if modules.is_source(p)))
    except HarnessError as error:
        say(f"error: {error}")
        return error.status
    for line in complaints:
        print(line)
    print(f"C: {len(complaints)} complaints" if complaints else "C: clean")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
