# SPDX-License-Identifier: GPL-2.0-or-later
"""What an inspection could not tell."""

from __future__ import annotations

import errno
from dataclasses import dataclass

from dynamosd.doctor import Machine
from dynamosd.errors import DynamosError
from dynamosd.kmod import ROOT_HINT

LOCKED_HINT = "a kernel that is locked down lets nobody: /sys/kernel/security/lockdown"


@dataclass(frozen=True, slots=True)
class Missing:
    """What could not be told, why, and what to do."""

    what: str
    why: str
    hint: str


def because(what: str, error: DynamosError) -> Missing:
    """Give what is missing by an error."""
    return Missing(what, error.message, error.hint)


def unreadable(machine: Machine, what: str, path: str, hint: str) -> Missing | None:
    """Give what is missing because a file cannot be read; None when it can.

    Args:
        machine: whose file it is.
        what: that is in it.
        path: of the file, below the machine's root.
        hint: what to do when it is not there.
    """
    try:
        with (machine.root / path).open("rb", buffering=0) as file:
            file.read(1)
    except OSError as error:
        why = f"/{path} cannot be read: {error.strerror}"
        if machine.uid:
            hint = ROOT_HINT
        elif error.errno in {errno.EPERM, errno.EACCES}:
            hint = LOCKED_HINT
        return Missing(what, why, hint)
    return None
