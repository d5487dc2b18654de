# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot-loop guard: an edition that may have taken the machine down is not switched to again.

Which editions have been switched to lately is kept in a file beside the journal, with the id of
the boot it happened in. The daemon takes an edition off once the machine has run for ``within``
seconds since its last switch, and all of them when it leaves. So what a daemon in *another* boot
finds there was switched to shortly before the machine went down without saying goodbye, and goes
into quarantine. Nothing here asks for the time of day: a clock that is wrong after a crash, as
clocks often are then, changes nothing.

The file is on the disk **before** the switch: the first call of a bad edition may be the last
thing the machine does. The loop waits for the disk, but not for long (`PATIENCE_SECONDS`): then
the switch comes first, which is said. A switch that fails takes the edition off again, a little
later, so that one that is refused over and over costs no write each time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from dynamosd.journal import rfc3339
from dynamosd.kept import Json, KeptFile
from dynamosd.model import ORIGINAL, Breach
from dynamosd.policy.durations import format_duration
from dynamosd.quarantines import Quarantines

PATIENCE_SECONDS = 1.0
"""How long a switch waits for the disk."""

_QUIET_SECONDS = 10.0
"""What is only good news is written no sooner after the last write."""


def read_boot_id(proc: Path) -> str:
    """Give the id of this boot; "" where the kernel does not tell."""
    try:
        return (proc / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


@dataclass(frozen=True, slots=True)
class Suspect:
    """An edition that was switched to: when, and for which policy ("": none's).

    ``time`` is of CLOCK_MONOTONIC, which begins anew with each boot; ``wall`` is for people.
    """

    subsystem: str
    edition: str
    policy: str
    time: float
    wall: float


Suspects = dict[tuple[str, str], Suspect]


@dataclass(slots=True)
class BootGuard:
    """The editions under suspicion. Trouble with the disk is told, and never stops the caller.

    Args:
        path: the file; its folder is made when it is missing.
        boot_id: the id of this boot; "": nothing is guarded.
        within: for how long after a switch an edition is suspected, in seconds; 0: never.
        quarantine_seconds: how long the first quarantine of an edition is.
        quarantines: where they go.
        tell: shows a line to the operator.
    """

    path: Path
    boot_id: str
    within: float
    quarantine_seconds: float
    quarantines: Quarantines
    tell: Callable[[str], None]
    patience: float = PATIENCE_SECONDS
    _file: KeptFile = field(init=False)
    _suspects: Suspects = field(default_factory=dict)
    _written: Suspects = field(default_factory=dict)
    """What the writer was given last."""
    _write_at: float = 0.0
    _writer: ThreadPoolExecutor = field(init=False)
    _failing: bool = False

    def __post_init__(self) -> None:
        """Name the file; nothing is read yet."""
        self._file = KeptFile(self.path, "the last switches", self.tell)
        # One thread: what is given to it last is on the disk last.
        self._writer = ThreadPoolExecutor(1, "bootguard")

    @property
    def errors(self) -> int:
        """How often the file could not be read or written."""
        return self._file.errors

    @property
    def _is_on(self) -> bool:
        return bool(self.boot_id) and self.within > 0

    def begin(self, now: float, wall: float) -> None:
        """Read what the last daemon has left, and judge by it. To be called once, at first."""
        if not self._is_on:
            return
        boot_id, found = self._file.load(_parse) or ("", [])
        if boot_id == self.boot_id:
            # Only a daemon has died. The machine is to be watched for the rest of the time.
            self._suspects = {
                (each.subsystem, each.edition): dataclasses.replace(each, time=min(each.time, now))
                for each in found
            }
        else:
            for each in found:
                self._condemn(each, wall)
        # The quarantines are kept by now: a machine that dies here condemns twice, never not.
        self._write(now)

    def _condemn(self, suspect: Suspect, wall: float) -> None:
        reason = (
            f"the machine went down within {format_duration(self.within)} of the switch to it, "
            f"which was at {rfc3339(suspect.wall)}"
        )
        breach = Breach(suspect.edition, "", reason, self.quarantine_seconds)
        self.quarantines.begin(suspect.subsystem, breach, suspect.policy, wall)

    def before(self, suspect: Suspect) -> None:
        """Have it on the disk that this edition is going to be switched to."""
        if not self._is_on or suspect.edition == ORIGINAL:
            return
        key = suspect.subsystem, suspect.edition
        self._suspects[key] = suspect
        if key in self._written:
            # It would be condemned already; that its time has become longer can wait.
            return
        try:
            self._write(suspect.time).result(self.patience)
        except TimeoutError:
            self.tell(
                f"the disk is slow: {suspect.subsystem} is switched to {suspect.edition} before "
                f"{self.path} says so"
            )

    def withdraw(self, subsystem: str, edition: str) -> None:
        """Take back what `before` said: it has not been switched to."""
        self._suspects.pop((subsystem, edition), None)

    def tick(self, now: float) -> None:
        """Take off the editions with which the machine has run for long enough."""
        if not self._is_on:
            return
        self._suspects = {
            key: each for key, each in self._suspects.items() if now < each.time + self.within
        }
        if self._suspects != self._written and now >= self._write_at:
            self._write(now)

    def close(self, now: float) -> None:
        """Take off all of them: the daemon leaves, and whatever comes then is no crash of it."""
        self._suspects = {}
        if self._written:
            self._write(now)
        # Until it is on the disk: what is left there would be held against an edition.
        self._writer.shutdown()

    def _write(self, now: float) -> Future[None]:
        self._written = dict(self._suspects)
        self._write_at = now + _QUIET_SECONDS
        found = [dataclasses.asdict(each) for each in self._written.values()]
        return self._writer.submit(self._save, {"boot_id": self.boot_id, "switches": found})

    def _save(self, content: Json) -> None:
        """Write it; runs in the writer's thread."""
        trouble = self._file.save(content)
        if trouble and not self._failing:
            self.tell(f"{trouble}; the boot-loop guard is off meanwhile")
        self._failing = bool(trouble)


def _parse(content: Json) -> tuple[str, list[Suspect]]:
    found = [Suspect(**each) for each in content["switches"]]
    for each in found:
        if not isinstance(each.time, int | float) or not isinstance(each.wall, int | float):
            raise TypeError(f"{each!r} has no time")
    return str(content["boot_id"]), found
