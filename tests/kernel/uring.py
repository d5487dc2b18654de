# SPDX-License-Identifier: GPL-2.0-or-later
"""Has one of the kernel's own threads for io_uring carry out a command of the self-test's device.

`python -m tests.kernel.uring`: reads the command as a line, and prints the device's answer.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import sys

from tests.kernel import guest
from tests.kernel.target import DEVICE

_SYS_SETUP, _SYS_ENTER = 425, 426
_PARAMS_BYTES, _SQ_OFFSETS_AT, _CQ_OFFSETS_AT = 120, 40, 80
_AT_SQ_RING, _AT_CQ_RING, _AT_ENTRIES = 0, 0x8000000, 0x10000000
_READ, _WRITE = 22, 23
_ASYNC = 1 << 4
_GET_EVENTS = 1
_ENTRY = struct.Struct("<BBHiQQIIQ24x")
_RESULT = struct.Struct("<QiI")


class Ring:
    """One io_uring, used for one request at a time."""

    def __init__(self) -> None:
        """Set it up."""
        parameters = ctypes.create_string_buffer(_PARAMS_BYTES)
        fd = guest.check(guest.libc.syscall(_SYS_SETUP, 1, parameters), "io_uring_setup")
        self._fd = fd
        # head, tail, ring_mask, ring_entries, flags, dropped, array; and head, tail, …, cqes
        self._sq = struct.unpack_from("<7I", parameters, _SQ_OFFSETS_AT)
        self._cq = struct.unpack_from("<6I", parameters, _CQ_OFFSETS_AT)
        self._sq_ring = mmap.mmap(fd, mmap.PAGESIZE, offset=_AT_SQ_RING)
        self._cq_ring = mmap.mmap(fd, mmap.PAGESIZE, offset=_AT_CQ_RING)
        self._entries = mmap.mmap(fd, mmap.PAGESIZE, offset=_AT_ENTRIES)

    def request(self, operation: int, fd: int, buffer: ctypes.Array[ctypes.c_char]) -> int:
        """Have one request carried out by a worker, and give its result."""
        size = len(buffer)
        _ENTRY.pack_into(
            self._entries, 0, operation, _ASYNC, 0, fd, 0, ctypes.addressof(buffer), size, 0, 0
        )
        struct.pack_into("<I", self._sq_ring, self._sq[6], 0)
        (tail,) = struct.unpack_from("<I", self._sq_ring, self._sq[1])
        struct.pack_into("<I", self._sq_ring, self._sq[1], tail + 1)
        done = guest.libc.syscall(_SYS_ENTER, self._fd, 1, 1, _GET_EVENTS, None, 0)
        guest.check(done, "io_uring_enter")
        (head,) = struct.unpack_from("<I", self._cq_ring, self._cq[0])
        (mask,) = struct.unpack_from("<I", self._cq_ring, self._cq[2])
        at = self._cq[5] + (head & mask) * _RESULT.size
        result: int = _RESULT.unpack_from(self._cq_ring, at)[1]
        struct.pack_into("<I", self._cq_ring, self._cq[0], head + 1)
        if result < 0:
            raise OSError(-result, os.strerror(-result))
        return result


def main() -> int:
    """Carry out one command."""
    command = sys.stdin.readline().strip()
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    ring = Ring()
    ring.request(_WRITE, fd, ctypes.create_string_buffer(command.encode(), len(command)))
    answer = ctypes.create_string_buffer(128)
    length = ring.request(_READ, fd, answer)
    sys.stdout.write(answer.raw[:length].decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
