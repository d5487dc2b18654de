# SPDX-License-Identifier: GPL-2.0-or-later
"""A daemon over a fake module for tests of what monitoring sees: ``python -m tests.unit.scenario``.

Its probes time all calls of the functions that a policy wants timed, find a tenth of them to be
errors and half to be sequential, and it finds the host's figures in a folder.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from dynamosd.__main__ import main
from dynamosd.console import say
from dynamosd.daemon import World
from dynamosd.latency import BUCKETS, Latency, bucket_of
from dynamosd.model import ProbeCost
from dynamosd.testing import FakeModule, FakeProbe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dynamosd.model import FunctionSample, KernelState
    from dynamosd.testing import Key

_TOOK_NS = 100_000


@dataclass
class Prober(FakeProbe):
    """Sees something of every kind, and costs more each time it is asked."""

    asked: int = 0

    def read(self, state: KernelState) -> Mapping[Key, FunctionSample]:
        """Count what the module counts, and what came of it."""
        return {
            key: replace(
                each,
                sequential=each.calls // 2,
                classified=each.calls,
                errors=each.calls // 10,
                latency=_took(each.calls) if each.latency is not None else None,
            )
            for key, each in super().read(state).items()
        }

    def cost(self) -> ProbeCost:
        """Cost a millisecond more."""
        self.asked += 1
        return ProbeCost(runs=self.asked * 100, run_seconds=self.asked / 1000, missed=0)


def _took(calls: int) -> Latency:
    """Give the histogram of calls that all took the same."""
    counts = [0] * BUCKETS
    counts[bucket_of(_TOOK_NS)] = calls
    return Latency(tuple(counts), calls * _TOOK_NS)


if __name__ == "__main__":
    fake = FakeModule(sys.argv[1])
    world = World(say, fake.kmod, lambda: Prober(kmod=fake.kmod), proc=Path(sys.argv[2]))
    sys.exit(main(sys.argv[3:], world))
