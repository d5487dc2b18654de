# SPDX-License-Identifier: GPL-2.0-or-later
"""A person and the daemon, on the real module: advice that is accepted, and policies that pause."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamosd import journal
from tests.kernel import control, guest
from tests.kernel.guest import wait_until
from tests.kernel.test_daemon import (
    INVALID,
    NOBODY,
    OK,
    REFUSED,
    UNREACHABLE,
    Daemon,
    Reader,
    ctl,
)

pytestmark = pytest.mark.one_kernel

# The module's own counters say all that this one asks for.
POLICY = """\
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {name: busy}
spec:
  subsystem: readahead
  mode: %s
  interval: 500ms
  rules:
    - name: reads
      edition: random
      when: calls_rate("page_cache_ra_order") > 2.0
      until: calls_rate("page_cache_ra_order") < 0.5
"""


class Advising(Daemon):
    """One whose only policy advises."""

    def write_policies(self) -> None:
        """Write it, and have the daemon see when it changes."""
        self.config.mkdir()
        (self.config / "dynamosd.yaml").write_text("watch: true\n")
        self.set_mode("advise")

    def set_mode(self, mode: str) -> None:
        """Write the policy with another mode."""
        (self.config / "busy.yaml").write_text(POLICY % mode)

    def advice_to(self, edition: str) -> str | None:
        """Give the id of the open advice to switch to an edition."""
        done = self.ask("advice", "list", "-o", "json")
        assert done.returncode == OK, done.stderr
        found = [
            each
            for each in json.loads(done.stdout)["advice"]
            if (each["to"], each["state"]) == (edition, "open")
        ]
        return str(found[0]["id"]) if found else None

    def wait_for_advice(self, edition: str) -> str:
        """Wait for it."""
        found: list[str] = []

        def is_open() -> bool:
            found.extend(filter(None, [self.advice_to(edition)]))
            return bool(found)

        wait_until(is_open, f"advice to switch to {edition}")
        return found[0]

    def wait_for_tick(self, before: str) -> str:
        """Wait until a tick has ended after the one that ended at that time; give when."""
        wait_until(lambda: self.status()["updated"] != before, "a tick")
        return str(self.status()["updated"])

    def switches(self) -> list[tuple[str, str, str]]:
        """Give the switches that its journal has: target, trigger, result."""
        return [
            (each["to"], each["trigger"], each["result"])
            for each in journal.read(self.journal)
            if each["kind"] == "switch"
        ]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Advising]:
    """One for all tests: it takes a BCC compile to start."""
    guest.load_all()
    control.switch_and_drain("original")
    with Advising(tmp_path_factory.mktemp("advising")) as running:
        yield running
    guest.unload_all()


def test_accepted_advice_is_a_switch_of_the_real_thing(daemon: Advising, data: Path) -> None:
    reader = Reader(data, sequential=False)
    which = daemon.wait_for_advice("random")
    assert control.active() == "original"
    before = control.switches()
    accepted = daemon.ask("advice", "accept", which)
    assert (accepted.returncode, accepted.stderr) == (OK, "")
    assert (control.active(), control.switches()) == ("random", before + 1)
    assert (control.READAHEAD / "lease").read_text() == "none\n"
    again = daemon.ask("advice", "accept", which)
    assert (again.returncode, f"advice {which}" in again.stderr) == (REFUSED, True)
    reader.stop()
    back = daemon.wait_for_advice("original")
    # It says so, and does nothing.
    assert control.active() == "random"
    assert daemon.ask("advice", "accept", back).returncode == OK
    assert control.active() == "original"
    assert daemon.switches() == [("random", "advice", "ok"), ("original", "advice", "ok")]


def test_advice_to_use_what_is_in_quarantine_is_refused(daemon: Advising, data: Path) -> None:
    reader = Reader(data, sequential=False)
    which = daemon.wait_for_advice("random")
    assert ctl("edition", "quarantine", "readahead", "random").returncode == OK
    refused = daemon.ask("advice", "accept", which)
    assert ctl("edition", "clear", "readahead", "random").returncode == OK
    reader.stop()
    assert (refused.returncode, f"advice {which}" in refused.stderr) == (REFUSED, True)
    assert control.active() == "original"
    assert daemon.ask("advice", "accept", "aaaaaaaa").returncode == INVALID


REQUESTS = "http://127.0.0.1:9947/api/v1alpha1/requests"

CONNECT = """
import os, socket, sys
with socket.socket(socket.AF_UNIX) as client:
    sys.exit(client.connect_ex(f"/proc/self/fd/{sys.argv[1]}/api.sock"))
"""


def test_who_may_not_use_the_socket_cannot_ask(daemon: Advising) -> None:
    folder = os.open(daemon.runtime, os.O_PATH)
    command = [sys.executable, "-c", CONNECT, str(folder)]
    codes = [
        subprocess.run(
            command, pass_fds=[folder], user=who, group=who, extra_groups=[], timeout=guest.PATIENCE
        ).returncode
        for who in (0, NOBODY)
    ]
    os.close(folder)
    assert codes == [0, errno.EACCES]
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(REQUESTS, data=b'{"command": "pause"}')
    assert daemon.status()["pauses"] == []


def test_each_request_is_in_the_journal_with_who_asked(daemon: Advising) -> None:
    assert daemon.ask("pause", "busy", "--for", "1h").returncode == OK
    assert daemon.ask("resume", "busy").returncode == OK
    assert daemon.ask("pause", "bussy").returncode == INVALID
    found = [each for each in journal.read(daemon.journal) if each["kind"] == "request"][-3:]
    assert [(each["command"], each["policy"], each["result"]) for each in found] == [
        ("pause", "busy", "ok"),
        ("resume", "busy", "ok"),
        ("pause", "bussy", "invalid"),
    ]
    assert {(each["uid"], each["pid"]) for each in found} == {(0, os.getpid())}
    told = " ".join(daemon.ask("history", "--kind", "request").stdout.split())
    assert "pause busy, asked by uid 0" in told


def test_what_nobody_waits_for_is_not_done_by_a_daemon_that_comes_back(daemon: Advising) -> None:
    daemon.process.send_signal(signal.SIGSTOP)
    try:
        before = daemon.status()["updated"]
        asked = daemon.ask("pause", "--timeout", "1s")
    finally:
        daemon.process.send_signal(signal.SIGCONT)
    assert (asked.returncode, "does not answer" in asked.stderr) == (UNREACHABLE, True)
    # The last tick may have begun before it was stopped; two later it has seen all that came.
    for _ in range(3):
        before = daemon.wait_for_tick(before)
    assert daemon.status()["pauses"] == []


def test_paused_policy_keeps_its_hands_off(daemon: Advising, data: Path) -> None:
    assert daemon.ask("pause", "busy", "--for", "1h", "--reason", "a test").returncode == OK
    daemon.set_mode("enforce")
    wait_until(lambda: daemon.policy()["mode"] == "enforce", "the change of the file is seen")
    before = control.switches()
    reader = Reader(data, sequential=False)
    wait_until(lambda: daemon.policy().get("suppressed") == "paused", "it wants to switch")
    assert daemon.policy()["phase"] == "paused"
    assert (control.active(), control.switches()) == ("original", before)
    assert daemon.ask("resume", "busy").returncode == OK
    wait_until(lambda: control.active() == "random", "it switches when it may")
    assert daemon.ask("pause", "--subsystem", "readahead").returncode == OK
    reader.stop()
    wait_until(lambda: daemon.policy().get("suppressed") == "paused", "it wants to go back")
    assert control.active() == "random"
    # Also when it leaves.
    assert daemon.stop() == OK
    assert control.active() == "random"
    assert daemon.ask("resume").returncode == UNREACHABLE
    control.switch_and_drain("original")
