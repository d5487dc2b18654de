# SPDX-License-Identifier: GPL-2.0-or-later
"""What people have told the daemon for a time: policies that are paused, advice that is muted.

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

    ``until`` None: until somebody ends it.
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
        until = f" until {rfc3339(self.until)}" if self.until is not None else ""
        reason = f": {self.reason}" if self.reason else ""
        return f"{self.about} paused{until} by {self.by}{reason}"

    def covers(self, policy: Policy) -> bool:
        """Tell whether it is about a policy."""
        if self.policy:
            return self.policy == policy.name
        return self.subsystem in {"", policy.subsystem}


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
    mutes: dict[str, Mute] = field(default_factory=dict)
    _file: KeptFile = field(init=False)

    def __post_init__(self) -> None:
        """Name the file; nothing is read yet."""
        self._file = KeptFile(self.path, "pauses and muted advice", self.tell)

    @property
    def errors(self) -> int:
        """How often the file could not be read or written."""
        return self._file.errors

    def load(self) -> None:
        """Read the file. One that cannot be used is put aside, and said: its pauses are over."""
        found = self._file.load(_parse)
        if found is not None:
            pauses, mutes = found
            self.pauses = {each.scope: each for each in pauses}
            self.mutes = {each.id: each for each in mutes}

    def save(self) -> str:
        """Write the file; give what keeps it from being written, "" if nothing does."""
        return self._file.save(
            {
                "pauses": [dataclasses.asdict(each) for each in self.pauses.values()],
                "mutes": [dataclasses.asdict(each) for each in self.mutes.values()],
            }
        )

    # ------------------------------------------------------------------------------ questions

    def pause_of(self, policy: Policy) -> Pause | None:
        """Give the pause that a policy is in; of several the one that lasts longest."""
        found = [each for each in self.pauses.values() if each.covers(policy)]
        return max(found, key=_end, default=None)

    def why_paused(self, policy: Policy) -> str:
        """Say why a policy may not switch; "" if nobody minds."""
        pause = self.pause_of(policy)
        return str(pause) if pause else ""

    # -------------------------------------------------------------------------------- changes

    def drop_old(self, wall: float) -> tuple[list[Pause], list[Mute]]:
        """Forget, and give, what is over."""
        pauses = [each for each in self.pauses.values() if _end(each) <= wall]
        mutes = [each for each in self.mutes.values() if _end(each) <= wall]
        if pauses or mutes:
            for pause in pauses:
                del self.pauses[pause.scope]
            for mute in mutes:
                del self.mutes[mute.id]
            if trouble := self.save():
                self.tell(trouble)
        return pauses, mutes


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


def _end(order: Pause | Mute) -> float:
    return float("inf") if order.until is None else order.until


def _parse(content: Json) -> tuple[list[Pause], list[Mute]]:
    pauses = [Pause(**{**each, "by": Person(**each["by"])}) for each in content["pauses"]]
    mutes = [Mute(**{**each, "by": Person(**each["by"])}) for each in content["mutes"]]
    for until in [*(each.until for each in pauses), *(each.until for each in mutes)]:
        if not isinstance(until, int | float | None):
            raise TypeError(f"{until!r} is no time")
    return pauses, mutes
