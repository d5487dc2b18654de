# SPDX-License-Identifier: GPL-2.0-or-later
"""Capabilities that are in effect only while they are needed: when the probes are attached.

For a daemon that is not root and got them from its unit (``AmbientCapabilities=``). They stay
permitted, for probes that are lost are attached again; but no program that is started inherits
them, and nothing that the daemon does in between has more rights than its user. Root's stay as
they are: who runs the daemon by hand expects that.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_VERSION = 0x20080522
"""_LINUX_CAPABILITY_VERSION_3: two sets of 32 bits for each of the three kinds."""
_EFFECTIVE, _PERMITTED, _INHERITABLE = range(3)
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


def drop() -> None:
    """Have no capability in effect, in this thread and those that it will start.

    A thread keeps what its maker had in effect then: so this comes before the first is started,
    and the one that answers web clients never has any.

    Raises:
        OSError: as of `in_effect`.
    """
    if os.geteuid() != 0:
        _set_effective(everything=False)


@contextmanager
def in_effect() -> Iterator[None]:
    """Have all permitted capabilities in effect while the context lasts, and none after it.

    Raises:
        OSError: the kernel does not let us, e.g. because of a system call filter.
    """
    if os.geteuid() == 0:
        yield
        return
    _set_effective(everything=True)
    try:
        yield
    finally:
        _set_effective(everything=False)


def _set_effective(*, everything: bool) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    header, data = _Header(_VERSION, 0), (ctypes.c_uint32 * 6)()
    _check(libc.capget(ctypes.byref(header), data))
    for half in (0, 3):
        data[half + _EFFECTIVE] = data[half + _PERMITTED] if everything else 0
        data[half + _INHERITABLE] = 0
    # What is not inheritable cannot stay ambient; said all the same, for it is what matters.
    _check(libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    _check(libc.capset(ctypes.byref(header), data))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
