# SPDX-License-Identifier: GPL-2.0-or-later
"""The running kernel's memory, to be read only: ``/proc/kcore``.

It is an ELF core file of 128 TiB with nothing in most of it: its program headers say which
addresses are where. So it is never read as a whole, and never searched through.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dynamosd.errors import DynamosError, NotSupported
from dynamosd.kmod import ROOT_HINT

PATH = "proc/kcore"
"""Below ``/``."""

_HEADER = struct.Struct("<16sHHIQQQIHHH")
"""Identification, type, machine, version, entry, program headers, sections, flags, sizes, count."""
_PROGRAM = struct.Struct("<IIQQQQQQ")
"""Type, flags, place in the file, address, physical address, size in file and memory, alignment."""
_MAGIC = b"\x7fELF\x02\x01"
"""An ELF file of 64 bits, the lowest byte first."""
_CORE = 4
_LOAD = 1
_X86_64 = 62
_MOST_HEADERS = 4096
_BLOCK = 1 << 20
_HINT = f"{ROOT_HINT}; a kernel that is locked down lets nobody (/sys/kernel/security/lockdown)"
_ABSENT_HINT = "mount /proc, or boot a kernel with CONFIG_PROC_KCORE"


@dataclass(frozen=True, slots=True)
class _Segment:
    """Memory that is there, with its place in the file."""

    address: int
    size: int
    offset: int


class Kcore:
    """The memory. Close it."""

    def __init__(self, path: Path) -> None:
        """Open it, and read where what is.

        Raises:
            NotSupported: it may not be read, or is not of this machine.
        """
        self._path = path
        try:
            self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreadable(error) from error
        try:
            self._segments = self._read_segments()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close it."""
        os.close(self._file)

    def _unreadable(self, error: OSError | None = None, what: str = "") -> NotSupported:
        why = (error.strerror if error else "") or what
        hint = _ABSENT_HINT if isinstance(error, FileNotFoundError) else _HINT
        return NotSupported(f"{self._path} cannot be read: {why}", hint=hint)

    def _pread(self, size: int, offset: int) -> bytes:
        """Read what there is; less than ``size`` at the end of the file."""
        try:
            return os.pread(self._file, size, offset)
        except (OSError, OverflowError) as error:
            raise self._unreadable(error if isinstance(error, OSError) else None, "?") from error

    def _read_segments(self) -> list[_Segment]:
        header = self._pread(_HEADER.size, 0)
        if len(header) < _HEADER.size or not header.startswith(_MAGIC):
            raise self._unreadable(what="it is no ELF file of 64 bits")
        _, kind, machine, _, _, start, _, _, _, size, count = _HEADER.unpack(header)
        if (kind, machine, size) != (_CORE, _X86_64, _PROGRAM.size) or count > _MOST_HEADERS:
            raise self._unreadable(what="it is no core file of an x86-64 kernel")
        table = self._pread(size * count, start)
        if len(table) < size * count:
            raise self._unreadable(what="it is cut off")
        return [
            _Segment(address, in_file, offset)
            for kind, _, offset, address, _, in_file, _, _ in _PROGRAM.iter_unpack(table)
            if kind == _LOAD
        ]

    def read(self, address: int, size: int, tell: Callable[[float], None] | None = None) -> bytes:
        """Give the bytes at an address.

        Args:
            address: of the first.
            size: how many.
            tell: is told, now and then, which part has been read.

        Raises:
            DynamosError: not all of it is there.
        """
        for segment in self._segments:
            start = address - segment.address
            if start >= 0 and start + size <= segment.size:
                return self._blocks(segment.offset + start, size, tell)
        raise DynamosError(f"{self._path} has no memory at {address:#x}, {size} bytes")

    def _blocks(self, offset: int, size: int, tell: Callable[[float], None] | None) -> bytes:
        blocks, left = [], size
        while left:
            block = self._pread(min(left, _BLOCK), offset)
            if not block:
                raise DynamosError(f"{self._path} ends before what it says that it has")
            blocks.append(block)
            left -= len(block)
            offset += len(block)
            if tell:
                tell(1 - left / size)
        return b"".join(blocks)

    def __enter__(self) -> Self:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        with contextlib.suppress(OSError):
            self.close()
