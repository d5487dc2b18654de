# SPDX-License-Identifier: GPL-2.0-or-later
"""What the eBPF probes say of each edition: how long its calls took, and how many failed."""

from __future__ import annotations

import errno
import math
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from dynamosd.kmod import Kmod
from dynamosd.latency import BUCKETS, MAX_ERROR, Latency
from dynamosd.model import FunctionSample
from dynamosd.probes.bpf import GateProbe
from dynamosd.probes.edition import Sampler
from dynamosd.signals import QUANTILES, SignalWindow
from tests.kernel import guest, target
from tests.kernel.control import Controlled
from tests.kernel.guest import SELFTEST_FAILING, SELFTEST_MODULES, SELFTEST_SLOW
from tests.kernel.target import Target

pytestmark = pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")

ATOMIC = ("dynamos_selftest_atomic", "dynamos_selftest_atomic_b")
VALUE, RECURSE, USE, NEW, BLOCK = (
    *("target_value", "target_recurse", "target_use", "target_new", "target_block"),
)
SPIN_ROUNDS = 10
"""How often `spin N` makes N calls."""

CALLS = 100
DELAY_US = 20000
DELAY = DELAY_US / 1e6
DEPTH = 16
"""Calls inside one another that are timed: bpf/dynamos.bpf.c."""

KEY = 7


@dataclass
class Probed:
    """The probes, on all modules of the self-test."""

    probe: GateProbe
    selftest: Controlled = field(default_factory=lambda: Controlled("selftest"))
    timed: frozenset[str] = frozenset()

    def time(self, *functions: str) -> None:
        """Time the calls of these functions, and of no others."""
        self.timed = frozenset(functions)
        self.read(VALUE, "original")

    def read(self, function: str, edition: str, subsystem: str = "selftest") -> FunctionSample:
        """Read the figures of one edition of a function."""
        kernel = Kmod().read()
        self.probe.watch(kernel, self.timed)
        return self.probe.read(kernel)[subsystem, function, edition]

    @contextmanager
    def slow(self, delay_us: int) -> Iterator[None]:
        """Have calls take longer."""
        target.set_parameter(SELFTEST_SLOW, "delay_us", delay_us)
        self.selftest.switch_and_drain("slow")
        yield
        self.selftest.switch_and_drain("original")

    @contextmanager
    def failing(self, errors_in: int) -> Iterator[None]:
        """Have one call in some fail."""
        target.set_parameter(SELFTEST_FAILING, "errors_in", errors_in)
        self.selftest.switch_and_drain("failing")
        yield
        self.selftest.switch_and_drain("original")


@pytest.fixture(scope="module")
def probed(backend: str) -> Iterator[Probed]:
    """One probe for all tests of this file: it takes a BCC compile."""
    del backend
    guest.load_all((*SELFTEST_MODULES, SELFTEST_SLOW, SELFTEST_FAILING, *ATOMIC))
    probe = GateProbe()
    yield Probed(probe)
    probe.close()


def latency(sample: FunctionSample) -> Latency:
    """Give the histogram, which must be there."""
    assert sample.latency is not None
    return sample.latency


def run_on_one_cpu(command: str) -> dict[str, int]:
    """Run something from this thread on one CPU."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    return Target().run(command)


def durations(command: str, times: int) -> list[float]:
    """Make calls one by one; give how long each took at most, in seconds, the shortest first."""
    found = []
    for _ in range(times):
        begin = time.monotonic()
        Target().run(command)
        found.append(time.monotonic() - begin)
    return sorted(found)


def is_between(seconds: float, low: float, high: float) -> bool:
    """Tell whether a quantile may come of times between these, with what a bucket is wrong by."""
    return low * (1.0 - MAX_ERROR) <= seconds <= high * (1.0 + MAX_ERROR)


def test_only_what_is_asked_for_is_timed(probed: Probed) -> None:
    probed.time(VALUE)
    before = latency(probed.read(VALUE, "original"))
    Target().run("spin 10")
    after = latency(probed.read(VALUE, "original"))
    assert len(after.counts) == BUCKETS
    assert after.since(before).total == 10 * SPIN_ROUNDS
    assert probed.read(RECURSE, "original").latency is None
    probed.time(RECURSE)
    assert probed.read(VALUE, "original").latency is None
    assert latency(probed.read(RECURSE, "original")).total == 0


def test_quantiles_tell_a_slow_edition_from_the_original(probed: Probed) -> None:
    sampler = Sampler(Kmod(), probed.probe, time.monotonic, timed=frozenset({VALUE}))
    window = SignalWindow(window_seconds=1e6, max_gap_seconds=1e6)
    window.add(sampler.sample())
    durations("value 1", CALLS)
    with probed.slow(DELAY_US):
        took = durations("value 1", CALLS)
    values = window.add(sampler.sample()).values
    found = {}
    for name in QUANTILES:
        for edition in ("original", "slow", ""):
            signal = values[name, VALUE, edition]
            assert signal.trusted, signal.reason
            assert signal.value is not None, signal.reason
            found[name, edition] = signal.value
    for name, share in QUANTILES.items():
        longest = took[math.ceil(share * CALLS) - 1]
        assert is_between(found[name, "slow"], DELAY, longest), (name, found, longest)
    assert found["p50", "original"] < DELAY / 10, found
    # Half of all calls are slow: those are not in the median of all, but in p90.
    assert found["p90", ""] >= DELAY * (1.0 - MAX_ERROR), found
    probed.probe.watch(Kmod().read(), frozenset())


def test_errors_are_counted_exactly(probed: Probed) -> None:
    before = {each: probed.read(each, "failing") for each in (VALUE, USE, NEW)}
    original = probed.read(VALUE, "original")
    with probed.failing(3):
        Target().run("spin 30")
    with probed.failing(1):
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            target.new(KEY)
        assert Target().result("value 1") == -errno.EIO
    target.new(KEY)
    with probed.failing(2):
        results = [Target().result(f"use {KEY}") for _ in range(10)]
    target.free([KEY])
    assert results.count(-errno.EIO) == 5
    after = {each: probed.read(each, "failing") for each in (VALUE, USE, NEW)}
    grown = {
        each: (now.returns - before[each].returns, now.errors - before[each].errors)
        for each, now in after.items()
    }
    assert grown == {VALUE: (30 * SPIN_ROUNDS + 1, 10 * SPIN_ROUNDS + 1), USE: (10, 5), NEW: (1, 1)}
    Target().run("spin 30")
    assert probed.read(VALUE, "original").errors == original.errors


def test_calls_inside_one_another_are_each_timed(probed: Probed) -> None:
    probed.time(RECURSE)
    before = probed.read(RECURSE, "slow")
    runs = 10
    with probed.slow(DELAY_US):
        longest = durations("recurse 4", runs)[-1]
    after = probed.read(RECURSE, "slow")
    took = latency(after).since(latency(before))
    assert (took.total, after.untimed) == (5 * runs, before.untimed)
    # The innermost one lingers once, the one around it once more, and so on; and what is around a
    # call takes longer than it by as many delays.
    for level in range(1, 6):
        seconds = took.quantile((level - 0.5) / 5)
        around = (5 - level) * DELAY
        assert is_between(seconds, level * DELAY, longest - around), (level, seconds, longest)


def test_what_is_too_deep_is_counted_as_untimed(probed: Probed) -> None:
    probed.time(RECURSE)
    before = probed.read(RECURSE, "original")
    Target().run("recurse 39")
    Target().run("recurse 0")
    after = probed.read(RECURSE, "original")
    assert latency(after).since(latency(before)).total == DEPTH + 1
    assert after.untimed - before.untimed == 40 - DEPTH


def test_calls_in_interrupts_are_told_from_those_they_come_into(probed: Probed) -> None:
    probed.time(VALUE, "target_atomic")
    before = probed.read(VALUE, "slow")
    missed = probed.probe.cost().missed
    inside = probed.read("target_atomic", "original", "selftest_atomic")
    # In a thread of its own, of which nothing is known: an end that was missed may be found
    # missing, and counted, in the thread's next call only.
    with probed.slow(DELAY_US), ThreadPoolExecutor(1) as thread:
        begin = time.monotonic()
        run = thread.submit(run_on_one_cpu, f"interrupted {CALLS}").result()
        longest = time.monotonic() - begin
    missed = probed.probe.cost().missed - missed
    after = probed.read(VALUE, "slow")
    atomic = probed.read("target_atomic", "original", "selftest_atomic")
    took = latency(after).since(latency(before))
    taken = latency(atomic).since(latency(inside))
    assert run["hard"] > 100, "too few to have come into calls"
    assert took.quantile(0.0) >= DELAY * (1.0 - MAX_ERROR)
    # What was missed is in no sum, so the least is that of the calls that were timed. The delay
    # counts cycles, which the clock need not follow to the thousandth part.
    assert took.total * DELAY * 0.99 <= took.nanoseconds / 1e9 <= longest
    assert taken.quantile(0.5) < DELAY / 2
    # Every return is timed or counted as one that was not.
    untimed = after.untimed - before.untimed, atomic.untimed - inside.untimed
    assert took.total + untimed[0] >= after.returns - before.returns
    assert taken.total + untimed[1] >= atomic.returns - inside.returns
    assert sum(untimed) <= missed, "an event that was not missed did not find its call"


def test_who_waits_in_a_call_is_timed_and_who_was_inside_before_is_not(probed: Probed) -> None:
    target.new(KEY)
    probed.time()
    with target.blocked(KEY) as callers:
        probed.time(BLOCK)
        before = probed.read(BLOCK, "original")
        target.release(KEY, callers)
    after = probed.read(BLOCK, "original")
    assert after.untimed == before.untimed + 1
    assert latency(after).total == 0, "its beginning was not seen"
    start = time.monotonic()
    with target.blocked(KEY) as callers:
        inside = time.monotonic()
        time.sleep(0.2)
        waited = time.monotonic() - inside
        target.release(KEY, callers)
    longest = time.monotonic() - start
    target.free([KEY])
    took = latency(probed.read(BLOCK, "original"))
    assert took.total == 1
    assert is_between(took.quantile(1.0), waited, longest)
