# SPDX-License-Identifier: GPL-2.0-or-later
"""The service under systemd, in everything that may come its way, one after the other.

After each of them `dynamosctl verify` must agree, and no record may be lost (conftest.py). The
tests are steps of one scenario: each finds the service running, and the kernel as the policy wants
it.
"""

from __future__ import annotations

import datetime as dt
import grp
import os
import pwd
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.kernel import control, guest
from tests.kernel.guest import wait_until
from tests.kernel.test_daemon import INVALID, OK, ctl
from tests.system.service import DEVICE, GROUP, POLICY, STATE, USER, Service, must

CAP_PERFMON, CAP_BPF = 1 << 38, 1 << 39
HOUR = 3600.0

GUARDRAIL = """\
  guardrails:
    - {name: never, breach: 'calls_rate("page_cache_ra_order") >= 0.0', confidence: 80%}
"""
"""No edition keeps to this one."""


def is_random() -> bool:
    """Whether the policy has had its way."""
    return control.active() == "random"


def test_enable_0_on_the_kernels_command_line_keeps_it_away(service: Service) -> None:
    """Systemd reads that line anew each time, so that another one can be put over it."""
    other = Path("/run/cmdline")
    other.write_text(f"{Path('/proc/cmdline').read_text().strip()} dynamos.enable=0\n")
    must("mount", "--bind", str(other), "/proc/cmdline")
    try:
        assert service.systemctl("start").returncode == 0
        assert service.value("ConditionResult") == "no"
        assert service.value("ActiveState") == "inactive"
    finally:
        must("umount", "/proc/cmdline")


def test_it_starts_and_says_when_it_is_ready(service: Service) -> None:
    wait_until(lambda: DEVICE.stat().st_gid == grp.getgrnam(GROUP).gr_gid, "udev has seen the node")
    service.start()
    assert service.value("ConditionResult") == "yes"
    assert service.value("Type") == "notify"
    assert service.is_running()
    assert service.kept()[0]["pid"] == service.pid
    wait_until(is_random, "the policy has its way")
    wait_until(lambda: "readahead=random" in service.value("StatusText"), "systemd is told of it")


def capabilities(task: Path) -> dict[str, int]:
    """Give the sets of capabilities of a thread."""
    lines = [line.split(":\t") for line in task.joinpath("status").read_text().splitlines()]
    return {name: int(rest[0], 16) for name, *rest in lines if name.startswith("Cap")}


def test_it_has_no_more_rights_than_it_needs(service: Service) -> None:
    process = Path("/proc", str(service.pid))
    text = process.joinpath("status").read_text()
    uid, gid = pwd.getpwnam(USER).pw_uid, grp.getgrnam(GROUP).gr_gid
    assert 0 not in {uid, gid}
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in text
    assert f"Gid:\t{gid}\t{gid}\t{gid}\t{gid}\n" in text
    assert "NoNewPrivs:\t1\n" in text
    assert "Seccomp:\t2\n" in text
    tasks = list(process.glob("task/*"))
    assert len(tasks) > 1
    for task in tasks:
        found = capabilities(task)
        assert (found["CapEff"], found["CapInh"], found["CapAmb"]) == (0, 0, 0), task
        assert found["CapPrm"] | found["CapBnd"] == CAP_BPF | CAP_PERFMON, task


def test_killed_it_comes_back_and_takes_over(service: Service) -> None:
    pid, switches, before = service.pid, control.switches(), len(service.kept())
    os.kill(pid, signal.SIGKILL)
    service.wait_for_another(pid)
    service.wait_for("lease", before, result="held", adopted=True)
    assert (control.active(), control.switches()) == ("random", switches)


def test_stopped_by_a_signal_the_watchdog_ends_it(service: Service) -> None:
    pid, switches, before = service.pid, control.switches(), len(service.kept())
    os.kill(pid, signal.SIGSTOP)
    service.wait_for_another(pid)
    assert "Watchdog timeout" in service.logged()
    service.wait_for("lease", before, result="held", adopted=True)
    assert (control.active(), control.switches()) == ("random", switches)


def test_a_wrong_policy_is_refused_and_the_last_good_one_stays(service: Service) -> None:
    pid, switches, before = service.pid, control.switches(), len(service.kept())
    good = POLICY.read_text()
    POLICY.write_text(good.replace("  interval:", "  intervall:"))
    done = service.systemctl("reload")
    assert done.returncode != 0
    assert f"{POLICY}:7:3: " in str(service.wait_for("reload_failed", before)["reason"])
    assert f"{POLICY}:7:3: " in service.logged()
    assert [each["name"] for each in service.status()["policies"]] == ["readahead"]
    assert (control.active(), control.switches(), service.pid) == ("random", switches, pid)
    POLICY.write_text(good)
    must("systemctl", "reload", "dynamosd")
    service.wait_for("reload", before)
    assert (control.active(), control.switches(), service.pid) == ("random", switches, pid)


def test_a_pause_holds_against_the_policy_until_its_time_is_over(service: Service) -> None:
    before = len(service.kept())
    assert ctl("pause", "--reason", "a test").returncode == OK
    control.switch("original")
    service.wait_for("switch", before, to="original", trigger="manual")
    # However slow the machine is: what was done by hand was done in the pause.
    assert ctl("pause", "--for", "2s", "--reason", "a shorter one").returncode == OK
    wait_until(is_random, "the policy has its way again")
    resumed = service.wait_for("resume", before, uid=None)
    switched = service.wait_for("switch", before, to="random", trigger="policy")
    found = service.kept()[before:]
    over, back = found.index(resumed), found.index(switched)
    assert over < back
    assert service.wait_for("pause", before)["uid"] == 0


def test_a_pin_holds_against_the_policy_until_it_is_ended(service: Service) -> None:
    before = len(service.kept())
    assert ctl("pin", "readahead", "original", "--reason", "a test").returncode == OK
    assert control.active() == "original"
    service.wait_for("switch", before, to="original", trigger="pin", result="ok")

    def wants_random() -> bool:
        (policy,) = service.status()["policies"]
        return (policy["target"], policy["suppressed"]) == ("random", "paused")

    wait_until(wants_random, "the policy wants to switch, and may not")
    assert service.agrees()
    assert control.active() == "original"
    assert ctl("unpin", "readahead").returncode == OK
    wait_until(is_random, "the policy has its way")
    service.wait_for("switch", before, to="random", trigger="policy")


def test_a_broken_guardrail_rolls_back_and_the_edition_is_in_quarantine(service: Service) -> None:
    before = len(service.kept())
    service.write_policy(GUARDRAIL)
    must("systemctl", "reload", "dynamosd")
    service.wait_for("guardrail", before, guardrail="never", verdict="breached", edition="random")
    service.wait_for("quarantine", before, edition="random", result="begun", guardrail="never")
    service.wait_for("switch", before, to="original", trigger="policy", result="ok")
    assert control.active() == "original"
    assert "quarantine" in ctl("status").stdout
    service.write_policy()
    must("systemctl", "reload", "dynamosd")
    assert ctl("edition", "clear", "readahead", "random").returncode == OK
    service.wait_for("quarantine", before, edition="random", result="cleared")
    wait_until(is_random, "the policy has its way")


def test_what_is_unloaded_under_it_is_missed_and_used_again(service: Service) -> None:
    pid, before = service.pid, len(service.kept())
    assert ctl("pause", "--reason", "a test").returncode == OK
    control.switch_and_drain("original")
    for module in (guest.RANDOM, guest.STREAMING, guest.SUBSYSTEM):
        guest.remove_when_free(module)
    wait_until(lambda: ctl("verify").returncode == INVALID, "verify says that it is gone")
    must("modprobe", "-a", guest.RANDOM, guest.STREAMING)
    service.wait_for("lease", before, result="held")
    assert ctl("resume").returncode == OK
    wait_until(is_random, "the policy has its way")
    assert service.pid == pid


def shown_at(service: Service) -> float:
    """Give the time that the daemon's status is of."""
    return dt.datetime.fromisoformat(service.status()["updated"]).timestamp()


def set_clock(service: Service, seconds: float) -> None:
    """Set the clock forward or back; returns when the daemon shows another time."""
    before = time.time()
    time.clock_settime(time.CLOCK_REALTIME, before + seconds)
    wait_until(
        lambda: abs(shown_at(service) - time.time()) < HOUR / 2, "the daemon has seen the time"
    )


def test_a_clock_that_jumps_ends_a_pause_and_nothing_else(service: Service) -> None:
    pid, switches, before = service.pid, control.switches(), len(service.kept())
    assert ctl("pause", "--for", "30m", "--reason", "a test").returncode == OK
    set_clock(service, HOUR)
    service.wait_for("resume", before, uid=None)
    assert service.agrees()
    set_clock(service, -HOUR)
    wait_until(service.agrees, "it is as before")
    assert (control.active(), control.switches(), service.pid) == ("random", switches, pid)


@contextmanager
def full_disk() -> Iterator[None]:
    """Have no room in the service's state directory."""
    filler = STATE / "filler"
    try:
        with filler.open("wb", buffering=0) as file:
            while guest.answer(lambda: file.write(bytes(4096))) != "ENOSPC":
                pass
        yield
    finally:
        filler.unlink()


def test_with_a_full_disk_it_switches_and_says_what_it_could_not_write(service: Service) -> None:
    pid = service.pid
    assert service.metric("dynamos_journal_errors_total") == 0
    with full_disk():

        def is_told() -> bool:
            # The file's last page takes some records more.
            assert ctl("pause", "--reason", "a test").returncode == OK
            assert ctl("resume").returncode == OK
            return service.metric("dynamos_journal_errors_total") > 0

        wait_until(is_told, "a record could not be written")
        assert f"cannot write {STATE}/journal.jsonl: No space left" in service.logged()
        control.switch("original")
        wait_until(is_random, "the policy has its way")
        wait_until(service.agrees, "all is as the policy wants it")
    assert ctl("pause", "--reason", "a test").returncode == OK
    assert ctl("resume").returncode == OK
    wait_until(lambda: "can be written again" in service.logged(), "there is room again")
    service.count_lost()
    assert service.pid == pid


@contextmanager
def no_descriptors(pid: int) -> Iterator[None]:
    """Have a process open nothing more; what it has open it keeps."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_without_descriptors_it_waits_for_some_and_takes_nothing_for_gone(service: Service) -> None:
    pid, switches, before = service.pid, control.switches(), len(service.told())
    errors = service.metric("dynamos_journal_errors_total")
    with no_descriptors(pid):
        wait_until(lambda: "Too many open files" in service.logged(), "it says so")
    wait_until(service.agrees, "all is as the policy wants it")
    found = {each["kind"] for each in service.told()[before:]}
    assert not found & {"module_gone", "probe_lost"}
    assert service.metric("dynamos_journal_errors_total") == errors
    assert (control.active(), control.switches(), service.pid) == ("random", switches, pid)


def test_without_the_module_it_does_not_start_and_with_it_it_does(service: Service) -> None:
    before = len(service.kept())
    service.stop()
    service.wait_for("stop", before, clean=True)
    assert control.active() == "original"
    guest.unload_all()
    assert service.systemctl("start").returncode != 0
    assert "the kernel module is not loaded" in service.logged()
    # Nobody starts it: it tries again by itself.
    must("modprobe", "-a", guest.RANDOM, guest.STREAMING)
    service.wait_for_another(0)
    wait_until(is_random, "the policy has its way")
