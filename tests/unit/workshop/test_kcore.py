# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.workshop.kcore: memory from a core file made by hand, and from any bytes."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dynamosd.errors import DynamosError, NotSupported
from dynamosd.workshop.kcore import Kcore
from tests.unit.workshop.kernel import DATA, START, core

TEXT, RODATA = bytes(range(256)) * 16, b"constant"
CORE = core((START, TEXT), (DATA, RODATA))


def written(folder: Path, blob: bytes) -> Path:
    """Write a file."""
    path = folder / "kcore"
    path.write_bytes(blob)
    return path


def test_reads_what_is_there(tmp_path: Path) -> None:
    with Kcore(written(tmp_path, CORE)) as memory:
        assert memory.read(START, 4) == b"\0\1\2\3"
        assert memory.read(START + 0xFF0, 16) == TEXT[-16:]
        assert memory.read(DATA, len(RODATA)) == RODATA
        assert memory.read(DATA, 0) == b""


@pytest.mark.parametrize(
    ("address", "size"), [(0, 1), (START - 1, 2), (DATA, 9), (START + 0xFF0, 17), (1 << 64, 1)]
)
def test_memory_that_is_not_there(tmp_path: Path, address: int, size: int) -> None:
    with (
        Kcore(written(tmp_path, CORE)) as memory,
        pytest.raises(DynamosError, match="no memory at"),
    ):
        memory.read(address, size)


def test_a_file_of_128_tib_is_not_read(tmp_path: Path) -> None:
    header = bytearray(core((START, b"text")))
    end = len(header) - 4
    struct.pack_into("<Q", header, 64 + 56 + 8, 1 << 40)
    path = written(tmp_path, bytes(header[:end]))
    with path.open("r+b") as file:
        os.pwrite(file.fileno(), b"far!", 1 << 40)
    with Kcore(path) as memory:
        assert memory.read(START, 4) == b"far!"


def test_tells_how_far_it_has_come(tmp_path: Path) -> None:
    told: list[float] = []
    with Kcore(written(tmp_path, core((START, bytes(3 << 20))))) as memory:
        memory.read(START, 3 << 20, told.append)
    assert told == sorted(told)
    assert (len(told), told[-1]) == (3, 1.0)


def test_not_there(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="cannot be read: No such file"):
        Kcore(tmp_path / "none")


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(NotSupported, match="Is a directory"):
        Kcore(tmp_path)


@pytest.mark.parametrize(
    "blob",
    [
        b"",
        b"\x7fELF",
        CORE[:63],
        CORE[:100],
        CORE.replace(b"\x7fELF\x02\x01", b"\x7fELF\x01\x01", 1),
        CORE.replace(b"\x7fELF\x02\x01", b"\x7fELF\x02\x02", 1),
        CORE[:16] + struct.pack("<H", 2) + CORE[18:],
        CORE[:18] + struct.pack("<H", 183) + CORE[20:],
        CORE[:32] + struct.pack("<Q", 1 << 63) + CORE[40:],
        CORE[:56] + struct.pack("<H", 0xFFFF) + CORE[58:],
    ],
)
def test_no_core_file_of_ours(tmp_path: Path, blob: bytes) -> None:
    with pytest.raises(NotSupported):
        Kcore(written(tmp_path, blob))


def test_a_file_that_ends_too_early(tmp_path: Path) -> None:
    with Kcore(written(tmp_path, CORE[:-4])) as memory, pytest.raises(DynamosError, match="ends"):
        memory.read(DATA, len(RODATA))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes(tmp_path: Path, data: st.DataObject) -> None:
    blob = bytearray(CORE[:300])
    for _ in range(data.draw(st.integers(0, 6))):
        blob[data.draw(st.integers(0, 250))] = data.draw(st.integers(0, 255))
    try:
        with Kcore(written(tmp_path, bytes(blob)[: data.draw(st.integers(0, 300))])) as memory:
            memory.read(START, data.draw(st.integers(0, 5000)))
    except DynamosError:
        return
