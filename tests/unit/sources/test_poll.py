# SPDX-License-Identifier: GPL-2.0-or-later
"""dynamosd.sources.poll: the newest result of each source, and nobody who waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from dynamosd.model import Signal, Source
from dynamosd.sources.poll import Found, Sources
from dynamosd.sources.prometheus import SourceError, Unanswered
from dynamosd.testing import ManualClock

DEPTH = Source("depth", "http://127.0.0.1:9090", "queue_depth", 0.001, 60.0, 2.0)
PATIENCE = 60.0


class Server:
    """Answers as it is told, and counts."""

    def __init__(self) -> None:
        """Answer 7 at first."""
        self.answer: float | Exception = 7.0
        self.asked: list[str] = []

    def __call__(self, source: Source) -> float:
        """Answer a question."""
        self.asked.append(source.query)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1000.0)


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def sources(clock: ManualClock, server: Server) -> Iterator[Sources]:
    made = Sources(clock, server)
    yield made
    made.close()


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.001)


def wait_for_question(sources: Sources, name: str = "depth") -> None:
    """Wait until a question is over that was begun from now on."""
    # One may be going on: that it ends says nothing about what the server answers now.
    begun = sources.found[name].fetches + 2
    wait_for(lambda: sources.found[name].fetches >= begun)


def test_a_source_is_a_signal(sources: Sources) -> None:
    sources.want([DEPTH])
    wait_for_question(sources)
    assert sources.signals(1000.0) == {"depth": Signal(7.0)}
    assert sources.found["depth"].errors == 0


def test_a_source_that_was_not_asked_yet_has_no_data() -> None:
    assert Found().signal(DEPTH, 1000.0) == Signal(None, reason="not asked yet")


def test_an_old_result_is_used_until_it_is_stale(
    sources: Sources, server: Server, clock: ManualClock
) -> None:
    sources.want([DEPTH])
    wait_for_question(sources)
    server.answer = Unanswered("no answer in time")
    wait_for_question(sources)
    clock.advance(60.0)
    assert sources.signals(clock.now()) == {"depth": Signal(7.0)}
    clock.advance(1.0)
    reason = "stale since 2023-11-14T22:14:20Z: no answer in time"
    assert sources.signals(clock.now()) == {"depth": Signal(None, reason=reason)}
    assert sources.found["depth"].errors > 0
    server.answer = 8.0
    wait_for_question(sources)
    assert sources.signals(clock.now()) == {"depth": Signal(8.0)}


def test_a_result_is_as_old_as_its_question(clock: ManualClock) -> None:
    asked = threading.Event()
    go_on = threading.Event()

    def slow(_source: Source) -> float:
        asked.set()
        go_on.wait(PATIENCE)
        return 7.0

    sources = Sources(clock, slow)
    sources.want([replace(DEPTH, every_seconds=3600.0)])
    assert asked.wait(PATIENCE)
    clock.advance(50.0)
    # The loop does not wait for it.
    assert sources.signals(clock.now()) == {"depth": Signal(None, reason="not asked yet")}
    go_on.set()
    wait_for(lambda: sources.found["depth"].fetches > 0)
    assert sources.signals(1060.0) == {"depth": Signal(7.0)}
    assert sources.signals(1061.0)["depth"].value is None
    sources.close()


def test_a_server_that_says_there_is_none_is_believed_at_once(
    sources: Sources, server: Server
) -> None:
    sources.want([DEPTH])
    wait_for_question(sources)
    server.answer = SourceError("the query gives 0 samples, not one")
    wait_for_question(sources)
    reason = "the query gives 0 samples, not one"
    assert sources.signals(1000.0) == {"depth": Signal(None, reason=reason)}


def test_whatever_is_raised_it_goes_on(sources: Sources, server: Server) -> None:
    server.answer = ZeroDivisionError("oh")
    sources.want([DEPTH])
    wait_for_question(sources)
    reason = "cannot be asked: ZeroDivisionError: oh"
    assert sources.signals(1000.0) == {"depth": Signal(None, reason=reason)}
    server.answer = 9.0
    wait_for_question(sources)
    assert sources.signals(1000.0) == {"depth": Signal(9.0)}


def test_a_source_that_stays_as_it_is_keeps_what_it_has(sources: Sources, server: Server) -> None:
    sources.want([DEPTH])
    wait_for_question(sources)
    fetches = sources.found["depth"].fetches
    other = Source("other", DEPTH.url, "other", 0.001, 60.0, 2.0)
    sources.want([other, DEPTH])
    assert sources.found["depth"].fetches >= fetches
    assert set(sources.signals(1000.0)) == {"depth", "other"}
    wait_for(lambda: "other" in server.asked)


def test_a_source_that_is_not_wanted_any_more_is_not_asked(
    sources: Sources, server: Server
) -> None:
    sources.want([DEPTH])
    wait_for_question(sources)
    before = {thread.name for thread in threading.enumerate()}
    assert "source depth" in before
    changed = replace(DEPTH, query="other")
    sources.want([changed])
    wait_for_question(sources)
    threads = [each for each in threading.enumerate() if each.name == "source depth"]
    wait_for(lambda: sum(each.is_alive() for each in threads) == 1)
    server.asked.clear()
    wait_for_question(sources)
    assert set(server.asked) == {"other"}
    sources.want([])
    assert sources.signals(1000.0) == {}
    wait_for(lambda: not any(each.name == "source depth" for each in threading.enumerate()))


def test_closing_does_not_wait_for_those_that_hang(clock: ManualClock) -> None:
    go_on = threading.Event()

    def hangs(_source: Source) -> float:
        go_on.wait(PATIENCE)
        return 7.0

    sources = Sources(clock, hangs)
    sources.want(replace(DEPTH, name=f"depth-{number}") for number in range(16))
    begin = time.monotonic()
    sources.close()
    assert time.monotonic() - begin < PATIENCE / 2
    go_on.set()


def test_closing_ends_the_threads(sources: Sources) -> None:
    sources.want([DEPTH])
    wait_for_question(sources)
    sources.close()
    # It waits for them, but not for long: one may be on its way still.
    wait_for(lambda: not any(each.name == "source depth" for each in threading.enumerate()))
