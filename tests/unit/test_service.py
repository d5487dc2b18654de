# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.service: what the service manager is told, and when."""

from __future__ import annotations

import errno
import os
import signal
import socket
from typing import TYPE_CHECKING

import pytest

from dynamosd.model import KernelState
from dynamosd.service import Service, from_environment
from tests.unit.build import write_policy
from tests.unit.test_daemon import House
from tests.unit.test_main import DEADLINE_SECONDS, Running, wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dynamosd.testing import FakeModule, ManualClock


class Manager:
    """A service manager's end: what it was told, in order."""

    def __init__(self, address: str) -> None:
        """Listen at a path, or with ``@`` at an abstract name."""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self.socket.settimeout(DEADLINE_SECONDS)

    def hear(self) -> dict[str, str]:
        """Wait for the next message, and give it."""
        lines = self.socket.recv(4096).decode().splitlines()
        return dict(line.split("=", 1) for line in lines)

    def hear_until(self, name: str) -> dict[str, str]:
        """Wait for a message that has ``name``."""
        while name not in (heard := self.hear()):
            pass
        return heard


@pytest.fixture(params=["path", "abstract"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give an address that is free."""
    if request.param == "path":
        return str(tmp_path / "notify")
    return f"@dynamosd-test-{os.getpid()}-{tmp_path.name}"


@pytest.fixture
def manager(address: str) -> Iterator[Manager]:
    """Give a manager that listens there."""
    made = Manager(address)
    with made.socket:
        yield made


def test_message_gets_there(address: str, manager: Manager) -> None:
    from_environment({"NOTIFY_SOCKET": address}).tick_ended(0.0, "one\nline")
    assert manager.hear() == {"READY": "1", "STATUS": "one line"}


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
    ],
)
def test_watchdog_is_as_the_environment_says(environ: dict[str, str], seconds: float) -> None:
    assert from_environment({"NOTIFY_SOCKET": "/run/x", **environ}).watchdog_seconds == seconds


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative"])
def test_nothing_is_sent_where_nobody_listens(address: str) -> None:
    service = from_environment({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    service.tick_ended(0.0, "well")
    assert (service.errors, service.watchdog_seconds) == (0, 0.0)


def listening(told: list[str], watchdog: float = 0.0) -> Service:
    """Give a service that writes what it tells into a list, without line ends."""
    return Service(lambda said: told.append(said.decode().strip().replace("\n", " ")), watchdog)


def test_heart_beats_four_times_in_its_time_and_no_more() -> None:
    told: list[str] = []
    service = listening(told, 8.0)
    for second in range(8):
        service.tick_ended(float(second), "well")
    assert told == ["READY=1 STATUS=well WATCHDOG=1", *["WATCHDOG=1"] * 3]


def test_pause_makes_the_manager_wait_until_the_next_tick_has_ended() -> None:
    told: list[str] = []
    service = listening(told, 8.0)
    service.expect_pause(120.0)
    service.tick_ended(100.0, "")
    assert told == [
        "EXTEND_TIMEOUT_USEC=120000000 WATCHDOG_USEC=128000000",
        "READY=1 WATCHDOG_USEC=8000000 WATCHDOG=1",
    ]


def test_watchdog_waits_for_what_policies_may_hold_the_loop() -> None:
    told: list[str] = []
    service = listening(told, 8.0)
    service.allow(2.0)
    service.allow(2.0)
    service.allow(0.0)
    assert told == ["WATCHDOG_USEC=10000000", "WATCHDOG_USEC=8000000"]


def test_leaving_may_take_as_long_as_the_policies_say() -> None:
    told: list[str] = []
    listening(told, 8.0).stopping(2.0)
    assert told == ["STOPPING=1 STATUS=leaving EXTEND_TIMEOUT_USEC=2000000 WATCHDOG_USEC=10000000"]


def test_what_could_not_be_said_is_said_with_the_next_but_no_old_heartbeat() -> None:
    told: list[str] = []
    full = [True]

    def send(message: bytes) -> None:
        if full[0]:
            raise BlockingIOError(errno.EAGAIN, "no room")
        told.append(message.decode().strip().replace("\n", " "))

    service = Service(send, 8.0)
    service.tick_ended(0.0, "well")
    service.reloading(1.5)
    service.reloaded()
    full[0] = False
    service.tick_ended(2.0, "well")
    assert told == ["READY=1 STATUS=well WATCHDOG=1"]
    assert service.errors == 3


# --------------------------------------------------------------------------------- the daemon


@pytest.fixture
def house(tmp_path: Path, module: FakeModule, clock: ManualClock) -> House:
    """Give one whose policy wants `random` while three threads are in flight."""
    made = House(tmp_path, module, clock)
    write_policy(made.policies)
    return made


def test_daemon_tells_its_states_in_order(house: House) -> None:
    made = house.start()
    assert house.told == ["EXTEND_TIMEOUT_USEC=120000000\n"]
    house.clock.at(1001.5, lambda: house.block(3))
    house.clock.at(1003.5, made.request_reload)
    house.clock.at(1004.5, made.request_stop)
    assert made.run() == 0
    assert house.told[1:] == [
        "READY=1\nSTATUS=policies: 1, readahead=original\n",
        "STATUS=policies: 1, readahead=random\n",
        "RELOADING=1\nMONOTONIC_USEC=1003500000\n",
        "READY=1\n",
        "STOPPING=1\nSTATUS=leaving\n",
    ]


def test_reload_that_fails_is_over_too_and_shows(house: House) -> None:
    made = house.start()
    house.clock.at(1001.5, lambda: write_policy(house.policies, when="calls_rat("))
    house.clock.at(1001.6, made.request_reload)
    house.clock.at(1003.5, made.request_stop)
    assert made.run() == 0
    begin = house.told.index("RELOADING=1\nMONOTONIC_USEC=1001600000\n")
    assert house.told[begin + 1] == "READY=1\n"
    assert "the last reload failed" in house.told[begin + 2]


def test_heart_does_not_beat_for_a_tick_that_has_not_ended(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.world.service.watchdog_seconds = 0.4
    beats: dict[float, set[int]] = {}
    real = type(house.module.kmod).read

    def read(self: object) -> KernelState:
        count = sum("WATCHDOG=1" in each for each in house.told)
        beats.setdefault(house.clock.now(), set()).add(count)
        return real(self)  # type: ignore[arg-type] # it is a Kmod

    made = house.start()
    monkeypatch.setattr(type(house.module.kmod), "read", read)
    house.clock.at(1002.5, made.request_stop)
    assert made.run() == 0
    # In the first, the second and the third tick, and while it leaves.
    assert beats == {1000.0: {0}, 1001.0: {1}, 1002.0: {2}, 1002.5: {3}}


def test_module_that_is_gone_is_no_reason_to_be_killed(house: House) -> None:
    house.world.service.watchdog_seconds = 4.0
    assert house.run(10.5, {2.5: house.module.remove}) == 0
    assert any("STATUS=waiting for the kernel module" in each for each in house.told)
    assert sum("WATCHDOG=1" in each for each in house.told) == 11


def test_attaching_again_is_a_pause(house: House) -> None:
    def remove_and_insert() -> None:
        house.module.remove()
        house.clock.at(1004.5, house.module.insert)

    house.world.service.watchdog_seconds = 30.0
    house.run(8.0, {2.5: remove_and_insert})
    pauses = [each for each in house.told if each.startswith("EXTEND_TIMEOUT_USEC=120000000\n")]
    assert pauses == ["EXTEND_TIMEOUT_USEC=120000000\nWATCHDOG_USEC=150000000\n"] * 2
    assert sum("WATCHDOG_USEC=30000000" in each for each in house.told) == 2


def test_process_talks_to_the_manager_that_started_it(
    tmp_path: Path, module: FakeModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = Manager(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    monkeypatch.setenv("WATCHDOG_USEC", "1000000")
    running = Running(tmp_path, module)
    with manager.socket, running.daemon() as process:
        assert "READY" in manager.hear_until("STATUS")
        manager.hear_until("WATCHDOG")
        process.send_signal(signal.SIGHUP)
        assert "MONOTONIC_USEC" in manager.hear_until("RELOADING")
        assert manager.hear() == {"READY": "1"}
        process.terminate()
        manager.hear_until("STOPPING")
        wait_for(lambda: process.poll() == 0, "the end")
