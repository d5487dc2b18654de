# SPDX-License-Identifier: GPL-2.0-or-later
"""Mode `per-object`: each object changes by itself, when nobody is in a call about it."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.kernel import control, guest
from tests.kernel.control import Controlled, Follower
from tests.kernel.guest import SELFTEST_LAYOUT
from tests.kernel.target import (
    FIRST_VALUE,
    Target,
    blocked,
    free,
    new,
    parameter,
    release,
    set_parameter,
)

pytestmark = pytest.mark.usefixtures("selftest")

PER_OBJECT = "mode=per-object"
EXCLUSIVE = ("mode=exclusive", "timeout_ms=60000")
MORE = 1000
"""What edition `b` adds to a result, and to the first value of an object that is born in it."""

WORKERS = 4
KEYS_EACH = 4
STEPS = 300


def use(key: int) -> int:
    return Target().result(f"use {key}")


def calls(subsystem: Controlled, function: str = "*") -> int:
    """How many calls there were, in all editions."""
    counters = subsystem.folder.glob(f"functions/{function}/*/calls")
    return sum(int(path.read_text()) for path in counters)


def wait_for_layout(key: int) -> None:
    """Use an object until it has been moved to the layout."""
    before = parameter(SELFTEST_LAYOUT, "converted")

    def is_moved() -> bool:
        use(key)
        return parameter(SELFTEST_LAYOUT, "converted") > before

    guest.wait_until(is_moved, f"object {key} is moved")


def test_it_completes_by_itself(selftest: Controlled) -> None:
    new(1, 2)
    use(1)
    before = selftest.switches()
    with Follower() as events:
        selftest.switch("b", PER_OBJECT)
        switched = events.wait_for("switched", subsystem="selftest")
        completed = events.wait_for("completed", subsystem="selftest")
        events.wait_for("drained", edition="original")
    assert switched.fields["mode"] == "per-object"
    assert completed.fields["edition"] == "b"
    assert (selftest.active(), selftest.partial()) == ("b", "none")
    assert selftest.switches() == before + 1
    assert [use(1), use(2)] == [FIRST_VALUE + 1 + MORE, FIRST_VALUE + MORE]
    assert Target().result("value 5") == 6 + MORE
    guest.wait_until(lambda: selftest.count("objects") == 0, "no object is kept in mind")


def test_an_object_in_use_keeps_the_old_edition_until_it_is_at_rest(selftest: Controlled) -> None:
    new(1, 2)
    # Inside by way of the gate that was there before the switch: no old object can be at rest.
    with blocked(1) as before, Follower() as events:
        selftest.switch("b", PER_OBJECT)
        assert (selftest.active(), selftest.partial()) == ("original", "b")
        assert [use(1), use(2)] == [FIRST_VALUE, FIRST_VALUE]
        # A new one has it at once, from its birth on; what is about no object has it last.
        new(3)
        assert use(3) == FIRST_VALUE + 2 * MORE
        assert Target().result("value 5") == 6
        assert selftest.count("objects") == 1
        # This one is on record.
        with blocked(1) as inside:
            release(1, [*before, *inside])
        with blocked(2) as last:
            guest.wait_until(lambda: use(1) > MORE, "object 1 is at rest, and changes")
            assert use(2) in {FIRST_VALUE + 1, FIRST_VALUE + 1 + MORE}
            release(2, last)
        events.wait_for("completed", edition="b")
    assert use(2) > MORE
    assert use(3) == FIRST_VALUE + 2 * MORE + 1
    assert selftest.active() == "b"


def test_a_recorded_call_keeps_its_object_alone_in_the_old_edition(selftest: Controlled) -> None:
    new(1, 2, 3)
    with blocked(1) as first, Follower() as events:
        selftest.switch("b", PER_OBJECT)
        with blocked(2) as second:
            release(1, first)
            guest.wait_until(lambda: use(1) > MORE, "object 1 changes")
            assert use(3) == FIRST_VALUE + MORE
            for _ in range(3):
                assert use(2) < MORE
            assert selftest.partial() == "b"
            assert not events.only("completed")
            assert selftest.number("target_block", "original", "in_flight") == 1
            release(2, second)
            assert use(2) == FIRST_VALUE + 3 + MORE
        events.wait_for("completed", edition="b")


def test_existing_objects_are_kept(selftest: Controlled) -> None:
    new(1, 2)
    selftest.switch("b", PER_OBJECT, "objects=keep")
    new(3)
    for number in range(3):
        assert use(1) == FIRST_VALUE + number
        assert use(3) == FIRST_VALUE + 2 * MORE + number
    assert selftest.partial() == "b"
    with Follower() as events:
        selftest.switch("b", PER_OBJECT, "objects=migrate")
        events.wait_for("completed", edition="b")
    assert use(1) == FIRST_VALUE + 3 + MORE


def test_it_can_be_taken_back(selftest: Controlled) -> None:
    new(1)
    with blocked(1) as inside:
        selftest.switch("b", PER_OBJECT)
        selftest.switch("original")
        assert (selftest.active(), selftest.partial()) == ("original", "none")
        assert use(1) == FIRST_VALUE
        release(1, inside)
    guest.wait_until(lambda: selftest.count("objects") == 0, "no object is kept in mind")


def test_the_dead_are_forgotten(selftest: Controlled) -> None:
    selftest.switch("b", PER_OBJECT, "objects=keep")
    new(*range(10))
    assert selftest.count("objects") == 10
    free(range(10))
    assert selftest.count("objects") == 0
    # Another one, perhaps at the same address.
    new(1)
    assert use(1) == FIRST_VALUE + 2 * MORE


def test_objects_are_moved_one_by_one(selftest: Controlled) -> None:
    new(1, 2, 3)
    use(1)
    converted = parameter(SELFTEST_LAYOUT, "converted")
    with Follower() as events:
        selftest.switch("layout", PER_OBJECT)
        wait_for_layout(1)
        assert parameter(SELFTEST_LAYOUT, "converted") == converted + 1
        assert use(2) == FIRST_VALUE
        assert parameter(SELFTEST_LAYOUT, "converted") == converted + 2
        assert use(2) == FIRST_VALUE + 1
        assert selftest.count("objects") == 2
        # Nobody has called 3: it is not known, and so this cannot end by itself.
        assert not events.only("completed")
    said = guest.answer(lambda: selftest.switch("b", "mode=concurrent"))
    assert said == guest.NOT_SUPPORTED
    assert parameter(SELFTEST_LAYOUT, "wrong") == 0


def test_transfer_of_one_object_says_no(selftest: Controlled) -> None:
    new(1, 2)
    set_parameter(SELFTEST_LAYOUT, "refuse_transfer", 28)
    asked = parameter(SELFTEST_LAYOUT, "transfers_into")
    converted = parameter(SELFTEST_LAYOUT, "converted")
    selftest.switch("layout", PER_OBJECT)
    values = []

    def is_asked() -> bool:
        values.append(use(1))
        return parameter(SELFTEST_LAYOUT, "transfers_into") > asked

    guest.wait_until(is_asked, "transfer is asked")
    assert parameter(SELFTEST_LAYOUT, "converted") == converted
    set_parameter(SELFTEST_LAYOUT, "refuse_transfer", 0)
    values.append(use(1))
    assert parameter(SELFTEST_LAYOUT, "converted") == converted + 1
    values.append(use(1))
    assert values == list(range(FIRST_VALUE, FIRST_VALUE + len(values)))
    assert parameter(SELFTEST_LAYOUT, "wrong") == 0


@pytest.mark.parametrize("end", ["layout", "original"])
def test_an_exclusive_switch_ends_a_move_that_is_under_way(selftest: Controlled, end: str) -> None:
    new(1, 2)
    selftest.switch("layout", PER_OBJECT)
    wait_for_layout(1)
    value = use(1)
    new(3)
    selftest.switch(end, *EXCLUSIVE)
    assert (selftest.active(), selftest.partial()) == (end, "none")
    assert [use(1), use(2), use(3)] == [value + 1, FIRST_VALUE, FIRST_VALUE]
    selftest.switch("original", *EXCLUSIVE)
    assert [use(1), use(2), use(3)] == [value + 2, FIRST_VALUE + 1, FIRST_VALUE + 1]
    assert parameter(SELFTEST_LAYOUT, "wrong") == 0


@pytest.mark.parametrize(
    "line", ["switch selftest original timeout_ms=60000", "quarantine selftest b"]
)
def test_moves_between_two_others_are_undone_on_the_way_to_the_original(
    selftest: Controlled, line: str
) -> None:
    """It is never refused for good: who looks after a lease, or a fault, could do nothing else."""
    new(1, 2)
    selftest.switch("b", *EXCLUSIVE)
    selftest.switch("layout", PER_OBJECT)
    wait_for_layout(1)
    value = use(1)
    with Follower() as events:
        control.command(line)
        ways = [(event.fields["from"], event.fields["to"]) for event in events.only("switched")]
    control.command("clear selftest b")
    assert ways == [("layout", "b"), ("b", "original")]
    assert (selftest.active(), selftest.partial()) == ("original", "none")
    assert [use(1), use(2)] == [value + 1, FIRST_VALUE]
    assert parameter(SELFTEST_LAYOUT, "wrong") == 0


@pytest.mark.parametrize("edition", ["b", "layout"])
def test_random_calls_about_many_objects(selftest: Controlled, edition: str) -> None:
    """No value is lost or doubled, whatever edition a call is in."""
    ready = threading.Barrier(WORKERS + 1)

    def work(number: int) -> None:
        target, choose = Target(), random.Random(number)  # noqa: S311 (only to be different)
        values: dict[int, int] = {}
        ready.wait(guest.PATIENCE)
        for _ in range(STEPS):
            key = number * KEYS_EACH + choose.randrange(KEYS_EACH)
            if key not in values:
                target.run(f"new {key}")
                values[key] = target.result(f"use {key}") % MORE
                assert values[key] == FIRST_VALUE
            elif choose.randrange(4):
                values[key] += 1
                assert target.result(f"use {key}") % MORE == values[key]
            else:
                target.run(f"free {key}")
                del values[key]

    before = calls(selftest)
    born = calls(selftest, "target_new")
    with ThreadPoolExecutor(WORKERS) as pool:
        workers = [pool.submit(work, number) for number in range(WORKERS)]
        ready.wait(guest.PATIENCE)
        selftest.switch(edition, PER_OBJECT)
        selftest.switch("original", *EXCLUSIVE)
        selftest.switch(edition, PER_OBJECT)
        for worker in workers:
            worker.result(guest.PATIENCE)
    assert selftest.in_flight() == 0
    # Each step is one call, and one more about who was born.
    assert calls(selftest) - before == WORKERS * STEPS + calls(selftest, "target_new") - born
    selftest.switch_and_drain("original", *EXCLUSIVE)
    free(range(WORKERS * KEYS_EACH))
    guest.wait_until(lambda: selftest.count("objects") == 0, "no object is kept in mind")
    assert parameter(SELFTEST_LAYOUT, "wrong") == 0
