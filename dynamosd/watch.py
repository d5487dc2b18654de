# SPDX-License-Identifier: GPL-2.0-or-later
"""Sees that policy files have changed, by looking: no tick takes longer for it than some stat()s.

A change counts once a second look has found the same, so that a file is not read while it is being
written. What was tried once is not tried again, whatever came of it, until something changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dynamosd.errors import InvalidInput

Look = tuple[tuple[str, int, int, int], ...] | str
"""Of each file its name, inode, size and time of change (ns); or why there is no telling."""


def look(files: Callable[[], Iterable[Path]]) -> Look:
    """Look at the files. One that is gone by then, or cannot be seen, has zeros."""
    try:
        return tuple(_look_at(path) for path in files())
    except InvalidInput as error:
        return error.message


def _look_at(path: Path) -> tuple[str, int, int, int]:
    try:
        found = path.stat()
    except OSError:
        return str(path), 0, 0, 0
    return str(path), found.st_ino, found.st_size, found.st_mtime_ns


@dataclass(slots=True)
class Watch:
    """Tells when ``files`` should be read again."""

    files: Callable[[], Iterable[Path]]
    _read: Look = field(init=False)
    _last: Look = field(init=False)

    def __post_init__(self) -> None:
        """Take what there is now for what was read."""
        self.note_reading()

    def note_reading(self) -> None:
        """Note that the files are about to be read."""
        self._read = self._last = look(self.files)

    def has_changed(self) -> bool:
        """Tell whether they are others than those that were read, and have been for one look."""
        before, self._last = self._last, look(self.files)
        return self._last != self._read and self._last == before
