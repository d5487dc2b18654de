# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot-loop guard: what it makes of the last boot's end."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from dynamosd import cli, files, status
from dynamosd.bootguard import BootGuard, Suspect, read_boot_id
from dynamosd.journal import Journal
from dynamosd.quarantines import Quarantines
from dynamosd.testing import FakeHost
from tests.unit.build import write_policy
from tests.unit.test_daemon import House

if TYPE_CHECKING:
    from collections.abc import Callable

    from dynamosd.daemon import Daemon
    from dynamosd.testing import FakeModule, ManualClock

BOOT, NEXT = "11111111-aaaa", "22222222-bbbb"
WALL = 1_700_000_000.0


class Machine:
    """A disk that outlives boots, and the guard of the boot that goes on."""

    def __init__(self, folder: Path) -> None:
        """Boot for the first time."""
        self.folder = folder
        self.said: list[str] = []
        self.file = folder / "below" / "last-switches.json"
        self.boot(BOOT)

    def boot(self, boot_id: str, now: float = 10.0, wall: float = WALL) -> None:
        """Start a daemon in a boot; the last one is gone as if it had never left."""
        journal = Journal(self.folder / "journal", lambda: wall, self.said.append)
        self.book = Quarantines(self.folder / "quarantines.json", journal, self.said.append)
        self.book.load(wall)
        say = self.said.append
        self.guard = BootGuard(self.file, boot_id, 300.0, 3600.0, self.book, say, 60.0)
        self.guard.begin(now, wall)
        self.wall = wall

    def switch(self, edition: str = "random", now: float = 100.0) -> None:
        """Let a policy switch to an edition."""
        self.guard.before(Suspect("readahead", edition, "storm", now, WALL))

    def settle(self) -> None:
        """Wait until all is on the disk that is going to be."""
        self.guard._writer.submit(int).result(60.0)

    def condemned(self) -> dict[str, str]:
        """Tell what is in quarantine, and why."""
        return {each.edition: each.reason for _, each in self.book.lasting(self.wall)}

    def written(self) -> list[str]:
        """Give the editions that are on the disk."""
        self.settle()
        return [each["edition"] for each in json.loads(self.file.read_text())["switches"]]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Give one that has booted."""
    return Machine(tmp_path)


def test_machine_that_went_down_soon_after_a_switch_has_the_edition_in_quarantine(
    machine: Machine,
) -> None:
    machine.switch()
    machine.boot(NEXT)
    why = machine.condemned()["random"]
    assert why.startswith("the machine went down within 5m of the switch to it, which was at 2023")
    assert machine.written() == []
    assert any("readahead/random is in quarantine until" in line for line in machine.said)


def test_it_is_longer_each_time_and_not_for_boots_without_a_switch(machine: Machine) -> None:
    for boot in range(3):
        machine.switch()
        machine.boot(f"boot-{boot}")
        machine.settle()
    machine.boot("another")
    ((_, sentence),) = machine.book.lasting(WALL)
    assert (sentence.count, sentence.seconds) == (3, 4 * 3600.0)


def test_switch_is_on_the_disk_before_it_is_made(machine: Machine) -> None:
    machine.switch()
    # Not settled: whatever the machine does now, this is what a next boot finds.
    content = json.loads(machine.file.read_text())
    assert (content["boot_id"], content["switches"][0]["edition"]) == (BOOT, "random")


def test_names_are_on_the_disk_too(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(file: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{file}").readlink()))
        real(file)

    machine.settle()
    monkeypatch.setattr(os, "fsync", fsync)
    machine.switch()
    folder = machine.file.parent
    assert [Path(each).parent for each in synced] == [folder, folder.parent]


def test_clean_stop_is_held_against_nobody(machine: Machine) -> None:
    machine.switch()
    machine.guard.close(110.0)
    machine.boot(NEXT)
    assert machine.condemned() == {}


def test_machine_that_went_down_long_after(machine: Machine) -> None:
    machine.switch(now=100.0)
    machine.guard.tick(399.0)
    assert machine.written() == ["random"]
    machine.guard.tick(400.0)
    assert machine.written() == []
    machine.boot(NEXT)
    assert machine.condemned() == {}


def test_another_switch_to_the_edition_begins_anew(machine: Machine) -> None:
    machine.switch(now=100.0)
    machine.switch(now=350.0)
    machine.guard.tick(401.0)
    assert machine.written() == ["random"]
    machine.guard.tick(650.0)
    assert machine.written() == []


def test_daemon_that_crashed_is_not_the_machine(machine: Machine) -> None:
    machine.switch(now=100.0)
    machine.boot(BOOT, now=120.0)
    assert machine.condemned() == {}
    # The machine goes down after all, in what is left of the time,
    machine.guard.tick(399.0)
    machine.settle()
    machine.boot(NEXT)
    assert set(machine.condemned()) == {"random"}


def test_daemon_that_crashed_long_ago(machine: Machine) -> None:
    machine.switch(now=100.0)
    machine.boot(BOOT, now=900.0)
    machine.guard.tick(911.0)
    assert machine.written() == []


@pytest.mark.parametrize("wall", [0.0, WALL - 1e8, WALL + 1e9])
def test_clock_that_jumped_changes_nothing(machine: Machine, wall: float) -> None:
    machine.switch()
    machine.boot(NEXT, wall=wall)
    assert set(machine.condemned()) == {"random"}
    machine.guard.close(20.0)
    machine.boot("third", wall=WALL)
    assert machine.written() == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        '{"version": 1, "boot_id": "11111111-aaaa", "switches": [{"subsystem": "rea',
        '{"version": 1, "boot_id": "x", "switches": [{"edition": "random"}]}',
        '{"version": 1, "boot_id": "x", "switches": 7}',
        '{"version": 1, "switches": []}',
        "\0" * 512,
    ],
)
def test_file_that_is_torn_condemns_nobody_and_is_told(machine: Machine, content: str) -> None:
    machine.settle()
    machine.file.write_text(content)
    machine.boot(NEXT)
    assert machine.condemned() == {}
    assert machine.guard.errors == 1
    assert any("the last switches are lost" in line for line in machine.said)
    machine.switch("streaming")
    machine.boot("third")
    assert set(machine.condemned()) == {"streaming"}


def test_time_that_has_not_come_yet_does_not_last_for_ever(machine: Machine) -> None:
    machine.switch(now=1e9)
    machine.boot(BOOT, now=50.0)
    machine.guard.tick(351.0)
    assert machine.written() == []


def test_switch_that_failed_is_taken_back_and_costs_no_write_each_time(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[Path] = []
    real = files.replace

    def replace(path: Path, text: str, **options: Any) -> None:  # noqa: ANN401 - as the real one
        writes.append(path)
        real(path, text, **options)

    machine.settle()
    monkeypatch.setattr(files, "replace", replace)
    for second in range(100, 130):
        machine.guard.tick(second)
        machine.switch(now=second)
        machine.guard.withdraw("readahead", "random")
    machine.settle()
    assert len(writes) <= 6
    machine.guard.tick(150.0)
    assert machine.written() == []


def test_original_is_nobody_s_fault(machine: Machine) -> None:
    machine.switch("original")
    machine.boot(NEXT)
    assert machine.condemned() == {}


def test_disk_that_hangs_does_not_hold_the_switch_for_long(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = threading.Event()
    real = files.replace

    def slow(path: Path, text: str, **options: Any) -> None:  # noqa: ANN401 - as the real one
        free.wait(60.0)
        real(path, text, **options)

    machine.settle()
    monkeypatch.setattr(files, "replace", slow)
    machine.guard.patience = 0.01
    machine.switch()
    assert "the disk is slow: readahead is switched to random before" in machine.said[-1]
    free.set()
    assert machine.written() == ["random"]


def test_disk_that_is_full_is_told_once(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _text: str, **_options: object) -> None:
        raise OSError(28, "No space left on device")

    machine.settle()
    monkeypatch.setattr(files, "replace", full)
    machine.switch()
    machine.switch("streaming")
    machine.settle()
    assert machine.guard.errors == 2
    assert sum("the boot-loop guard is off meanwhile" in line for line in machine.said) == 1


@pytest.mark.parametrize(("boot_id", "within"), [("", 300.0), (BOOT, 0.0)])
def test_guard_that_is_off(machine: Machine, tmp_path: Path, boot_id: str, within: float) -> None:
    file = tmp_path / "off.json"
    guard = BootGuard(file, boot_id, within, 1.0, machine.book, machine.said.append)
    guard.begin(0.0, WALL)
    guard.before(Suspect("readahead", "random", "storm", 1.0, WALL))
    guard.tick(2.0)
    guard.close(3.0)
    assert not file.exists()


def test_boot_id_is_the_kernel_s(tmp_path: Path) -> None:
    assert len(read_boot_id(Path("/proc"))) == 36
    assert read_boot_id(tmp_path) == ""


# --------------------------------------------------------------------------------- the daemon


@pytest.fixture
def house(tmp_path: Path, module: FakeModule, clock: ManualClock) -> House:
    """Give one whose policy wants `random` at once, on a host that can boot again."""
    made = House(tmp_path, module, clock)
    FakeHost(tmp_path / "proc")
    made.world = dataclasses.replace(made.world, proc=tmp_path / "proc")
    write_policy(made.policies)
    made.block(3)
    boots(made, BOOT)
    return made


def boots(house: House, boot_id: str) -> None:
    """Boot the host: the module begins anew, and the clock goes on."""
    file = house.world.proc / "sys/kernel/random/boot_id"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"{boot_id}\n")
    if house.active() != "original":
        house.module.kmod.switch("readahead", "original")


class PowerCut(BaseException):
    """The machine stops in the middle of whatever it does."""


def crash(house: House, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run a daemon for some seconds; then it is gone, and has said and written nothing more."""

    def cut() -> None:
        raise PowerCut

    made = house.start()
    monkeypatch.setattr(made, "_leave", lambda: False)
    house.clock.at(house.clock.now() + seconds, cut)
    with pytest.raises(PowerCut):
        made.run()
    # As the kernel's memory has.
    made._leases.close()


def run_for(house: House, seconds: float) -> Daemon:
    """Run a daemon from now on, and stop it."""
    made = house.start()
    house.clock.at(house.clock.now() + seconds, made.request_stop)
    assert made.run() == 0
    return made


def test_machine_that_goes_down_does_not_switch_again(
    house: House, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    crash(house, 5.5, monkeypatch)
    assert house.active() == "random"
    boots(house, NEXT)
    before = len(house.switches())
    shown: list[dict[str, Any] | None] = []
    house.clock.at(house.clock.now() + 3.5, lambda: shown.append(ask(house, capsys)))
    run_for(house, 5.0)
    assert len(house.switches()) == before
    (begun,) = house.records("quarantine")
    assert (begun["result"], begun["guardrail"], begun["policy"]) == ("begun", "", "storm")
    assert "the machine went down within 5m" in begun["reason"]
    assert house.metric("dynamos_policy_phase", policy="storm", phase="quarantined") == 1
    assert shown
    assert shown[0] is not None
    assert shown[0]["quarantines"][0]["edition"] == "random"


def ask(house: House, capsys: pytest.CaptureFixture[str]) -> dict[str, Any] | None:
    """Ask the daemon as a person does, and see that the reason is in the answer."""
    folder = str(house.settings.runtime_dir)
    assert cli.main(["status", "--runtime-dir", folder], house.module.kmod) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "(the machine went down within 5m of the switch" in shown
    file = str(house.settings.journal)
    assert cli.main(["history", "--journal", file], house.module.kmod) == 0
    assert "is in quarantine" in capsys.readouterr().out
    return status.read(house.settings.runtime_dir)


def test_machine_that_is_shut_down_switches_again(house: House) -> None:
    run_for(house, 5.5)
    boots(house, NEXT)
    run_for(house, 5.0)
    assert house.records("quarantine") == []
    assert [each[1:3] for each in house.switches()][2] == ("random", "policy")


@pytest.mark.parametrize(("seconds", "count"), [(200.0, 1), (302.5, 0)])
def test_daemon_watches_for_as_long_as_the_settings_say(
    house: House, monkeypatch: pytest.MonkeyPatch, seconds: float, count: int
) -> None:
    crash(house, seconds, monkeypatch)
    boots(house, NEXT)
    run_for(house, 2.5)
    assert len(house.records("quarantine")) == count


def test_switch_by_hand_is_watched_too(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    write_policy(house.policies, mode="observe")
    by_hand: Callable[[], object] = lambda: house.module.kmod.switch(  # noqa: E731 - it is a plan
        "readahead", "random"
    )
    house.clock.at(1001.5, by_hand)
    crash(house, 4.5, monkeypatch)
    boots(house, NEXT)
    run_for(house, 2.5)
    (begun,) = house.records("quarantine")
    assert (begun["edition"], begun["policy"]) == ("random", "")


def test_edition_is_on_the_disk_when_it_becomes_active(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[str]] = []
    real = type(house.module.kmod).switch

    def switch(self: object, subsystem: str, edition: str, *rest: Any, **more: Any) -> None:  # noqa: ANN401 - as the real one
        content = json.loads(house.settings.last_switches.read_text())
        seen.append([each["edition"] for each in content["switches"]])
        real(self, subsystem, edition, *rest, **more)  # type: ignore[arg-type] # it is a Kmod

    monkeypatch.setattr(type(house.module.kmod), "switch", switch)
    run_for(house, 3.5)
    assert seen[0] == ["random"]


def test_switch_that_fails_leaves_nothing(house: House) -> None:
    made = house.start()
    house.module.unload("readahead", "random")
    house.clock.at(1020.5, made.request_stop)
    written: list[str] = []
    house.clock.at(1015.5, lambda: written.append(house.settings.last_switches.read_text()))
    assert made.run() == 0
    assert json.loads(written[0])["switches"] == []
