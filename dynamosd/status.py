# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's run-time folder: the lock that keeps it alone, and its status for dynamosctl.

``lock`` is held with flock for as long as the daemon lives and holds its pid; the kernel frees
it however the daemon ends. ``status.json`` is replaced as a whole after each tick, and removed
when the daemon leaves; one that was left behind by a killed daemon shows by its pid.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dynamosd import files
from dynamosd.errors import DynamosError, Refused, Unreachable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

API_VERSION = "dynamos/v1alpha1"
RUNTIME_DIR = Path("/run/dynamosd")

_LOCK = "lock"
_STATUS = "status.json"


@contextlib.contextmanager
def only_daemon(folder: Path) -> Iterator[None]:
    """Be the only daemon that uses ``folder``, while the context lasts.

    Raises:
        Refused: there is one already; the message names its pid.
        DynamosError: the folder cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        message = f"cannot use {folder}: {error.strerror}"
        raise DynamosError(message, hint="choose another with --runtime-dir") from error
    try:
        _take(lock)
        os.ftruncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        yield
        # Emptied and kept: removing it would let two daemons lock two files of that name.
        os.ftruncate(lock, 0)
    finally:
        os.close(lock)


def _take(lock: int) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(lock, 32).decode("ascii", "replace").strip() or "unknown"
        message = f"another daemon is running, pid {pid}"
        raise Refused(
            message, hint="stop it first; SIGHUP makes it read its policies again"
        ) from None


def write(folder: Path, status: Mapping[str, Any]) -> None:
    """Replace the status at once. Raises `OSError`, e.g. when the disk is full."""
    files.replace(folder / _STATUS, json.dumps(status) + "\n")


def remove(folder: Path) -> None:
    """Take the status away, if it is there."""
    with contextlib.suppress(OSError):
        (folder / _STATUS).unlink(missing_ok=True)


def read(folder: Path) -> dict[str, Any] | None:
    """Give the status of the daemon that runs now; None when there is none, or none to be seen."""
    try:
        status = json.loads((folder / _STATUS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(status, dict) or not isinstance(status.get("pid"), int):
        return None
    return status if _alive(status["pid"]) else None


def read_running(folder: Path) -> dict[str, Any]:
    """Give the status of the daemon that runs now.

    Raises:
        Unreachable: there is none, or none to be seen.
    """
    status = read(folder)
    if status is None:
        raise Unreachable("no daemon is running", hint="start it: dynamosd run")
    return status


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def enforcing(status: Mapping[str, Any] | None, subsystem: str) -> list[str]:
    """Give the names of the policies that would switch ``subsystem`` back."""
    policies = (status or {}).get("policies", [])
    return [
        policy["name"]
        for policy in policies
        if policy.get("subsystem") == subsystem
        and policy.get("mode") == "enforce"
        and not policy.get("paused")
    ]
