# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosctl top for programs and pipes: -b and -o json, with and without daemon and module."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from dynamosd import status
from dynamosd.cli import main, make_parser
from dynamosd.cli.arguments import delay
from dynamosd.cli.top import show_top
from dynamosd.testing import FakeModule, ManualClock

PLAN = 1000.0
"""When the clock begins."""


class Top:
    """Runs it by a clock that does not wait."""

    def __init__(
        self,
        module: FakeModule,
        folder: Path,
        clock: ManualClock,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        """Begin without a daemon."""
        self.module = module
        self.run_dir = folder / "run"
        self.run_dir.mkdir()
        self.clock = clock
        self._capsys = capsys

    def __call__(self, *words: str) -> str:
        """Give what it prints."""
        asked = make_parser().parse_args(["top", "--runtime-dir", str(self.run_dir), *words])
        assert show_top(asked, self.module.kmod, self.clock) == 0
        out, said = self._capsys.readouterr()
        assert said == ""
        return out

    def json(self, *words: str) -> list[Any]:
        """Give the documents it prints."""
        return [json.loads(line) for line in self("-o", "json", *words).splitlines()]

    def calls(self, at: float, number: int) -> None:
        """Let there be calls in the so manieth second."""
        act = lambda: self.module.call("readahead", "page_cache_ra_order", number)  # noqa: E731
        self.clock.at(PLAN + at, act)

    def daemon(self) -> None:
        """Pretend that a daemon runs."""
        policy = {"name": "storm", "subsystem": "readahead", "mode": "enforce", "phase": "active"}
        shown = {"pid": os.getpid(), "version": "1", "started": "2026-01-01T00:00:00.000Z"}
        status.write(self.run_dir, {**shown, "policies": [policy | {"rule": "busy"}]})


@pytest.fixture
def top(
    module: FakeModule, tmp_path: Path, clock: ManualClock, capsys: pytest.CaptureFixture[str]
) -> Top:
    """Give one."""
    return Top(module, tmp_path, clock, capsys)


def test_plain_text_where_there_is_no_terminal(top: Top) -> None:
    top.calls(1.0, 100)
    top.calls(3.0, 40)
    out = top("-n", "2")
    assert "\033" not in out
    first, second = out.removesuffix("\n\n").split("\n\ndynamosctl top")
    assert first.splitlines()[-1].split()[:3] == ["readahead", "original", "50"]
    assert second.splitlines()[-1].split()[:3] == ["readahead", "original", "20"]
    assert second.splitlines()[-1].endswith("no daemon")
    assert top.clock.now() == PLAN + 4.0


def test_delay_order_filter_and_editions(top: Top) -> None:
    top.calls(0.25, 100)
    words = ("-d", "0.5", "-n", "1", "-e", "--sort", "name", "-r", "--filter", "ra_order")
    rows = top(*words).rstrip().splitlines()[4:]
    assert [row.split()[2:4] for row in rows] == [["random", "0"], ["original*", "200"]]


def test_with_a_daemon(top: Top) -> None:
    top.daemon()
    out = top("-n", "1")
    assert f"daemon {os.getpid()}" in out
    assert out.rstrip().endswith("storm: active busy")


def test_json_is_a_document_a_line(top: Top) -> None:
    top.daemon()
    top.calls(1.0, 100)
    switch = lambda: top.module.kmod.switch("readahead", "random")  # noqa: E731
    top.clock.at(PLAN + 3.0, switch)
    first, second = top.json("-n", "2")
    assert (first["apiVersion"], first["kind"]) == ("dynamos/v1alpha1", "Top")
    assert (first["interval_seconds"], first["daemon"]["pid"]) == (2.0, os.getpid())
    assert first["module"] == {"version": "0.1.0", "enabled": True}
    (subsystem,) = first["subsystems"]
    assert (subsystem["name"], subsystem["active"]) == ("readahead", "original")
    assert subsystem["calls_per_second"] == 50.0
    assert (subsystem["active_since"], subsystem["partial"]) == (None, None)
    assert subsystem["policies"][0]["phase"] == "active"
    assert subsystem["pinned"] is None
    function = subsystem["functions"][0]
    assert function["editions"][0] == {
        "name": "original",
        "calls_per_second": 50.0,
        "in_flight": 0,
        "draining": 0,
    }
    (subsystem,) = second["subsystems"]
    assert (subsystem["active"], subsystem["calls_per_second"]) == ("random", 0.0)
    assert subsystem["active_since"] == second["time"]


def test_json_without_daemon_and_module(top: Top) -> None:
    top.clock.at(PLAN + 1.0, top.module.remove)
    top.clock.at(PLAN + 3.0, top.module.insert)
    gone, back = top.json("-n", "2")
    assert (gone["module"], gone["subsystems"], gone["interval_seconds"]) == (None, [], None)
    assert (back["module"]["version"], back["daemon"]) == ("0.1.0", None)


def test_a_module_that_goes_is_said_and_waited_for(top: Top) -> None:
    top.clock.at(PLAN + 1.0, top.module.remove)
    assert "the kernel module is not loaded; waiting for it" in top("-n", "1")


def test_a_module_that_is_not_there_to_begin_with_is_an_error(
    module: FakeModule, capsys: pytest.CaptureFixture[str]
) -> None:
    module.remove()
    assert main(["top", "-b", "-n", "1"], module.kmod) == 5
    assert "the kernel module is not loaded" in capsys.readouterr().err


def test_ctrl_c_is_the_way_out(top: Top) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    top.clock.at(PLAN + 3.0, interrupt)
    assert top().count("dynamosctl top") == 1


def test_bars_are_such_as_can_be_written(top: Top, monkeypatch: pytest.MonkeyPatch) -> None:
    top.calls(1.0, 100)
    monkeypatch.setattr(type(sys.stdout), "encoding", "ascii")
    last = top("-n", "1").rstrip().splitlines()[-1]
    assert last.isascii()
    assert last.split()[3] == "#"


@pytest.mark.parametrize(
    ("said", "seconds"), [("2", 2.0), ("0.25", 0.25), ("500ms", 0.5), ("1m", 60.0)]
)
def test_delays(said: str, seconds: float) -> None:
    assert delay(said) == seconds


@pytest.mark.parametrize("said", ["0", "0.01", "-1", "2h", "1e3", "nan", "", "1 s"])
def test_wrong_delays(said: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        delay(said)
