# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.records: every record once, in order, whatever happens to the files meanwhile."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamosd.journal import Journal
from dynamosd.records import MAX_LINE_BYTES, Reader, read, tail
from dynamosd.testing import ManualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Name a journal."""
    return tmp_path / "journal.jsonl"


@pytest.fixture
def reader(path: Path) -> Iterator[Reader]:
    """Give one of that journal."""
    with contextlib.closing(Reader(path)) as made:
        yield made


def write(path: Path, *numbers: int) -> None:
    """Append records."""
    with path.open("a") as file:
        file.writelines(f'{{"n": {number}}}\n' for number in numbers)


def came(reader: Reader) -> list[int]:
    """Give the numbers of the records that have come."""
    return [record["n"] for record in reader.records()]


def rotate(path: Path) -> None:
    """Move a journal away, as its writer does."""
    for number in (2, 1):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(f"{path.name}.{number}").rename(f"{path}.{number + 1}")
    path.rename(f"{path}.1")


def test_no_journal_then_one(path: Path, reader: Reader) -> None:
    assert (came(reader), reader.found) == ([], False)
    write(path, 1)
    assert (came(reader), reader.found) == ([1], True)


def test_old_journals_come_first_and_other_files_do_not_count(path: Path) -> None:
    for number, name in ((1, ".10"), (2, ".2"), (3, ".1"), (4, "")):
        write(path.with_name(path.name + name), number)
    write(path.with_name("7"), 7)
    write(path.with_name(path.name + ".bak"), 8)
    write(path.with_name(path.name + ".old.1"), 9)
    assert [record["n"] for record in read(path)] == [1, 2, 3, 4]


def test_goes_on_and_nothing_comes_twice(path: Path, reader: Reader) -> None:
    write(path, 1, 2)
    assert came(reader) == [1, 2]
    assert came(reader) == []
    write(path, 3)
    assert came(reader) == [3]


def test_goes_on_over_rotations(path: Path, reader: Reader) -> None:
    write(path, 1)
    assert came(reader) == [1]
    write(path, 2)
    rotate(path)
    assert came(reader) == [2]
    write(path, 3)
    rotate(path)
    write(path, 4)
    rotate(path)
    write(path, 5)
    assert came(reader) == [3, 4, 5]
    write(path, 6)
    assert came(reader) == [6]


def test_the_real_writer_is_followed(path: Path, reader: Reader, clock: ManualClock) -> None:
    journal = Journal(path, clock.wall, print, max_bytes=300, keep=3)
    seen: list[int] = []
    for number in range(50):
        journal.record("x", n=number)
        seen += came(reader)
    assert seen == list(range(50))
    assert path.with_name("journal.jsonl.3").exists()


def test_a_journal_that_was_emptied_is_read_from_its_beginning(path: Path, reader: Reader) -> None:
    write(path, 1, 2, 3)
    assert came(reader) == [1, 2, 3]
    path.write_text("")
    write(path, 4)
    assert came(reader) == [4]


def test_a_line_that_is_being_written_is_waited_for(path: Path, reader: Reader) -> None:
    path.write_text('{"n": 1}\n{"n"')
    assert came(reader) == [1]
    with path.open("a") as file:
        file.write(": 2}\n")
    assert (came(reader), reader.torn) == ([2], 0)


def test_lines_that_are_no_records_are_counted(path: Path, reader: Reader) -> None:
    path.write_bytes(b'{"n": 1}\n{"n": \n\n[1]\n\0\0\0\n\xff\n' + b"[" * 9999 + b'\n{"n": 2}\n{"n')
    assert came(reader) == [1, 2]
    assert reader.torn == 5
    assert list(reader.unfinished()) == []
    assert reader.torn == 6


def test_last_line_without_an_end(path: Path) -> None:
    path.write_text('{"n": 1}')
    assert [record["n"] for record in read(path)] == [1]


def test_torn_end_of_a_journal_that_was_moved(path: Path, reader: Reader) -> None:
    path.write_text('{"n": 1}\n{"n"')
    assert came(reader) == [1]
    rotate(path)
    write(path, 2)
    assert (came(reader), reader.torn) == ([2], 1)


def test_what_is_no_journal_at_all_takes_no_memory(path: Path, reader: Reader) -> None:
    with path.open("wb") as file:
        file.truncate(64 * MAX_LINE_BYTES)
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"n": 1}\n')
    tracemalloc.start()
    try:
        assert (came(reader), reader.torn) == ([1], 1)
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_LINE_BYTES
    finally:
        tracemalloc.stop()


def test_tail_reaches_back_over_files_as_far_as_it_may(path: Path) -> None:
    write(path, 1, 2)
    rotate(path)
    write(path, 3)
    size = path.stat().st_size

    def newest(size: int) -> tuple[list[int], bool]:
        found, is_all = tail(path, size)
        return [record["n"] for record in found], is_all

    assert newest(10**6) == ([1, 2, 3], True)
    assert newest(size + 12) == ([2, 3], False)
    assert newest(size) == ([3], False)
    assert newest(2) == ([], False)


def test_tail_of_no_journal(path: Path) -> None:
    assert tail(path, 10**6) == ([], True)
