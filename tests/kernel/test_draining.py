# SPDX-License-Identifier: GPL-2.0-or-later
"""A call that is still inside: it is counted, it keeps its text, and it ends where it began."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from dynamosd.kmod import Kmod
from dynamosd.model import EditionState
from tests.kernel import control, guest
from tests.kernel.blocked import BlockedFile
from tests.kernel.guest import CORE, RANDOM, STREAMING, SUBSYSTEM

pytestmark = pytest.mark.usefixtures("modules")

SYNC = "page_cache_sync_ra"
ORDER = "page_cache_ra_order"
COMES_AND_GOES = 10


@pytest.fixture
def file() -> Iterator[BlockedFile]:
    """A file in which a reader stays until it is released."""
    with BlockedFile() as blocked:
        yield blocked


def in_use(name: str) -> bool:
    return guest.answer(lambda: guest.remove(name)) == guest.IN_USE


def is_alone() -> bool:
    """Whether one thread is in flight, and where a reader stays until it is released."""
    return control.in_flight() == 1 == control.number(SYNC, "random", "in_flight")


def remove_and_say(name: str) -> str:
    """Unload with rmmod; gives what it said."""
    return guest.run("rmmod", name).stderr


def test_rmmod_of_the_active_edition_is_refused() -> None:
    control.switch("random")
    assert in_use(RANDOM)
    assert "in use" in remove_and_say(RANDOM)
    assert control.active() == "random"
    assert control.state("random") is EditionState.ACTIVE


def test_a_call_in_flight_is_counted_exactly(file: BlockedFile) -> None:
    control.switch_and_drain("random")
    control.settle(lambda: None)
    file.read()
    guest.wait_until(is_alone, "the reader alone is in flight")
    file.release()
    guest.wait_until(lambda: control.in_flight() == 0, "nobody is in flight")


def test_a_draining_edition_stays_until_its_last_call_has_returned(file: BlockedFile) -> None:
    control.switch_and_drain("random")
    file.read()
    with control.Follower() as events:
        control.switch("streaming")
        assert control.state("random") is EditionState.DRAINING
        assert in_use(RANDOM)
        assert "in use" in remove_and_say(RANDOM)

        # Whoever waits for it, new calls already run the new edition.
        before = control.number(ORDER, "streaming", "calls")
        after = control.number(SYNC, "random", "calls")
        with BlockedFile() as other:
            other.read()
            assert control.number(ORDER, "streaming", "calls") > before
        assert control.number(SYNC, "random", "calls") == after

        drained = {event.fields["edition"] for event in events.only("drained")}
        assert "random" not in drained
        assert control.state("random") is EditionState.DRAINING

        file.release()
        event = events.wait_for("drained", edition="random")
        assert int(event.fields["us"]) > 0
        assert control.state("random") is EditionState.IDLE
        guest.remove(RANDOM)
    assert RANDOM not in guest.loaded()


def test_back_to_an_edition_that_is_still_draining(file: BlockedFile) -> None:
    control.switch_and_drain("random")
    file.read()
    control.switch("original")
    assert control.state("random") is EditionState.DRAINING
    with control.Follower() as events:
        control.switch("random")
        assert control.state("random") is EditionState.ACTIVE
        file.release()
        events.wait_for("drained", edition="original")
        guest.wait_until(lambda: control.in_flight() == 0, "nobody is in flight")
        assert in_use(RANDOM)
        control.switch("original")
        events.wait_for("drained", edition="random")
        guest.remove(RANDOM)


def test_a_drained_edition_can_be_removed_at_once() -> None:
    for _ in range(10):
        guest.load_all()
        control.switch_and_drain("random")
        control.switch_and_drain("original")
        guest.remove(RANDOM)


def test_a_call_in_the_original_outlives_the_gates(file: BlockedFile) -> None:
    """Its wrapper is the subsystem's text: that module stays, though no gate is left."""
    file.read()
    guest.wait_until(
        lambda: control.number(SYNC, "original", "in_flight") == 1, "the reader alone is in flight"
    )
    with control.Follower() as events:
        guest.remove(RANDOM)
        guest.remove(STREAMING)
        assert guest.gated_functions() == []
        assert control.readahead().functions[SYNC].backend == "none"
        assert in_use(SUBSYSTEM)
        assert in_use(CORE)
        file.release()
        events.wait_for("drained", edition="original")
        guest.remove(SUBSYSTEM)


def test_gates_come_back_while_a_call_is_in_the_original(file: BlockedFile) -> None:
    file.read()
    guest.remove(RANDOM)
    guest.remove(STREAMING)
    guest.load_all()
    assert guest.gated_functions() == list(guest.FUNCTIONS)
    control.switch("random")
    assert control.state("original") is EditionState.DRAINING
    with control.Follower() as events:
        file.release()
        events.wait_for("drained", edition="original")
    control.switch_and_drain("original")
    guest.unload_all()
    assert guest.loaded() == []


def test_an_edition_comes_and_goes_under_those_who_switch_to_it_and_look_at_it() -> None:
    answers: set[str] = set()
    over = threading.Event()

    def load_and_unload() -> None:
        try:
            for _ in range(COMES_AND_GOES):
                while guest.answer(lambda: guest.remove(RANDOM)):
                    pass
                guest.insert(RANDOM)
        finally:
            over.set()

    def switch() -> None:
        with control.Follower() as events:
            while not over.is_set():
                said = guest.answer(lambda: control.switch("random"))
                answers.add(said)
                if not said:
                    control.switch("original")
                    events.wait_for("drained", edition="random")

    def look() -> None:
        kmod = Kmod()
        while not over.is_set():
            assert kmod.read().subsystems["readahead"].active in {"random", "original"}

    with ThreadPoolExecutor(3) as pool:
        for activity in [pool.submit(each) for each in (load_and_unload, switch, look)]:
            activity.result()
    assert answers <= {"", "ENXIO", "ENODEV"}
    control.switch_and_drain("original")
    assert sorted(control.readahead().editions) == list(guest.EDITIONS)
    assert guest.gated_functions() == list(guest.FUNCTIONS)
