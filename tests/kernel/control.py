# SPDX-License-Identifier: GPL-2.0-or-later
"""The module's interface as docs/abi.md has it: one write is one command, one line one event."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from dynamosd.kmod import Event, Kmod, parse_event
from dynamosd.model import EditionState, Subsystem
from tests.kernel.block import Block
from tests.kernel.child import Child
from tests.kernel.guest import EDITIONS, REPLACES, wait_until

DEVICE = Path("/dev/dynamos")
SYSFS = Path("/sys/kernel/dynamos")
READAHEAD = SYSFS / "readahead"

Calls = Mapping[tuple[str, str], int]
"""By (function, edition)."""

Measured = TypeVar("Measured")


def command(line: bytes | str) -> None:
    """Write one command.

    Raises:
        OSError: the module's answer, when it is no.
    """
    data = line.encode() if isinstance(line, str) else line
    fd = os.open(DEVICE, os.O_WRONLY | os.O_CLOEXEC)
    try:
        written = os.write(fd, data)
        assert written == len(data)
    finally:
        os.close(fd)


class Commander(Child):
    """Another process that writes one command."""

    def __init__(self, line: str) -> None:
        """Start it; it may not have come to writing yet."""
        super().__init__("sh", "-c", 'printf %s "$2" > "$1"', "commander", str(DEVICE), line)

    def is_writing(self) -> bool:
        """Whether it is asleep in the write: the module takes its time."""
        path = Path("/proc", str(self.pid), "stack")
        return "device_write" in path.read_text()


class Controlled:
    """One subsystem: commands to it, and what sysfs shows of it."""

    def __init__(self, name: str) -> None:
        """Name the subsystem; it may be loaded later."""
        self.name = name
        self.folder = SYSFS / name

    def read(self) -> Subsystem:
        """All that sysfs shows of it."""
        return Kmod().read().subsystems[self.name]

    def value(self, *path: str) -> str:
        """One of its files."""
        return self.folder.joinpath(*path).read_text().strip()

    def count(self, *path: str) -> int:
        """One of its files that has a number: `held`, `objects`, `switches`."""
        return int(self.value(*path))

    def switch(self, edition: str, *options: str) -> None:
        """Switch to an edition, e.g. with the option `mode=exclusive`.

        Raises:
            OSError: the module's answer, when it is no.
        """
        command(" ".join(("switch", self.name, edition, *options)))

    def switch_and_drain(self, edition: str, *options: str) -> None:
        """Switch all calls, and return when none can enter what they had before any more.

        A per-object switch may complete by itself meanwhile: so events are followed before anything
        is read, and who is partial is read before who is active.
        """
        with Follower() as events:
            before = {self.partial(), self.active()} - {edition, "none"}
            self.switch(edition, *options)
            drained: set[str] = set()
            while not before <= drained:
                event = events.wait_for("drained", subsystem=self.name)
                drained.add(event.fields["edition"])

    def wait_until_drained(self) -> None:
        """Return when nobody can be in what no new call gets: every such edition may be unloaded.

        What a test has left in passing may drain still, when its last switch has long drained.
        """
        for name in self.read().editions.keys() - {"original"}:
            wait_until(partial(self._is_free, name), f"{self.name} {name} has drained")

    def _is_free(self, edition: str) -> bool:
        """Whether an edition does not keep its module, or may do so because calls get it."""
        if edition in {self.partial(), self.active()}:
            return True
        module = self.value("editions", edition, "module")
        return Path("/sys/module", module, "refcnt").read_text() == "0\n"

    def active(self) -> str:
        """The active edition's name."""
        return self.value("active")

    def partial(self) -> str:
        """The name of the edition that some of the calls get, or `none`."""
        return self.value("partial")

    def switches(self) -> int:
        """How many switches there were."""
        return self.count("switches")

    def state(self, edition: str) -> EditionState:
        """What an edition is doing."""
        return EditionState(self.value("editions", edition, "state"))

    def backend(self, function: str) -> str:
        """How a function's gate sends calls on."""
        return self.value("functions", function, "backend")

    def number(self, function: str, edition: str, what: str) -> int:
        """One counter: `calls` or `in_flight`."""
        return self.count("functions", function, edition, what)

    def in_flight(self) -> int:
        """How many threads are in any edition."""
        counters = self.folder.glob("functions/*/*/in_flight")
        return sum(int(path.read_text()) for path in counters)


_readahead = Controlled("readahead")

# Of `readahead`.
switch = _readahead.switch
switch_and_drain = _readahead.switch_and_drain
wait_until_drained = _readahead.wait_until_drained
readahead = _readahead.read
active = _readahead.active
switches = _readahead.switches
state = _readahead.state
number = _readahead.number
in_flight = _readahead.in_flight


def calls() -> Calls:
    """All counters of calls."""
    return {
        (function, edition): number(function, edition, "calls")
        for edition in EDITIONS
        for function in REPLACES[edition]
    }


def since(before: Calls) -> Calls:
    """How many calls each counter has had since ``before``."""
    now = calls()
    return {key: now[key] - before[key] for key in now}


def runs(function: str, edition: str) -> str:
    """Which edition a call of ``function`` is counted under while ``edition`` is active."""
    return edition if function in REPLACES[edition] else "original"


class Follower(Block):
    """Reads events from the device without waiting, and proves that none is missing.

    Each event's ``seq`` must be the next one; a `lost` line must say exactly how many are not
    to be had any more. ``lost`` adds these up.
    """

    def __init__(self, *, from_start: bool = False) -> None:
        """Open the device, behind the last event, or at the oldest one that is still there."""
        self.fd = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self.lost = 0
        self._next = 0
        self._waiting: list[Event] = []
        if not from_start:
            os.lseek(self.fd, 0, os.SEEK_END)

    def end(self) -> None:
        """Close the device."""
        os.close(self.fd)

    def read(self) -> list[Event]:
        """Take all events that are there, oldest first."""
        events, self._waiting = self._waiting, []
        while True:
            try:
                text = os.read(self.fd, 64 * 1024).decode("ascii")
            except BlockingIOError:
                return events
            assert text.endswith("\n"), "whole lines only"
            for line in text.splitlines():
                event = parse_event(line)
                assert event, f"not an event line: {line!r}"
                if self._take(event):
                    events.append(event)

    def wait_for(self, name: str, **fields: str) -> Event:
        """Give the first event of that name and with these fields; later ones stay to be read."""
        found: list[Event] = []

        def came() -> bool:
            events = self.read()
            for position, event in enumerate(events):
                if event.name == name and fields.items() <= event.fields.items():
                    found.append(event)
                    self._waiting = events[position + 1 :]
                    return True
            return False

        wait_until(came, f"event {name} {fields}")
        return found[0]

    def only(self, name: str) -> list[Event]:
        """Take all events that are there and give those of one name."""
        return [event for event in self.read() if event.name == name]

    def _take(self, event: Event) -> bool:
        if event.name == "lost":
            assert (event.seq, event.time) == (0, 0.0)
            count = int(event.fields["count"])
            assert count > 0
            self.lost += count
            self._next += count if self._next else 0
            return False
        assert event.seq == (self._next or event.seq), f"expected seq {self._next}, got {event}"
        self._next = event.seq + 1
        return True


def settle(measure: Callable[[], Measured]) -> tuple[Measured, Calls]:
    """Give what ``measure`` and the counters say when nothing is in flight and they stand still.

    In between, whoever is on the way between two that count has time to go on.
    """
    found: list[tuple[Measured, Calls]] = []

    def still() -> bool:
        found.append((measure(), calls()))
        time.sleep(0.05)
        return in_flight() == 0 and (measure(), calls()) == found[-1]

    wait_until(still, "nobody calls the gated functions for a moment")
    return found[-1]
