# SPDX-License-Identifier: GPL-2.0-or-later
"""Mode `scoped`: some calls get another edition, exactly those that the scope says."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynamosd.model import EditionState
from tests.kernel import guest
from tests.kernel.child import Child
from tests.kernel.control import Controlled, Follower
from tests.kernel.guest import SELFTEST_B
from tests.kernel.jobs import cgroup_root
from tests.kernel.target import Target, gather
from tests.kernel.worker import Worker

EDITIONS = {4: "original", 1004: "b", 2004: "c"}
"""By the result of `value 3`."""

ATOMIC_MODULES = (
    guest.CORE,
    guest.TARGET,
    "dynamos_selftest_atomic",
    "dynamos_selftest_atomic_b",
)
SCOPES = 30
STORM = 150
STRANGERS = 60


def here() -> str:
    """Which edition a call by this thread gets."""
    return EDITIONS[Target().result("value 3")]


def by(worker: Worker, where: str = "itself") -> str:
    """Which edition a call by a worker, or by a new child of it, gets."""
    return EDITIONS[worker.run("value 3", where)]


def scope(subsystem: Controlled, edition: str, text: str) -> None:
    subsystem.switch(edition, "mode=scoped", f"scope={text}")


def calls(subsystem: Controlled, edition: str) -> int:
    return subsystem.number("target_value", edition, "calls")


@contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Have this thread on one CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def on(cpu: int) -> str:
    """Which edition a call on a CPU gets."""
    with pinned(cpu):
        return here()


# ------------------------------------------------------------------------------------- cpus


def test_some_cpus_then_others_then_another_edition_then_all_then_none(
    selftest: Controlled,
) -> None:
    assert (on(0), on(1)) == ("original", "original")
    with Follower() as events:
        scope(selftest, "b", "cpus:1")
        assert (on(0), on(1)) == ("original", "b")
        assert (selftest.active(), selftest.partial()) == ("original", "b")
        assert (selftest.value("mode"), selftest.value("scope")) == ("scoped", "cpus:1")
        assert selftest.state("b") is EditionState.PARTIAL
        assert selftest.state("original") is EditionState.ACTIVE
        [switched] = events.only("switched")
        assert {"from": "original", "to": "b", "mode": "scoped", "scope": "cpus:1"}.items() <= (
            switched.fields.items()
        )
        assert guest.answer(lambda: guest.remove(SELFTEST_B)) == guest.IN_USE

        scope(selftest, "b", "cpus:0-1")
        assert (on(0), on(1)) == ("b", "b")
        assert (selftest.active(), selftest.value("scope")) == ("original", "cpus:0-1")

        scope(selftest, "c", "cpus:0")
        assert (on(0), on(1)) == ("c", "original")
        assert (selftest.partial(), selftest.value("scope")) == ("c", "cpus:0")
        events.wait_for("drained", edition="b")
        guest.remove(SELFTEST_B)

        selftest.switch("c")
        assert (on(0), on(1)) == ("c", "c")
        assert (selftest.active(), selftest.partial()) == ("c", "none")
        assert (selftest.value("mode"), selftest.value("scope")) == ("concurrent", "none")
        scope(selftest, "original", "cpus:1")
        assert (on(0), on(1)) == ("c", "original")
        selftest.switch("c")
        assert (on(0), on(1)) == ("c", "c")
        assert selftest.partial() == "none"


def test_back_to_none_is_a_switch_that_drains(selftest: Controlled) -> None:
    scope(selftest, "b", "cpus:0-1")
    before = selftest.switches()
    with Follower() as events:
        selftest.switch("original")
        switched = events.wait_for("switched", **{"from": "b", "to": "original"})
        assert "scope" not in switched.fields
        events.wait_for("drained", edition="b")
    assert (on(0), on(1)) == ("original", "original")
    assert selftest.switches() == before + 1
    assert selftest.state("b") is EditionState.IDLE
    guest.remove(SELFTEST_B)


def test_a_scope_that_is_refused_has_changed_nothing(selftest: Controlled) -> None:
    with subprocess.Popen(["true"]) as gone:
        pass
    refused = {
        "b scope=cpus:4000": "ESRCH",
        "b scope=cpus:x": "EINVAL",
        "b scope=cpus:": "EINVAL",
        f"b scope=task:{gone.pid}": "ESRCH",
        "b scope=task:0": "EINVAL",
        "b scope=task:me": "EINVAL",
        "b scope=cgroup:/dynamos_is_not_there": "ESRCH",
        "b scope=cgroup:relative": "EINVAL",
        "b scope=share:1/0": "EINVAL",
        "b scope=share:2/3": "EINVAL",
        "b scope=share:1/1000001": "EINVAL",
        "b scope=handler": "ESRCH",
        "b scope=handler:x": "EINVAL",
        "b scope=everybody": "EINVAL",
        "b": "EINVAL",
        "original scope=cpus:0": "EINVAL",
    }
    scope(selftest, "c", "cpus:1")
    switches = selftest.switches()
    with Follower() as events:
        answers = {
            text: guest.answer(lambda text=text: selftest.switch(f"{text} mode=scoped"))  # type: ignore[misc]
            for text in refused
        }
        assert answers == refused
        told = events.read()
    assert [event.name for event in told if event.name != "drained"] == ["refused"] * len(refused)
    assert all(event.fields["reason"] for event in told if event.name == "refused")
    assert (selftest.active(), selftest.partial()) == ("original", "c")
    assert (selftest.value("scope"), selftest.switches()) == ("cpus:1", switches)
    assert (on(0), on(1)) == ("original", "c")


# ------------------------------------------------------------------------------------- task


def test_a_process_and_its_children_and_no_stranger(selftest: Controlled) -> None:
    with Worker(below=True) as family, Worker() as stranger:
        scope(selftest, "b", f"task:{family.pid}")
        assert by(family) == "b", "a child that was there before"
        assert by(family, "child") == "b", "a child of that child, made since"
        assert (by(stranger), by(stranger, "child")) == ("original", "original")
        assert here() == "original", "whoever is above it"
        scope(selftest, "b", f"task:{stranger.pid}")
        assert (by(family), by(family, "child")) == ("original", "original")
        assert (by(stranger), by(stranger, "child")) == ("b", "b")
    assert here() == "original"
    with Worker() as late:
        assert by(late) == "original"


def test_a_thread_that_the_kernel_makes_for_a_process(selftest: Controlled) -> None:
    with (
        Child(sys.executable, "-m", "tests.kernel.uring") as inside,
        Child(sys.executable, "-m", "tests.kernel.uring") as outside,
    ):
        scope(selftest, "b", f"task:{inside.pid}")
        results = [each.output("value 3\n") for each in (inside, outside)]
    assert results == ["result=1004\n", "result=4\n"]


def test_all_threads_of_a_process(selftest: Controlled) -> None:
    with ThreadPoolExecutor(1) as early, ThreadPoolExecutor(1) as late:
        assert early.submit(here).result() == "original"
        with Worker() as child:
            scope(selftest, "b", f"task:{os.getpid()}")
            assert here() == "b"
            assert early.submit(here).result() == "b"
            assert late.submit(here).result() == "b"
            assert by(child) == "b"
        selftest.switch("original")
        assert here() == "original"
        # Any of its threads may stand for a process.
        scope(selftest, "b", f"task:{early.submit(threading.get_native_id).result()}")
        assert (here(), late.submit(here).result()) == ("b", "b")


def test_a_storm_of_forks_leaves_nobody_behind(selftest: Controlled) -> None:
    with Follower() as events:
        with Worker() as family:
            scope(selftest, "b", f"task:{family.pid}")
            before = calls(selftest, "original"), calls(selftest, "b")
            family.storm(STORM)
            assert calls(selftest, "b") - before[1] == STORM
            assert calls(selftest, "original") == before[0]
        # Where those were, the kernel now makes others.
        before = calls(selftest, "original"), calls(selftest, "b")
        with Worker() as stranger:
            stranger.storm(STRANGERS)
        assert calls(selftest, "b") == before[1]
        assert calls(selftest, "original") - before[0] == STRANGERS + 1
        assert not events.only("scope_full")


# ----------------------------------------------------------------------------------- cgroup


@pytest.fixture
def group() -> Iterator[Path]:
    """Give a group of cgroup v2, and one below it."""
    group = cgroup_root() / "dynamos_test"
    group.mkdir()
    (group / "below").mkdir()
    yield group
    for folder in (group / "below", group):
        if folder.exists():
            folder.rmdir()


def enter(group: Path, worker: Worker) -> None:
    (group / "cgroup.procs").write_text(str(worker.pid))


def test_a_group_and_those_below_it(selftest: Controlled, group: Path) -> None:
    with Worker() as inside, Worker() as below, Worker() as outside:
        enter(group, inside)
        enter(group / "below", below)
        scope(selftest, "b", "cgroup:/dynamos_test")
        assert selftest.value("scope") == "cgroup:/dynamos_test"
        assert (by(inside), by(inside, "child")) == ("b", "b")
        assert by(below) == "b"
        assert (by(outside), here()) == ("original", "original")
        enter(group, outside)
        enter(group.parent, inside)
        assert (by(outside), by(inside)) == ("b", "original")
        scope(selftest, "b", "cgroup:/dynamos_test/below")
        assert (by(below), by(outside)) == ("b", "original")
        enter(group.parent, below)
        enter(group.parent, outside)
        (group / "below").rmdir()
        assert [by(each) for each in (inside, below, outside)] == ["original"] * 3
        assert selftest.partial() == "b"


# ---------------------------------------------------------------------------- share, handler


def test_every_nth_call_on_a_cpu(selftest: Controlled) -> None:
    scope(selftest, "b", "share:1/3")
    for cpu in (0, 1):
        with pinned(cpu):
            assert [here() for _ in range(12)] == ["original", "original", "b"] * 4
    scope(selftest, "b", "share:1/100")
    before = calls(selftest, "original"), calls(selftest, "b")
    with pinned(0):
        Target().run("spin 500")
    assert calls(selftest, "b") - before[1] == 50
    assert calls(selftest, "original") - before[0] == 4950
    scope(selftest, "b", "share:1/1")
    assert [here() for _ in range(3)] == ["b"] * 3


def test_the_editions_own_handler(selftest: Controlled) -> None:
    scope(selftest, "handler", "handler")
    assert [Target().result(f"value {n}") for n in range(4)] == [3001, 2, 3003, 4]
    assert Target().result("outer 4") == 15
    assert Target().result("many") == 987654321
    assert Target().run("struct 8 2") == {"sum": 10, "difference": 6, "a": 8, "b": 2}
    selftest.switch("handler")
    assert [Target().result(f"value {n}") for n in range(2)] == [3001, 3002]


@pytest.mark.parametrize("kind", ["cpus:0-1", "task:{pid}", "share:1/1", "cgroup:/"])
def test_every_shape_of_function_in_a_scope(selftest: Controlled, kind: str) -> None:
    scope(selftest, "b", kind.format(pid=os.getpid()))
    target = Target()
    assert target.result("many") == 987654321 + 1000
    quad = {"sum": 1010, "difference": 1006, "a": 1008, "b": 1002}
    assert target.run("struct 8 2") == quad
    assert target.run("pair 8 2") == {"a": 1008, "b": 1002}
    assert target.result("void") == 1001
    assert target.result("recurse 3") == 6 + 4 * 1000
    assert target.result("outer 4") == 15 + 2 * 1000
    assert target.result("tail 4") == 29 + 1000


# ------------------------------------------------------------------------------- interrupts


@pytest.fixture
def atomic(backend: str) -> Iterator[Controlled]:
    """Give the subsystem whose function is called in interrupts."""
    guest.load_all(ATOMIC_MODULES)
    subsystem = Controlled("selftest_atomic")
    assert subsystem.backend("target_atomic") == backend
    yield subsystem
    subsystem.switch_and_drain("original")


def test_an_interrupt_is_nobodys(atomic: Controlled) -> None:
    count = 20

    def interrupts() -> int:
        ran = Target().run(f"atomic {count}")
        assert (ran["hard"], ran["soft"]) == (count, count)
        return ran["sum"]

    for nobodys in (f"task:{os.getpid()}", "cgroup:/"):
        scope(atomic, "b", nobodys)
        before = atomic.number("target_atomic", "b", "calls")
        assert interrupts() == 4 * count
        assert atomic.number("target_atomic", "b", "calls") == before
    scope(atomic, "b", "cpus:0-1")
    assert interrupts() == 4 * count + 2 * count * 1000


# --------------------------------------------------------------------------------- counters


def test_no_call_is_lost_or_doubled_while_scopes_change(selftest: Controlled) -> None:
    rounds, at_once = 4, 2000
    editions = ("original", "b", "c")
    before = sum(calls(selftest, edition) for edition in editions)

    def spin(cpu: int) -> None:
        with pinned(cpu):
            for _ in range(rounds):
                Target().run(f"spin {at_once}")

    def change() -> None:
        scope(selftest, "b", "share:1/7")
        scope(selftest, "b", f"task:{os.getpid()}")
        scope(selftest, "c", "cpus:1")
        selftest.switch("c")
        scope(selftest, "b", "cgroup:/")
        selftest.switch("original")

    gather(lambda: spin(0), lambda: spin(1), change)
    made = sum(calls(selftest, edition) for edition in editions) - before
    assert made == 2 * rounds * at_once * 10
    guest.wait_until(lambda: selftest.in_flight() == 0, "nobody is in flight")


def test_scopes_come_and_go_while_calls_look_at_them(selftest: Controlled) -> None:
    over = threading.Event()

    def spin(cpu: int) -> None:
        with pinned(cpu):
            while not over.is_set():
                Target().run("spin 500")

    def change() -> None:
        try:
            for _ in range(SCOPES):
                scope(selftest, "b", "share:1/2")
                scope(selftest, "c", "cgroup:/")
        finally:
            over.set()

    gather(lambda: spin(0), lambda: spin(1), change)
    assert selftest.partial() == "c"
    assert here() == "c"
    selftest.switch_and_drain("original")
    assert here() == "original"
