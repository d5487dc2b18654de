# SPDX-License-Identifier: GPL-2.0-or-later
"""The service as `make install` puts it on a machine: to be asked, and to be looked at."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from dynamosd import records, status
from dynamosd.records import Record
from tests.kernel import guest
from tests.kernel.guest import wait_until
from tests.kernel.test_daemon import OK, ctl, parse, scrape
from tests.vm.common import PROJECT

UNIT = "dynamosd.service"
USER, GROUP = "dynamosd", "dynamos"
PREFIX = Path("/usr/lib/dynamosd")
PYTHON = PREFIX / "lib/dynamosd/python"
STATE = Path("/var/lib/dynamosd")
JOURNAL = STATE / "journal.jsonl"
POLICY = Path("/etc/dynamosd/policies.d/readahead.yaml")
DEVICE = Path("/dev/dynamos")

_STATE_SIZE = "32M"

_POLICY = """\
apiVersion: dynamos/v1alpha1
kind: SwitchPolicy
metadata: {{name: readahead}}
spec:
  subsystem: readahead
  mode: enforce
  interval: 500ms
  onDaemonLoss: {{action: baseline, grace: 30m}}
  rules:
    - {{name: always, edition: random, when: 'calls_rate("page_cache_ra_order") >= 0.0'}}
{more}"""
"""It wants `random` whatever the load is, and its grace outlasts any restart of the daemon."""


def must(*argv: str) -> str:
    """Run a program that must succeed; give what it prints."""
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout


class Service:
    """The service. ``lost`` is how many records the daemon itself has said it could not write."""

    def __init__(self) -> None:
        """Touch nothing yet."""
        self.lost = 0
        self.was_started = False

    # ------------------------------------------------------------------------ installation

    def install(self) -> None:
        """Do what docs/operations.md, "As a service", says; then the policy, and a small disk."""
        # Without pip, which would need a network: what it installs is here already.
        must("make", "-C", str(PROJECT), "install", f"PREFIX={PREFIX}", "PY=true")
        self._bring_packages()
        must("systemd-sysusers")
        must("udevadm", "control", "--reload")
        example = PREFIX / "share/doc/dynamosd/modules-load.conf"
        Path("/etc/modules-load.d/dynamos.conf").write_text(example.read_text())
        must("systemctl", "daemon-reload")
        must("systemctl", "restart", "systemd-modules-load")
        POLICY.parent.mkdir(parents=True)
        self.write_policy()
        STATE.mkdir()
        must("mount", "-t", "tmpfs", "-o", f"size={_STATE_SIZE}", "tmpfs", str(STATE))

    @staticmethod
    def _bring_packages() -> None:
        """Have Python's packages where pip would put them; the services see no /tmp and /home."""
        packages = PREFIX / "packages"
        packages.mkdir()
        site = next(PROJECT.glob(".venv/lib/python3*/site-packages"))
        must("mount", "--bind", str(site), str(packages))
        for each in packages.iterdir():
            if not each.name.startswith("__"):
                (PYTHON / each.name).symlink_to(each)
        (PYTHON / "dynamosd").mkdir()
        must("mount", "--bind", str(PROJECT / "dynamosd"), str(PYTHON / "dynamosd"))

    @staticmethod
    def write_policy(more: str = "") -> None:
        """Write the policy; ``more`` is of its ``spec``, and indented so."""
        POLICY.write_text(_POLICY.format(more=more))

    # ----------------------------------------------------------------------------- systemd

    @staticmethod
    def value(name: str) -> str:
        """Give what systemd shows of the unit under that name."""
        return must("systemctl", "show", "--value", "-p", name, UNIT).strip()

    @property
    def pid(self) -> int:
        """The daemon's; 0 if there is none."""
        return int(self.value("MainPID"))

    @staticmethod
    def systemctl(verb: str) -> subprocess.CompletedProcess[str]:
        """Have systemd do something with the unit."""
        return subprocess.run(["systemctl", verb, UNIT], capture_output=True, text=True)

    def start(self) -> None:
        """Start it; returns when it has said that it is ready."""
        done = self.systemctl("start")
        assert done.returncode == 0, done.stderr
        self.was_started = True

    def stop(self) -> None:
        """Stop it."""
        must("systemctl", "stop", UNIT)

    def allow_starts(self) -> None:
        """Have systemd forget how often it was started."""
        # Before the first start there is nothing to forget, which is an error.
        self.systemctl("reset-failed")

    def is_running(self) -> bool:
        """Whether it has said that it is ready, and goes on."""
        return self.value("ActiveState") == "active" and self.value("SubState") == "running"

    def wait_for_another(self, pid: int) -> None:
        """Return when another daemon than this one is ready."""
        wait_until(
            lambda: self.pid not in {0, pid} and self.is_running(),
            "another daemon is ready",
            4 * guest.PATIENCE,
        )

    # -------------------------------------------------------------------- what it says of itself

    @staticmethod
    def status() -> dict[str, Any]:
        """Give its status."""
        shown = status.read(status.RUNTIME_DIR)
        assert shown is not None
        return shown

    @staticmethod
    def agrees() -> bool:
        """Whether `dynamosctl verify` finds nothing that differs, and sees all."""
        return ctl("verify").returncode == OK

    @staticmethod
    def metric(name: str) -> float:
        """Give the sum of a metric."""
        return sum(each.value for each in parse(scrape()) if each.name == name)

    @staticmethod
    def describe() -> str:
        """Say all there is to know when something is wrong."""
        shown = subprocess.run(["systemctl", "status", "-l", UNIT], capture_output=True, text=True)
        logged = must("journalctl", "-n", "200", "-o", "short-monotonic", "-u", UNIT)
        return f"{shown.stdout}\n{logged}\n{ctl('verify').stdout}"

    # ---------------------------------------------------------------------------- its journals

    @staticmethod
    def logged() -> str:
        """Give what systemd's journal has of it, as text."""
        must("journalctl", "--sync")
        return must("journalctl", "-b", "-u", UNIT, "-o", "cat")

    @staticmethod
    def kept() -> list[Record]:
        """Give the records of its own journal, each without its time."""
        found = []
        for record in records.read(JOURNAL):
            record.pop("time")
            record.pop("time_seconds")
            found.append(record)
        return found

    @staticmethod
    def told() -> list[Record]:
        """Give the records that it has given to systemd's journal."""
        must("journalctl", "--sync")
        text = must("journalctl", "-b", "-t", "dynamosd", "-o", "json", "--all")
        lines = [json.loads(line) for line in text.splitlines()]
        return [json.loads(each["DYNAMOS_RECORD"]) for each in lines if "DYNAMOS_RECORD" in each]

    def has_lost_nothing(self) -> bool:
        """Whether its journal has what systemd's has, but for what it has said is missing."""
        told = self.told()
        kept = self.kept()
        return len(told) - len(kept) == self.lost and is_part(kept, told)

    def count_lost(self) -> None:
        """Take what the daemon says is missing for missing; return when that is all that is."""

        def is_all() -> bool:
            missing = len(self.told()) - len(self.kept())
            return missing == self.lost + self.metric("dynamos_journal_errors_total")

        wait_until(is_all, "the daemon knows of each record that is missing")
        self.lost = len(self.told()) - len(self.kept())

    def wait_for(self, kind: str, since: int = 0, **said: object) -> Record:
        """Give the first record behind ``since`` others that is of that kind and says that."""
        found: list[Record] = []

        def came() -> bool:
            found[:] = [each for each in self.kept()[since:] if says(each, kind, said)]
            return bool(found)

        wait_until(came, f"a record {kind} {said}")
        return found[0]


def says(record: Record, kind: str, said: dict[str, object]) -> bool:
    """Whether a record is of a kind, and says that."""
    return record["kind"] == kind and said.items() <= record.items()


def is_part(some: Iterable[Record], of: Iterable[Record]) -> bool:
    """Whether all of them are there, in this order."""
    rest = iter(of)
    return all(each in rest for each in some)
