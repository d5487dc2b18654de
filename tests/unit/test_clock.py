# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.clock: deadlines that do not drift, and waits that can be ended."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from dynamosd.clock import SystemClock, Ticker

if TYPE_CHECKING:
    from types import FrameType


def test_deadlines_are_absolute() -> None:
    ticker = Ticker(1.0, 10.0)
    assert not ticker.is_due(9.99)
    assert ticker.is_due(10.0)
    assert ticker.arrive(10.4) == 10.4 - 10.0
    assert ticker.deadline == 11.0
    assert ticker.missed == 0


def test_missed_ticks_are_left_out_and_counted() -> None:
    ticker = Ticker(1.0, 10.0)
    ticker.arrive(13.5)
    assert (ticker.deadline, ticker.missed) == (14.0, 3)
    ticker.arrive(14.0)
    assert (ticker.deadline, ticker.missed) == (15.0, 3)


@given(st.floats(0.1, 10.0), st.lists(st.floats(0.0, 60.0), max_size=50))
def test_next_deadline_is_always_ahead_and_on_the_grid(period: float, waits: list[float]) -> None:
    ticker, now = Ticker(period, 0.0), 0.0
    for met, wait in enumerate(waits, 1):
        now = max(now, ticker.deadline) + wait
        ticker.arrive(now)
        assert ticker.deadline > now - 1e-3
        assert abs(ticker.deadline - (met + ticker.missed) * period) < 1e-3


def test_wake_ends_the_next_wait_and_only_that() -> None:
    clock = SystemClock()
    for _ in range(100_000):
        clock.wake()
    far = clock.now() + 3600.0
    clock.wait_until(far)
    assert clock.now() < far


def test_signal_ends_a_wait() -> None:
    clock = SystemClock()

    def handler(_number: int, _frame: FrameType | None) -> None:
        clock.wake()

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        far = clock.now() + 3600.0
        clock.wait_until(far)
        assert clock.now() < far
    finally:
        signal.signal(signal.SIGALRM, before)


def test_a_deadline_that_is_over_is_not_waited_for() -> None:
    clock = SystemClock()
    clock.wait_until(clock.now() - 1.0)
    assert clock.wall() > 1_700_000_000.0
