# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.probes.edition: samples, and whether probes and module agree."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd.errors import Exhausted
from dynamosd.model import (
    Counts,
    Edition,
    EditionState,
    Function,
    FunctionSample,
    KernelState,
    Subsystem,
)
from dynamosd.probes.edition import DISTRUST_SAMPLES, Agreement, Sampler
from dynamosd.testing import FakeProbe

if TYPE_CHECKING:
    from dynamosd.testing import FakeModule, ManualClock

KEY = ("pipe", "pipe_write", "original")


def kernel(calls: int, in_flight: int = 0, number: int = 1) -> KernelState:
    """Give a module that shows one counter."""
    function = Function("pipe_write", number, "direct", {"original": Counts(calls, in_flight)})
    edition = Edition("original", 0, EditionState.ACTIVE, "dynamos_pipe")
    editions, functions = {"original": edition}, {"pipe_write": function}
    subsystem = Subsystem("pipe", "original", "concurrent", 0, editions, functions)
    return KernelState("0.1.0", {"pipe": subsystem})


def seen(calls: int) -> dict[tuple[str, str, str], FunctionSample]:
    """Give what probes show that saw that many calls."""
    return {KEY: FunctionSample(calls, calls)}


def test_idle_function_agrees_for_ever() -> None:
    agreement = Agreement(cpus=4)
    for _ in range(10):
        assert not agreement.check(seen(7), kernel(1007), seen(7))
    assert agreement.total == 0


def test_busy_function_agrees_though_the_readings_differ() -> None:
    agreement = Agreement(cpus=4)
    for calls in range(0, 1_000_000, 100_000):
        assert not agreement.check(seen(calls), kernel(500 + calls + 3000), seen(calls + 9000))


def test_one_lost_call_is_found_once_the_function_is_quiet() -> None:
    agreement = Agreement(cpus=4)
    assert not agreement.check(seen(10), kernel(110), seen(10))
    mismatches = agreement.check(seen(19), kernel(120), seen(19))
    assert "missed at least 1 call" in mismatches["pipe", "pipe_write"]
    assert agreement.total == 1


def test_calls_lost_in_a_storm_are_found_when_they_exceed_what_the_readings_explain() -> None:
    agreement = Agreement(cpus=4)
    assert not agreement.check(seen(0), kernel(100), seen(0))
    assert not agreement.check(seen(990), kernel(1100), seen(1010))
    assert agreement.check(seen(1900), kernel(2200), seen(2000))


def test_too_many_calls_seen() -> None:
    agreement = Agreement(cpus=4)
    agreement.check(seen(10), kernel(110), seen(10))
    mismatches = agreement.check(seen(15), kernel(112), seen(15))
    assert "3 calls of edition original too many" in mismatches["pipe", "pipe_write"]


def test_a_call_at_the_threshold_is_no_mismatch() -> None:
    agreement = Agreement(cpus=2)
    assert not agreement.check(seen(10), kernel(110), seen(10))
    assert not agreement.check(seen(10), kernel(112, in_flight=2), seen(10))
    assert not agreement.check(seen(12), kernel(112), seen(12))


def test_blocked_threads_hide_no_more_lost_calls_than_there_are_cpus() -> None:
    agreement = Agreement(cpus=2)
    assert not agreement.check(seen(0), kernel(1000, in_flight=1000), seen(0))
    assert agreement.check(seen(0), kernel(1010, in_flight=1000), seen(0))


def test_trust_comes_back_after_some_good_samples() -> None:
    agreement = Agreement(cpus=1)
    agreement.check(seen(0), kernel(0), seen(0))
    assert agreement.check(seen(0), kernel(5), seen(0))
    answers = [agreement.check(seen(0), kernel(5), seen(0)) for _ in range(DISTRUST_SAMPLES)]
    assert all(answers[:-1])
    assert not answers[-1]
    assert agreement.total == 1


def test_edition_loaded_anew_starts_anew() -> None:
    agreement = Agreement(cpus=1)
    agreement.check(seen(900), kernel(900), seen(900))
    assert not agreement.check(seen(900), kernel(2), seen(902))
    assert not agreement.check(seen(1000), kernel(100, number=9), seen(1000))
    assert agreement.total == 0


def test_a_function_without_figures_was_never_called() -> None:
    agreement = Agreement(cpus=1)
    assert not agreement.check({}, kernel(40), {})
    assert agreement.check({}, kernel(41), {})


@given(
    st.integers(0, 10**6),
    st.lists(st.tuples(*[st.integers(0, 1000)] * 3, st.integers(0, 8)), max_size=30),
)
def test_no_false_alarm_whatever_the_load(
    offset: int, steps: list[tuple[int, int, int, int]]
) -> None:
    agreement = Agreement(cpus=8)
    true = 0
    for quiet, before_module, after_module, at_threshold in steps:
        before = true = true + quiet
        true += before_module
        shown = kernel(offset + true + at_threshold, in_flight=at_threshold)
        true += after_module
        assert not agreement.check(seen(before), shown, seen(true))


@given(st.integers(1, 100), st.integers(1, 50))
def test_any_loss_is_found_in_the_end(lost: int, offset: int) -> None:
    agreement = Agreement(cpus=8)
    agreement.check(seen(0), kernel(offset), seen(0))
    agreement.check(seen(500), kernel(offset + 510 + lost), seen(900))
    agreement.check(seen(900), kernel(offset + 900 + lost), seen(900))
    assert agreement.total >= 1


def test_sample(module: FakeModule, clock: ManualClock) -> None:
    probe = FakeProbe(kmod=module.kmod)
    probe.between = lambda: module.call("readahead", "page_cache_ra_order", 2)
    sampler = Sampler(module.kmod, probe, clock.now)
    for _ in range(3):
        sample = sampler.sample()
        assert sample.time == 1000.0
        assert not sample.mismatches
    key = ("readahead", "page_cache_ra_order", "original")
    counts = sample.kernel.subsystems["readahead"].functions["page_cache_ra_order"].counts
    assert sample.probes[key].calls == counts["original"].calls
    probe.lost[key] = 3
    module.call("readahead", "page_cache_ra_order", 10)
    assert ("readahead", "page_cache_ra_order") in sampler.sample().mismatches


def test_edition_that_comes_and_goes(module: FakeModule, clock: ManualClock) -> None:
    sampler = Sampler(module.kmod, FakeProbe(kmod=module.kmod), clock.now)
    sampler.sample()
    module.unload("readahead", "random")
    assert list(sampler.sample().kernel.subsystems["readahead"].editions) == ["original"]
    module.load("readahead", "streaming")
    module.kmod.switch("readahead", "streaming")
    module.call("readahead", "page_cache_ra_order", 8)
    sample = sampler.sample()
    assert not sample.mismatches
    assert sample.probes["readahead", "page_cache_ra_order", "streaming"].calls == 8


def test_probe_that_cannot_be_read_for_want_of_memory_is_kept(
    module: FakeModule, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe = FakeProbe()
    sampler = Sampler(module.kmod, probe, clock.now)

    def fail() -> None:
        raise OSError(errno.ENOMEM, "no memory")

    probe.between = fail
    with pytest.raises(Exhausted, match="no memory"):
        sampler.sample()
    probe.between = bytes
    monkeypatch.setattr(FakeProbe, "cost", lambda _: fail())
    assert sampler.expenses() is None
    assert not probe.closed
    assert sampler.sample().probes is not None
    assert not sampler.take_loss()


def test_probe_that_fails_is_left_out(module: FakeModule, clock: ManualClock) -> None:
    probe = FakeProbe()
    sampler = Sampler(module.kmod, probe, clock.now)

    def fail() -> None:
        raise Exception("Could not read map")  # noqa: TRY002 - what BCC raises

    probe.between = fail
    sample = sampler.sample()
    assert sample.kernel.subsystems["readahead"].active == "original"
    assert not sample.probes
    assert probe.closed
    assert sampler.take_loss() == "Could not read map"
    assert not sampler.take_loss()
    assert sampler.expenses() is None
