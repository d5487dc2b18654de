# SPDX-License-Identifier: GPL-2.0-or-later
"""The file itself: its bytes, and who may put another one in its place."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from backports import zstd

from dynamosd.errors import InvalidInput
from dynamosd.workshop.checks.elf import MOST_BYTES
from dynamosd.workshop.checks.finding import Finding, Verdict

_PACKED: dict[bytes, Callable[[BinaryIO], BinaryIO]] = {
    b"\x1f\x8b": gzip.open,  # type: ignore[dict-item] # typed for names, too
    b"\xfd7zXZ\0": lzma.open,  # type: ignore[dict-item] # the same
    b"\x28\xb5\x2f\xfd": zstd.open,  # type: ignore[dict-item] # the same
    b"BZh": bz2.open,  # type: ignore[dict-item] # the same
}
"""What unpacks a file, by how it begins. Distributions pack their modules."""
_BROKEN = (OSError, EOFError, ValueError, lzma.LZMAError, zstd.ZstdError)
PERMISSIONS = "owner and permissions"


def read(path: Path) -> bytes:
    """Give a module's bytes, unpacked.

    Raises:
        InvalidInput: it cannot be read, is no file, too large, or packed in a way that is broken.
    """
    try:
        # Not waiting: a pipe may have that name.
        with open(path, "rb", opener=_open) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise InvalidInput(f"{path} is no file")
            data = file.read(MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise InvalidInput(f"{path} cannot be read: {why}") from error
    data = _unpack(data, path)
    if len(data) > MOST_BYTES:
        raise InvalidInput(f"{path} is larger than {MOST_BYTES >> 20} MiB: no edition is")
    return data


def _open(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _unpack(data: bytes, path: Path) -> bytes:
    for begin, opened in _PACKED.items():
        if data.startswith(begin):
            try:
                with opened(io.BytesIO(data)) as file:
                    return file.read(MOST_BYTES + 1)
            except _BROKEN as error:
                raise InvalidInput(f"{path} cannot be unpacked: {error}") from error
    return data


def check_permissions(path: Path) -> Finding:
    """Look who may change the file, or put another one at its place: only root should."""
    try:
        wrong = list(_wrong(path))
    except (OSError, ValueError, RuntimeError) as error:
        return Finding(PERMISSIONS, Verdict.FAILED, f"cannot be looked at: {error}")
    if not wrong:
        return Finding(PERMISSIONS, Verdict.PASSED, f"only root can change {path}")
    remedy = "put it where only root can write: install -o root -m 644 MODULE.ko /lib/modules/…"
    return Finding(PERMISSIONS, Verdict.REFUSED, "; ".join(wrong), remedy)


def _wrong(path: Path) -> Iterator[str]:
    """Give what lets others than root decide what is loaded."""
    found = path.absolute()
    real = found.resolve(strict=True)
    for each in dict.fromkeys((real, *real.parents, *found.parents)):
        status = each.stat()
        if status.st_uid:
            yield f"{each} belongs to uid {status.st_uid}"
        elif _others_write(status):
            yield f"{each} can be written by others (mode {stat.S_IMODE(status.st_mode):o})"


def _others_write(status: os.stat_result) -> bool:
    mode = status.st_mode
    # In a sticky folder, as /tmp is, nobody replaces what is somebody else's.
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return False
    return bool(mode & stat.S_IWOTH) or bool(mode & stat.S_IWGRP and status.st_gid)
