# SPDX-License-Identifier: GPL-2.0-or-later
"""A person holds a subsystem of the real module at an edition, against a policy that enforces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamosd import journal
from tests.kernel import control, guest
from tests.kernel.guest import wait_until
from tests.kernel.test_advice import POLICY
from tests.kernel.test_daemon import GRACE, OK, REFUSED, Daemon, Reader, ctl

pytestmark = pytest.mark.one_kernel

LOSS = f"  onDaemonLoss: {{action: baseline, grace: {GRACE}}}\n"


class Enforcing(Daemon):
    """One whose only policy wants `random` while there is anything to read."""

    def __init__(self, folder: Path) -> None:
        """Start it; if it does not get ready, show what it has said."""
        try:
            super().__init__(folder)
        except BaseException as error:
            self.end()
            error.add_note(self.log.read_text())
            raise

    def write_policies(self) -> None:
        """Write it, unless a daemon before has."""
        self.config.mkdir(exist_ok=True)
        (self.config / "busy.yaml").write_text(POLICY % "enforce" + LOSS)

    def wait_until_verified(self) -> None:
        """Wait until `verify` finds that the kernel is as it is wanted."""
        said: list[str] = []

        def agrees() -> bool:
            done = self.ask("verify", "readahead")
            said[:] = [done.stdout + done.stderr]
            return done.returncode == OK

        try:
            wait_until(agrees, "verify agrees")
        except AssertionError as error:
            raise AssertionError(f"{error}: {said}") from error

    def wait_until_it_may_not(self) -> None:
        """Wait until the policy wants to switch, and says who keeps it from that."""

        def may_not() -> bool:
            policy = self.policy()
            held = policy.get("suppressed") == "paused" and policy["target"] == "random"
            return held and "pinned by uid 0" in policy["reason"]

        wait_until(may_not, "the policy wants to switch, and may not")

    def records(self, kind: str) -> list[dict[str, object]]:
        """Give the journal's records of a kind."""
        return [each for each in journal.read(self.journal) if each["kind"] == kind]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where daemons follow one another; all modules are loaded."""
    guest.load_all()
    control.switch_and_drain("original")
    yield tmp_path_factory.mktemp("pinning")
    guest.unload_all()


def test_pin_holds_against_a_policy_and_over_a_daemon_that_is_killed(
    folder: Path, data: Path
) -> None:
    with Enforcing(folder) as daemon:
        pinned = daemon.ask("pin", "readahead", "original", "--reason", "a test")
        assert (pinned.returncode, pinned.stderr) == (OK, "")
        before = control.switches()
        reader = Reader(data, sequential=False)
        daemon.wait_until_it_may_not()
        daemon.wait_until_verified()
        assert (control.active(), control.switches()) == ("original", before)
        assert daemon.ask("switch", "readahead", "random").returncode == REFUSED
        reader.stop()
        # Its end is that of the block: kill -9.
    wait_until(lambda: (control.READAHEAD / "lease").read_text() == "none\n", "the grace is over")
    with Enforcing(folder) as daemon:
        reader = Reader(data, sequential=False)
        daemon.wait_until_it_may_not()
        daemon.wait_until_verified()
        # Nobody has left `original`, neither for the daemon that was lost nor for the policy.
        assert (control.active(), control.switches()) == ("original", before)
        reader.stop()
        assert daemon.ask("pin", "readahead", "streaming", "--for", "1d").returncode == OK
        assert control.active() == "streaming"
        daemon.wait_until_verified()
    # The module does what the policy says.
    wait_until(lambda: control.active() == "original", "the grace is over")


def test_pin_is_carried_out_again_until_unpin_and_rollback(folder: Path, data: Path) -> None:
    with Enforcing(folder) as daemon:
        # It is that of the daemon before, if there was one.
        if not daemon.records("pin"):
            assert daemon.ask("pin", "readahead", "streaming").returncode == OK
        wait_until(lambda: control.active() == "streaming", "the pin is carried out")
        daemon.wait_until_verified()
        control.switch("original")
        wait_until(lambda: control.active() == "streaming", "and again")
        reader = Reader(data, sequential=False)
        daemon.wait_until_it_may_not()
        daemon.wait_until_verified()
        unpinned = daemon.ask("unpin", "readahead")
        assert (unpinned.returncode, "policy busy decides again" in unpinned.stdout) == (OK, True)
        wait_until(lambda: control.active() == "random", "the policy has its way")
        daemon.wait_until_verified()
        back = daemon.ask("rollback", "readahead")
        assert (back.returncode, control.active()) == (OK, "original")
        after = control.switches()
        daemon.wait_until_it_may_not()
        daemon.wait_until_verified()
        assert (control.active(), control.switches()) == ("original", after)
        reader.stop()

        # Safety ends a pin, and undo finds what is left.
        before = len(daemon.records("unpin"))
        assert daemon.ask("pin", "readahead", "random").returncode == OK
        assert control.active() == "random"
        assert ctl("edition", "quarantine", "readahead", "random").returncode == OK
        wait_until(lambda: len(daemon.records("unpin")) > before, "the pin is over")
        assert control.active() == "original"
        over = daemon.records("unpin")[-1]
        assert (over["uid"], "in quarantine" in str(over["reason"])) == (None, True)
        assert daemon.ask("pin", "readahead", "random").returncode == REFUSED
        (held,) = json.loads(daemon.ask("undo", "-o", "json").stdout)["holds"]
        assert (held["kind"], held["command"][1:3]) == ("quarantine", ["edition", "clear"])
        assert ctl(*held["command"][1:]).returncode == OK
        wait_until(lambda: daemon.ask("undo").stdout == "", "nothing holds")
        assert daemon.stop() == OK
    assert control.active() == "original"


def test_rollback_without_a_daemon(folder: Path) -> None:
    control.switch("random")
    where = ("--runtime-dir", str(folder / "run"))
    back = ctl("rollback", "--all", *where)
    assert (back.returncode, control.active()) == (OK, "original")
    assert "nobody switches it either" in back.stderr
