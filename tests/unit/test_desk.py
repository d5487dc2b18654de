# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.desk: every command has somebody who does it, and every request its record."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from dynamosd.control import Controller
from dynamosd.errors import Exhausted
from dynamosd.kmod import Kmod
from dynamosd.requests import COMMANDS, MAX_ANSWERS, Asker, Outcome
from tests.unit.test_daemon import House

if TYPE_CHECKING:
    from dynamosd.model import KernelState
    from dynamosd.requests import Inbox
    from tests.unit.asking import Operator

SOMEBODY = Asker(1000, 77, 1001)


def inbox(house: House) -> Inbox:
    """Give that of the daemon that runs."""
    assert house.daemon is not None
    return house.daemon.inbox


def requests(house: House) -> list[dict[str, Any]]:
    """Give the records of requests, without their times."""
    return [
        {key: value for key, value in each.items() if not key.startswith("time")}
        for each in house.records("request")
    ]


def test_each_command_has_who_does_it(house: House) -> None:
    daemon = house.start()
    assert daemon._desk._handlers().keys() == COMMANDS.keys()


def test_each_request_is_one_record_with_who_asked(house: House) -> None:
    said: list[dict[str, Any]] = [
        {"command": "pause", "policy": "storm", "reason": "x"},
        {"command": "pause", "policy": "storm", "reason": "x"},
        {"command": "accept", "id": "aaaaaaaa"},
        {"command": "pause", "for": -1.0},
    ]
    house.run(3.0, {0.5: lambda: [inbox(house).put(SOMEBODY, each) for each in said]})
    who = {"uid": 1000, "login": 1001, "pid": 77}
    paused = {"command": "pause", "policy": "storm", "subsystem": "", "result": "ok"}
    refused = {"command": "pause", "policy": "", "subsystem": "", "result": "invalid"}
    wrong = "the time is between 1ms and 1y"
    unknown = 'there is no advice "aaaaaaaa"'
    kind = {"kind": "request", **who}
    assert requests(house) == [
        kind | paused,
        kind | paused,
        kind | refused | {"error": wrong},
        kind | {"command": "accept", "id": "aaaaaaaa", "result": "invalid", "error": unknown},
    ]
    (one, other) = house.records("pause")
    assert [(each["uid"], each["login"]) for each in (one, other)] == [(1000, 1001)] * 2


def test_what_was_not_done_is_recorded_too(house: House) -> None:
    def ask() -> None:
        which = inbox(house).put(SOMEBODY, {"command": "resume"})
        inbox(house).withdraw(which)
        for _ in range(MAX_ANSWERS + 1):
            inbox(house).note(Outcome(SOMEBODY, {}, "invalid", "command: no"))

    house.run(3.0, {0.5: ask})
    found = requests(house)
    assert [each["result"] for each in found] == ["withdrawn", *["invalid"] * 63, "refused"]
    assert (found[0]["command"], found[1]["command"]) == ("resume", None)
    assert found[1]["error"] == "command: no"
    assert found[-1]["error"] == "2 more were not done"
    assert house.records("resume") == []


def test_daemon_that_leaves_says_so(house: House) -> None:
    made = house.start()
    ids: list[str] = []

    def ask_and_stop() -> None:
        ids.append(made.inbox.put(SOMEBODY, {"command": "pause"}))
        made.request_stop()

    house.clock.at(1000.5, ask_and_stop)
    made.run()
    found = made.inbox.look(ids[0])
    assert found is not None
    assert (found["state"], found["error"]["code"]) == ("answered", "unreachable")
    assert house.records("pause") == []
    assert [each["result"] for each in requests(house)] == ["unreachable"]


def test_what_was_taken_is_answered_whatever_ends_the_daemon(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = house.start()
    said = {"command": "pin", "subsystem": "readahead", "edition": "random"}
    ids = [made.inbox.put(SOMEBODY, said)]

    def fail(*_: object) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(Controller, "tick", fail)
    with pytest.raises(RuntimeError):
        made.run()
    found = made.inbox.look(ids[0])
    assert found is not None
    assert (found["state"], found["error"]["code"]) == ("answered", "unreachable")
    assert house.active() == "original"


def test_module_that_cannot_be_read_is_not_said_to_be_gone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_self: Kmod) -> KernelState:
        raise Exhausted("Too many open files")

    made = house.start()
    ids: list[str] = []

    def ask() -> None:
        monkeypatch.setattr(Kmod, "read", fail)
        said = {"command": "pin", "subsystem": "readahead", "edition": "random"}
        ids.append(made.inbox.put(SOMEBODY, said))

    house.clock.at(1001.5, ask)
    house.clock.at(1003.5, made.request_stop)
    made.run()
    found = made.inbox.look(ids[0])
    assert found is not None
    assert found["error"]["message"] == "Too many open files"


def test_real_client_is_who_it_is(house: House, operator: Operator) -> None:
    house.run(3.0, {0.5: operator.types("pause", "storm"), 1.5: operator.types("resume", "strom")})
    done, refused = requests(house)
    assert (done["uid"], done["pid"], done["result"]) == (os.geteuid(), os.getpid(), "ok")
    assert (refused["command"], refused["result"]) == ("resume", "invalid")
    assert 'no policy "strom"' in refused["error"]
