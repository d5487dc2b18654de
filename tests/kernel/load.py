# SPDX-License-Identifier: GPL-2.0-or-later
"""Calls that go on beside a test, what waits for them, and the programs that make some."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from tests.kernel import guest
from tests.kernel.control import Controlled
from tests.kernel.target import Target
from tests.vm.programs import BUILT


@contextmanager
def background(act: Callable[[], object]) -> Iterator[Future[object]]:
    """Do something in another thread, and have it done, and well, at the end of the block."""
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(act)
        yield future
        future.result(guest.PATIENCE)


@contextmanager
def storm(*commands: str) -> Iterator[dict[str, set[int]]]:
    """Have each command's calls made all the time; gives the results that there were, by command.

    The first calls have returned when the block begins, and one call is made at its end.
    """
    target = Target()
    results: dict[str, set[int]] = {command: set() for command in commands}
    over = threading.Event()

    def call(command: str) -> None:
        while not over.is_set():
            results[command].add(target.result(command))
        results[command].add(target.result(command))

    with ThreadPoolExecutor(len(commands)) as pool:
        calls = [pool.submit(call, command) for command in commands]
        try:
            guest.wait_until(lambda: all(results.values()), "everybody has called once")
            yield results
        finally:
            over.set()
        for each in calls:
            each.result(guest.PATIENCE)


def holds(subsystem: Controlled, callers: int) -> Callable[[], bool]:
    """Tell, whenever it is asked, whether so many callers are held."""
    return lambda: subsystem.count("held") == callers


def run_program(program: str, words: Sequence[object], *before: str) -> dict[str, int]:
    """Run a `*_load.c` to its end; all that it checks was right. Give what it has counted."""
    done = guest.run(*before, str(BUILT / program), *map(str, words))
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, int] = json.loads(done.stdout)
    return found


@contextmanager
def switching(subsystem: Controlled, *switches: tuple[str, ...]) -> Iterator[None]:
    """Have another thread switch at random: each of ``switches`` is an edition and its options."""
    end = threading.Event()
    chance = random.Random(1)  # noqa: S311 (only to be different)

    def switch() -> None:
        while not end.wait(0.02):
            subsystem.switch(*chance.choice(switches))

    with background(switch):
        try:
            yield
        finally:
            end.set()
