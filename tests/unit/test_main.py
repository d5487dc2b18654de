# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd as a process: its command line, its signals, its exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dynamosd import daemon, status
from dynamosd.__main__ import main
from dynamosd.testing import FakeModule
from tests.unit.build import write_policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60.0

PROGRAM = """
import sys
from dynamosd.__main__ import main
from dynamosd.console import say
from dynamosd.daemon import World
from dynamosd.testing import FakeModule, FakeProbe
module = FakeModule(sys.argv[1])
sys.exit(main(sys.argv[2:], World(say, module.kmod, lambda: FakeProbe(kmod=module.kmod))))
"""


def wait_for(condition: Callable[[], object], what: str) -> None:
    """Wait until a condition holds, or fail."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


class Running:
    """Daemons on a fake module, as processes."""

    def __init__(self, folder: Path, module: FakeModule) -> None:
        """Prepare the folders."""
        self.module = module
        self.config = folder / "config"
        self.run = folder / "run"
        self.journal = folder / "journal"
        self.stderr = folder / "stderr"
        self.arguments = ["run", "--config", str(self.config), "--runtime-dir", str(self.run)]
        self.arguments += ["--journal", str(self.journal), "--metrics-address", "127.0.0.1:0"]
        write_policy(self.config, interval="100ms")

    def command(self) -> list[str]:
        """Give the command of a daemon."""
        folder = str(self.module.sysfs.parent)
        return [sys.executable, "-c", PROGRAM, folder, *self.arguments]

    @contextlib.contextmanager
    def daemon(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run one until it has started, and see that it ends with the context."""
        with (
            self.stderr.open("wb") as stderr,
            subprocess.Popen(self.command(), cwd=ROOT, stderr=stderr) as process,
        ):
            try:
                wait_for(lambda: self.status() or process.poll() is not None, "the daemon")
                yield process
            finally:
                process.kill()

    def status(self) -> dict[str, object] | None:
        """Give what it says of itself."""
        return status.read(self.run)

    def active(self) -> str | None:
        """Tell what is active."""
        return self.module.kmod.read_active("readahead")

    def lease(self) -> tuple[str | None, int]:
        """Tell how the lease stands, and whose it is."""
        found = self.module.kmod.read_lease("readahead")
        assert found
        return found.state, found.holder

    def records(self, kind: str) -> list[dict[str, object]]:
        """Give the journal's records of a kind."""
        lines = self.journal.read_text().splitlines()
        return [each for line in lines if (each := json.loads(line))["kind"] == kind]

    def said(self) -> str:
        """Give its stderr."""
        return self.stderr.read_text()


@pytest.fixture
def running(tmp_path: Path, module: FakeModule) -> Running:
    """Give the folders for daemons."""
    return Running(tmp_path, module)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_ends_it_cleanly(running: Running, number: signal.Signals) -> None:
    running.module.call("readahead", "page_cache_ra_order", blocked=3)
    with running.daemon() as process:
        wait_for(lambda: running.active() == "random", "the switch")
        process.send_signal(number)
        assert process.wait(DEADLINE_SECONDS) == 0
    assert running.active() == "original"
    assert running.status() is None
    assert (running.run / "lock").read_text() == ""
    records = [json.loads(line) for line in running.journal.read_text().splitlines()]
    assert records[-1]["kind"] == "stop"
    assert "Traceback" not in running.said()


def test_second_daemon_is_refused(running: Running) -> None:
    with running.daemon() as process:
        second = subprocess.run(running.command(), cwd=ROOT, capture_output=True, text=True)
        assert second.returncode == 6
        assert f"another daemon is running, pid {process.pid}" in second.stderr
        assert process.poll() is None


def test_killed_daemon_is_followed_by_another_that_adopts(running: Running) -> None:
    running.module.call("readahead", "page_cache_ra_order", blocked=3)
    with running.daemon() as process:
        wait_for(lambda: running.active() == "random", "the switch")
        process.kill()
        process.wait()
    assert running.active() == "random"
    running.module.reap()
    assert running.lease() == ("lost", process.pid)
    with running.daemon() as second:
        wait_for(lambda: running.lease() == ("held", second.pid), "the lease")
        second.terminate()
        assert second.wait(DEADLINE_SECONDS) == 0
    assert (running.active(), running.lease()) == ("original", (None, 0))
    switches = running.records("switch")
    assert [each["trigger"] for each in switches] == ["policy", "exit"]
    leases = [(each["result"], each.get("adopted")) for each in running.records("lease")]
    assert leases == [("held", False), ("held", True), ("released", None)]


def test_killed_daemon_that_nobody_follows(running: Running) -> None:
    running.module.call("readahead", "page_cache_ra_order", blocked=3)
    with running.daemon() as process:
        wait_for(lambda: running.active() == "random", "the switch")
        process.kill()
        process.wait()
    running.module.reap()
    running.module.expire("readahead")
    assert (running.active(), running.lease()) == ("original", (None, 0))


def test_second_daemon_with_other_folders_does_not_enforce(
    running: Running, tmp_path: Path, module: FakeModule
) -> None:
    (tmp_path / "other").mkdir()
    other = Running(tmp_path / "other", module)
    module.call("readahead", "page_cache_ra_order", blocked=3)
    with running.daemon() as first:
        wait_for(lambda: running.active() == "random", "the switch")
        with other.daemon() as second:
            refusal = f"the lease of readahead is held by pid {first.pid}"
            wait_for(lambda: refusal in other.said(), "the refusal")
            second.terminate()
            assert second.wait(DEADLINE_SECONDS) == 0
        assert (running.active(), running.lease()) == ("random", ("held", first.pid))
    assert other.records("switch") == []


def test_hangup_with_a_broken_file_and_then_a_good_one(running: Running) -> None:
    with running.daemon() as process:
        write_policy(running.config, when="calls_rat(")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "stay in force" in running.said(), "the refusal")
        assert "storm.yaml:" in running.said()
        write_policy(running.config, mode="observe")
        process.send_signal(signal.SIGHUP)
        wait_for(lambda: "policies read again: storm" in running.said(), "the new policy")
        assert process.poll() is None


def test_watch_reads_what_has_changed(running: Running) -> None:
    running.arguments.append("--watch")
    with running.daemon() as process:
        write_policy(running.config, mode="observe")
        wait_for(lambda: "policies read again: storm" in running.said(), "the new policy")
        assert process.poll() is None


def test_lines_have_no_time_in_the_systemd_journal(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    with running.daemon():
        assert "\nrunning with policies: storm (enforce)\n" in running.said()


def test_stderr_that_is_closed_stops_nothing(running: Running) -> None:
    with subprocess.Popen(
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *running.command()], cwd=ROOT
    ) as process:
        wait_for(running.status, "the daemon")
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0


def fails(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Run the program in vain; give its exit code and what it said."""
    code = main(arguments)
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert "dynamosd: error: " in said
    return code, said


def test_wrong_command_lines(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert fails(capsys)[0] == 2
    assert fails(capsys, "run", "--bogus")[0] == 2
    assert fails(capsys, "walk")[0] == 2
    assert fails(capsys, "run", "--config", str(tmp_path / "none"))[0] == 1
    wrong = ("run", "--config", str(tmp_path), "--metrics-address", "nowhere")
    assert fails(capsys, *wrong)[0] == 1


def test_wrong_policy_is_shown_with_its_place(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = write_policy(tmp_path, when="nonsense(")
    code, said = fails(capsys, "run", "--config", str(tmp_path))
    assert code == 1
    assert said.startswith(f"{file}:")


def test_needs_root(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon, "DEVICE", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "access", lambda *_: False)
    code, said = fails(capsys, "run", "--config", str(tmp_path))
    assert code == 5
    assert "needs root" in said
