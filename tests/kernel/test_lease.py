# SPDX-License-Identifier: GPL-2.0-or-later
"""Leases: what becomes of a subsystem whose daemon is closed, killed, stopped, or comes back."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.kernel import control, guest
from tests.kernel.child import Child
from tests.kernel.control import Controlled, Follower
from tests.kernel.load import holds, storm
from tests.kernel.target import Caller, Target, blocked, release

only_direct = pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
pytestmark = [only_direct, pytest.mark.usefixtures("selftest")]

SOON = "grace_ms=100"
LONG = "grace_ms=3600000"
SILENT = "ttl_ms=300"

# What it says is the shell's own: the pid that takes the lease is the shell's.
_HOLD = 'exec 3<>"$1"; printf %s "$2" >&3 && echo leased; read -r line'


class Holder:
    """An open file of the device."""

    def __init__(self) -> None:
        """Open it."""
        self.fd = os.open(control.DEVICE, os.O_RDWR | os.O_CLOEXEC)

    def say(self, line: str) -> None:
        """Write a command through it."""
        os.write(self.fd, line.encode())

    def lease(self, *options: str) -> None:
        """Take the lease of `selftest`, or renew it."""
        self.say(" ".join(["lease selftest", *options]))

    def close(self) -> None:
        """Close it."""
        os.close(self.fd)
        self.fd = -1


@contextmanager
def holder() -> Iterator[Holder]:
    """Have an open file for the length of a block."""
    each = Holder()
    try:
        yield each
    finally:
        if each.fd >= 0:
            each.close()


@contextmanager
def program(*options: str) -> Iterator[Child]:
    """Have another process hold the lease."""
    line = " ".join(["lease selftest", *options])
    with Child("sh", "-c", _HOLD, "holder", str(control.DEVICE), line) as child:
        assert child.process.stdout
        assert child.process.stdout.readline() == "leased\n"
        yield child


def stands(subsystem: Controlled) -> tuple[str, int]:
    return subsystem.value("lease"), subsystem.count("lease_holder")


def is_over(subsystem: Controlled) -> None:
    """Wait for what is told by no event: the module ends a lease after the last thing it does."""
    guest.wait_until(lambda: stands(subsystem) == ("none", 0), "the lease is over")


def test_a_lease_is_taken_renewed_and_given_back(selftest: Controlled) -> None:
    assert stands(selftest) == ("none", 0)
    with holder() as daemon, Follower() as events:
        daemon.lease(LONG)
        daemon.lease(LONG)
        assert stands(selftest) == ("held", os.getpid())
        daemon.lease(LONG, "action=hold", "ttl_ms=60000")
        daemon.say("release selftest")
        daemon.say("release selftest")
        assert stands(selftest) == ("none", 0)
        told = [event for event in events.read() if event.name in {"leased", "released"}]
    assert [event.name for event in told] == ["leased", "leased", "released"]
    expected = {
        "subsystem": "selftest",
        "by": str(os.getpid()),
        "action": "baseline",
        "baseline": "original",
        "grace_ms": "3600000",
        "ttl_ms": "0",
        "adopted": "0",
    }
    assert dict(told[0].fields) == expected
    assert dict(told[1].fields) == {**expected, "action": "hold", "ttl_ms": "60000"}


def test_after_a_release_nothing_is_done(selftest: Controlled) -> None:
    selftest.switch("b")
    with holder() as daemon, Follower() as events:
        daemon.lease("grace_ms=0")
        daemon.say("release selftest")
        daemon.close()
        with holder() as other:
            other.lease("grace_ms=0", "action=hold")
        events.wait_for("lease_expired", action="hold")
    assert selftest.active() == "b"


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, None])
def test_who_ends_without_a_word_is_missed(
    selftest: Controlled, end: signal.Signals | None
) -> None:
    selftest.switch("b")
    with Follower() as events:
        with program(SOON) as daemon:
            assert stands(selftest) == ("held", daemon.pid)
            if end is None:
                daemon.output("\n")
            else:
                daemon.signal(end)
            lost = events.wait_for("lease_lost", why="closed")
            assert lost.fields["by"] == str(daemon.pid)
        events.wait_for("lease_expired", action="baseline", baseline="original")
        switched = events.wait_for("switched", **{"from": "b", "to": "original"})
        assert switched.fields["by"] == "0"
    is_over(selftest)
    assert Target().result("value 5") == 6


def test_who_is_stopped_falls_silent_and_may_come_back(selftest: Controlled) -> None:
    selftest.switch("b")
    with Follower() as events, program(LONG, SILENT) as daemon:
        os.kill(daemon.pid, signal.SIGSTOP)
        events.wait_for("lease_lost", why="silent")
        assert stands(selftest) == ("lost", daemon.pid)
        assert selftest.active() == "b"
        with holder() as next_one:
            next_one.lease(LONG)
            assert events.wait_for("leased").fields["adopted"] == "1"
            assert stands(selftest) == ("held", os.getpid())
            # The one that was stopped has nothing to lose any more.
            daemon.kill()
            assert stands(selftest) == ("held", os.getpid())
            next_one.say("release selftest")
    assert selftest.active() == "b"


def test_silence_ends_in_the_baseline(selftest: Controlled) -> None:
    selftest.switch("c")
    with holder() as daemon, Follower() as events:
        daemon.lease(SOON, SILENT, "baseline=b")
        events.wait_for("lease_lost", why="silent")
        events.wait_for("switched", **{"from": "c", "to": "b", "by": "0"})
        is_over(selftest)
    assert selftest.active() == "b"


def test_renewing_keeps_it(selftest: Controlled) -> None:
    with holder() as daemon, Follower() as events:
        daemon.lease(LONG, "ttl_ms=3600000")
        daemon.lease(LONG, "ttl_ms=200")
        events.wait_for("lease_lost", why="silent")
        daemon.lease(LONG, "ttl_ms=0")
        assert stands(selftest) == ("held", os.getpid())
        daemon.say("release selftest")


def test_hold_keeps_what_is_active(selftest: Controlled) -> None:
    selftest.switch("b")
    with Follower() as events:
        with holder() as daemon:
            daemon.lease(SOON, "action=hold")
        events.wait_for("lease_expired", action="hold")
        is_over(selftest)
        assert not events.only("switched")
    assert selftest.active() == "b"


def test_a_restarted_daemon_adopts_what_it_finds(selftest: Controlled) -> None:
    with holder() as daemon:
        daemon.lease(SOON)
        selftest.switch("b")
        # It says that it will be away for longer.
        daemon.lease(LONG)
    assert selftest.value("lease") == "lost"
    with holder() as daemon, Follower() as events:
        daemon.lease(SOON)
        assert events.wait_for("leased").fields["adopted"] == "1"
        assert selftest.active() == "b"
        daemon.say("release selftest")


def test_a_second_claimant_is_refused(selftest: Controlled) -> None:
    with holder() as first, holder() as second, Follower() as events:
        first.lease(LONG)
        assert guest.answer(lambda: second.lease(LONG)) == "EBUSY"
        refused = events.wait_for("refused", errno=str(errno.EBUSY))
        assert str(os.getpid()) in refused.fields["reason"]
        assert guest.answer(lambda: second.say("release selftest")) == "EBUSY"
        second.close()
        assert stands(selftest) == ("held", os.getpid())
        # A lease is no lock: who operates the machine may switch.
        control.command("switch selftest b")
        assert selftest.active() == "b"
        first.say("release selftest")


def test_a_baseline_that_cannot_be_had_is_the_original(selftest: Controlled) -> None:
    selftest.switch("c")
    with holder() as daemon, Follower() as events:
        assert guest.answer(lambda: daemon.lease("baseline=none")) == "ENXIO"
        daemon.lease(SOON, "baseline=b")
        control.command("quarantine selftest b")
        daemon.close()
        events.wait_for("switched", **{"from": "c", "to": "original", "by": "0"})
        is_over(selftest)
        control.command("clear selftest b")


def test_a_baseline_is_tried_until_it_is_reached(selftest: Controlled) -> None:
    """From a layout of its own one can come back only while nobody is inside."""
    Target().run("new 1")
    selftest.switch("layout", "timeout_ms=60000")
    with Caller("block 1") as inside, Follower() as events:
        guest.wait_until(lambda: Target().waiting() == 1, "somebody is inside")
        with holder() as daemon:
            daemon.lease(SOON)
        events.wait_for("lease_expired")
        refused = events.wait_for("refused", errno=str(errno.ETIMEDOUT))
        assert refused.fields["command"] == "switch selftest original"
        assert stands(selftest)[0] == "lost"
        release(1, [inside])
        events.wait_for("switched", to="original", by="0")
    is_over(selftest)


@pytest.mark.parametrize("word", ["lease", "release"])
def test_a_switch_to_the_baseline_ends_when_the_lease_is_somebodys(
    selftest: Controlled, word: str
) -> None:
    """What waits for those inside is not made any more when they leave."""
    Target().run("new 1")
    selftest.switch("layout", "timeout_ms=60000")
    with blocked(1) as inside, Follower() as events, holder() as other:
        with holder() as daemon:
            daemon.lease(SOON)
        events.wait_for("lease_expired")
        other.say(f"{word} selftest")
        release(1, inside)
        # It changes nothing, and comes after a switch that is under way. That one has run out of
        # time already, if we were slow.
        selftest.switch("layout", "timeout_ms=60000")
        assert not [event for event in events.read() if event.name == "switched"]
        assert stands(selftest)[0] == ("held" if word == "lease" else "none")
        assert selftest.active() == "layout"
        other.say("release selftest")


@pytest.mark.parametrize(
    "how", ["mode=exclusive timeout_ms=60000", "mode=per-object", "mode=scoped scope=share:1/2"]
)
def test_a_daemon_that_dies_in_the_middle_of_a_switch(selftest: Controlled, how: str) -> None:
    """Whatever the mode, and how far it has come, the baseline comes after the grace."""
    Target().run("new 1")
    selftest.switch("c")
    line = f"lease selftest {SOON}"
    switch = f"switch selftest b {how}"
    script = 'exec 3<>"$1"; printf %s "$2" >&3 && echo leased; printf %s "$3" >&3; read -r line'
    argv = ("sh", "-c", script, "daemon", str(control.DEVICE), line, switch)
    with Caller("block 1") as inside, Follower() as events:
        guest.wait_until(lambda: Target().waiting() == 1, "somebody is inside")
        # Calls go on before the switch begins: their first one must have returned.
        with storm("value 5"), Child(*argv) as daemon:
            assert daemon.process.stdout
            assert daemon.process.stdout.readline() == "leased\n"
            if "exclusive" in how:
                guest.wait_until(holds(selftest, 1), "a caller is held")
            else:
                guest.wait_until(lambda: selftest.partial() == "b", "the switch is made in part")
            daemon.kill()
        events.wait_for("lease_expired")
        events.wait_for("switched", to="original", by="0")
        assert (selftest.active(), selftest.partial()) == ("original", "none")
        is_over(selftest)
        release(1, [inside])
    assert Target().result("value 5") == 6


@pytest.mark.parametrize(
    "line",
    [
        "lease",
        "lease selftest action=sleep",
        "lease selftest grace_ms=3600001",
        "lease selftest grace_ms=-1",
        "lease selftest ttl_ms=99",
        "lease selftest ttl_ms=",
        "lease selftest baseline=",
        "lease selftest baseline",
        "lease selftest grace_ms=1 grace_ms=1",
        "lease selftest selftest",
        "release",
        "release selftest now",
    ],
)
def test_a_malformed_lease_is_refused(selftest: Controlled, line: str) -> None:
    assert guest.answer(lambda: control.command(line)) == "EINVAL"
    assert stands(selftest) == ("none", 0)


def test_a_subsystem_that_is_not_there_has_no_lease() -> None:
    for verb in ("lease", "release"):
        assert guest.answer(partial(control.command, f"{verb} nothing")) == "ENOENT"


def test_a_leased_subsystem_can_be_unloaded(selftest: Controlled) -> None:
    with holder() as daemon:
        daemon.lease(SOON, SILENT)
        selftest.switch_and_drain("original")
        for name in reversed(guest.SELFTEST_MODULES[2:]):
            guest.remove_when_free(name)
    guest.load_all(guest.SELFTEST_MODULES)
    assert stands(selftest) == ("none", 0)


@pytest.fixture
def only_freezes() -> Iterator[None]:
    """Have a suspend freeze all of user space for some seconds, and then wake up by itself.

    The kernel gives up if they do not all freeze in time, which a slow machine may need.
    """
    test, delay = Path("/sys/power/pm_test"), Path("/sys/module/suspend/parameters/pm_test_delay")
    patience = Path("/sys/power/pm_freeze_timeout")
    before = {path: path.read_text() for path in (delay, patience)}
    test.write_text("freezer")
    delay.write_text("3")
    patience.write_text(str(round(guest.PATIENCE * 1000)))
    yield
    for path, text in before.items():
        path.write_text(text)
    test.write_text("none")


@pytest.mark.usefixtures("only_freezes")
def test_a_lease_runs_out_while_user_space_is_frozen_for_a_suspend(selftest: Controlled) -> None:
    selftest.switch("b")
    with program(SOON, SILENT), Follower() as events:
        Path("/sys/power/state").write_text("freeze")
        # The test of a suspend keeps its CPU: what waits for that one comes after it.
        events.wait_for("lease_lost", why="silent")
        events.wait_for("lease_expired", action="baseline")
        guest.wait_until(lambda: selftest.active() == "original", "the baseline is active")


@pytest.mark.usefixtures("only_freezes")
def test_who_has_time_until_after_a_suspend_keeps_the_lease(selftest: Controlled) -> None:
    selftest.switch("b")
    with holder() as daemon:
        daemon.lease(LONG, "ttl_ms=600000")
        Path("/sys/power/state").write_text("freeze")
        assert stands(selftest) == ("held", os.getpid())
        assert selftest.active() == "b"
        daemon.say("release selftest")
