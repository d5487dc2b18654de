# SPDX-License-Identifier: GPL-2.0-or-later
"""Threads that were inside before the gate: they are known, named, and never in an edition."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dynamosd.kmod import Event
from tests.kernel import control, guest
from tests.kernel.control import Controlled, Follower
from tests.kernel.guest import CORE
from tests.kernel.neighbours import ebpf
from tests.kernel.target import parameter

pytestmark = pytest.mark.usefixtures("backend")

PIPE, PIPE_B = "dynamos_pipe", "dynamos_selftest_pipe_b"
KSWAPD, KSWAPD_B = "dynamos_selftest_kswapd", "dynamos_selftest_kswapd_b"
SCHEDULE = "dynamos_selftest_schedule"


@contextmanager
def reader() -> Iterator[subprocess.Popen[bytes]]:
    """Have another process read an empty pipe, for as long as the block lasts."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as cat:
        try:
            stack = Path("/proc", str(cat.pid), "stack")
            guest.wait_until(lambda: "pipe_read" in stack.read_text(), "the reader is inside")
            yield cat
        finally:
            cat.kill()


def inside(events: Follower, pid: int) -> list[Event]:
    """The events that name a thread as one that is inside."""
    return [event for event in events.only("inside") if event.fields["pid"] == str(pid)]


def through_a_new_pipe() -> None:
    """Make a pipe, send a byte through it, and end it."""
    read, write = os.pipe()
    try:
        os.write(write, b"x")
        assert os.read(read, 2) == b"x"
    finally:
        os.close(read)
        os.close(write)


@pytest.fixture
def bare_pipe() -> Iterator[Controlled]:
    """Give the subsystem `pipe`, which the test loads; it is gone afterwards."""
    yield Controlled("pipe")
    for subsystem in {"pipe"} & {path.name for path in control.SYSFS.iterdir()}:
        Controlled(subsystem).switch("original", "mode=concurrent")
    for name in (PIPE_B, PIPE):
        if name in guest.loaded():
            guest.remove_when_free(name)


def test_a_reader_from_before_is_named_and_waited_for(bare_pipe: Controlled) -> None:
    with reader() as cat, Follower() as events:
        guest.load_all((CORE, PIPE, PIPE_B))
        assert bare_pipe.count("before_gate") >= 1
        events.read()
        control.command("who pipe")
        [who] = inside(events, cat.pid)
        expected = {"function": "pipe_read", "edition": "original", "how": "before-gate"}
        assert expected.items() <= who.fields.items()
        assert who.fields["comm"] == "cat"

        assert (
            guest.answer(lambda: bare_pipe.switch("b", "mode=exclusive", "timeout_ms=300"))
            == "ETIMEDOUT"
        )
        assert inside(events, cat.pid)
        assert bare_pipe.active() == "original"
        through_a_new_pipe()

        reads = parameter(PIPE_B, "reads")
        bare_pipe.switch("b", "mode=concurrent")
        through_a_new_pipe()
        assert parameter(PIPE_B, "reads") > reads
        bare_pipe.switch("original", "mode=concurrent")

        bare_pipe.switch("b", "mode=per-object")
        births, reads = parameter(PIPE_B, "births"), parameter(PIPE_B, "reads")
        through_a_new_pipe()
        assert parameter(PIPE_B, "births") > births
        assert parameter(PIPE_B, "reads") > reads
        old = bare_pipe.number("pipe_write", "original", "calls")
        assert cat.stdin
        cat.stdin.write(b"x")
        cat.stdin.flush()
        assert bare_pipe.number("pipe_write", "original", "calls") > old
        assert cat.stdout
        assert cat.stdout.read(1) == b"x"
        events.read()
        control.command("who pipe")
        assert all(event.fields["how"] == "gated" for event in inside(events, cat.pid))


def test_a_reader_that_came_through_the_gate_is_drained(bare_pipe: Controlled) -> None:
    guest.load_all((CORE, PIPE, PIPE_B))
    bare_pipe.switch("b", "mode=concurrent")
    with reader() as cat, Follower() as events:
        bare_pipe.switch("original", "mode=concurrent")
        guest.wait_until(
            lambda: bare_pipe.number("pipe_read", "b", "in_flight") == 1, "it alone is inside"
        )
        assert int(events.wait_for("draining", edition="b").fields["in_flight"]) >= 1
        named = events.wait_for("inside", pid=str(cat.pid), edition="b", how="gated")
        assert named.fields["function"] == "pipe_read"
        assert guest.answer(lambda: guest.remove(PIPE_B)) == guest.IN_USE
        cat.kill()
        drained = events.wait_for("drained", edition="b")
        assert (drained.fields["last"], drained.fields["comm"]) == (str(cat.pid), "cat")
        guest.remove(PIPE_B)


def test_who_never_leaves_is_named_by_an_exclusive_switch_only() -> None:
    kswapd = Controlled("kswapd")
    guest.load_all((CORE, KSWAPD, KSWAPD_B))
    try:
        with Follower() as events:
            said = guest.answer(lambda: kswapd.switch("b", "mode=exclusive", "timeout_ms=300"))
            assert said == "ETIMEDOUT"
            told = events.read()
        [refused] = [event for event in told if event.name == "refused"]
        assert "kswapd0" in refused.fields["reason"]
        names = {event.fields["comm"] for event in told if event.name == "inside"}
        assert "kswapd0" in names
        assert kswapd.active() == "original"
        kswapd.switch("b", "mode=concurrent")
        assert kswapd.active() == "b"
        kswapd.switch_and_drain("original", "mode=concurrent")
    finally:
        guest.remove_when_free(KSWAPD_B)
        guest.remove_when_free(KSWAPD)


def test_a_stack_that_cannot_be_read_counts_as_inside() -> None:
    """The code of an fexit program on a stack is nothing that the kernel can explain."""
    selftest = Controlled("selftest")
    with ebpf("vfs_read", "fexit"), reader() as cat, Follower() as events:
        guest.load_all(guest.SELFTEST_MODULES)
        assert (selftest.count("unreliable"), selftest.count("before_gate")) == (1, 0)
        said = guest.answer(lambda: selftest.switch("b", "mode=exclusive", "timeout_ms=300"))
        assert said == "ETIMEDOUT"
        told = events.read()
        [who] = [event for event in told if event.name == "inside"]
        expected = {"pid": str(cat.pid), "comm": "cat", "how": "unreliable", "function": "?"}
        assert expected.items() <= who.fields.items()
        assert "cat" in told[-1].fields["reason"]
        selftest.switch("b", "mode=per-object")
        assert selftest.partial() == "b"
        cat.kill()
        cat.wait(guest.PATIENCE)
        selftest.switch_and_drain("b", "mode=exclusive", "timeout_ms=60000")
    assert selftest.count("unreliable") == 0
    selftest.switch_and_drain("original")


def test_schedule_is_refused() -> None:
    with Follower() as events:
        assert guest.answer(lambda: guest.insert(SCHEDULE)) == "EPERM"
        [refused] = events.only("refused")
    assert "schedule" in refused.fields["reason"]
    assert SCHEDULE not in guest.loaded()
