# SPDX-License-Identifier: GPL-2.0-or-later
"""One exception root; the class carries the exit code that the programs end with."""

from __future__ import annotations

import errno
from typing import ClassVar

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})


class DynamosError(Exception):
    """Something the operator must know, as one line: what, where, and what to do about it.

    Attributes:
        exit_code: what a program exits with when this error ends it.
        code: a stable word for ``-o json``.
        hint: what to do about it; shown after the message.
    """

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInput(DynamosError):
    """A file or a name the operator gave is wrong."""

    code = "invalid"


class NotUnderstood(InvalidInput):
    """The kernel module does not know a command, or not like this: it may be an older one."""


class UsageError(DynamosError):
    """The command line is wrong."""

    exit_code = 2
    code = "usage"


class NotSupported(DynamosError):
    """This machine cannot do it: the kernel, its configuration, or a missing tool."""

    exit_code = 4
    code = "not_supported"


class Unreachable(DynamosError):
    """The daemon or the kernel module does not answer, or we may not talk to it."""

    exit_code = 5
    code = "unreachable"


class NoDaemon(Unreachable):
    """Nobody is there to be asked."""


class Exhausted(Unreachable):
    """We have run out of descriptors or memory: what did not answer us may be well."""


def is_shortage(error: Exception) -> bool:
    """Tell whether something failed for want of descriptors or memory of ours."""
    number = error.errno if isinstance(error, OSError) else None
    return isinstance(error, Exhausted) or number in _SHORTAGES


class Refused(DynamosError):
    """A safety rule said no; nothing was changed."""

    exit_code = 6
    code = "refused"


class LeaseTaken(Refused):
    """Somebody else looks after the subsystem."""
