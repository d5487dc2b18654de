# SPDX-License-Identifier: GPL-2.0-or-later
"""What may be asked of the daemon, and the inbox in which requests wait for the control loop.

The web server's thread puts requests in; the loop takes them at its tick and leaves answers. Until
a request is taken it can be withdrawn: whichever of the two comes first wins, so what was withdrawn
is never done later. Neither thread waits for the other longer than it takes to change a table.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dynamosd.errors import DynamosError, InvalidInput, Refused

MAX_BYTES = 16 * 1024
"""So long is a request at most."""
MAX_TEXT = 1000
"""So many characters has a text in it at most: what is asked is in the journal."""
MAX_WAITING = 32
"""So many requests wait at a time."""
MAX_ANSWERS = 64
"""So many answers are kept, and so many requests that were not done are remembered for a tick."""

Json = dict[str, Any]


# ------------------------------------------------------------------------- what may be asked


class WrongField(InvalidInput):
    """A request is wrong; ``field`` says where, "" if it is none at all."""

    def __init__(self, name: str, message: str) -> None:
        """Say what is wrong with a field."""
        super().__init__(message)
        self.field = name


@dataclass(frozen=True, slots=True)
class Kind:
    """What a field may hold; ``schema`` says the same to programs."""

    says: str
    types: tuple[type, ...]
    schema: Mapping[str, Any]
    is_needed: bool = False

    def takes(self, value: object) -> bool:
        """Tell whether a value is of this kind."""
        return isinstance(value, self.types) and isinstance(value, bool) == (bool in self.types)


_TEXT_SCHEMA = {"type": "string", "maxLength": MAX_TEXT}
NAME = Kind("text", (str,), _TEXT_SCHEMA, is_needed=True)
TEXT = Kind("text", (str,), _TEXT_SCHEMA)
_SECONDS_SCHEMA = {"type": ["number", "null"]}
SECONDS = Kind("a number of seconds, or null", (int, float, type(None)), _SECONDS_SCHEMA)
YES_OR_NO = Kind("true or false", (bool,), {"type": "boolean"})

COMMANDS: Mapping[str, Mapping[str, Kind]] = {
    "pause": {"policy": TEXT, "subsystem": TEXT, "for": SECONDS, "reason": TEXT},
    "resume": {"policy": TEXT, "subsystem": TEXT},
    "pin": {
        "subsystem": NAME,
        "edition": NAME,
        "for": SECONDS,
        "reason": TEXT,
        "at_least": YES_OR_NO,
    },
    "unpin": {"subsystem": NAME},
    "clear": {"subsystem": NAME, "edition": NAME},
    "accept": {"id": NAME},
    "mute": {"id": NAME, "for": SECONDS},
    "unmute": {"id": NAME},
}
"""Each command, and the fields that go with it; `dynamosd.desk` has who does it."""


def check(said: object) -> Json:
    """Give a request that is one.

    Raises:
        WrongField: it is none.
    """
    if not isinstance(said, dict):
        raise WrongField("", "a request is an object of JSON")
    command = said.get("command")
    fields = COMMANDS.get(command) if isinstance(command, str) else None
    if fields is None:
        raise WrongField("command", f"command is one of {', '.join(COMMANDS)}")
    for name in said:
        if name != "command" and name not in fields:
            message = f"{command} has no such field; it has {', '.join(fields)}"
            raise WrongField(name[:MAX_TEXT], message)
    for name, kind in fields.items():
        if name in said:
            _check_value(name, kind, said[name])
        elif kind.is_needed:
            raise WrongField(name, f"{command} needs {name}")
    return said


def _check_value(name: str, kind: Kind, value: object) -> None:
    if not kind.takes(value):
        raise WrongField(name, f"{name} is {kind.says}")
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise WrongField(name, f"{name} has at most {MAX_TEXT} characters")
        if any("\ud800" <= each <= "\udfff" for each in value):
            raise WrongField(name, f"{name} is no text: it has half a character")


# --------------------------------------------------------------------------------- the inbox


@dataclass(frozen=True, slots=True)
class Asker:
    """The process that asks. ``login`` is who they logged in as before they became ``uid``."""

    uid: int
    pid: int
    login: int | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One request that `check` has let pass."""

    id: str
    by: Asker
    said: Json


@dataclass(frozen=True, slots=True)
class Outcome:
    """What has become of a request. ``said`` is empty if it was none.

    ``result`` is ``ok``, ``withdrawn``, or the code of an error.
    """

    by: Asker
    said: Json
    result: str
    error: str = ""


class State(StrEnum):
    """How far a request has got."""

    WAITING = "waiting"
    TAKEN = "taken"
    ANSWERED = "answered"


@dataclass(slots=True)
class _Entry:
    """A request, and who wants to know when that changes."""

    request: Request
    state: State = State.WAITING
    result: Json | DynamosError | None = None
    listeners: list[Callable[[], None]] = field(default_factory=list)


class Inbox:
    """Requests between two threads: the web server's, and the control loop's."""

    def __init__(self) -> None:
        """Be open, and empty."""
        # It protects all that follows, and is held only to look at that or to change it: nobody
        # writes, waits or calls anybody meanwhile.
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._undone: list[Outcome] = []
        self._forgotten = 0
        self._is_open = True

    # ------------------------------------------------------------- for the web server's thread

    def put(self, by: Asker, said: Json) -> str:
        """Take in what `check` gave; give its id.

        Raises:
            Refused: enough requests wait already, or the daemon leaves.
        """
        request = Request(secrets.token_hex(8), by, said)
        with self._lock:
            if not self._is_open:
                raise Refused("the daemon leaves")
            if self._count_waiting() >= MAX_WAITING:
                raise Refused(f"{MAX_WAITING} requests wait already")
            self._entries[request.id] = _Entry(request)
        return request.id

    def note(self, outcome: Outcome) -> None:
        """Remember for the loop what was turned away."""
        with self._lock:
            self._note(outcome)

    def withdraw(self, which: str) -> State | None:
        """Forget a request if it still waits; give how far it had got, None for one unknown."""
        with self._lock:
            entry = self._entries.get(which)
            if entry is None or entry.state is not State.WAITING:
                return None if entry is None else entry.state
            del self._entries[which]
            self._note(Outcome(entry.request.by, entry.request.said, "withdrawn"))
        _call(entry.listeners)
        return State.WAITING

    def look(self, which: str) -> Json | None:
        """Give what is known of a request, as programs see it."""
        with self._lock:
            entry = self._entries.get(which)
            return None if entry is None else _json(entry)

    def listen(self, which: str, listener: Callable[[], None]) -> bool:
        """Have ``listener`` called when a request is over; False if there is nothing to wait for.

        The loop calls it, so it must not wait.
        """
        with self._lock:
            entry = self._entries.get(which)
            if entry is None or entry.state is State.ANSWERED:
                return False
            entry.listeners.append(listener)
            return True

    def unlisten(self, which: str, listener: Callable[[], None]) -> None:
        """End that."""
        with self._lock:
            entry = self._entries.get(which)
            if entry is not None and listener in entry.listeners:
                entry.listeners.remove(listener)

    # ---------------------------------------------------------------------------- for the loop

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        with self._lock:
            return self._count_waiting()

    def take(self) -> list[Request]:
        """Give the requests that wait, the oldest first; each is given once."""
        with self._lock:
            found = [each for each in self._entries.values() if each.state is State.WAITING]
            for entry in found:
                entry.state = State.TAKEN
        return [each.request for each in found]

    def answer(self, request: Request, result: Json | DynamosError) -> None:
        """Leave an answer, or why there is none."""
        with self._lock:
            # The newest answer is the last one, whenever it was asked for.
            entry = self._entries[request.id] = self._entries.pop(request.id)
            entry.state, entry.result = State.ANSWERED, result
            listeners, entry.listeners = entry.listeners, []
            answered = [key for key, each in self._entries.items() if each.result is not None]
            for old in answered[:-MAX_ANSWERS]:
                del self._entries[old]
        _call(listeners)

    def take_undone(self) -> tuple[list[Outcome], int]:
        """Give what nobody will do, and how many more of these there were; each is given once."""
        with self._lock:
            found = self._undone, self._forgotten
            self._undone, self._forgotten = [], 0
        return found

    def close(self) -> None:
        """Take no more requests."""
        with self._lock:
            self._is_open = False

    # -------------------------------------------------------------------------- with the lock

    def _count_waiting(self) -> int:
        return sum(each.state is State.WAITING for each in self._entries.values())

    def _note(self, outcome: Outcome) -> None:
        if len(self._undone) < MAX_ANSWERS:
            self._undone.append(outcome)
        else:
            self._forgotten += 1


def _call(listeners: list[Callable[[], None]]) -> None:
    for each in listeners:
        each()


def _json(entry: _Entry) -> Json:
    error = entry.result if isinstance(entry.result, DynamosError) else None
    return {
        "id": entry.request.id,
        "command": entry.request.said["command"],
        "state": str(entry.state),
        "answer": None if error else entry.result,
        "error": error and error_json(error),
    }


def error_json(error: DynamosError) -> Json:
    """Give an error as programs see it."""
    return {"code": error.code, "message": error.message, "hint": error.hint}
