# SPDX-License-Identifier: GPL-2.0-or-later
"""What people have told the daemon for a time: paused policies, pinned editions, muted advice.

Kept in a file beside the journal, so that neither a reload nor a restart of daemon or machine ends
it. Times are seconds of the Unix epoch: a clock that is set moves the end of a pause with it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dynamosd import phrases
from dynamosd.journal import rfc3339
from dynamosd.kept import Json, KeptFile
from dynamosd.policy.definition import Policy


@dataclass(frozen=True, slots=True)
class Person:
    """Who told us. ``login`` is who they logged in as, before they became ``uid``; None: nobody."""

    uid: int
    login: int | None = None

    def __str__(self) -> str:
        """Give both, if they differ."""
        return phrases.person(self.uid, self.login)


@dataclass(frozen=True, slots=True)
class Pause:
    """A policy, or all of a subsystem, or with neither all there are, make no switch.

    ``until`` None: until somebody ends it; only an older daemon has made such ones.
    """

    policy: str
    subsystem: str
    since: float
    until: float | None
    reason: str
    by: Person

    @property
    def scope(self) -> tuple[str, str]:
        """What it is about: there is one pause of each."""
        return self.policy, self.subsystem

    @property
    def about(self) -> str:
        """The same in words."""
        return phrases.scope(self.policy, self.subsystem)

    def __str__(self) -> str:
        """Say it so that it is the same each time: what changes would fill the journal."""
        until = None if self.until is None else rfc3339(self.until)
        return phrases.paused(self.about, str(self.by), until, self.reason)

    def covers(self, policy: Policy) -> bool:
        """Tell whether it is about a policy."""
        if self.policy:
            return self.policy == policy.name
        return self.subsystem in {"", policy.subsystem}


@dataclass(frozen=True, slots=True)
class Pin:
    """A subsystem stays at an edition, whatever policies want.

    ``until`` None: until somebody ends it.
    """

    subsystem: str
    edition: str
    since: float
    until: float | None
    reason: str
    by: Person

    def __str__(self) -> str:
        """Say it so that it is the same each time: what changes would fill the journal."""
        until = None if self.until is None else rfc3339(self.until)
        return phrases.pinned(self.by.uid, self.by.login, until, self.reason)

    def outlasts(self, other: Pin) -> bool:
        """Tell whether it says the same as another one, for longer."""
        here, there = (self.subsystem, self.edition), (other.subsystem, other.edition)
        return here == there and _end(self) > _end(other)


@dataclass(frozen=True, slots=True)
class Mute:
    """An advice that nobody wants to hear of, and what it is. ``until`` None: for good."""

    id: str
    policy: str
    subsystem: str
    origin: str
    target: str
    rule: str
    since: float
    until: float | None
    by: Person


@dataclass(slots=True)
class Orders:
    """All of that, in a file that follows each change.

    Args:
        path: the file; its folder is made when it is missing.
        tell: shows a line to the operator.
    """

    path: Path
    tell: Callable[[str], None]
    pauses: dict[tuple[str, str], Pause] = field(default_factory=dict)
    pins: dict[str, Pin] = field(default_factory=dict)
    """By subsystem."""
    mutes: dict[str, Mute] = field(default_factory=dict)
    _file: KeptFile = field(init=False)

    def __post_init__(self) -> None:
        """Name the file; nothing is read yet."""
        self._file = KeptFile(self.path, "pauses, pins and muted advice", self.tell)

    @property
    def errors(self) -> int:
        """How often the file could not be read or written."""
        return self._file.errors

    def load(self) -> None:
        """Read the file. One that cannot be used is put aside, and said: its orders are over."""
        found = self._file.load(_parse)
        if found is not None:
            pauses, pins, mutes = found
            self.pauses = {each.scope: each for each in pauses}
            self.pins = {each.subsystem: each for each in pins}
            self.mutes = {each.id: each for each in mutes}

    def save(self) -> str:
        """Write the file; give what keeps it from being written, "" if nothing does."""
        return self._file.save(
            {
                "pauses": [dataclasses.asdict(each) for each in self.pauses.values()],
                "pins": [dataclasses.asdict(each) for each in self.pins.values()],
                "mutes": [dataclasses.asdict(each) for each in self.mutes.values()],
            }
        )

    def save_again(self, now: float) -> None:
        """Write it, if that could not be done before: a full disk is made room on."""
        self._file.save_again(now)

    # ------------------------------------------------------------------------------ questions

    def pause_of(self, policy: Policy) -> Pause | None:
        """Give the pause that a policy is in; of several the one that lasts longest."""
        found = [each for each in self.pauses.values() if each.covers(policy)]
        return max(found, key=_end, default=None)

    def why_paused(self, policy: Policy) -> str:
        """Say why a policy may not switch; "" if nobody minds."""
        order = self.pins.get(policy.subsystem) or self.pause_of(policy)
        return str(order) if order else ""

    # -------------------------------------------------------------------------------- changes

    def drop_old(self, wall: float) -> tuple[list[Pause], list[Pin], list[Mute]]:
        """Forget, and give, what is over."""
        pauses = [each for each in self.pauses.values() if _end(each) <= wall]
        pins = [each for each in self.pins.values() if _end(each) <= wall]
        mutes = [each for each in self.mutes.values() if _end(each) <= wall]
        if pauses or pins or mutes:
            for pause in pauses:
                del self.pauses[pause.scope]
            for pin in pins:
                del self.pins[pin.subsystem]
            for mute in mutes:
                del self.mutes[mute.id]
            if trouble := self.save():
                self.tell(trouble)
        return pauses, pins, mutes


def pause_json(pause: Pause) -> Json:
    """Give a pause as programs see it."""
    return {
        "policy": pause.policy or None,
        "subsystem": pause.subsystem or None,
        "since": rfc3339(pause.since),
        "until": None if pause.until is None else rfc3339(pause.until),
        "reason": pause.reason,
        "uid": pause.by.uid,
        "login": pause.by.login,
    }


def pin_json(pin: Pin) -> Json:
    """Give a pin as programs see it."""
    return {
        "subsystem": pin.subsystem,
        "edition": pin.edition,
        "since": rfc3339(pin.since),
        "until": None if pin.until is None else rfc3339(pin.until),
        "reason": pin.reason,
        "uid": pin.by.uid,
        "login": pin.by.login,
    }


def _end(order: Pause | Pin | Mute) -> float:
    return float("inf") if order.until is None else order.until


def _parse(content: Json) -> tuple[list[Pause], list[Pin], list[Mute]]:
    pauses = [Pause(**_read(each)) for each in content["pauses"]]
    # An older daemon had none.
    pins = [Pin(**_read(each)) for each in content.get("pins", ())]
    mutes = [Mute(**_read(each)) for each in content["mutes"]]
    orders: list[Pause | Pin | Mute] = [*pauses, *pins, *mutes]
    for each in orders:
        # All that is shown of them at each tick can be: whoever wrote it.
        rfc3339(each.since)
        if each.until is not None:
            rfc3339(each.until)
    return pauses, pins, mutes


def _read(order: Json) -> Json:
    return {**order, "by": Person(**order["by"])}
