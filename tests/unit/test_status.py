# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.status: one daemon only, and a status that is whole or not there."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dynamosd import status
from dynamosd.errors import DynamosError, Refused

if TYPE_CHECKING:
    from pathlib import Path


def test_second_daemon_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with (
        status.only_daemon(tmp_path),
        pytest.raises(Refused, match=f"pid {os.getpid()}") as caught,
        status.only_daemon(tmp_path),
    ):
        pass
    assert caught.value.exit_code == 6
    with status.only_daemon(tmp_path):
        pass


def test_lock_of_a_killed_daemon_is_free(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from dynamosd import status\n"
        "with status.only_daemon(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)])
    assert done.returncode == -9
    assert (tmp_path / "lock").read_text()
    with status.only_daemon(tmp_path):
        assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"


def test_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DynamosError, match="cannot use"), status.only_daemon(tmp_path / "file"):
        pass


def test_status_comes_back(tmp_path: Path) -> None:
    assert status.read(tmp_path) is None
    status.write(tmp_path, {"pid": os.getpid(), "policies": []})
    assert status.read(tmp_path) == {"pid": os.getpid(), "policies": []}
    assert [path.name for path in tmp_path.iterdir()] == ["status.json"]
    status.remove(tmp_path)
    status.remove(tmp_path)
    assert status.read(tmp_path) is None


def test_status_that_a_killed_daemon_left(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        pass
    status.write(tmp_path, {"pid": child.pid})
    assert status.read(tmp_path) is None


def test_status_of_a_daemon_that_is_dead_and_not_buried(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        # Until somebody asks what became of it, its pid is taken.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        status.write(tmp_path, {"pid": child.pid})
        os.kill(child.pid, 0)
        assert status.read(tmp_path) is None


def test_age_and_patience() -> None:
    shown = {"updated": "2026-01-31T12:00:00.5Z"}
    assert status.age(shown, 1769860810.5) == 10.0
    assert status.age({}, 0.0) is None
    assert status.age({"updated": "never"}, 0.0) is None
    assert status.patience(shown) == status.MAX_AGE_SECONDS
    switches = [{}, {"switch": None}, {"switch": {"timeout_seconds": 7.0}}]
    assert status.patience({"policies": switches}) == status.MAX_AGE_SECONDS + 7.0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "1"}', "\0", '{"policies": []}'])
def test_status_that_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "status.json").write_text(text)
    assert status.read(tmp_path) is None


def test_enforcing_policies() -> None:
    policies = [
        {"name": "one", "subsystem": "pipe", "mode": "enforce"},
        {"name": "two", "subsystem": "pipe", "mode": "advise"},
        {"name": "three", "subsystem": "readahead", "mode": "enforce"},
    ]
    assert status.enforcing({"policies": policies}, "pipe") == ["one"]
    assert status.enforcing(None, "pipe") == []
