# SPDX-License-Identifier: GPL-2.0-or-later
"""The daemon's run-time folder: the lock that keeps it alone, and its status for dynamosctl.

``lock`` is held with flock for as long as the daemon lives and holds its pid; the kernel frees
it however the daemon ends. ``status.json`` is replaced as a whole after each tick, and removed
when the daemon leaves; one that was left behind by a killed daemon shows by its pid. At the
socket ``api.sock`` the daemon is asked (`dynamosd.api`).
"""

from __future__ import annotations

import contextlib
import datetime as dt
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
SOCKET = "api.sock"
"""Where the daemon answers, in that folder."""

MAX_AGE_SECONDS = 15.0
"""A daemon shows itself each second. It may be late on a busy machine, but not by so much."""

START_HINT = "start it: systemctl start dynamosd, or without the service: dynamosd run"

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
        raise Unreachable("no daemon is running", hint=START_HINT)
    return status


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_buried_soon(pid)


def _is_buried_soon(pid: int) -> bool:
    """Tell whether a process is dead, and its parent has not asked yet what became of it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # The name before the state may hold anything.
    return stat.rpartition(")")[2].split()[:1] in (["Z"], ["X"])


def age(status: Mapping[str, Any], now: float) -> float | None:
    """Give how old a status is, in seconds; None when it does not say."""
    time = seconds_of(status.get("updated"))
    return None if time is None else now - time


def seconds_of(time: object) -> float | None:
    """Give a time that the daemon has written as Unix time; None when it is none."""
    try:
        return dt.datetime.fromisoformat(str(time)).timestamp()
    except ValueError:
        return None


def patience(status: Mapping[str, Any]) -> float:
    """Give how old a status may get: a switch may hold the daemon's loop."""
    switches = (each.get("switch") or {} for each in status.get("policies", ()))
    longest = max((each.get("timeout_seconds") or 0.0 for each in switches), default=0.0)
    return MAX_AGE_SECONDS + longest


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
