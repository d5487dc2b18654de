# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.hostsignals: pressure, CPU and memory over the window; time and labels."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dynamosd import hostsignals
from dynamosd.hostsignals import RANGES, of_situation
from dynamosd.model import CpuTimes, HostSample, KernelState, Sample, Signal, SignalKey, Signals
from dynamosd.probes.procfs import NO_PSI, read_host
from dynamosd.signals import SignalWindow
from dynamosd.testing import FakeHost

FIRST = "first sample: no rate yet"
IO: SignalKey = ("pressure", "io", "some")
CPU: SignalKey = ("cpu_busy", "", "")
MEMORY: SignalKey = ("memory_available", "", "")


class Watch:
    """A host that is sampled once a second, with the window of the signals."""

    def __init__(self, folder: Path) -> None:
        """Begin at 10 seconds."""
        self.host = FakeHost(folder / "proc")
        self.window = SignalWindow(window_seconds=2.0)
        self.now = 9.0

    def sample(self, seconds: float = 1.0) -> Signals:
        """Take a sample after some time."""
        self.now += seconds
        host = read_host(self.now, self.host.proc)
        return self.window.add(Sample(self.now, KernelState("0.1.0", {}), {}, host=host))


@pytest.fixture
def watch(tmp_path: Path) -> Watch:
    return Watch(tmp_path)


def test_the_first_sample_has_memory_only(watch: Watch) -> None:
    values = watch.sample().values
    assert values[IO] == Signal(None, reason=FIRST)
    assert values[CPU] == Signal(None, reason=FIRST)
    assert values[MEMORY] == Signal(0.9)


def test_every_signal_of_the_host_is_there(watch: Watch) -> None:
    assert set(watch.sample().values) == {
        *(
            ("pressure", resource, stall)
            for resource in ("cpu", "io", "memory")
            for stall in ("some", "full")
        ),
        CPU,
        MEMORY,
    }


def test_pressure_is_the_share_of_the_window_that_was_stalled(watch: Watch) -> None:
    watch.host.stall("io", some=100.0, full=50.0)
    watch.sample()
    watch.host.stall("io", some=100.5, full=50.1)
    values = watch.sample().values
    assert values[IO].value == pytest.approx(0.5)
    assert values["pressure", "io", "full"].value == pytest.approx(0.1)
    assert values["pressure", "memory", "some"] == Signal(0.0)
    watch.host.stall("io", some=101.5, full=50.1)
    assert watch.sample().values[IO].value == pytest.approx(0.75)
    # What was before the window is forgotten.
    watch.sample()
    assert watch.sample().values[IO].value == 0.0


def test_pressure_is_never_more_than_all_of_the_time(watch: Watch) -> None:
    watch.sample()
    watch.host.stall("io", some=1.2)
    assert watch.sample().values[IO] == Signal(1.0)


def test_without_psi_pressure_says_how_to_have_it_and_the_rest_goes_on(watch: Watch) -> None:
    watch.host.switch_psi_off()
    watch.sample()
    watch.host.run(busy=50, idle=1050)
    values = watch.sample().values
    assert values[IO] == Signal(None, reason=NO_PSI)
    assert values[CPU] == Signal(0.5)


def test_what_the_kernel_does_not_show_has_no_data(watch: Watch) -> None:
    (watch.host.proc / "pressure" / "cpu").write_text("some total=0\n")
    watch.sample()
    values = watch.sample().values
    reason = "the kernel does not show full of cpu"
    assert values["pressure", "cpu", "full"] == Signal(None, reason=reason)
    assert values["pressure", "cpu", "some"] == Signal(0.0)


def test_pressure_that_turns_up_needs_two_samples(watch: Watch) -> None:
    text = (watch.host.proc / "pressure" / "io").read_text()
    (watch.host.proc / "pressure" / "io").unlink()
    watch.sample()
    (watch.host.proc / "pressure" / "io").write_text(text)
    assert watch.sample().values[IO].value is None
    # The window still holds the sample without it.
    watch.sample()
    watch.host.stall("io", some=0.5)
    assert watch.sample().values[IO].value == pytest.approx(0.25)


def test_cpu_busy_is_of_all_cpus_over_the_window(watch: Watch) -> None:
    watch.host.run(busy=1000, idle=5000)
    watch.sample()
    watch.host.run(busy=1150, idle=5050)
    assert watch.sample().values[CPU] == Signal(0.75)
    watch.host.run(busy=1150, idle=5250)
    assert watch.sample().values[CPU] == Signal(0.375)


def test_idle_time_that_goes_back_is_none(watch: Watch) -> None:
    watch.host.run(busy=1000, idle=5000)
    watch.sample()
    watch.host.run(busy=1010, idle=4999)
    assert watch.sample().values[CPU] == Signal(1.0)


def test_cpus_whose_time_stands_still_have_no_share(watch: Watch) -> None:
    watch.sample()
    reason = "the kernel has counted no CPU time in the window"
    assert watch.sample().values[CPU] == Signal(None, reason=reason)


def test_memory_is_that_of_now(watch: Watch) -> None:
    watch.sample()
    watch.host.remember(total=1000, available=100)
    assert watch.sample().values[MEMORY] == Signal(0.1)


@pytest.mark.parametrize(("file", "key"), [("stat", CPU), ("meminfo", MEMORY)])
def test_a_file_that_is_gone_is_said(watch: Watch, file: str, key: SignalKey) -> None:
    watch.sample()
    (watch.host.proc / file).unlink()
    reason = "cannot be read: No such file or directory"
    assert watch.sample().values[key] == Signal(None, reason=reason)


def test_nothing_is_measured_across_a_gap(watch: Watch) -> None:
    watch.sample()
    watch.host.stall("io", some=0.5)
    values = watch.sample(30.0).values
    assert values[IO].value is None
    assert "no sample for 30.0s" in values[IO].reason


def test_a_sample_without_the_host_has_none_of_it() -> None:
    window = SignalWindow()
    window.add(Sample(0.0, KernelState("0.1.0", {}), {}))
    assert window.add(Sample(1.0, KernelState("0.1.0", {}), {})).values == {}


def test_sources_are_signals() -> None:
    stale = Signal(None, reason="stale since yesterday")
    sample = Sample(0.0, KernelState("0.1.0", {}), {}, sources={"depth": Signal(7.0), "age": stale})
    assert SignalWindow().add(sample).values == {
        ("source", "depth", ""): Signal(7.0),
        ("source", "age", ""): stale,
    }


TICKS = st.integers(0, 1000)


@given(st.lists(st.tuples(TICKS, TICKS, st.floats(0.0, 100.0), st.floats(0.0, 1.0)), min_size=2))
def test_values_stay_in_their_ranges(
    steps: list[tuple[int, int, float, float]],
) -> None:
    window = SignalWindow(window_seconds=2.0)
    busy = idle = 0
    stalled = 0.0
    for second, (ran, slept, stall, memory) in enumerate(steps):
        busy, idle, stalled = busy + ran, idle + slept, stalled + stall
        host = HostSample(second, {("io", "some"): stalled}, CpuTimes(busy, idle), memory)
        signals = window.add(Sample(second, KernelState("0.1.0", {}), {}, host=host))
        for key, signal in signals.values.items():
            low, high = RANGES[key[0]]
            assert signal.value is None or low <= signal.value <= high


# ------------------------------------------------------------------------- of the situation


@given(st.datetimes(dt.datetime(1970, 1, 1), dt.datetime(2100, 1, 1), timezones=st.just(dt.UTC)))  # noqa: DTZ001 - hypothesis adds the zone
def test_time_is_that_of_utc(time: dt.datetime) -> None:
    keys = [("hour", "", ""), ("minute", "", ""), ("day_of_week", "", "")]
    found = of_situation(keys, time.timestamp(), {})
    assert [found[key].value for key in keys] == [time.hour, time.minute, time.isoweekday() % 7]


def test_a_label_is_what_it_is_compared_with_or_not() -> None:
    keys = [("label", "role", "db"), ("label", "role", "web"), ("label", "rack", "1")]
    assert of_situation([*keys, IO], 0.0, {"role": "db"}) == {
        keys[0]: Signal(1.0),
        keys[1]: Signal(0.0),
        keys[2]: Signal(None, reason='the host has no label "rack"'),
    }


def test_every_signal_has_a_range_and_arguments() -> None:
    every = {*hostsignals.SIGNALS, "label"}
    assert every == hostsignals.ARGUMENTS.keys() == hostsignals.RANGES.keys()
