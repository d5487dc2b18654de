# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts the CPU time of a scrape of 1,000 functions with metrics: ``make bench-metrics``.

Every function has three editions, is probed and timed, and has all its signals: the largest page
that so many functions can make. It is made new for each scrape, as after a tick of the loop, and
what is measured is CPU time of the thread that makes it, so that other programs do not matter.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass

from dynamosd.latency import BUCKETS, Latency
from dynamosd.metrics import (
    Page,
    Snapshot,
    kernel_values,
    latency_histograms,
    sample_values,
    signal_values,
)
from dynamosd.model import (
    Counts,
    Edition,
    EditionState,
    Function,
    FunctionSample,
    KernelState,
    Sample,
    Signals,
    Subsystem,
)
from dynamosd.signals import SignalWindow

SUBSYSTEMS = 10
FUNCTIONS = 100
"""Of each subsystem."""

EDITIONS = ("original", "random", "streaming")
SCRAPES = 20
TARGET_SECONDS = 0.25


def _took(calls: int) -> Latency:
    """Give how long so many calls took."""
    counts = (0,) * 100 + (calls,) + (0,) * (BUCKETS - 101)
    return Latency(counts, calls * 100_000)


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured."""

    functions: int
    page_bytes: int
    series: int
    cpu_seconds: float
    """Of one scrape."""


def kernel_of(subsystems: int, functions: int, calls: int) -> KernelState:
    """Give a module with so many subsystems, each of so many functions."""
    made = {}
    for number in range(subsystems):
        editions = {
            name: Edition(name, index, EditionState.IDLE, "m", ("concurrent",))
            for index, name in enumerate(EDITIONS)
        }
        counts = {name: Counts(calls, 1) for name in EDITIONS}
        of_it = {
            f"some_function_{number}_{each}": Function(
                f"some_function_{number}_{each}", number * functions + each, "direct", counts
            )
            for each in range(functions)
        }
        name = f"subsystem_{number}"
        made[name] = Subsystem(name, "original", "concurrent", 0, editions, of_it)
    return KernelState("0.1.0", made)


def sample_of(time_seconds: float, kernel: KernelState, *, timed: bool = True) -> Sample:
    """Give a sample in which the probes have seen every call, and timed some if they were to."""
    probes = {
        (subsystem.name, function.name, edition): FunctionSample(
            counts.calls,
            counts.calls - 1,
            counts.calls // 2,
            counts.calls,
            7000,
            3,
            1,
            _took(counts.calls) if timed else None,
        )
        for subsystem in kernel.subsystems.values()
        for function in subsystem.functions.values()
        for edition, counts in function.counts.items()
    }
    return Sample(time_seconds, kernel, probes)


def signals_of(*samples: Sample) -> Signals:
    """Give the signals after some samples."""
    window = SignalWindow(2.0)
    return [window.add(each) for each in samples][-1]


def snapshot_of(sample: Sample, signals: Signals) -> Snapshot:
    """Give what the loop leaves behind."""
    values = kernel_values(sample.kernel) | sample_values(sample) | signal_values(signals)
    return Snapshot(values, latency_histograms(sample))


def measure(scrapes: int = SCRAPES) -> Result:
    """Scrape so often, each time another snapshot; give the CPU time of the median."""
    first = sample_of(1.0, kernel_of(SUBSYSTEMS, FUNCTIONS, 1000))
    second = sample_of(2.0, kernel_of(SUBSYSTEMS, FUNCTIONS, 3000))
    signals = signals_of(first, second)
    page, taken, text = Page(), [], b""
    for _ in range(scrapes):
        page.show(snapshot_of(second, signals))
        before = time.thread_time()
        text = page.text()
        taken.append(time.thread_time() - before)
    series = sum(not line.startswith(b"#") for line in text.splitlines())
    return Result(SUBSYSTEMS * FUNCTIONS, len(text), series, sorted(taken)[len(taken) // 2])


def main() -> int:
    """Measure and tell; 1 if a scrape takes more than its target."""
    result = measure()
    kept = result.cpu_seconds < TARGET_SECONDS
    print(
        f"{result.functions} functions, {result.series} series, {result.page_bytes / 1e6:.1f} MB: "
        f"{result.cpu_seconds * 1e3:.0f} ms of CPU a scrape (at most {TARGET_SECONDS * 1e3:.0f})"
    )
    print(json.dumps({"cpu_seconds": result.cpu_seconds, "kept": kept}))
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
