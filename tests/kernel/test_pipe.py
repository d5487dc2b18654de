# SPDX-License-Identifier: GPL-2.0-or-later
"""The subsystem `pipe`: no byte is lost in any edition, storms cost fewer switches, others nothing.

`pipe_load.c` makes the loads and checks each byte. How much an edition gains is counted by
`make bench-editions`; here is looked at what must hold on any machine.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path

import pytest

from tests.kernel import guest
from tests.kernel.control import Controlled
from tests.kernel.load import run_program, switching
from tests.kernel.target import parameter, set_parameter

PIPE = "dynamos_pipe"
COALESCE, SPIN, ADAPTIVE = (f"{PIPE}_{name}" for name in ("coalesce", "spin", "adaptive"))
SCOPED = ("mode=scoped", "scope=handler")
LOADS = ("stream 8192 64", "stream 3000 777", "stream 200 65536", "turns 400", "bursts 60 64 40")
MESSAGE = b"m" * 64
BUFFER = 65536
ONE_CPU = ("taskset", "-c", "0")
"""There reader and writer take turns; on two it is chance how often they do."""
TRIAL_FIRST = 32
"""After so many reads of a pipe there is the first trial."""

TRIALS_ALONE = 20
"""More than 16384 reads have: 32, 64, 128, ... reads lie between them."""
LEAK = 500
SLAB = "kmalloc-"


@pytest.fixture(scope="module")
def loaded() -> Iterator[Controlled]:
    """Give the subsystem `pipe` with all its editions."""
    guest.unload_all()
    guest.load_all((guest.CORE, PIPE, COALESCE, SPIN, ADAPTIVE))
    yield Controlled("pipe")
    guest.unload_all()


@pytest.fixture
def pipe(loaded: Controlled) -> Iterator[Controlled]:
    """Give the same with `original` active, before and after."""
    yield loaded
    loaded.switch_and_drain("original")


def load(arguments: str, *before: str) -> dict[str, int]:
    """Run a load to its end; every byte was right. Give what it has counted."""
    return run_program("pipe_load", arguments.split(), *before)


@contextmanager
def parameters(module: str, **values: int) -> Iterator[None]:
    """Have a module's parameters at other values for the length of the block."""
    before = {name: parameter(module, name) for name in values}
    try:
        for name, value in values.items():
            set_parameter(module, name, value)
        yield
    finally:
        for name, value in before.items():
            set_parameter(module, name, value)


@contextmanager
def ends(flags: int = 0) -> Iterator[tuple[int, int]]:
    """Make a pipe; give its two ends."""
    read, write = os.pipe2(flags | os.O_CLOEXEC)
    try:
        yield read, write
    finally:
        os.close(read)
        os.close(write)


def use(read: int, write: int, times: int) -> None:
    """Send so many messages, each of which is read before the next comes."""
    for _ in range(times):
        os.write(write, MESSAGE)
        assert os.read(read, BUFFER) == MESSAGE


def on_slabs() -> int:
    """How many objects of the sizes that a pipe's history may have are in use."""
    lines = Path("/proc/slabinfo").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(SLAB))


# ------------------------------------------------------------------------------ every edition


WAYS = [("coalesce", ()), ("spin", ()), ("adaptive", ()), ("adaptive", SCOPED)]
each_way = pytest.mark.parametrize(
    ("edition", "options"), WAYS, ids=["coalesce", "spin", "adaptive", "handler"]
)
gathering = pytest.mark.parametrize(
    ("edition", "options"), [WAYS[0], *WAYS[2:]], ids=["coalesce", "adaptive", "handler"]
)


@each_way
def test_every_byte_arrives(pipe: Controlled, edition: str, options: tuple[str, ...]) -> None:
    before = pipe.number("pipe_read", edition, "calls")
    pipe.switch(edition, *options)
    for each in LOADS:
        load(each)
    assert pipe.number("pipe_read", edition, "calls") > before


def test_every_byte_arrives_while_editions_come_and_go(pipe: Controlled) -> None:
    before = pipe.switches()
    with switching(pipe, ("original",), ("coalesce",), ("spin",), ("adaptive", *SCOPED)):
        for each in LOADS:
            load(each)
        # Also in shell pipelines of programs that know nothing of this.
        there = guest.run("sh", "-c", "seq 20000 | tac | tac | sort -n | md5sum")
    assert (there.returncode, there.stderr) == (0, "")
    alone = guest.run("sh", "-c", "seq 20000 > /dev/shm/seq; md5sum < /dev/shm/seq")
    assert there.stdout == alone.stdout
    assert pipe.switches() > before
    guest.wait_until(lambda: pipe.in_flight() == len(readers()), "all others have left")


def readers() -> list[str]:
    """Who sleeps in a read of a pipe now, of all threads of the machine."""
    found = []
    for path in Path("/proc").glob("[0-9]*/task/*/stack"):
        try:
            stack = path.read_text()
        except OSError:
            continue
        if "dynamos_wrapper" in stack and "pipe_read" in stack:
            found.append(stack)
    return found


@each_way
def test_history_goes_with_its_pipe(
    pipe: Controlled, edition: str, options: tuple[str, ...]
) -> None:
    pipe.switch(edition, *options)
    before = on_slabs()
    # A history begins with a read of a pipe that has less than is asked for, or nothing at all.
    for _ in range(2 * LEAK):
        with ends() as (read, write), ThreadPoolExecutor(1) as pool:
            message = pool.submit(os.read, read, BUFFER)
            os.write(write, MESSAGE)
            assert message.result() == MESSAGE
            use(read, write, 1)
    guest.wait_until(lambda: on_slabs() < before + LEAK, "the histories are freed")


# --------------------------------------------------------------------------------- gathering


@gathering
def test_storm_is_seen_and_its_reader_waits_at_each_read(
    pipe: Controlled, edition: str, options: tuple[str, ...]
) -> None:
    pipe.switch(edition, *options)

    def is_seen() -> bool:
        before = moments(f"{PIPE}_{edition}")
        load("stream 16384 64", *ONE_CPU)
        return moments(f"{PIPE}_{edition}") > before + TRIALS_ALONE

    # An emulated CPU gets done in so long what another does in the twentieth part.
    with parameters(f"{PIPE}_{edition}", gather_min_us=1000, gather_max_us=10000):
        guest.wait_until(is_seen, "a storm is seen")


def moments(module: str = COALESCE) -> int:
    """How often a reader has waited."""
    return parameter(module, "gather_moments")


def test_blocking_reader_waits_now_and_then(pipe: Controlled) -> None:
    pipe.switch("coalesce")
    before = moments()
    with ends() as (read, write):
        use(read, write, 400)
    # After 32 reads, after 64 more, after 128 more; and whoever else reads from a pipe just then.
    assert 3 <= moments() - before <= 20


def test_reader_who_may_not_wait_never_does(pipe: Controlled) -> None:
    pipe.switch("coalesce")
    before = moments()
    with ends(os.O_NONBLOCK) as (read, write):
        use(read, write, 400)
        with pytest.raises(BlockingIOError):
            os.read(read, BUFFER)
    assert moments() == before


def test_packets_stay_by_themselves_and_are_not_waited_for(pipe: Controlled) -> None:
    pipe.switch("coalesce")
    with ends(os.O_DIRECT) as (read, write), ThreadPoolExecutor(1) as pool:
        before = moments()
        for number in range(200):
            messages = [b"%d" % number, MESSAGE, MESSAGE + b"2"]
            # The first one may be waited for on an empty pipe, which does not tell what will come.
            first = pool.submit(os.read, read, BUFFER)
            for message in messages:
                os.write(write, message)
            assert [first.result(), os.read(read, BUFFER), os.read(read, BUFFER)] == messages
    # Trials, which packets never let pay; three of four reads would have waited otherwise.
    assert moments() - before <= 20


def test_reader_that_gets_all_it_asked_for_does_not_wait(pipe: Controlled) -> None:
    pipe.switch("coalesce")
    before = moments()
    with ends() as (read, write):
        for _ in range(200):
            os.write(write, MESSAGE * 16)
            assert os.read(read, 1024) == MESSAGE * 16
            # Less than what is worth it.
            os.write(write, MESSAGE)
            assert os.read(read, 256) == MESSAGE
    assert moments() == before


def test_end_of_file_comes_after_all_that_was_written(pipe: Controlled) -> None:
    pipe.switch("coalesce")
    with parameters(COALESCE, gather_min_us=10000, gather_max_us=10000):
        for _ in range(20):
            read, write = os.pipe()
            try:
                use(read, write, TRIAL_FIRST)
                before = moments()
                sender = threading.Thread(target=close_in_a_moment, args=(write, before))
                sender.start()
                assert os.read(read, BUFFER) == MESSAGE
                assert os.read(read, BUFFER) == b""
                sender.join()
                assert moments() > before
            finally:
                os.close(read)


def close_in_a_moment(end: int, before: int) -> None:
    """Write a message, and close the end when its reader waits for more."""
    try:
        os.write(end, MESSAGE)
        guest.wait_until(lambda: moments() > before, "the reader waits for more")
    finally:
        os.close(end)


def test_signals_lose_nothing(pipe: Controlled) -> None:
    pipe.switch("coalesce")
    before = moments()
    signals = 0
    # On a slow machine there may be a signal at each read, or much to read each time: none waits.
    periods = cycle((0.001, 0.004, 0.016, 0.064, 0.256))

    def both_came() -> bool:
        nonlocal signals
        signals += send_under_signals(next(periods))
        return signals > 0 and moments() > before

    guest.wait_until(both_came, "signals, and moments in which a reader waits for more")


def send_under_signals(period: float) -> int:
    """Send much while signals come, one in so many seconds; give how many. Nothing is lost."""
    signals: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _: signals.append(number))
    sent = b"".join(b"%63d\n" % number for number in range(3000))
    got = b""
    with ends() as (read, write):
        use(read, write, TRIAL_FIRST)
        sender = threading.Thread(target=send, args=(os.dup(write), sent))
        signal.setitimer(signal.ITIMER_REAL, period, period)
        try:
            sender.start()
            while len(got) < len(sent):
                got += os.read(read, BUFFER)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            sender.join()
            signal.signal(signal.SIGALRM, before)
    assert got == sent
    return len(signals)


def send(end: int, data: bytes) -> None:
    """Write data in messages, and close the end."""
    for at in range(0, len(data), len(MESSAGE)):
        os.write(end, data[at : at + len(MESSAGE)])
    os.close(end)


def test_bounds_are_kept_whatever_the_parameters_say(pipe: Controlled) -> None:
    pipe.switch("coalesce")
    for least, most in ((0, 0), (4294967295, 4294967295), (500, 50)):
        with parameters(COALESCE, gather_min_us=least, gather_max_us=most):
            begin = time.monotonic()
            load("stream 2000 64")
            with ends() as (read, write):
                use(read, write, 100)
            # An hour is what the largest would come to.
            assert time.monotonic() - begin < guest.PATIENCE


# ---------------------------------------------------------------------------------- looking


def test_reader_looks_before_it_sleeps_and_finds_something(pipe: Controlled) -> None:
    pipe.switch("spin")
    before = parameter(SPIN, "poll_hits")

    def hits() -> bool:
        load("turns 2000")
        return parameter(SPIN, "poll_hits") > before

    with parameters(SPIN, poll_max_us=1000):
        guest.wait_until(hits, "something comes while a reader looks")


def test_reader_does_not_look_where_the_writer_waits_for_its_cpu(pipe: Controlled) -> None:
    pipe.switch("spin")
    with parameters(SPIN, poll_max_us=1000):
        load("turns 500", *ONE_CPU)
        before = parameter(SPIN, "poll_hits")
        load("turns 2000", *ONE_CPU)
        # Others of the machine's may have.
        assert parameter(SPIN, "poll_hits") - before < 200


# ----------------------------------------------------------------------------------- handler


def test_handler_leaves_a_quiet_pipe_to_the_original(pipe: Controlled) -> None:
    pipe.switch("adaptive", *SCOPED)
    with ends() as (read, write):
        use(read, write, 100)
        before = [pipe.number("pipe_read", each, "calls") for each in ("original", "adaptive")]
        use(read, write, 400)
        after = [pipe.number("pipe_read", each, "calls") for each in ("original", "adaptive")]
    original, adaptive = (new - old for new, old in zip(after, before, strict=True))
    assert original >= 350
    # Others use pipes, too, this test's own machinery among them: a few.
    assert adaptive <= 60
