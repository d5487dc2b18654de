# SPDX-License-Identifier: GPL-2.0-or-later
"""Commands that are no commands: refused with the right errno, said why, nothing changed."""

from __future__ import annotations

import errno
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from dynamosd.kmod import Event
from tests.kernel import control, guest
from tests.kernel.guest import EDITIONS

pytestmark = pytest.mark.usefixtures("modules")

FUZZ = 500
WRITERS = 3
SWITCHES_EACH = 200
SWITCHES_AT_ONCE = 20

REFUSED: dict[str, tuple[bytes, int]] = {
    "unknown subsystem": (b"switch nosuch random", errno.ENOENT),
    "unknown edition": (b"switch readahead nosuch", errno.ENXIO),
    "unknown command": (b"make readahead random", errno.EINVAL),
    "nonsense": (b"}{ ;rm -rf /", errno.EINVAL),
    "part of a command": (b"switch", errno.EINVAL),
    "no edition": (b"switch readahead", errno.EINVAL),
    "empty": (b"", errno.EINVAL),
    "newline only": (b"\n", errno.EINVAL),
    "blanks only": (b" \t  ", errno.EINVAL),
    "longest possible": (b"switch readahead random" + b" " * 231 + b"x", errno.EINVAL),
    "too long": (b"switch readahead random" + b" " * 233, errno.E2BIG),
    "far too long": (b"switch readahead random\n" * 10_000, errno.E2BIG),
    "binary": (b"switch readahead \xff\xfe\x80", errno.EINVAL),
    "control characters": (b"switch readahead\x1b random", errno.EINVAL),
    "NUL at the end": (b"switch readahead random\0", errno.EINVAL),
    "NUL in the middle": (b"switch readahead random\0 x", errno.EINVAL),
    "quote": (b'switch readahead "random"', errno.EINVAL),
    "two lines": (b"switch readahead random\nswitch readahead streaming\n", errno.EINVAL),
    "two newlines": (b"switch readahead random\n\n", errno.EINVAL),
    "carriage return": (b"switch readahead random\r\n", errno.EINVAL),
    "too many words": (b"switch readahead random a b c d e f", errno.EINVAL),
    "unknown option": (b"switch readahead random now=1", errno.EINVAL),
    "unknown mode": (b"switch readahead random mode=nosuch", errno.EINVAL),
    "no mode": (b"switch readahead random mode=", errno.EINVAL),
    "mode per-object without objects": (
        b"switch readahead random mode=per-object",
        errno.EOPNOTSUPP,
    ),
    "an option twice": (b"switch readahead random mode=scoped mode=scoped", errno.EINVAL),
    "another mode's option": (b"switch readahead random mode=scoped timeout_ms=5", errno.EINVAL),
    "an option without its mode": (b"switch readahead random scope=cpus:0", errno.EINVAL),
    "no time": (b"switch readahead random mode=exclusive timeout_ms=0", errno.EINVAL),
    "negative time": (b"switch readahead random mode=exclusive timeout_ms=-1", errno.EINVAL),
    "too much time": (b"switch readahead random mode=exclusive timeout_ms=60001", errno.EINVAL),
    "time without end": (
        b"switch readahead random mode=exclusive timeout_ms=99999999999999999999",
        errno.EINVAL,
    ),
    "fate of objects": (b"switch readahead random mode=per-object objects=burn", errno.EINVAL),
    "no scope": (b"switch readahead random mode=scoped", errno.EINVAL),
    "empty scope": (b"switch readahead random mode=scoped scope=", errno.EINVAL),
    "unknown scope": (b"switch readahead random mode=scoped scope=moon:1", errno.EINVAL),
    "scope without value": (b"switch readahead random mode=scoped scope=cpus", errno.EINVAL),
    "scope with a value too many": (
        b"switch readahead random mode=scoped scope=handler:1",
        errno.EINVAL,
    ),
    "no CPUs": (b"switch readahead random mode=scoped scope=cpus:", errno.EINVAL),
    "CPUs backwards": (b"switch readahead random mode=scoped scope=cpus:3-1", errno.EINVAL),
    "a CPU that is none": (b"switch readahead random mode=scoped scope=cpus:4000", errno.ESRCH),
    "a CPU beyond all kernels": (
        b"switch readahead random mode=scoped scope=cpus:99999999",
        errno.ESRCH,
    ),
    "a CPU beyond all numbers": (
        b"switch readahead random mode=scoped scope=cpus:99999999999999999999",
        errno.EINVAL,
    ),
    "not a pid": (b"switch readahead random mode=scoped scope=task:init", errno.EINVAL),
    "pid zero": (b"switch readahead random mode=scoped scope=task:0", errno.EINVAL),
    "a pid that nobody has": (
        b"switch readahead random mode=scoped scope=task:4194303",
        errno.ESRCH,
    ),
    "cgroup without a slash": (
        b"switch readahead random mode=scoped scope=cgroup:system.slice",
        errno.EINVAL,
    ),
    "a cgroup that is not there": (
        b"switch readahead random mode=scoped scope=cgroup:/nosuch",
        errno.ESRCH,
    ),
    "a share of nothing": (b"switch readahead random mode=scoped scope=share:1/0", errno.EINVAL),
    "a larger share": (b"switch readahead random mode=scoped scope=share:2/3", errno.EINVAL),
    "too small a share": (
        b"switch readahead random mode=scoped scope=share:1/1000001",
        errno.EINVAL,
    ),
    "a handler that is not there": (
        b"switch readahead random mode=scoped scope=handler",
        errno.ESRCH,
    ),
    "the active one, scoped": (
        b"switch readahead original mode=scoped scope=cpus:0",
        errno.EINVAL,
    ),
    "set nothing": (b"set readahead streaming", errno.EINVAL),
    "set without a value": (b"set readahead streaming factor", errno.EINVAL),
    "set to a word": (b"set readahead streaming factor=many", errno.EINVAL),
    "set what is not there": (b"set readahead streaming nosuch=1", errno.ESRCH),
    "set where nothing is to set": (b"set readahead random factor=1", errno.ESRCH),
    "set of an unknown edition": (b"set readahead nosuch factor=1", errno.ENXIO),
    "set of an unknown subsystem": (b"set nosuch streaming factor=1", errno.ENOENT),
    "who without a subsystem": (b"who", errno.EINVAL),
    "who of an unknown subsystem": (b"who nosuch", errno.ENOENT),
    "a format": (b"switch %s%s%s%n %p", errno.ENOENT),
    "a path": (b"switch ../../etc random", errno.ENOENT),
    "upper case": (b"SWITCH readahead random", errno.EINVAL),
    "name cut short": (b"switch readahea random", errno.ENOENT),
    "name too long by one": (b"switch readahead randomm", errno.ENXIO),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what: str) -> None:
    line, number = REFUSED[what]
    before = (control.active(), control.switches())
    with control.Follower() as events:
        said = guest.answer(lambda: control.command(line))
        told = events.read()
    assert said == errno.errorcode[number]
    assert (control.active(), control.switches()) == before
    assert [event.name for event in told] == ["refused"]
    assert told[0].fields["errno"] == str(number)
    assert told[0].fields["reason"].strip()


@pytest.mark.parametrize(
    "line",
    [
        b"switch readahead streaming",
        b"switch readahead streaming\n",
        b"  switch\treadahead   streaming \n",
        b"switch readahead streaming mode=concurrent",
        b"switch readahead streaming".ljust(255),
    ],
)
def test_accepted(line: bytes) -> None:
    control.command(line)
    assert control.active() == "streaming"


def test_random_bytes_never_change_anything() -> None:
    dice = random.Random(2)  # noqa: S311 (the same bytes in every run)
    words = [b"switch", b"readahed", b"random", b"original", b"mode=concurrent", b"\n", b"\0", b"="]
    before = (control.active(), control.switches())
    with control.Follower() as events:
        refused = 0
        for turn in range(FUZZ):
            if turn % 2:
                line = dice.randbytes(dice.randrange(300))
            else:
                line = b" ".join(dice.choices(words, k=dice.randrange(10)))
            command = partial(control.command, line)
            assert guest.answer(command) in {"EINVAL", "E2BIG", "ENOENT"}, line
            refused += len(events.only("refused"))
        assert events.lost == 0
    assert (control.active(), control.switches()) == before
    assert refused == FUZZ


def test_writers_at_once_take_turns() -> None:
    before = control.switches()
    seen: list[Event] = []
    with control.Follower() as events:
        # All writers meet before the ring of events can overflow.
        meeting = threading.Barrier(WRITERS, lambda: seen.extend(events.only("switched")))

        def rotate(seed: int) -> None:
            dice = random.Random(seed)  # noqa: S311 (the same order in every run)
            for turn in range(SWITCHES_EACH):
                control.switch(dice.choice(EDITIONS))
                if turn % SWITCHES_AT_ONCE == 0:
                    meeting.wait(guest.PATIENCE)

        with ThreadPoolExecutor(WRITERS) as pool:
            writers = [pool.submit(rotate, seed) for seed in range(WRITERS)]
            for writer in writers:
                writer.result()
        seen += events.only("switched")
        assert events.lost == 0

    at = "original"
    for event in seen:
        assert event.fields["from"] == at
        at = event.fields["to"]
        assert event.fields["to"] != event.fields["from"]
    assert control.active() == at
    assert control.switches() - before == len(seen) > SWITCHES_EACH
