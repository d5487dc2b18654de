# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosctl show: one subsystem, with and without a daemon."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from dynamosd import records, status
from dynamosd.cli import main
from dynamosd.journal import Journal
from dynamosd.testing import FakeModule, ManualClock
from tests.unit.build import write_policy
from tests.unit.cli.test_cli import WIDTH, Control
from tests.unit.test_daemon import House


class Shown(Control):
    """Runs ``show readahead`` with a journal of its own."""

    def __init__(
        self, module: FakeModule, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Begin without a journal."""
        super().__init__(module, folder, capsys)
        self.path = folder / "journal.jsonl"
        self.now = time.time()
        self.journal = Journal(self.path, lambda: self.now, print)

    def text(self) -> str:
        """Run it; give what it shows as one line."""
        assert self("show", "readahead", "--journal", str(self.path)) == 0
        assert max(map(len, self.shown.splitlines())) <= WIDTH
        return " ".join(self.shown.split())

    def answer(self) -> Any:  # noqa: ANN401 - JSON
        """Run it with ``-o json``."""
        return self.json("show", "readahead", "--journal", str(self.path))

    def switch(self, to: str, **said: Any) -> None:  # noqa: ANN401 - JSON
        """Switch by hand, and write down that it was done."""
        self.module.kmod.switch("readahead", to)
        self.record(to, **said)

    def record(self, to: str, **said: Any) -> None:  # noqa: ANN401 - JSON
        """Write a switch down."""
        also = {"from": "?", "to": to, "trigger": "policy", "policy": "storm", "rule": "busy"}
        also |= {"result": "ok", "reason": "three are in flight"}
        self.journal.record("switch", "", None, **({"subsystem": "readahead"} | also | said))


@pytest.fixture
def show(module: FakeModule, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shown:
    """Give one."""
    return Shown(module, tmp_path, capsys)


def test_without_a_daemon_and_a_journal(show: Shown) -> None:
    show.module.call("readahead", "page_cache_ra_order", 7, blocked=2)
    show.module.give_parameter("readahead", "random", "window", 64)
    text = show.text()
    assert "readahead: original is active (concurrent)" in text
    assert "since it was loaded: it has never been switched" in text
    assert "original active 9 2 dynamos_readahead" in text
    assert "random: modes concurrent, exclusive, per-object, scoped; parameters window=64" in text
    assert "page_cache_ra_order direct original* 9 2" in text
    assert "no lease" in text
    assert "no daemon is running: policies, pins, pauses and advice are not known" in text
    answer = show.answer()
    assert (answer["kind"], answer["active"]) == ("Subsystem", "original")
    assert answer["editions"][1]["parameters"] == {"window": "64"}
    assert answer["functions"][0]["editions"][0]["calls"] == 9
    assert (answer["daemon"], answer["advice"], answer["pauses"]) == (None, None, None)
    assert answer["since"] == {"time": None, "by": "", "reason": "", "unknown": ""}


def test_since_when_and_by_whom(show: Shown) -> None:
    show.record("random", subsystem="pipe")
    show.switch("random")
    show.record("random", result="refused")
    show.record("original", partial=True)
    assert "(policy storm, rule busy): three are in flight" in show.text()
    since = show.answer()["since"]
    assert since["by"] == "policy storm, rule busy"
    assert since["time"].endswith("Z")
    show.switch("original", trigger="manual", policy="", rule="")
    assert "(by hand): three are in flight" in show.text()


def test_since_a_switch_object_by_object_was_over(show: Shown) -> None:
    show.switch("random", partial=True)
    assert "since when is not known" in show.text()
    show.now += 5.0
    show.journal.record("completed", "", None, subsystem="readahead", edition="random")
    (*_, completed) = records.read(show.path)
    assert show.answer()["since"]["time"] == completed["time"]


def test_since_when_is_not_made_up(show: Shown) -> None:
    show.module.kmod.switch("readahead", "random")
    assert "since when is not known: " in show.text()
    assert "has no switch to random since the machine was started" in show.text()
    show.now = 1_000_000_000.0
    show.record("random")
    assert "has no switch to random since the machine was started" in show.text()
    show.now = time.time()
    show.record("original")
    assert "the last switch in the journal is to original" in show.text()
    assert "somebody has switched while no daemon looked" in show.text()


def test_since_when_in_a_journal_that_may_not_be_read(
    show: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    show.switch("random")
    monkeypatch.setattr(records, "_open_all", refuse)
    assert "cannot be read: Permission denied" in show.text()


def test_what_is_unusual(show: Shown) -> None:
    show.module.kmod.switch("readahead", "random", "scoped", scope="cpus:0-3")
    show.module.kmod.quarantine("readahead", "random")
    show.module.kmod.switch("readahead", "original")
    (show.module.sysfs / "readahead" / "held").write_text("3\n")
    text = show.text()
    assert "callers held: 3" in text
    assert "random: in quarantine (command)" in text
    assert "random! " in text


def test_with_a_daemon(
    tmp_path: Path, module: FakeModule, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> None:
    house = House(tmp_path, module, clock)
    write_policy(house.policies)
    where = ["--runtime-dir", str(house.settings.runtime_dir)]
    shown: list[str] = []

    def look() -> None:
        assert main(["show", "readahead", *where], module.kmod) == 0
        shown.append(capsys.readouterr().out)

    house.run(5.0, {1.5: lambda: house.block(3), 4.5: look})
    text = " ".join(shown[0].split())
    assert "readahead: random is active (concurrent)" in text
    # The clock stands in 2023: before this machine was started.
    assert "since when is not known" in text
    assert f"lease held by pid {os.getpid()}" in text
    assert "policy storm (enforce), subsystem readahead random is active; the policy is" in text
    assert "because rule busy" in text
    assert "no daemon" not in text


def test_advice_and_pauses(show: Shown) -> None:
    policy = {"name": "storm", "subsystem": "readahead", "mode": "advise"}
    one = {"id": "k3vq", "policy": "storm", "subsystem": "readahead", "from": "a", "to": "b"}
    one |= {"rule": "r", "since": "2026", "reason": "why not", "state": "open"}
    advice = [one, {**one, "id": "gone", "state": "gone"}, {**one, "id": "p", "subsystem": "pipe"}]
    pauses = [
        {"policy": "storm", "subsystem": None},
        {"policy": None, "subsystem": None},
        {"policy": None, "subsystem": "pipe"},
        {"policy": "calm", "subsystem": None},
    ]
    shown = {"pid": os.getpid(), "policies": [policy], "advice": advice, "pauses": pauses}
    status.write(show.run_dir, shown)
    text = show.text()
    assert "policy storm (advise), subsystem readahead has not been evaluated yet" in text
    assert "k3vq open storm readahead a b r" in text
    assert "gone" not in text
    answer = show.answer()
    assert [each["id"] for each in answer["advice"]] == ["k3vq"]
    assert answer["pauses"] == pauses[:2]


def test_a_daemon_without_a_policy_for_it(show: Shown) -> None:
    status.write(show.run_dir, {"pid": os.getpid(), "policies": []})
    assert "no policy is about it" in show.text()


def test_no_such_subsystem(show: Shown) -> None:
    assert show("show", "readahed") == 1
    assert "did you mean readahead?" in show.said
    show.module.remove()
    assert show("show", "readahead") == 5
