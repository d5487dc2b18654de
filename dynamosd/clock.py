# SPDX-License-Identifier: GPL-2.0-or-later
"""Time for the loop: a clock that can be woken, and deadlines that do not drift."""

from __future__ import annotations

import contextlib
import math
import os
import select
import time
from dataclasses import dataclass
from typing import Protocol

_ROUNDING_SECONDS = 1e-6
"""Times that differ by less are the same: deadlines are sums of periods."""


class Clock(Protocol):
    """What tells the time, and waits."""

    def now(self) -> float:
        """Give seconds of CLOCK_MONOTONIC."""

    def wall(self) -> float:
        """Give seconds of the Unix epoch."""

    def wait_until(self, deadline: float) -> None:
        """Wait until `now` is ``deadline``, or until `wake`."""

    def wake(self) -> None:
        """End the wait; the next one too, if none is going on. For signal handlers."""


class SystemClock:
    """The machine's clock. Waiting is a select() on a pipe, for that can be woken safely."""

    def __init__(self) -> None:
        """Make the pipe."""
        self._woken, self._waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def now(self) -> float:
        """Give seconds of CLOCK_MONOTONIC."""
        return time.monotonic()

    def wall(self) -> float:
        """Give seconds of the Unix epoch."""
        return time.time()

    def wait_until(self, deadline: float) -> None:
        """Wait until `now` is ``deadline``, or until `wake`."""
        ready, _, _ = select.select([self._woken], [], [], max(0.0, deadline - self.now()))
        if ready:
            os.read(self._woken, 4096)

    def wake(self) -> None:
        """End the wait. A pipe that is full wakes as well as one with a byte."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._waker, b"\0")


@dataclass(slots=True)
class Ticker:
    """Absolute deadlines, one every ``period`` seconds from ``deadline`` on."""

    period: float
    deadline: float
    missed: int = 0

    def is_due(self, now: float) -> bool:
        """Tell whether the deadline has come."""
        return now >= self.deadline - _ROUNDING_SECONDS

    def arrive(self, now: float) -> float:
        """Set the next deadline; give how late this one was met, in seconds.

        Deadlines that are over by now are left out and counted: the loop never runs to catch up.
        """
        lag = max(0.0, now - self.deadline)
        behind = math.floor((lag + _ROUNDING_SECONDS) / self.period)
        self.missed += behind
        self.deadline += (behind + 1) * self.period
        return lag
