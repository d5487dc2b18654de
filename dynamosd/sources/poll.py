# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps the newest result of each source: a thread for each asks, and the loop never waits.

A thread leaves what it found as one object; whoever wants to know looks at the last one.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from dynamosd.clock import Clock
from dynamosd.model import Signal, Source
from dynamosd.sources.prometheus import SourceError, Unanswered, fetch

Fetch = Callable[[Source], float]

_CLOSE_SECONDS = 1.0
"""How long closing waits for questions that are going on. Threads do not keep the process."""


@dataclass(frozen=True, slots=True)
class Found:
    """What is known of a source. Times are those of the newest result: monotonic and Unix.

    ``error`` is why the newest question had no result, "" if it had.
    """

    value: float | None = None
    time: float = 0.0
    wall: float = 0.0
    error: str = ""
    fetches: int = 0
    errors: int = 0

    def signal(self, source: Source, now: float) -> Signal:
        """Give the signal that it is at a time."""
        if self.value is None:
            return Signal(None, reason=self.error or "not asked yet")
        if now - self.time <= source.staleness_seconds:
            return Signal(self.value)
        since = dt.datetime.fromtimestamp(self.wall + source.staleness_seconds, dt.UTC)
        says = f"stale since {since.isoformat(timespec='seconds').replace('+00:00', 'Z')}"
        return Signal(None, reason=f"{says}: {self.error}" if self.error else says)


class _Poller:
    """One source and its thread."""

    def __init__(self, source: Source, clock: Clock, ask: Fetch) -> None:
        self.source = source
        self.found = Found()
        self._clock = clock
        self._ask = ask
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"source {source.name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self, seconds: float) -> None:
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stop.is_set():
            begin = self._clock.now()
            self.found = self._next()
            took = self._clock.now() - begin
            self._stop.wait(max(0.0, self.source.every_seconds - took))

    def _next(self) -> Found:
        # As of when it was asked: how long the answer took makes it no younger.
        before, now, wall = self.found, self._clock.now(), self._clock.wall()
        fetches = before.fetches + 1
        value: float | None = None
        try:
            value, why = self._ask(self.source), ""
        except Unanswered as error:
            value, now, wall, why = before.value, before.time, before.wall, str(error)
        except SourceError as error:
            why = str(error)
        except Exception as error:  # noqa: BLE001 - a thread that dies would never ask again
            why = f"cannot be asked: {type(error).__name__}: {error}"
        return Found(value, now, wall, why, fetches, before.errors + bool(why))


@dataclass(slots=True)
class Sources:
    """All sources that policies use, by name. ``ask`` is what asks one."""

    clock: Clock
    ask: Fetch = fetch
    _pollers: dict[str, _Poller] = field(default_factory=dict)

    def want(self, sources: Iterable[Source]) -> None:
        """Ask these from now on, and no others. One that has not changed keeps what it has."""
        before, self._pollers = self._pollers, {}
        for source in sources:
            poller = before.get(source.name)
            if poller is None or poller.source != source:
                poller = _Poller(source, self.clock, self.ask)
            self._pollers[source.name] = poller
        for poller in before.values():
            if poller not in self._pollers.values():
                poller.stop()

    def signals(self, now: float) -> dict[str, Signal]:
        """Give what each source is at a time (CLOCK_MONOTONIC)."""
        return {name: each.found.signal(each.source, now) for name, each in self._pollers.items()}

    @property
    def found(self) -> Mapping[str, Found]:
        """What is known of each source."""
        return {name: each.found for name, each in self._pollers.items()}

    def close(self) -> None:
        """Stop asking."""
        for poller in self._pollers.values():
            poller.stop()
        deadline = time.monotonic() + _CLOSE_SECONDS
        for poller in self._pollers.values():
            poller.join(max(0.0, deadline - time.monotonic()))
        self._pollers = {}
