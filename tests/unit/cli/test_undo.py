# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosctl undo: it finds all that holds, and its commands take all of it back."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from dynamosd import cli, status
from tests.unit.build import write_policy
from tests.unit.test_daemon import ORDER
from tests.unit.test_main import Running, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from dynamosd.testing import FakeModule

    Type = Callable[..., str]


@pytest.fixture
def running(tmp_path: Path, module: FakeModule) -> Running:
    """Give a daemon whose policy advises `random`."""
    made = Running(tmp_path, module)
    write_policy(made.config, interval="100ms", mode="advise")
    module.load("readahead", "streaming", [ORDER])
    module.call("readahead", ORDER, blocked=3)
    return made


@pytest.fixture
def type_(running: Running, capsys: pytest.CaptureFixture[str]) -> Type:
    """Give what runs a command, and gives its stdout, then its stderr."""

    def run(*words: str) -> str:
        where = [] if words[0] == "edition" and words[1] == "quarantine" else ["--runtime-dir"]
        capsys.readouterr()
        code = cli.main([*words, *where, *[str(running.run)] * len(where)], running.module.kmod)
        said = capsys.readouterr()
        assert code == 0, said.err
        return said.out + said.err

    return run


def test_its_commands_take_everything_back(running: Running, type_: Type) -> None:
    with running.daemon():

        def shown(what: str) -> Any:  # noqa: ANN401 - JSON
            return (running.status() or {})[what]

        wait_for(lambda: shown("advice"), "advice")
        type_("advice", "mute", shown("advice")[0]["id"])
        type_("edition", "quarantine", "readahead", "streaming")
        type_("pin", "readahead", "random", "--reason", "it's; $(false) # `x`")
        type_("pause", "--subsystem", "readahead", "--for", "1h")
        type_("pause", "storm")
        type_("pause")
        wait_for(lambda: len(shown("pauses")) == 3, "all of it is shown")
        lines = type_("undo").splitlines()
        wanted = ["unpin readahead", "switch readahead original", "advice unmute"]
        wanted += ["edition clear readahead streaming", "resume --subsystem", "resume storm"]
        for line, begin in zip(lines, [*wanted, "resume"], strict=True):
            assert line.startswith(f"dynamosctl {begin}"), line
            assert f" --runtime-dir {running.run}  # " in line
        as_json = json.loads(type_("undo", "-o", "json"))
        commands = [shlex.split(line, comments=True) for line in lines]
        assert [each["command"] for each in as_json["holds"]] == commands
        assert as_json["holds"][0]["what"].endswith("it's; $(false) # `x`")
        words = [word for command in commands for word in command]
        # A shell takes them for the same words, whatever a reason has in it.
        echo = "dynamosctl() { printf '%s\\n' dynamosctl \"$@\"; }\n" + "\n".join(lines)
        done = subprocess.run(["sh", "-eu"], input=echo, capture_output=True, text=True, check=True)
        assert (done.stdout.split("\n")[:-1], done.stderr) == (words, "")
        for _, *command, option, _ in commands:
            assert option == "--runtime-dir"
            type_(*command)

        def nothing_holds() -> bool:
            return type_("undo") == "# nothing holds: all is as on an untouched machine\n"

        wait_for(nothing_holds, "all is taken back")
        assert running.active() == "original"


def test_partial_switch_and_no_daemon(running: Running, type_: Type) -> None:
    running.module.command("switch readahead random mode=scoped scope=share:1/10")
    line, remark = type_("undo").splitlines()
    assert line.startswith("dynamosctl switch readahead original")
    assert line.endswith("readahead: original is active, random is partial (scoped, share:1/10)")
    assert remark.startswith("# no daemon is running")
    type_("switch", "readahead", "original")
    first, second = type_("undo").splitlines()
    assert (first, second) == (remark, "# nothing holds that the kernel module knows of")


def test_what_a_policy_enforces_is_said(running: Running, type_: Type) -> None:
    running.run.mkdir(exist_ok=True)
    policy = {"name": "storm", "subsystem": "readahead", "mode": "enforce"}
    held = {"subsystem": "readahead", "edition": "random", "policy": "storm", "guardrail": "slow"}
    held |= {"reason": "p99 = 5", "until": "2026-01-01T00:00:00Z"}
    found = {"pid": os.getpid(), "policies": [policy], "quarantines": [held]}
    status.write(running.run, found)
    running.module.command("switch readahead streaming")
    switch, clear = type_("undo").splitlines()
    assert "policy storm enforces it and may switch it again" in switch
    assert "to hold it: dynamosctl rollback readahead" in switch
    assert clear.startswith("dynamosctl edition clear readahead random")
    assert "until 2026-01-01T00:00:00Z (guardrail slow of policy storm: p99 = 5)" in clear


def test_without_a_module(running: Running, type_: Type) -> None:
    running.module.remove()
    lines = type_("undo").splitlines()
    assert "the kernel module is not loaded" in lines[0]
    assert lines[-1].startswith("# nothing holds")


def test_module_that_is_switched_off(running: Running, type_: Type) -> None:
    running.module.enable(0)
    # Whoever did that had a reason: it is said, and is no command.
    first, *_ = type_("undo").splitlines()
    assert first.startswith("# the module is switched off (enable=0); when the reason for that")
    assert "echo 1 > /sys/module/dynamos/parameters/enable" in first
