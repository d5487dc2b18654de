# SPDX-License-Identifier: GPL-2.0-or-later
"""Build wrongs into the modules and see that the tests catch them: `make test-mutations`.

Each wrong of kmod/mutation.h runs the tests that reach it, on a kernel with checkers. They must
fail, and say what is wrong in the words of the checker, or of the test, that is to notice.
"""

from __future__ import annotations

import argparse
import io
import sys
from dataclasses import dataclass

from tests.vm import modules
from tests.vm.common import HarnessError, say
from tests.vm.disk import Disk, parse_size
from tests.vm.vm import Settings, Vm, default_memory, exit_on_signals, passed_environment

_KERNEL = "debug"
_TIMEOUT = 3600.0
# What waits in vain for a wrong that is not noticed otherwise does so several times over.
_IMPATIENT = {"DYNAMOS_SLOWNESS": "1"}


@dataclass(frozen=True)
class Mutation:
    """What must notice a deliberate wrong."""

    by: str
    tests: str
    said: str


MUTATIONS = {
    "UNLOCKED": Mutation(
        "lockdep, at the first edition that is loaded",
        "tests/kernel/test_switching.py",
        "WARNING: ",
    ),
    "LOST_COUNT": Mutation(
        "the count of held callers, which tests wait for",
        "tests/kernel/test_exclusive.py::test_new_callers_wait_and_then_run_the_new_edition",
        'assert selftest.count("held") == 0',
    ),
    "LOST_MEMORY": Mutation(
        "kmemleak, when everything is unloaded",
        "tests/kernel/test_editions.py",
        "unreferenced object",
    ),
}


def _catches(name: str, mutation: Mutation) -> bool:
    settings = Settings(
        kernel=_KERNEL,
        mutation=name,
        memory=default_memory(_KERNEL),
        timeout=_TIMEOUT,
        disk=Disk(parse_size("600M")),
        environment={**_IMPATIENT, **passed_environment()},
    )
    said = io.BytesIO()
    status = Vm(settings).run(
        f"python -m pytest -x -p tests.vm.noskip {mutation.tests}", stdout=said
    )
    text = said.getvalue().decode(errors="replace")
    if status == 1 and mutation.said in text:
        return True
    print(text)
    say(f"{name}: status {status}, and the words {mutation.said!r} were looked for above")
    return False


def main(argv: list[str] | None = None) -> int:
    """Try each; the status is 1 when one of them went unnoticed."""
    parser = argparse.ArgumentParser(prog="tests.vm.mutations", description=__doc__)
    parser.add_argument("names", nargs="*", default=list(MUTATIONS), help="default: all")
    args = parser.parse_args(argv)
    if unknown := set(args.names) - set(MUTATIONS):
        parser.error(f"{' '.join(unknown)}: there are {' '.join(MUTATIONS)}")
    exit_on_signals()
    missed = 0
    try:
        for name in args.names:
            caught = _catches(name, MUTATIONS[name])
            missed += not caught
            print(f"{name}: {'caught by' if caught else 'NOT caught by'} {MUTATIONS[name].by}")
    except HarnessError as error:
        say(f"error: {error}")
        return error.status
    finally:
        # What the next VM of this kernel finds installed is never one of these.
        modules.build(_KERNEL)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
