# SPDX-License-Identifier: GPL-2.0-or-later
"""What the probes may cost: a share of the time of all CPUs; and what is left off when it is more.

The kernel times eBPF programs for whoever may ask it to (``BPF_ENABLE_STATS``, or the sysctl
``kernel.bpf_stats_enabled``); where it does not, nothing is known, and nothing left off. What is
left off comes back, one step at a time, to see whether it fits now: later each time that it does
not. There is no sampling in slices of time between the steps: what the probes see would no longer
agree with the module's exact counters, and nothing that disagrees with them is trusted.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dynamosd.percent import FINE_PATTERN, parse_percent

if TYPE_CHECKING:
    from dynamosd.model import ProbeCost

DEFAULT_LIMIT = 0.01
WINDOW_SECONDS = 10.0
RETRY_SECONDS = 300.0
MAX_RETRY_SECONDS = 3600.0

_NEVER = float("inf")


def parse_share(text: str) -> float:
    """Give what a share of all CPUs' time is, as a part of 1.

    Raises:
        ValueError: it is none.
    """
    share = parse_percent(text, FINE_PATTERN)
    if share is None or not 0.0 < share <= 1.0:
        raise ValueError("a share of all CPUs' time, such as 1%: more than 0%, at most 100%")
    return share


class Step(enum.StrEnum):
    """What the probes do."""

    FULL = "full"
    UNTIMED = "untimed"
    DETACHED = "detached"


@dataclass(slots=True)
class Budget:
    """Says what to leave off. Times are seconds of CLOCK_MONOTONIC.

    ``limit`` and ``share`` are parts of the time of all ``cpus``; ``share`` is that of the last
    window, None while it is not known. ``exceeded`` is the share for which something was left off
    at the last change, None if something came back. ``steps`` counts changes by where they went.
    """

    limit: float
    cpus: int
    step: Step = Step.FULL
    share: float | None = None
    exceeded: float | None = None
    steps: Counter[str] = field(default_factory=Counter)
    _mark: tuple[float, ProbeCost] | None = None
    _back_at: float = _NEVER
    _wait: float = RETRY_SECONDS
    _retry: float = RETRY_SECONDS
    _settled_at: float = _NEVER

    def look(self, now: float, cost: ProbeCost | None, *, is_timed: bool) -> bool:
        """Take what the probes have cost since they were attached; tell whether ``step`` changed.

        ``cost`` is None without probes; ``is_timed`` tells whether any call is timed.
        """
        if now >= self._settled_at:
            self._retry, self._settled_at = RETRY_SECONDS, _NEVER
        self._measure(now, cost)
        if self.share is not None and self.share > self.limit:
            return self._leave_off(now, is_timed=is_timed)
        if now >= self._back_at:
            return self._come_back(now)
        return False

    def _measure(self, now: float, cost: ProbeCost | None) -> None:
        if cost is None:
            self._mark = self.share = None
            return
        if self._mark is None:
            self._mark = now, cost
            return
        then, before = self._mark
        runs, seconds = cost.runs - before.runs, cost.run_seconds - before.run_seconds
        if runs < 0 or seconds < 0:  # attached anew
            self._mark, self.share = (now, cost), None
        elif now - then >= WINDOW_SECONDS:
            is_told = seconds > 0 or runs == 0
            self.share = seconds / (now - then) / self.cpus if is_told else None
            self._mark = now, cost

    def _leave_off(self, now: float, *, is_timed: bool) -> bool:
        if self.step is Step.DETACHED:
            return False
        untimed = self.step is Step.FULL and is_timed
        if self.exceeded is None:  # something came back, or nothing was ever left off
            self._wait, self._retry = self._retry, min(2 * self._retry, MAX_RETRY_SECONDS)
        self._go(Step.UNTIMED if untimed else Step.DETACHED, self.share)
        self._back_at, self._settled_at = now + self._wait, _NEVER
        return True

    def _come_back(self, now: float) -> bool:
        self._go(Step.UNTIMED if self.step is Step.DETACHED else Step.FULL, None)
        is_full = self.step is Step.FULL
        self._back_at = _NEVER if is_full else now + RETRY_SECONDS
        self._settled_at = now + MAX_RETRY_SECONDS if is_full else _NEVER
        return True

    def _go(self, step: Step, exceeded: float | None) -> None:
        self.step, self.exceeded = step, exceeded
        self.steps[str(step)] += 1
        self._mark, self.share = None, None
