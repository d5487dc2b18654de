# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are whole or not there, whenever one looks and however their writer ends; names."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def replace(path: Path, text: str, *, mode: int = 0o644, sync: bool = False) -> None:
    """Put ``text`` in the place of a file, at once; ``sync``: so that a power cut takes neither.

    The name it has until then begins with a dot. Raises `OSError`, e.g. when the disk is full.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        with os.fdopen(os.open(new, flags, mode), "w", encoding="utf-8") as file:
            file.write(text)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        new.replace(path)
        if sync:
            _sync_folder(path.parent)
    except OSError:
        new.unlink(missing_ok=True)
        raise


def _sync_folder(folder: Path) -> None:
    """Have its names on the disk: until then a power cut brings the old file back."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


@contextlib.contextmanager
def short_name(folder: Path) -> Iterator[str]:
    """Give a name for a folder that fits into a socket's address, however long its path is."""
    found = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{found}"
    finally:
        os.close(found)
