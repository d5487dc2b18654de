# SPDX-License-Identifier: GPL-2.0-or-later
"""What every part of the harness shares: paths, the error type, progress, locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROJECT = Path(__file__).resolve().parents[2]
CACHE = PROJECT / ".cache"

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_UNSUPPORTED = 4
EXIT_TIMEOUT = 124

# A step that takes longer than this says that it is under way.
_QUIET_SECONDS = 2.0


class HarnessError(Exception):
    """Something a person can act on; carries the exit status."""

    def __init__(self, message: str, status: int = EXIT_FAILED) -> None:
        """Keep the sentence to show and the status to exit with."""
        super().__init__(message)
        self.status = status


def say(message: str) -> None:
    """Report progress; on stderr because stdout belongs to the guest's command."""
    print(f"[vm] {message}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock, telling the user when somebody else has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another run to release {path.name}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def clean_environment() -> dict[str, str]:
    """Give the environment for another make: one that runs us must not hand its variables down."""
    hidden = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "KERNEL", "CMD"}
    return {key: value for key, value in os.environ.items() if key not in hidden}


def run(command: Sequence[str | Path], *, what: str = "", cwd: Path | None = None) -> str:
    """Run a tool and return its stdout; its output is shown only when it fails."""
    argv = [str(word) for word in command]
    started = time.monotonic()
    try:
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=clean_environment(),
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )
    except FileNotFoundError as error:
        raise HarnessError(
            f"{argv[0]} is not installed: run `make setup` first", EXIT_UNSUPPORTED
        ) from error
    if done.returncode != 0:
        output = (done.stdout + done.stderr).strip()
        raise HarnessError(f"{' '.join(argv)}\nfailed: {output}")
    elapsed = time.monotonic() - started
    if what and elapsed > _QUIET_SECONDS:
        say(f"{what}: {elapsed:.0f} s")
    return done.stdout
