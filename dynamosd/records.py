# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the journal: all its files, the oldest record first, and goes on while it grows.

The writer moves the journal away when it is large (``journal.jsonl.1`` is the newest of the old
ones) and never changes what is written. So a reader keeps the newest file open, and when another
one has its name, reads this one to its end and then those that came after it. However large the
files are, no more than a line is held in memory.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MAX_LINE_BYTES = 1024 * 1024
"""No record is longer. What is, is not a line of a journal."""

Record = dict[str, Any]


def numbered(path: Path, number: int) -> Path:
    """Give the name of an old journal."""
    return path.with_name(f"{path.name}.{number}")


def files(path: Path) -> list[Path]:
    """Give the names a journal may have now, the newest file first."""
    found: list[int] = []
    # A folder that may be passed, but not listed, still has the newest one.
    with contextlib.suppress(OSError):
        names = [each.name.rpartition(".") for each in path.parent.iterdir()]
        found = sorted(
            int(end)
            for name, _, end in names
            if name == path.name and end.isascii() and end.isdigit()
        )
    return [path, *(numbered(path, number) for number in found)]


class Reader:
    """Gives the records of a journal; lines that are none are left out, and counted in ``torn``."""

    def __init__(self, path: Path) -> None:
        """Name the journal; nothing is opened yet."""
        self._path = path
        self.torn = 0
        self._file: BinaryIO | None = None
        self._rest = b""
        self._too_long = False

    @property
    def found(self) -> bool:
        """Whether there was a file to read."""
        return self._file is not None

    def records(self) -> Iterator[Record]:
        """Give what has come since the last time; the first time, all there is.

        To be taken to its end. A last line that is not finished yet is kept for the next time.
        Raises `OSError` when a file may not be read.
        """
        for file in self._due():
            if file is not self._file:
                yield from self.unfinished()
                self.close()
                self._file = file
            yield from self._read(file)

    def unfinished(self) -> Iterator[Record]:
        """Give the last line as it is: nobody is going to finish it."""
        if self._rest or self._too_long:
            yield from self._line()

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()

    def _due(self) -> list[BinaryIO]:
        """Give the files that are to be read, from where they stand, the oldest first."""
        if self._file is None:
            return _open_all(self._path, None)
        here = os.fstat(self._file.fileno())
        try:
            now = self._path.stat()
        except FileNotFoundError:
            # Moved away, and not made again yet.
            return [self._file]
        if not os.path.samestat(here, now):
            return [self._file, *_open_all(self._path, here)]
        if now.st_size < self._file.tell():
            # Somebody has emptied it.
            self._file.seek(0)
            self._rest = b""
        return [self._file]

    def _read(self, file: BinaryIO) -> Iterator[Record]:
        while part := file.readline(MAX_LINE_BYTES):
            self._rest += part
            if part.endswith(b"\n"):
                yield from self._line()
            elif len(self._rest) >= MAX_LINE_BYTES:
                self._rest, self._too_long = b"", True

    def _line(self) -> Iterator[Record]:
        line, too_long = self._rest, self._too_long
        self._rest, self._too_long = b"", False
        record = None if too_long else _parse(line)
        if record is not None:
            yield record
        elif too_long or line.strip():
            self.torn += 1


def _open_all(path: Path, after: os.stat_result | None) -> list[BinaryIO]:
    """Open the files of a journal, the oldest first; of those that came after one, if it is given.

    The newest is opened first: when they are moved meanwhile, one is met twice, but none is missed.
    """
    found: list[BinaryIO] = []
    seen: list[os.stat_result] = [after] if after else []
    for name in files(path):
        try:
            file = name.open("rb")
        except FileNotFoundError:
            continue
        identity = os.fstat(file.fileno())
        if any(os.path.samestat(identity, each) for each in seen):
            file.close()
            if after and os.path.samestat(identity, after):
                break
            continue
        seen.append(identity)
        found.append(file)
    return found[::-1]


def _parse(line: bytes) -> Record | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def read(path: Path) -> Iterator[Record]:
    """Give all records, the oldest first, old journals included; torn lines are left out."""
    with contextlib.closing(Reader(path)) as reader:
        yield from reader.records()
        yield from reader.unfinished()


def tail(path: Path, max_bytes: int) -> tuple[list[Record], bool]:
    """Give the newest records, the oldest of them first, and whether these are all there are.

    No more than ``max_bytes`` are read, however large the journal is; it may be written to, or
    moved away, meanwhile. Raises `OSError` when a file may not be read.
    """
    parts: list[list[Record]] = []
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(each) for each in _open_all(path, None)]
        for file in reversed(opened):
            size = os.fstat(file.fileno()).st_size
            taken = min(size, max_bytes)
            file.seek(size - taken)
            lines = file.read(taken).splitlines()
            max_bytes -= taken
            # Where it does not begin with the file, it may begin inside a line.
            lines = lines if taken == size else lines[1:]
            parts.append([record for line in lines if (record := _parse(line)) is not None])
            if taken < size:
                return _flat(parts), False
    return _flat(parts), True


def _flat(parts: list[list[Record]]) -> list[Record]:
    return [record for part in reversed(parts) for record in part]
