# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.journal: nothing is lost that was written, and nothing stops the writer."""

from __future__ import annotations

import errno
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from dynamosd.journal import Journal, read, rfc3339

if TYPE_CHECKING:
    from pathlib import Path

    from dynamosd.testing import ManualClock

DEADLINE_SECONDS = 60.0


@pytest.fixture
def said() -> list[str]:
    """Collect what is told the operator."""
    return []


@pytest.fixture
def journal(tmp_path: Path, clock: ManualClock, said: list[str]) -> Journal:
    """Give one in a folder that does not exist yet."""
    return Journal(tmp_path / "deep" / "journal.jsonl", clock.wall, said.append)


def test_records(journal: Journal) -> None:
    journal.record("start", version="1")
    journal.record("switch", "pipe", {"duration_seconds": 0.1}, **{"from": "a", "to": "b"})
    first, second = read(journal.path)
    assert first == {
        "time": "2023-11-14T22:13:20.000Z",
        "time_seconds": 1_700_000_000.0,
        "kind": "start",
        "version": "1",
    }
    assert (second["from"], second["to"], second["duration_seconds"]) == ("a", "b", 0.1)


def test_repeats_are_folded_and_counted(journal: Journal, clock: ManualClock) -> None:
    for value in range(5):
        journal.record("decision", "policy", {"value": value}, target="a")
        clock.advance(1.0)
    assert [record["value"] for record in read(journal.path)] == [0]
    journal.record("decision", "policy", {"value": 9}, target="b")
    _, folded, new = read(journal.path)
    assert (folded["repeated"], folded["target"]) == (4, "a")
    assert folded["since"] == rfc3339(1_700_000_001.0)
    assert (new["target"], "repeated" in new) == ("b", False)


def test_repeats_about_different_things_are_not_mixed(journal: Journal) -> None:
    for _ in range(2):
        journal.record("decision", "one", policy="one")
        journal.record("decision", "two", policy="two")
    journal.close()
    assert [(record["policy"], record.get("repeated", 0)) for record in read(journal.path)] == [
        ("one", 0),
        ("two", 0),
        ("one", 1),
        ("two", 1),
    ]


def test_what_is_forgotten_is_new(journal: Journal) -> None:
    journal.record("switch", "pipe", to="b")
    journal.forget("switch", "pipe")
    journal.record("switch", "pipe", to="b")
    assert len(list(read(journal.path))) == 2


def test_torn_last_line_of_a_killed_daemon(journal: Journal) -> None:
    journal.record("start", version="1")
    with journal.path.open("ab") as file:
        file.write(b'{"kind": "decision", "tar')
    assert [record["kind"] for record in read(journal.path)] == ["start"]
    journal.record("start", version="2")
    assert [record.get("version") for record in read(journal.path)] == ["1", "2"]
    assert len(journal.path.read_bytes().splitlines()) == 3


def test_garbage_between_the_lines(journal: Journal) -> None:
    journal.path.parent.mkdir()
    journal.path.write_bytes(b'\0\0\0\n[1]\n"text"\n{"kind": "good"}\n\xff\xfe\n')
    assert list(read(journal.path)) == [{"kind": "good"}]


def test_disk_full_stops_nothing_and_is_told_once(
    journal: Journal, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_file: int, _line: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for number in range(3):
            journal.record("start", version=str(number))
    assert journal.errors == 3
    assert len(said) == 1
    assert "No space left" in said[0]
    journal.record("start", version="after")
    assert len(said) == 2
    assert "again" in said[1]
    assert [record["version"] for record in read(journal.path)] == ["after"]


def test_disk_full_in_the_middle_of_a_line(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, room = os.write, [20]

    def half(file: int, line: bytes) -> int:
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, line[: room.pop()])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        journal.record("start", version="lost")
    assert journal.errors == 1
    journal.record("start", version="kept")
    assert [record["version"] for record in read(journal.path)] == ["kept"]


def test_machine_that_has_no_thread_for_it_stops_nothing(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as poor:
        poor.setattr(threading.Thread, "start", fail)
        journal.record("switch", number=1)
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    journal.record("switch", number=2)
    journal._syncer.wait(DEADLINE_SECONDS)
    assert [each["number"] for each in read(journal.path)] == [1, 2]
    # Once by this one; a journal of a test before may not be through with a slow disk.
    assert synced


def test_real_full_disk(clock: ManualClock, said: list[str], tmp_path: Path) -> None:
    path = tmp_path / "full"
    path.symlink_to("/dev/full")
    journal = Journal(path, clock.wall, said.append)
    journal.record("start")
    assert journal.errors == 1


def test_folder_that_cannot_be_made(clock: ManualClock, said: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    Journal(tmp_path / "file" / "journal", clock.wall, said.append).record("start")
    assert "cannot write" in said[0]


def test_two_writers_never_mix_lines(tmp_path: Path, clock: ManualClock, said: list[str]) -> None:
    path = tmp_path / "journal"

    def write(writer: int) -> None:
        journal = Journal(path, clock.wall, said.append)
        for number in range(100):
            journal.record("test", writer=writer, number=number, filler="x" * 500)

    with ThreadPoolExecutor() as pool:
        list(pool.map(write, range(4)))
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == 400
    for writer in range(4):
        mine = [record["number"] for record in records if record["writer"] == writer]
        assert mine == list(range(100))


def test_rotation_keeps_a_number_of_old_journals(
    tmp_path: Path, clock: ManualClock, said: list[str]
) -> None:
    journal = Journal(tmp_path / "j", clock.wall, said.append, max_bytes=200, keep=2)
    for number in range(10):
        journal.record("test", number=number)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j", "j.1", "j.2"]
    numbers = [record["number"] for record in read(journal.path)]
    assert numbers == list(range(numbers[0], 10))
    assert all(path.stat().st_size < 400 for path in tmp_path.iterdir())


def test_file_moved_away_by_logrotate(journal: Journal) -> None:
    journal.record("start", version="1")
    journal.path.rename(journal.path.with_name("moved"))
    journal.record("start", version="2")
    assert [record["version"] for record in read(journal.path)] == ["2"]


def test_no_journal_at_all(tmp_path: Path) -> None:
    assert not list(read(tmp_path / "none"))
