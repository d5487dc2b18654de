# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that are whole or not there, whenever one looks and however their writer ends."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    except OSError:
        new.unlink(missing_ok=True)
        raise
