# SPDX-License-Identifier: GPL-2.0-or-later
"""Policies that are read again when their files change: not before they are whole, and once."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dynamosd import config
from dynamosd.daemon import Daemon, read_policies
from dynamosd.policy.names import names_of
from dynamosd.watch import Watch
from tests.unit.build import policy_text, write_policy
from tests.unit.test_daemon import House

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dynamosd.testing import FakeModule, ManualClock


def changes(watch: Watch, looks: int = 4) -> list[bool]:
    """Look some times; what is told is read."""
    found = []
    for _ in range(looks):
        found.append(watch.has_changed())
        if found[-1]:
            watch.note_reading()
    return found


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    """Give one for two files that are there."""
    write_policy(tmp_path / "policies")
    write_policy(tmp_path / "policies", name="calm", mode="observe")
    return Watch(lambda: config.policy_files(tmp_path / "policies"))


def test_nothing_changes(watch: Watch) -> None:
    assert changes(watch) == [False] * 4


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "storm.yaml").write_text("longer than nothing"),
        lambda folder: (folder / "storm.yaml").unlink(),
        lambda folder: (folder / "new.yaml").write_text(""),
        lambda folder: (folder / "calm.yaml").rename(folder / "storm.yaml"),
        lambda folder: os.utime(folder / "calm.yaml", (1, 1)),
        lambda folder: folder.rename(folder.with_name("gone")),
    ],
)
def test_change_is_told_once_at_the_second_look(
    watch: Watch, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    change(tmp_path / "policies")
    assert changes(watch) == [False, True, False, False]


def test_file_of_the_same_size_and_time_in_its_place(watch: Watch, tmp_path: Path) -> None:
    old = tmp_path / "policies" / "storm.yaml"
    new = tmp_path / "new"
    new.write_text(old.read_text().replace("2.5", "3.5"))
    found = old.stat()
    os.utime(new, ns=(found.st_atime_ns, found.st_mtime_ns))
    new.replace(old)
    assert changes(watch) == [False, True, False, False]


def test_file_that_is_being_written_is_waited_for(watch: Watch, tmp_path: Path) -> None:
    told = []
    for size in range(1, 6):
        (tmp_path / "policies" / "storm.yaml").write_text("x" * size)
        told.append(watch.has_changed())
    assert told == [False] * 5
    assert changes(watch) == [True, False, False, False]


def test_what_is_no_policy_is_not_looked_at(watch: Watch, tmp_path: Path) -> None:
    for name in (".storm.yaml.swp", "storm.yaml~", "notes.txt", "dynamosd.yaml"):
        (tmp_path / "policies" / name).write_text("x")
    assert changes(watch) == [False] * 4


def test_change_that_is_taken_back(watch: Watch, tmp_path: Path) -> None:
    new = tmp_path / "policies" / "new.yaml"
    new.write_text("x")
    assert watch.has_changed() is False
    new.unlink()
    assert changes(watch) == [False] * 4


# --------------------------------------------------------------------------------- the daemon


@pytest.fixture
def house(tmp_path: Path, module: FakeModule, clock: ManualClock) -> House:
    """Give one whose policy wants `random` while three threads are in flight."""
    made = House(tmp_path, module, clock)
    write_policy(made.policies)
    return made


def watching(house: House) -> Daemon:
    """Make a daemon that watches its policies."""
    kernel = house.module.kmod.read()
    watch = Watch(lambda: house.settings.policies)
    policies = read_policies(house.settings, names_of(kernel), house.said.append)
    made = Daemon(house.settings, house.world, policies, kernel, watch)
    made.attach()
    house.page = made.page.text
    return made


def test_daemon_reads_what_has_changed_and_keeps_the_last_good(house: House) -> None:
    made = watching(house)
    house.block(3)
    file = house.policies / "storm.yaml"
    half = policy_text()[:-40]
    house.clock.at(1001.5, lambda: file.write_text(half))
    house.clock.at(1006.5, lambda: file.write_text(policy_text(when="false || " + WHEN)))
    house.clock.at(1012.0, made.request_stop)
    assert made.run() == 0
    (failed,), (read,) = house.records("reload_failed"), house.records("reload")
    # Written at 1.5, seen at 2, the same at 3; and so with the other one.
    assert failed["time_seconds"] == 1_700_000_003.0
    assert read["time_seconds"] == 1_700_000_008.0
    assert [each[2] for each in house.switches()] == ["policy", "exit"]
    assert house.metric("dynamos_config_last_reload_successful") == 1


WHEN = 'in_flight("page_cache_ra_order") > 2.5'


def test_second_enforcing_policy_changes_nothing(house: House) -> None:
    made = watching(house)
    house.block(3)
    house.clock.at(1001.5, lambda: write_policy(house.policies, name="other", mode="enforce"))
    house.clock.at(1005.0, made.request_stop)
    assert made.run() == 0
    (failed,) = house.records("reload_failed")
    assert "only one policy of a subsystem may enforce" in failed["reason"]
    assert "[conflicting-policies]" in failed["reason"]
    # The mode of neither was lowered: the good one goes on.
    assert house.metric("dynamos_policy_mode", policy="storm", mode="enforce") == 1
    assert house.metric("dynamos_policy_mode", policy="other") is None
    assert [each[2] for each in house.switches()] == ["policy", "exit"]


def test_daemon_that_does_not_watch(house: House) -> None:
    house.run(6.0, {1.5: (house.policies / "storm.yaml").unlink})
    assert house.records("reload") == []


def test_watch_is_a_setting(tmp_path: Path) -> None:
    assert config.load(tmp_path).watch is False
    (tmp_path / "dynamosd.yaml").write_text("watch: true\n")
    assert config.load(tmp_path).watch is True
    (tmp_path / "dynamosd.yaml").write_text("watch: yes\n")
    with pytest.raises(config.ConfigErrors, match=r"dynamosd.yaml:1:8: error: .*valid boolean"):
        config.load(tmp_path)
