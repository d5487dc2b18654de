# SPDX-License-Identifier: GPL-2.0-or-later
"""Twenty functions flip with one store: nobody sees a mixture, and it is over at once."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial

import pytest

from tests.kernel import control, guest
from tests.kernel.neighbours import livepatch
from tests.kernel.target import Caller, Target

TARGET, FLIP, FLIP_B = "dynamos_target", "dynamos_selftest_flip", "dynamos_selftest_flip_b"
CALLERS = 4
LOADERS = 2
RUN_MS = 600_000
FLIPS = 9


@pytest.fixture
def flip(backend: str) -> Iterator[control.Controlled]:
    """Give the subsystem of twenty functions, with `original` active."""
    for name in (TARGET, FLIP, FLIP_B):
        guest.insert(name)
    subsystem = control.Controlled("selftest_flip")
    functions = list((subsystem.folder / "functions").iterdir())
    assert len(functions) == 20
    assert {subsystem.backend(each.name) for each in functions} == {backend}
    yield subsystem
    subsystem.switch_and_drain("original")
    for name in (FLIP_B, FLIP, TARGET):
        guest.remove_when_free(name)


def run_until_flipped(subsystem: control.Controlled, to: str, direction: str) -> None:
    """Flip under callers, each of whom runs on for a moment after it has seen the change."""
    with ExitStack() as stack:
        argument = f"flip20 {RUN_MS} {direction}"
        callers = [stack.enter_context(Caller(argument)) for _ in range(CALLERS)]
        flipping = partial(Target().result, "flipping")
        guest.wait_until(lambda: flipping() == CALLERS, "all callers are calling")
        subsystem.switch(to)
        for caller in callers:
            result = caller.wait()
            assert (result["changes"], result["violations"]) == (1, 0), result


def test_nobody_enters_the_old_edition_of_any_after_the_new_one_of_another(
    flip: control.Controlled,
) -> None:
    run_until_flipped(flip, "b", "up")
    run_until_flipped(flip, "original", "down")


@contextmanager
def load() -> Iterator[None]:
    """Have the functions be called by several threads that come back to user mode now and then."""
    over = threading.Event()

    def call() -> None:
        while not over.is_set():
            Target().run("flip20 20 both")

    with ThreadPoolExecutor(LOADERS) as pool:
        loaders = [pool.submit(call) for _ in range(LOADERS)]
        try:
            yield
        finally:
            over.set()
        for loader in loaders:
            loader.result()


@pytest.mark.parametrize("backend", ["direct"], indirect=True, scope="module")
def test_a_flip_takes_less_than_a_hundredth_of_a_livepatch_transition(
    flip: control.Controlled,
) -> None:
    took: list[float] = []
    with ExitStack() as patched, load(), control.Follower() as events:
        for turn in range(FLIPS):
            flip.switch(("b", "original")[turn % 2])
            took.append(float(events.wait_for("switched").fields["us"]) / 1e6)
        start = time.monotonic()
        patched.enter_context(livepatch())
        transition = time.monotonic() - start
        # Under load the way back may take minutes, too, and nobody wants to know how long.
    assert statistics.median(took) * 100 <= transition
