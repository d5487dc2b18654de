# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.journald and what the journal syncs: records that others are to find again."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from dynamosd import journal, journald
from dynamosd.datagrams import sender
from dynamosd.journald import Journald, from_environment, message_id
from tests.unit.build import write_policy
from tests.unit.test_daemon import House

if TYPE_CHECKING:
    from pathlib import Path

    from dynamosd.testing import FakeModule, ManualClock

DEADLINE_SECONDS = 60.0

SWITCH = {
    "kind": "switch",
    "subsystem": "readahead",
    "from": "original",
    "to": "random",
    "result": "ok",
    "policy": "storm",
    "error": "",
    "reason": "rule busy:\nin_flight = 3",
}


def fields(raw: bytes) -> dict[str, str]:
    """Read a datagram as systemd does."""
    found = {}
    while raw:
        line, _, raw = raw.partition(b"\n")
        name, is_short, value = line.partition(b"=")
        if not is_short:
            size = int.from_bytes(raw[:8], "little")
            value, raw = raw[8 : 8 + size], raw[9 + size :]
        found[name.decode()] = value.decode()
    return found


def sent(record: dict[str, object]) -> dict[str, str]:
    """Give what is sent of a record."""
    raw: list[bytes] = []
    Journald(raw.append).take(record)
    (one,) = raw
    return fields(one)


def test_fields_are_those_that_one_asks_for() -> None:
    found = sent(dict(SWITCH))
    assert json.loads(found.pop("DYNAMOS_RECORD")) == SWITCH
    assert found == {
        "MESSAGE": "switch readahead: original -> random ok: rule busy: in_flight = 3",
        "PRIORITY": "5",
        "SYSLOG_IDENTIFIER": "dynamosd",
        "MESSAGE_ID": message_id("switch"),
        "DYNAMOS_KIND": "switch",
        "DYNAMOS_SUBSYSTEM": "readahead",
        "DYNAMOS_POLICY": "storm",
        "DYNAMOS_EDITION": "random",
        "DYNAMOS_FROM": "original",
        "DYNAMOS_RESULT": "ok",
        "DYNAMOS_REASON": "rule busy:\nin_flight = 3",
    }


@pytest.mark.parametrize(
    ("record", "priority"),
    [
        ({"kind": "decision"}, "7"),
        ({"kind": "reload"}, "6"),
        ({"kind": "trouble", "policy": "storm", "reason": "no"}, "4"),
        ({**SWITCH, "result": "refused", "error": "no"}, "4"),
    ],
)
def test_priority_is_what_it_means_to_a_person(record: dict[str, object], priority: str) -> None:
    assert sent(record)["PRIORITY"] == priority


def test_request_says_what_was_asked() -> None:
    record: dict[str, object] = {
        "kind": "request",
        "command": "clear",
        "result": "refused",
        "error": "no",
    }
    found = sent(record | {"subsystem": "readahead", "edition": "random"})
    assert found["MESSAGE"] == "request readahead: clear random refused: no"


def test_ids_of_messages_do_not_change() -> None:
    assert message_id("switch") == "d63af10c6cc25679828ba1dcd0e77fa5"


def test_record_gets_to_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = str(tmp_path / "socket")
    monkeypatch.setattr(journald, "SOCKET", address)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address)
        server.settimeout(DEADLINE_SECONDS)
        from_environment({}).take(SWITCH)
        from_environment({"JOURNAL_STREAM": "8:1"}).take({"kind": "stop"})
        assert fields(server.recv(65536))["DYNAMOS_KIND"] == "stop"


def test_journal_that_does_not_read_costs_records_and_no_time(tmp_path: Path) -> None:
    address = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(address)
        made = Journald(sender(address))
        # Its queue has room for some; if one of them were waited for, this would never end.
        for _ in range(5000):
            made.take(SWITCH)
        assert made.dropped > 0
    nobody = Journald(sender(str(tmp_path / "none")))
    nobody.take(SWITCH)
    assert nobody.dropped == 1


def test_daemon_records_there_too_when_its_disk_is_full(
    tmp_path: Path, module: FakeModule, clock: ManualClock
) -> None:
    house = House(tmp_path, module, clock)
    write_policy(house.policies)
    house.block(3)
    raw: list[bytes] = []
    house.world = dataclasses.replace(house.world, journald=Journald(raw.append))
    house.settings.journal.mkdir()
    assert house.run(3.5) == 0
    found = [fields(each) for each in raw]
    assert [each["DYNAMOS_EDITION"] for each in found if each["DYNAMOS_KIND"] == "switch"] == [
        "random",
        "original",
    ]


def test_drops_are_counted(tmp_path: Path, module: FakeModule, clock: ManualClock) -> None:
    def full(_message: bytes) -> None:
        raise BlockingIOError(errno.EAGAIN, "no room")

    house = House(tmp_path, module, clock)
    house.world = dataclasses.replace(house.world, journald=Journald(full))
    assert house.run(2.5) == 0
    assert house.metric("dynamos_journald_dropped_total") == 1


# -------------------------------------------------------------------------------- the disk


def test_what_changed_something_is_synced_and_slow_disks_are_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free, begun = threading.Event(), threading.Event()
    synced: list[int] = []

    def slow(file: int) -> None:
        begun.set()
        free.wait(DEADLINE_SECONDS)
        synced.append(os.fstat(file).st_size)

    monkeypatch.setattr(os, "fdatasync", slow)
    made = journal.Journal(tmp_path / "journal", lambda: 0.0, print)
    made.record("decision", "storm", action="stay")
    assert not begun.is_set()
    made.record("switch", "readahead", to="random")
    assert begun.wait(DEADLINE_SECONDS)
    for number in range(10):
        made.record("switch", "readahead", to=str(number))
    assert synced == []
    free.set()
    made._syncer.wait(DEADLINE_SECONDS)
    # The first, and then once for the ten.
    assert len(synced) == 2
    assert synced[1] == (tmp_path / "journal").stat().st_size
