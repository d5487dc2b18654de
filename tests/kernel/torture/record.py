# SPDX-License-Identifier: GPL-2.0-or-later
"""What was asked of the module, and all that it told: both complete, to be compared at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dynamosd.events import Event, parse_event
from tests.kernel import control, guest
from tests.kernel.block import Block
from tests.kernel.torture import answers
from tests.kernel.torture.answers import Attempt
from tests.kernel.torture.invariants import Checker

_LAST = "that-is-all"
"""No command: its refusal is the last event that is waited for."""


class Notes:
    """Commands of this process, whichever thread writes them."""

    def __init__(self) -> None:
        """Begin with none."""
        self.attempts: list[Attempt] = []
        self._lock = threading.Lock()

    def act(self, line: str, act: Callable[[], object]) -> str:
        """Do something that is to be noted as ``line``; give the errno's name, or none."""
        begin = time.monotonic()
        answer = guest.answer(act)
        attempt = Attempt(line, answer, os.getpid(), begin, time.monotonic())
        with self._lock:
            self.attempts.append(attempt)
        return answer

    def command(self, line: str) -> str:
        """Write a command."""
        return self.act(line, lambda: control.command(line))


class Recorder(Block):
    """Has all events written to a file, by a program that comes before all others.

    It keeps the device open, and so the module `dynamos` loaded, until the block ends.
    """

    def __init__(self, path: Path) -> None:
        """Write to ``path``; the oldest event that is still there is the first."""
        self._path = path
        with path.open("wb") as file:
            argv = ["chrt", "--fifo", "50", "cat", str(control.DEVICE)]
            self._cat = subprocess.Popen(argv, stdout=file)

    def end(self) -> None:
        """Let the device go."""
        self._cat.send_signal(signal.SIGKILL)
        self._cat.wait(guest.PATIENCE)

    def events(self) -> list[Event]:
        """Give all events that there were until now."""
        assert self._cat.poll() is None, "nobody has recorded the events"
        said = guest.answer(lambda: control.command(_LAST))
        assert said == "EINVAL"
        guest.wait_until(lambda: f'"{_LAST}"' in self._path.read_text(), "all events are recorded")
        lines = self._path.read_text().splitlines()
        events = [event for line in lines if (event := parse_event(line))]
        assert len(events) == len(lines)
        return [event for event in events if event.fields.get("command") != _LAST]


def keep(events: Sequence[Event], notes: Notes) -> Path:
    """Write all commands and events, in the order of time, to where the host can read them."""
    lines = [(event.time, f"    {event.seq} {event.name} {event.fields}") for event in events]
    for attempt in notes.attempts:
        lines.append((attempt.begin, f"> {attempt.line} ..."))
        lines.append((attempt.end, f"< {attempt.line}: {attempt.answer or 'done'}"))
    path = Path(os.environ["DYNAMOS_OUT"], f"torture-{os.environ['DYNAMOS_KERNEL']}.log")
    path.write_text("".join(f"{time:.6f} {line}\n" for time, line in sorted(lines)))
    return path


def check(events: Sequence[Event], notes: Notes) -> None:
    """Fail, and say why, if an invariant does not hold."""
    checker = Checker()
    for event in events:
        checker.take(event)
    checker.end()
    found = checker.violations + answers.check(events, notes.attempts, checker)
    if found:
        kept = keep(events, notes)
        raise AssertionError("\n".join(["", *map(str, found[:20]), f"{len(found)} in all: {kept}"]))
    assert not checker.lost, f"{checker.lost} events were lost: the recorder came too late"
